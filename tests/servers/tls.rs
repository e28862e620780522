//! Encrypted connections: if a URL asks for encryption, the connection is encrypted or refused.

use std::path::{Path, PathBuf};
use std::process::Command;

use callboard::backend::{BackendError, OpenOptions, open};
use callboard::testing::World;
use callboard::{NewTask, TaskState};
use serde_json::json;
use tempfile::TempDir;

use crate::own::{Own, run};
use crate::place::{Place, on_both};
use crate::servers::Database;

on_both!(encryption_is_had_and_verified, encryption_that_is_not_there_is_refused);

fn openssl(folder: &Path, arguments: &str) {
    run(Command::new("openssl").args(arguments.split(' ')).current_dir(folder));
}

/// Creates a certificate authority of this name in `folder`: `NAME.pem` and `NAME.key`.
fn authority(folder: &Path, name: &str) {
    let subject = format!("-subj /CN={name} -keyout {name}.key -out {name}.pem");
    openssl(folder, &format!("req -x509 -newkey rsa:2048 -nodes -days 2 {subject}"));
}

/// Creates a certificate for 127.0.0.1, signed by `CA`. The authority's file has capitals in its name on purpose.
fn certificates(folder: &Path) {
    authority(folder, "CA");
    authority(folder, "other");
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1").unwrap();
    openssl(folder, "req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout server.key -out server.csr");
    openssl(
        folder,
        "x509 -req -in server.csr -CA CA.pem -CAkey CA.key -CAcreateserial -days 2 -extfile names -out server.pem",
    );
}

/// The options that make a server offer TLS.
fn options<P: Place>(folder: &Path) -> Vec<String> {
    certificates(folder);
    let file = |name: &str| folder.join(name).display().to_string();
    if P::IS_POSTGRES {
        let settings = [
            "ssl=on".into(),
            format!("ssl_cert_file={}", file("server.pem")),
            format!("ssl_key_file={}", file("server.key")),
        ];
        return settings.into_iter().flat_map(|setting| ["-c".into(), setting]).collect();
    }
    vec![
        format!("--ssl-ca={}", file("CA.pem")),
        format!("--ssl-cert={}", file("server.pem")),
        format!("--ssl-key={}", file("server.key")),
    ]
}

/// The URL with options that ask for encryption: `required`, or verified by an authority.
fn asking<P: Place>(url: &str, authority: Option<&Path>) -> String {
    let mark = if url.contains('?') { '&' } else { '?' };
    match (P::IS_POSTGRES, authority) {
        (true, None) => format!("{url}{mark}sslmode=require"),
        (true, Some(file)) => format!("{url}{mark}sslmode=verify-full&sslrootcert={}", file.display()),
        (false, None) => format!("{url}{mark}ssl-mode=REQUIRED"),
        (false, Some(file)) => format!("{url}{mark}ssl-mode=verify_identity&ssl-ca={}", file.display()),
    }
}

/// PostgreSQL: how many sessions of callboard are encrypted, and how many are not. MySQL: the ciphers that a trigger
/// noted.
fn sessions<P: Place>(place: &P) -> String {
    if P::IS_POSTGRES {
        return place.text(
            "SELECT count(*) FILTER (WHERE ssl) || ' ' || count(*) FILTER (WHERE NOT ssl) AS text
            FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'callboard'",
        );
    }
    place.text("SELECT cipher AS text FROM noted")
}

async fn encryption_is_had_and_verified<P: Place>() {
    let server = Own::with::<P>(options::<P>);
    let place = P::at(&server.url());
    let file = |name: &str| -> PathBuf { server.folder().join(name) };
    for authority in [None, Some(file("CA.pem"))] {
        let url = asking::<P>(&place.url(), authority.as_deref());
        let world = World::on(open(&url, &OpenOptions::default()).expect(&url));
        if !P::IS_POSTGRES {
            place.execute(
                "CREATE OR REPLACE TABLE noted (cipher TEXT); CREATE OR REPLACE TRIGGER note AFTER INSERT ON task_queue
                FOR EACH ROW INSERT INTO noted SELECT variable_value FROM information_schema.session_status
                WHERE variable_name = 'Ssl_cipher'",
            );
        }
        let task_id = world.push(NewTask::new("work", &json!({})));
        assert_eq!(world.state(task_id), TaskState::Pending);
        let seen = sessions(&place);
        println!("{authority:?}: {seen}");
        if P::IS_POSTGRES {
            let (with, without) = seen.split_once(' ').unwrap();
            assert!(with != "0" && without == "0", "{seen}");
        } else {
            assert!(seen.contains("TLS") || seen.contains("AES"), "{seen}");
        }
    }
    let url = asking::<P>(&place.url(), Some(&file("other.pem")));
    let error = refused(&url);
    println!("signed by another: {error}");
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
}

fn refused(url: &str) -> BackendError {
    let error = open(url, &OpenOptions::default()).map(drop).expect_err(url);
    assert!(!error.is_transient(), "{error}");
    error
}

async fn encryption_that_is_not_there_is_refused<P: Place>() {
    let server = Own::with::<P>(|_| if P::IS_POSTGRES { Vec::new() } else { vec!["--skip-ssl".into()] });
    let place = P::at(&server.url());
    let folder = TempDir::new().unwrap();
    authority(folder.path(), "CA");
    for authority in [None, Some(folder.path().join("CA.pem"))] {
        let error = refused(&asking::<P>(&place.url(), authority.as_deref()));
        println!("{authority:?}: {error}");
        assert!(error.to_string().contains("SSL") || error.to_string().contains("encrypt"), "{error}");
    }
}

/// A URL that names an authority asks for encryption, because its author does not expect plain text.
#[test]
fn an_authority_alone_asks_for_encryption() {
    let server = Own::with::<Database>(|_| vec!["--skip-ssl".into()]);
    let (place, folder) = (Database::at(server.url()), TempDir::new().unwrap());
    authority(folder.path(), "CA");
    let url = format!("{}?ssl-ca={}", place.url(), folder.path().join("CA.pem").display());
    assert!(refused(&url).to_string().contains("encrypt"));
}
