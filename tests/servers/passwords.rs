//! No text contains a password, in any spelling of the URL.

use callboard::backend::{OpenOptions, open};
use callboard::{Board, NewTask};

use crate::place::Place;
use crate::servers::{Schema, mysql_url, postgres_url};

/// No server listens here, so an error contains only the client library's reading of the URL.
const NOWHERE: &str = "127.0.0.1:1";

#[test]
fn passwords_are_in_no_error() {
    for scheme in ["postgres", "POSTGRES", "postgresql", "mysql", "MySQL", "mariadb"] {
        for password in [
            "cret-plain",
            "se%zzcret",
            "se%00cret",
            "se%40cret",
            "se?cret",
            "se/cret",
            "se#cret",
            "se@cret",
            "12/cret",
            "se%25cret",
            "se cret",
        ] {
            let url = format!("{scheme}://u:{password}@{NOWHERE}/d");
            let error = open(&url, &OpenOptions::default()).map(drop).expect_err(&url).to_string();
            assert!(!error.contains("cret"), "{url}: {error}");
        }
        let url = format!("{scheme}://{NOWHERE}/d?password=cret&x=1");
        let error = open(&url, &OpenOptions::default()).map(drop).expect_err(&url).to_string();
        assert!(!error.contains("cret"), "{url}: {error}");
    }
}

#[test]
fn a_server_that_answers_is_not_said_to_be_out_of_reach() {
    let error = |url: &str| open(url, &OpenOptions::default()).map(drop).expect_err(url).to_string();
    let (postgres, _) =
        postgres_url().rsplit_once('/').map(|(server, name)| (server.to_owned(), name.to_owned())).unwrap();
    for (url, advice) in [
        (format!("{postgres}/no_such_one"), "createdb no_such_one"),
        (format!("{}/no_such_one", mysql_url()), "CREATE DATABASE no_such_one"),
    ] {
        let error = error(&url);
        assert!(error.contains(advice) && error.contains("does not exist"), "{error}");
        assert!(!error.contains("cannot be reached"), "{error}");
    }
    for scheme in ["postgres", "mysql"] {
        let error = error(&format!("{scheme}://u:cret@{NOWHERE}/d"));
        assert!(error.contains("it cannot be reached"), "{error}");
    }
}

/// PostgreSQL alone would refuse the character NUL, and far from the code that wrote it.
#[actix_rt::test]
async fn what_one_database_cannot_store_is_refused_on_all() {
    let board = Board::builder().url("memory:").start().await.unwrap();
    let work = || NewTask::new("work", &());
    for task in [work().unique(callboard::Unique::key("a\0b")), work().tag("a\0b")] {
        let error = board.push(task).await.unwrap_err().to_string();
        assert!(error.contains("NUL"), "{error}");
    }
    let task_id = board.push(work().delay(std::time::Duration::from_secs(60))).await.unwrap().task_id;
    assert!(board.cancel(task_id, "a\0b").await.unwrap_err().to_string().contains("NUL"));
    let filter = callboard::TaskFilter { text: Some("a\0b".into()), ..callboard::TaskFilter::default() };
    let listed = board.list(filter, callboard::TaskOrder::NewestFirst, None, 10).await;
    assert!(listed.unwrap_err().to_string().contains("NUL"));
    board.stop().await;
}

/// Without a name in the URL, the client library would take the database named like the user. Callboard would then find
/// its tables there or create them.
#[test]
fn a_url_names_its_database() {
    for url in
        ["postgres://postgres@127.0.0.1:5432", "postgres://postgres@127.0.0.1:5432/", "mysql://root@127.0.0.1:3306"]
    {
        let error = open(url, &OpenOptions::default()).map(drop).expect_err(url).to_string();
        assert!(error.contains("name a database"), "{url}: {error}");
    }
}

/// All other parts of a URL allow percent signs as well.
#[test]
fn the_schema_may_be_written_with_percent_signs() {
    let place = Schema::new();
    let coded = format!("{}%{:02X}", &place.name()[..3], place.name().as_bytes()[3]) + &place.name()[4..];
    let url = place.url().replace(place.name(), &coded);
    assert_ne!(url, place.url());
    drop(open(&url, &OpenOptions::default()).unwrap());
    assert_eq!(place.text("SELECT count(*)::text AS text FROM task_queue"), "0");
}
