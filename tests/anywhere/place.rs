//! A storage of each kind, made for a single test.

use tempfile::TempDir;

use crate::servers::{Database, Schema};

pub(crate) enum Place {
    Memory,
    Sqlite(TempDir),
    Postgres(Schema),
    Mysql(Database),
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(TempDir::new().unwrap())
    }

    pub(crate) fn postgres() -> Self {
        Self::Postgres(Schema::new())
    }

    pub(crate) fn mysql() -> Self {
        Self::Mysql(Database::new())
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Memory => "memory:".into(),
            Self::Sqlite(folder) => format!("sqlite:{}", folder.path().join("tasks.db").display()),
            Self::Postgres(schema) => schema.url(),
            Self::Mysql(database) => database.url(),
        }
    }
}

/// Makes a test of each function for each kind of storage: `module::memory`, `module::sqlite`, ...
macro_rules! on_each_storage {
    ($($name:ident)+) => {$(
        mod $name {
            use crate::place::Place;

            #[test]
            fn memory() {
                super::$name(&Place::Memory);
            }
            #[test]
            fn sqlite() {
                super::$name(&Place::sqlite());
            }
            #[test]
            fn postgres() {
                super::$name(&Place::postgres());
            }
            #[test]
            fn mysql() {
                super::$name(&Place::mysql());
            }
        }
    )+};
}
pub(crate) use on_each_storage;
