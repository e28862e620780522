//! How SQLite's values are read.

use diesel::deserialize::{self, FromSql};
use diesel::sql_types::Text;
use diesel::sqlite::{Sqlite, SqliteValue};

use crate::backend::sql::rows::StoredText;

/// A column of SQLite holds whatever was put into it, bytes included; Diesel's own `String` refuses those.
impl FromSql<Text, Sqlite> for StoredText {
    fn from_sql(mut value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        Ok(Self(value.read_text().to_owned()))
    }
}
