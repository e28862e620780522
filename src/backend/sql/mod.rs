//! Databases through Diesel.
//!
//! | module | contents |
//! |---|---|
//! | `database` | a database as a [`Backend`](super::Backend): which operations read and which write |
//! | `work` | the operations, written once on the trait in `conn` |
//! | `dialect`, `statement` | SQL texts that all databases share, and statements that stay prepared |
//! | `audit` | in tests: which statements may lock |
//! | `schema`, `rows`, `text` | the tables, the rows read from them, values stored as text |
//! | `transaction` | the same operations in a transaction of the application |
//! | `sqlite`, `postgres`, `mysql` | the differences of each database, with their reasons |

#[cfg(all(debug_assertions, feature = "testing", any(feature = "postgres", feature = "mysql")))]
mod audit;
mod conn;
mod database;
mod dialect;
mod errors;
mod id_repair;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod migrations;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod poll;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod pool;
#[cfg(feature = "postgres")]
mod postgres;
mod rows;
mod schema;
#[cfg(feature = "sqlite")]
mod sqlite;
mod statement;
mod text;
mod transaction;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod url;
mod work;

pub use database::Sql;
#[cfg(feature = "mysql")]
pub use mysql::Mysql;
#[cfg(feature = "postgres")]
pub use postgres::Postgres;
#[cfg(feature = "sqlite")]
pub use sqlite::Sqlite;
pub use transaction::AppConnection;
