//! Modes of the files that the program creates.

use std::fs::OpenOptions;

/// Mode of databases: params may hold data that the machine's users other than the owner must not read.
#[cfg(feature = "sqlite")]
pub(crate) const PRIVATE: u32 = 0o600;
/// Mode of logs: the group may read them, for example a program that collects logs.
pub(crate) const FOR_THE_GROUP: u32 = 0o640;

/// A file created with these options gets at most this mode; the umask may remove permissions. On systems other than
/// Unix the file's folder decides.
pub(crate) fn with_mode(options: &mut OpenOptions, mode: u32) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    options
}
