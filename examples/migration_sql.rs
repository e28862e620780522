//! Prints the SQL of all migrations, for a database where the program may not create tables.
//!
//! Run it with `cargo run --features postgres --example migration_sql -- postgres SCHEMA` and paste the output into a
//! client or into Supabase's SQL editor, or with
//! `cargo run --features mysql --example migration_sql -- mysql COLLATION`, where COLLATION is `utf8mb4_0900_bin` for
//! MySQL and `utf8mb4_nopad_bin` for MariaDB. For example `migration_sql postgres callboard` begins with
//!
//! ```text
//! BEGIN;
//! CREATE SCHEMA IF NOT EXISTS "callboard";
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its result")]

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let sql: Option<String> = match arguments[..] {
        #[cfg(feature = "postgres")]
        ["postgres", schema] => Some(callboard::backend::sql::Postgres::migration_sql(schema)),
        #[cfg(feature = "mysql")]
        ["mysql", collation] => Some(callboard::backend::sql::Mysql::migration_sql(collation)),
        _ => None,
    };
    if let Some(sql) = sql {
        println!("{sql}");
        return ExitCode::SUCCESS;
    }
    eprintln!("usage: migration_sql postgres SCHEMA, or mysql COLLATION; built with --features postgres or mysql");
    ExitCode::from(2)
}
