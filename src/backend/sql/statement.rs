//! Statements that are prepared once.
//!
//! Diesel prepares a `sql_query` again at each call. A type with a static query id stays in the statement cache of its
//! connection, so each statement of the hot path is a type that implements [`Statement`].

use std::marker::PhantomData;

use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Nullable, Text as SqlText};

use super::dialect::{Dialect, Text};

/// SQL with a type of its own.
pub(super) trait Statement: 'static {
    /// The SQL types of a returned row; `()` if the statement returns no rows.
    type Row: 'static;

    /// The text for a database. It ends with `--`, because Diesel appends a placeholder for each value, and inside a
    /// comment these placeholders have no effect. Callboard numbers the placeholders itself. So rows can share values,
    /// and the text need not be cut into pieces at each call.
    fn text(dialect: Dialect) -> &'static Text;
}

/// A value for a placeholder. Lists of values are in the order of the placeholder numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Int(i64),
    MaybeInt(Option<i64>),
    Text(&'a str),
    MaybeText(Option<&'a str>),
    /// Arrays: one value holds a column of many rows. Only PostgreSQL has arrays.
    #[cfg(feature = "postgres")]
    Ints(&'a [i64]),
    #[cfg(feature = "postgres")]
    MaybeInts(&'a [Option<i64>]),
    #[cfg(feature = "postgres")]
    Texts(&'a [&'a str]),
    #[cfg(feature = "postgres")]
    MaybeTexts(&'a [Option<&'a str>]),
}

/// A statement with its values.
pub(super) struct Bound<'a, S> {
    text: &'a Text,
    values: &'a [Value<'a>],
    statement: PhantomData<S>,
}

/// Binds `values` to the statement `S`.
pub(super) fn bind<'a, S: Statement>(dialect: Dialect, values: &'a [Value<'a>]) -> Bound<'a, S> {
    Bound { text: S::text(dialect), values, statement: PhantomData }
}

impl<S: Statement> QueryId for Bound<'_, S> {
    type QueryId = Bound<'static, S>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<S: Statement> Query for Bound<'_, S> {
    type SqlType = S::Row;
}

impl<S: Statement, C> diesel::query_dsl::RunQueryDsl<C> for Bound<'_, S> {}

/// A statement built for a single call, with its values. `R` is the tuple of SQL types of a row.
pub(super) struct Once<'a, R> {
    text: &'a Text,
    values: &'a [Value<'a>],
    row: PhantomData<R>,
}

impl<'a, R> Once<'a, R> {
    pub(super) fn new(text: &'a Text, values: &'a [Value<'a>]) -> Self {
        Self { text, values, row: PhantomData }
    }
}

impl<R> QueryId for Once<'_, R> {
    type QueryId = ();
    // The same text seldom occurs twice, so a cache of prepared statements would only fill memory.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<R> Query for Once<'_, R> {
    type SqlType = R;
}

impl<R, C> diesel::query_dsl::RunQueryDsl<C> for Once<'_, R> {}

/// Implements Diesel's `QueryFragment` for both kinds of statements, [`Bound`] and [`Once`].
macro_rules! fragments {
    ($feature:literal, $db:ty, $push:ident) => {
        #[cfg(feature = $feature)]
        impl<S: Statement> QueryFragment<$db> for Bound<'_, S> {
            fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, $db>) -> QueryResult<()> {
                out.push_sql(&self.text.sql);
                walk(self.text, self.values, |value| $push(&mut out, value))
            }
        }

        #[cfg(feature = $feature)]
        impl<R> QueryFragment<$db> for Once<'_, R> {
            fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, $db>) -> QueryResult<()> {
                out.unsafe_to_cache_prepared();
                out.push_sql(&self.text.sql);
                walk(self.text, self.values, |value| $push(&mut out, value))
            }
        }
    };
}

fragments!("sqlite", diesel::sqlite::Sqlite, push);
fragments!("postgres", diesel::pg::Pg, push_postgres);
fragments!("mysql", diesel::mysql::Mysql, push);

/// Passes the values to `push` in the order in which the text uses them.
fn walk<'b>(
    text: &Text,
    values: &'b [Value<'b>],
    mut push: impl FnMut(&'b Value<'b>) -> QueryResult<()>,
) -> QueryResult<()> {
    match &text.order {
        None => values.iter().try_for_each(push),
        Some(order) => order.iter().try_for_each(|place| push(&values[*place])),
    }
}

fn push<'b, DB>(out: &mut AstPass<'_, 'b, DB>, value: &'b Value<'b>) -> QueryResult<()>
where
    DB: diesel::backend::Backend + diesel::sql_types::HasSqlType<BigInt> + diesel::sql_types::HasSqlType<SqlText>,
    i64: diesel::serialize::ToSql<BigInt, DB>,
    str: diesel::serialize::ToSql<SqlText, DB>,
    Option<i64>: diesel::serialize::ToSql<Nullable<BigInt>, DB>,
    for<'v> Option<&'v str>: diesel::serialize::ToSql<Nullable<SqlText>, DB>,
{
    match value {
        Value::Int(int) => out.push_bind_param::<BigInt, i64>(int),
        Value::MaybeInt(int) => out.push_bind_param::<Nullable<BigInt>, Option<i64>>(int),
        Value::Text(text) => out.push_bind_param::<SqlText, str>(text),
        Value::MaybeText(text) => out.push_bind_param::<Nullable<SqlText>, Option<&str>>(text),
        #[cfg(feature = "postgres")]
        _ => Err(diesel::result::Error::QueryBuilderError("only PostgreSQL has arrays".into())),
    }
}

#[cfg(feature = "postgres")]
fn push_postgres<'b>(out: &mut AstPass<'_, 'b, diesel::pg::Pg>, value: &'b Value<'b>) -> QueryResult<()> {
    use diesel::sql_types::Array;
    match value {
        Value::Ints(ints) => out.push_bind_param::<Array<BigInt>, [i64]>(ints),
        Value::MaybeInts(ints) => out.push_bind_param::<Array<Nullable<BigInt>>, [Option<i64>]>(ints),
        Value::Texts(texts) => out.push_bind_param::<Array<SqlText>, [&str]>(texts),
        Value::MaybeTexts(texts) => out.push_bind_param::<Array<Nullable<SqlText>>, [Option<&str>]>(texts),
        other => push(out, other),
    }
}

/// Declares statements: `name -> row types: portable text;`. If a single text does not suit all databases, a statement
/// has a text for each: `name -> row types: { sqlite text; postgres text; mysql text; };`.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident -> $row:ty: $sql:tt;)+) => {$(
        $(#[$doc])*
        pub(in crate::backend::sql) struct $name;
        impl crate::backend::sql::statement::Statement for $name {
            type Row = $row;
            fn text(dialect: crate::backend::sql::dialect::Dialect) -> &'static crate::backend::sql::dialect::Text {
                use crate::backend::sql::dialect::Text;
                static TEXTS: [std::sync::OnceLock<Text>; 3] = [const { std::sync::OnceLock::new() }; 3];
                TEXTS[dialect as usize]
                    .get_or_init(|| Text::new(dialect, crate::backend::sql::statement::choose!(dialect, $sql)))
            }
        }
    )+};
}
pub(super) use statements;

/// Picks the text for a database: from a text for each database, or the text shared by all.
macro_rules! choose {
    ($dialect:expr, { sqlite $sqlite:expr; postgres $postgres:expr; mysql $mysql:expr; }) => {
        match $dialect {
            #[cfg(feature = "sqlite")]
            crate::backend::sql::dialect::Dialect::Sqlite => $sqlite,
            #[cfg(feature = "postgres")]
            crate::backend::sql::dialect::Dialect::Postgres => $postgres,
            #[cfg(feature = "mysql")]
            crate::backend::sql::dialect::Dialect::Mysql => $mysql,
        }
    };
    ($dialect:expr, ($sql:expr)) => {
        $sql
    };
    ($dialect:expr, $sql:literal) => {
        $sql
    };
}
pub(super) use choose;

/// Declares a statement that takes many rows, once for each of the [sizes](chunks): `name: fn(rows) -> SQL;`.
macro_rules! sized_statements {
    ($($(#[$doc:meta])* $name:ident: $sql:expr;)+) => {$(
        $(#[$doc])*
        pub(in crate::backend::sql) struct $name<const ROWS: usize>;
        crate::backend::sql::statement::sized_statements!(@ $name, $sql, 1, 4, 16, 64, 256);
    )+};
    (@ $name:ident, $sql:expr, $($rows:literal),+) => {$(
        impl crate::backend::sql::statement::Statement for $name<$rows> {
            type Row = ();
            fn text(dialect: crate::backend::sql::dialect::Dialect) -> &'static crate::backend::sql::dialect::Text {
                use crate::backend::sql::dialect::Text;
                static TEXTS: [std::sync::OnceLock<Text>; 3] = [const { std::sync::OnceLock::new() }; 3];
                TEXTS[dialect as usize].get_or_init(|| Text::new(dialect, &$sql($rows)))
            }
        }
    )+};
}
pub(super) use sized_statements;

/// The row counts for which multi-row statements exist. With these sizes any number of rows needs few statements, and
/// the prepared statements stay small.
const CHUNKS: [usize; 5] = [256, 64, 16, 4, 1];

/// Cuts `items` into chunks of the sizes for which statements exist, each of at most `most` rows.
pub(super) fn chunks<T>(mut items: &[T], most: usize) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = CHUNKS.into_iter().find(|size| *size <= items.len().min(most))?;
        let (chunk, rest) = items.split_at(size);
        items = rest;
        Some(chunk)
    })
}

/// The same as [`chunks`], but the items of a chunk have at most `bytes` together. A larger item is a chunk by itself.
#[cfg(any(feature = "sqlite", feature = "mysql", test))]
pub(super) fn chunks_within<T>(
    mut items: &[T],
    most: usize,
    bytes: usize,
    size_of: impl Fn(&T) -> usize,
) -> impl Iterator<Item = &[T]> {
    let fits = move |items: &[T]| {
        let sum = items
            .iter()
            .try_fold(0_usize, |sum, item| Some(sum.saturating_add(size_of(item))).filter(|sum| *sum <= bytes));
        items.len() == 1 || sum.is_some()
    };
    std::iter::from_fn(move || {
        let mut sizes = CHUNKS.into_iter().filter(|size| *size <= items.len().min(most));
        let size = sizes.find(|size| bytes == usize::MAX || fits(&items[..*size]))?;
        let (chunk, rest) = items.split_at(size);
        items = rest;
        Some(chunk)
    })
}

/// Runs the variant of the statement `$name` for `$rows` rows.
macro_rules! run_sized {
    ($conn:expr, $name:ident, $rows:expr, $values:expr) => {
        match $rows {
            256 => $conn.run::<$name<256>>($values),
            64 => $conn.run::<$name<64>>($values),
            16 => $conn.run::<$name<16>>($values),
            4 => $conn.run::<$name<4>>($values),
            _ => $conn.run::<$name<1>>($values),
        }
    };
}
pub(super) use run_sized;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_have_the_sizes_that_there_are_statements_for() {
        let items = [0; 64 + 16 + 4 + 4 + 1 + 1];
        let sizes: Vec<usize> = chunks(&items, 64).map(<[i32]>::len).collect();
        assert_eq!(sizes, [64, 16, 4, 4, 1, 1]);
        let sizes: Vec<usize> = chunks(&[0; 300], 256).map(<[i32]>::len).collect();
        assert_eq!(sizes, [256, 16, 16, 4, 4, 4]);
    }

    #[test]
    fn chunks_are_as_small_as_their_items_are_large() {
        let sizes = |items: &[usize], bytes| -> Vec<usize> {
            chunks_within(items, 256, bytes, |item| *item).map(<[usize]>::len).collect()
        };
        assert_eq!(sizes(&[1; 300], usize::MAX), [256, 16, 16, 4, 4, 4]);
        assert_eq!(sizes(&[10; 20], 40), [4, 4, 4, 4, 4]);
        assert_eq!(sizes(&[50, 1, 1, 1, 1, 50, 50], 40), [1, 4, 1, 1], "one that is too large goes alone");
    }
}
