//! The floors of `src/`: each top module imports only modules below it.

use std::collections::BTreeSet;

use crate::source::{File, files};

/// The top modules from the ground up, each with the modules that it may import. Only this list defines the floors;
/// `ARCHITECTURE.md` draws them.
const FLOORS: &[(&str, &[&str])] = &[
    // Ground: no imports.
    ("clock", &[]),
    ("name", &[]),
    ("files", &[]),
    ("panics", &[]),
    ("json", &[]),
    ("logging", &["clock", "panics"]),
    // Data: values and pure decisions.
    ("task", &["clock", "json", "name"]),
    ("limit", &["clock", "name", "task"]),
    ("schedule", &["clock", "json", "name", "task"]),
    // Storage.
    ("backend", &["clock", "files", "json", "limit", "name", "schedule", "task"]),
    // Actors in general, the public store, settings and errors.
    ("actor", &["clock", "task"]),
    ("store", &["actor", "clock", "json"]),
    ("error", &["actor", "backend", "name", "schedule", "store", "task"]),
    ("config", &["backend", "clock", "name", "schedule", "store", "task"]),
    // A node at run time.
    (
        "runtime",
        &[
            "actor", "backend", "clock", "config", "error", "files", "json", "logging", "name", "panics", "schedule",
            "store", "task",
        ],
    ),
    // The handle of a node, and doubles for tests.
    (
        "board",
        &["actor", "backend", "clock", "config", "error", "logging", "name", "runtime", "schedule", "store", "task"],
    ),
    (
        "testing",
        &["actor", "backend", "board", "clock", "error", "limit", "name", "runtime", "schedule", "store", "task"],
    ),
];

#[test]
fn no_import_climbs() {
    let mut wrong = Vec::new();
    for file in files() {
        let Some(here) = file.top() else { continue };
        let (_, allowed) = FLOORS.iter().find(|(name, _)| *name == here).unwrap_or_else(|| {
            panic!("{}: the module {here:?} has no floor; give it one in tests/house/floors.rs", file.path)
        });
        for (line, imported) in file.top_imports() {
            if imported != here && !allowed.contains(&imported.as_str()) {
                wrong.push(format!("{}:{line}: {here} must not import {imported}", file.path));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports that climb, or that tests/house/floors.rs does not list:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn each_floor_lists_only_what_is_below_it_and_imports_it() {
    let mut below = BTreeSet::new();
    for (name, allowed) in FLOORS {
        for other in *allowed {
            assert!(below.contains(other), "{name} lists {other}, which is not below it");
        }
        below.insert(*name);
    }
    let files = files();
    for (name, allowed) in FLOORS {
        let of_floor: Vec<&File> = files.iter().filter(|file| file.top().as_deref() == Some(name)).collect();
        assert!(!of_floor.is_empty(), "there is no module {name}");
        let imported: BTreeSet<String> =
            of_floor.iter().flat_map(|file| file.top_imports()).map(|(_, name)| name).collect();
        for other in *allowed {
            assert!(imported.contains(*other), "{name} may import {other} and does not; take it from the list");
        }
    }
}
