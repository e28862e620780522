//! Files that the program makes.

use std::fs::OpenOptions;

/// Of databases: params may hold what no other user of the machine is to read.
#[cfg(feature = "sqlite")]
pub(crate) const PRIVATE: u32 = 0o600;
/// Of logs: the group may read them, such as the program that collects them.
pub(crate) const FOR_THE_GROUP: u32 = 0o640;

/// A file that these options make has at most this mode, and less where the umask takes some away. Elsewhere than on Unix
/// its folder decides.
pub(crate) fn with_mode(options: &mut OpenOptions, mode: u32) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    options
}
