//! Runs the conformance suite on every backend of this crate.

use std::sync::Arc;

use callboard::backend::{Opened, memory::Memory};
use callboard::testing::Harness;

struct InMemory;

impl Harness for InMemory {
    fn open(&self) -> Opened {
        Arc::new(Memory::new())
    }
}

callboard::conformance!(memory, InMemory);

#[cfg(feature = "sqlite")]
mod files {
    use std::cell::Cell;

    use callboard::backend::{OpenOptions, Opened, open};
    use callboard::testing::Harness;
    use tempfile::TempDir;

    /// SQLite files in a folder that is deleted when the test ends.
    pub(super) struct InFiles {
        folder: TempDir,
        opened: Cell<u32>,
    }

    impl InFiles {
        pub(super) fn new() -> Self {
            Self { folder: TempDir::new().expect("a temporary folder"), opened: Cell::new(0) }
        }

        fn latest(&self) -> Opened {
            let path = self.folder.path().join(format!("{}.db", self.opened.get()));
            open(&format!("sqlite:{}", path.display()), &OpenOptions::default()).expect("open")
        }
    }

    impl Harness for InFiles {
        fn open(&self) -> Opened {
            self.opened.set(self.opened.get() + 1);
            self.latest()
        }

        fn reopen(&self) -> Option<Opened> {
            Some(self.latest())
        }

        fn second(&self) -> Option<Opened> {
            let opened = self.latest();
            opened.capabilities().shared.then_some(opened)
        }

        /// Fewer sequences, because each commit waits for the disk.
        fn sequences(&self) -> u64 {
            40
        }
    }
}

#[cfg(feature = "sqlite")]
callboard::conformance!(sqlite, files::InFiles::new());

#[cfg(any(feature = "postgres", feature = "mysql"))]
#[path = "../support/servers.rs"]
mod servers;

/// A harness on a server. `open` makes a new schema or database there, and the other methods return to it.
#[cfg(any(feature = "postgres", feature = "mysql"))]
macro_rules! on_server {
    ($harness:ident, $place:ty, locks_neighbours: $locks_neighbours:literal) => {
        struct $harness(std::cell::RefCell<Vec<$place>>);

        impl $harness {
            fn new() -> Self {
                Self(std::cell::RefCell::default())
            }

            fn latest(&self) -> Opened {
                let url = self.0.borrow().last().expect("open comes first").url();
                callboard::backend::open(&url, &callboard::backend::OpenOptions::default()).expect("open")
            }
        }

        impl Harness for $harness {
            fn open(&self) -> Opened {
                self.0.borrow_mut().push(<$place>::new());
                self.latest()
            }

            fn reopen(&self) -> Option<Opened> {
                Some(self.latest())
            }

            fn second(&self) -> Option<Opened> {
                Some(self.latest())
            }

            fn locks_neighbours(&self) -> bool {
                $locks_neighbours
            }

            /// Fewer sequences, because each commit waits for the disk.
            fn sequences(&self) -> u64 {
                20
            }
        }
    };
}

#[cfg(feature = "postgres")]
on_server!(OnPostgres, servers::Schema, locks_neighbours: false);
#[cfg(feature = "postgres")]
callboard::conformance!(postgres, OnPostgres::new());

#[cfg(feature = "mysql")]
on_server!(OnMysql, servers::Database, locks_neighbours: true);
#[cfg(feature = "mysql")]
callboard::conformance!(mysql, OnMysql::new());
