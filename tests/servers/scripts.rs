//! Migrations as text that is pasted into a client, and migrations beside an application's own.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use callboard::backend::sql::{Mysql, Postgres};
use callboard::backend::{OpenOptions, open};
use callboard::testing::World;
use callboard::{NewTask, TaskState};
use diesel::backend::Backend;
use diesel::connection::SimpleConnection;
use diesel::migration::MigrationSource;
use diesel::{Connection, PgConnection};
use diesel_migrations::{FileBasedMigrations, MigrationHarness};
use serde_json::json;
use tempfile::TempDir;

use crate::place::{Place, address};
use crate::servers::{Database, Schema, postgres_url};

/// Sends a text to the input of a client, as if it were pasted.
fn paste(client: &mut Command, text: &str) {
    let client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = client.spawn().unwrap_or_else(|error| panic!("this test needs {client:?}: {error}"));
    process.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Pushes, claims and completes a task.
fn works(url: &str) {
    let world = World::on(open(url, &OpenOptions::default()).unwrap());
    let task_id = world.push(NewTask::new("work", &json!({})));
    world.complete(&world.claim_one());
    assert_eq!(world.state(task_id), TaskState::Completed);
}

/// All columns of all tables and views, without the name of the place.
fn columns<P: Place>(place: &P) -> Vec<String> {
    let schema = if P::IS_POSTGRES { format!("'{}'", place.name()) } else { "DATABASE()".into() };
    place.texts(&format!(
        "SELECT concat(table_name, '.', column_name, ' ', data_type, ' ', is_nullable, ' ', coalesce(collation_name, ''))
        AS text FROM information_schema.columns WHERE table_schema = {schema} ORDER BY table_name, column_name"
    ))
}

fn is_as_migrated<P: Place>(pasted: &P) {
    let before = columns(pasted);
    works(&pasted.url());
    assert_eq!(pasted.texts("SELECT version AS text FROM callboard_migration").len(), 1);
    let migrated = P::new();
    drop(open(&migrated.url(), &OpenOptions::default()).unwrap());
    assert!(before.len() > 60 && before == columns(&migrated), "{before:?}");
}

#[test]
fn postgres_takes_the_script() {
    let place = Schema::new();
    let mut client = Command::new("psql");
    client.arg(postgres_url()).args(["--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1"]);
    paste(&mut client, &Postgres::migration_sql(place.name()));
    is_as_migrated(&place);
}

#[test]
fn mysql_takes_the_script() {
    let place = Database::new();
    let mariadb = place.text("SELECT VERSION() AS text").contains("MariaDB");
    let collation = if mariadb { "utf8mb4_nopad_bin" } else { "utf8mb4_0900_bin" };
    let address = address(&place.url());
    let (host, port) = address.split_once(':').unwrap_or((&address, "3306"));
    let mut client = Command::new("mysql");
    // Text columns of views have the character set of the client that creates the views.
    client.args(["--default-character-set=utf8mb4", "-h", host, "-P", port, "-u", "root", place.name()]);
    paste(&mut client, &Mysql::migration_sql(collation));
    is_as_migrated(&place);
}

/// Two migrations of an application, with an old and a far-future version.
fn application(folder: &Path) -> FileBasedMigrations {
    for (name, table) in [("2020-01-01-000000_songs", "songs"), ("2099-01-01-000000_singers", "singers")] {
        let migration = folder.join(name);
        std::fs::create_dir_all(&migration).unwrap();
        std::fs::write(migration.join("up.sql"), format!("CREATE TABLE {table} (id INT)")).unwrap();
        std::fs::write(migration.join("down.sql"), format!("DROP TABLE {table}")).unwrap();
    }
    FileBasedMigrations::from_path(folder).unwrap()
}

/// The application migrates, migrates again, and then reverts all its migrations. Callboard works after each step.
fn lives_beside<DB: Backend, C: MigrationHarness<DB>>(conn: &mut C, url: &str)
where
    FileBasedMigrations: MigrationSource<DB>,
{
    let folder = TempDir::new().unwrap();
    let own = application(folder.path());
    conn.run_next_migration(own.clone()).unwrap();
    works(url);
    assert_eq!(conn.run_pending_migrations(own.clone()).unwrap().len(), 1);
    works(url);
    assert!(!conn.has_pending_migration(own.clone()).unwrap());
    assert_eq!(conn.revert_all_migrations(own).unwrap().len(), 2);
    works(url);
}

#[test]
fn mysql_is_shared_with_an_application_that_migrates() {
    let place = Database::new();
    lives_beside(&mut place.by_hand(), &place.url());
}

/// Both share a schema, like an application that keeps everything in `public`.
#[test]
fn postgres_is_shared_with_an_application_that_migrates() {
    let place = Schema::new();
    let mut conn = PgConnection::establish(&postgres_url()).unwrap();
    let name = place.name();
    conn.batch_execute(&format!("CREATE SCHEMA {name}; SET search_path TO {name}")).unwrap();
    lives_beside(&mut conn, &place.url());
}
