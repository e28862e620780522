//! Databases through Diesel.
//!
//! What is the same in every database is here: the tables (`schema`), the rows and what is read from them
//! (`rows`), how values are written as text (`text`), filters (`filter`), and statements that stay prepared
//! (`statement`). What differs is in one module per database.

mod filter;
mod rows;
mod schema;
mod sqlite;
mod statement;
mod text;

pub use sqlite::Sqlite;
