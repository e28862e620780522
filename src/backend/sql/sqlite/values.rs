//! Reads text values of SQLite.

use diesel::deserialize::{self, FromSql};
use diesel::sql_types::Text;
use diesel::sqlite::{Sqlite, SqliteValue};

use crate::backend::sql::rows::StoredText;

/// A column of SQLite may hold values of any type, also bytes that are not valid text. Diesel's own `String` rejects
/// such bytes.
impl FromSql<Text, Sqlite> for StoredText {
    fn from_sql(mut value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        Ok(Self(value.read_text().to_owned()))
    }
}
