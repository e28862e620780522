//! The parts of migrations that the servers share.

use crate::backend::BackendError;

/// A migration of this program.
#[derive(Debug)]
pub(super) struct Migration {
    /// The version, as it is recorded in the database.
    pub(super) version: &'static str,
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

/// The migrations of a database, oldest first: `"2026-01-01-000000_tasks" in "postgres"`.
macro_rules! migrations {
    ($folder:literal: $($version:literal $name:literal),+) => {
        &[$(crate::backend::sql::migrations::Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../../../../migrations/", $folder, "/", $name, "/up.sql")),
        }),+]
    };
}
pub(super) use migrations;

/// The known migrations that the database does not have yet.
///
/// # Errors
/// [`BackendError::SchemaTooNew`] if the database has a newer migration than this program knows.
pub(super) fn missing(
    there: &[String],
    known: &'static [Migration],
) -> Result<Vec<&'static Migration>, BackendError> {
    let newest = known.last().map_or("", |known| known.version);
    if let Some(found) = there.iter().max().filter(|found| found.as_str() > newest) {
        return Err(BackendError::SchemaTooNew { found: found.clone(), known: newest.into() });
    }
    Ok(known.iter().filter(|known| !there.iter().any(|version| version == known.version)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Migration] =
        &[Migration { version: "1", name: "a", sql: "" }, Migration { version: "2", name: "b", sql: "" }];

    #[test]
    fn what_is_missing_is_run_and_what_is_newer_refused() {
        let missing = |there: &[&str]| {
            let there: Vec<String> = there.iter().map(ToString::to_string).collect();
            missing(&there, KNOWN).map(|missing| missing.iter().map(|known| known.name).collect::<Vec<_>>())
        };
        assert_eq!(missing(&[]).unwrap(), ["a", "b"]);
        assert_eq!(missing(&["1"]).unwrap(), ["b"]);
        assert!(missing(&["1", "2"]).unwrap().is_empty());
        assert!(matches!(missing(&["1", "3"]), Err(BackendError::SchemaTooNew { found, .. }) if found == "3"));
    }
}
