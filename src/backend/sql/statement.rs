//! Statements that are prepared once.
//!
//! Diesel's own `sql_query` is prepared anew at each call. A type with a static query id stays in the statement
//! cache of its connection, so each statement of the hot path is a type that implements [`Statement`].

use std::marker::PhantomData;

use diesel::backend::Backend;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{BigInt, HasSqlType, Nullable, Text};

/// SQL with a type of its own.
pub(super) trait Statement: 'static {
    /// The SQL types of a row that it returns; `()` when it returns none.
    type Row: 'static;

    /// The text, with numbered placeholders (`?1`) and a `--` at its end: Diesel appends a placeholder for each
    /// value, and in a comment they do no harm. Numbers let rows share values, and spare cutting the text into
    /// pieces at each call.
    fn sql() -> &'static str;
}

/// A value for a placeholder, in the order of their numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Int(i64),
    MaybeInt(Option<i64>),
    Text(&'a str),
    MaybeText(Option<&'a str>),
}

/// A statement with its values.
pub(super) struct Bound<'a, S>(&'a [Value<'a>], PhantomData<S>);

/// Binds `values` to the statement `S`.
pub(super) fn bind<'a, S: Statement>(values: &'a [Value<'a>]) -> Bound<'a, S> {
    Bound(values, PhantomData)
}

impl<S: Statement> QueryId for Bound<'_, S> {
    type QueryId = Bound<'static, S>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<S: Statement> Query for Bound<'_, S> {
    type SqlType = S::Row;
}

impl<S, DB> QueryFragment<DB> for Bound<'_, S>
where
    S: Statement,
    DB: Backend + HasSqlType<BigInt> + HasSqlType<Text>,
    i64: ToSql<BigInt, DB>,
    str: ToSql<Text, DB>,
    Option<i64>: ToSql<Nullable<BigInt>, DB>,
    for<'v> Option<&'v str>: ToSql<Nullable<Text>, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql(S::sql());
        for value in self.0 {
            match value {
                Value::Int(int) => out.push_bind_param::<BigInt, i64>(int)?,
                Value::MaybeInt(int) => out.push_bind_param::<Nullable<BigInt>, Option<i64>>(int)?,
                Value::Text(text) => out.push_bind_param::<Text, str>(text)?,
                Value::MaybeText(text) => out.push_bind_param::<Nullable<Text>, Option<&str>>(text)?,
            }
        }
        Ok(())
    }
}

impl<S: Statement, C> diesel::query_dsl::RunQueryDsl<C> for Bound<'_, S> {}

/// Declares statements: `name, row type, SQL;`.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident -> $row:ty: $sql:expr;)+) => {$(
        $(#[$doc])*
        pub(super) struct $name;
        impl crate::backend::sql::statement::Statement for $name {
            type Row = $row;
            fn sql() -> &'static str { concat!($sql, " --") }
        }
    )+};
}
pub(super) use statements;

/// Declares a statement that takes many rows, in each of the [sizes](CHUNKS): `name, fn(rows) -> SQL;`.
macro_rules! sized_statements {
    ($($(#[$doc:meta])* $name:ident: $sql:expr;)+) => {$(
        $(#[$doc])*
        pub(super) struct $name<const ROWS: usize>;
        crate::backend::sql::statement::sized_statements!(@ $name, $sql, 1, 4, 16, 64);
    )+};
    (@ $name:ident, $sql:expr, $($rows:literal),+) => {$(
        impl crate::backend::sql::statement::Statement for $name<$rows> {
            type Row = ();
            fn sql() -> &'static str {
                static SQL: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| $sql($rows) + " --");
                &SQL
            }
        }
    )+};
}
pub(super) use sized_statements;

/// The row counts that statements for many rows are made for: an odd number of rows takes few statements, and
/// the prepared ones stay small.
const CHUNKS: [usize; 4] = [64, 16, 4, 1];

/// Cuts `items` into pieces of the sizes that there are statements for.
pub(super) fn chunks<T>(mut items: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = CHUNKS.into_iter().find(|size| *size <= items.len())?;
        let (chunk, rest) = items.split_at(size);
        items = rest;
        Some(chunk)
    })
}

/// Runs the statement `$name` in the size for `$rows` rows.
macro_rules! execute_sized {
    ($name:ident, $rows:expr, $values:expr, $conn:expr) => {{
        use crate::backend::sql::statement::bind;
        match $rows {
            64 => diesel::RunQueryDsl::execute(bind::<$name<64>>($values), $conn),
            16 => diesel::RunQueryDsl::execute(bind::<$name<16>>($values), $conn),
            4 => diesel::RunQueryDsl::execute(bind::<$name<4>>($values), $conn),
            _ => diesel::RunQueryDsl::execute(bind::<$name<1>>($values), $conn),
        }
    }};
}
pub(super) use execute_sized;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_have_the_sizes_that_there_are_statements_for() {
        let items = [0; 64 + 16 + 4 + 4 + 1 + 1];
        let sizes: Vec<usize> = chunks(&items).map(<[i32]>::len).collect();
        assert_eq!(sizes, [64, 16, 4, 4, 1, 1]);
    }
}
