//! Support code of the chaos tests.

#[path = "../../support/frozen.rs"]
pub(crate) mod frozen;
#[path = "../../support/ledger.rs"]
pub(crate) mod ledger;
#[path = "../../support/node.rs"]
pub(crate) mod node;
#[path = "../../support/rescue.rs"]
pub(crate) mod rescue;
pub(crate) mod sql;
#[path = "../../support/waiting.rs"]
pub(crate) mod waiting;

use std::path::{Path, PathBuf};

use tempfile::TempDir;
pub(crate) use waiting::{eventually, soon, until};

/// A folder with a database file. Both are deleted when the test ends.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder().join("tasks.db")
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite:{}", self.file().display())
    }
}
