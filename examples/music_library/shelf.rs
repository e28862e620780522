//! Moves a file to its place, without ever overwriting a file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::files::beside;

/// Moves `source` to the first free path of `wanted(1)`, `wanted(2)`, ... and returns that path. It never overwrites a
/// file, also if other programs add files at the same time. It may be interrupted at any point and called again. If a
/// file with the same content is at the path already, that path is the place, and a single copy is kept.
///
/// A rename would overwrite; a hard link fails if the name exists. `NAME.placed` beside the source contains the new
/// name, for a run that finds the source gone.
pub(crate) fn place(source: &Path, wanted: impl Fn(u32) -> PathBuf) -> io::Result<PathBuf> {
    let note = beside(source, ".placed");
    if !source.try_exists()? {
        return match fs::read_to_string(&note) {
            // The source is deleted last, so the note is true.
            Ok(target) => Ok(target.into()),
            Err(_) => Err(io::Error::new(io::ErrorKind::NotFound, format!("{} is gone", source.display()))),
        };
    }
    for number in 1..=u32::MAX {
        let target = wanted(number);
        make_shelf(&target)?;
        fs::write(&note, target.to_str().ok_or_else(|| io::Error::other("the library's path is not Unicode"))?)?;
        match give_name(source, &target) {
            Ok(()) => {}
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            // Also the state after a run that was interrupted before it deleted the first name.
            Err(_) if same_content(source, &target)? => {}
            Err(_) => continue,
        }
        sync_folder(&target)?;
        if source.try_exists()? {
            fs::remove_file(source)?;
        }
        return Ok(target);
    }
    Err(io::Error::other("every number is taken"))
}

/// True if `source` is gone because it was moved to its place.
pub(crate) fn was_placed(source: &Path) -> io::Result<bool> {
    Ok(beside(source, ".placed").try_exists()? && !source.try_exists()?)
}

fn make_shelf(target: &Path) -> io::Result<()> {
    match target.parent() {
        Some(shelf) if !shelf.try_exists()? => {
            fs::create_dir_all(shelf)?;
            sync_folder(shelf)
        }
        _ => Ok(()),
    }
}

/// Gives the file the name `target`, unless that name is taken. The old name may stay.
fn give_name(source: &Path, target: &Path) -> io::Result<()> {
    match fs::hard_link(source, target) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => look_and_rename(source, target),
        given => given,
    }
}

/// For file systems on which a file has one name only (FAT, some network shares).
///
/// A different program might take the name between check and rename; a different thread of this program cannot.
fn look_and_rename(source: &Path, target: &Path) -> io::Result<()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if target.try_exists()? { Err(io::ErrorKind::AlreadyExists.into()) } else { fs::rename(source, target) }
}

fn same_content(a: &Path, b: &Path) -> io::Result<bool> {
    use io::{BufReader, Read};
    if fs::metadata(a)?.len() != fs::metadata(b)?.len() {
        return Ok(false);
    }
    let (a, b) = (BufReader::new(fs::File::open(a)?), BufReader::new(fs::File::open(b)?));
    for (x, y) in a.bytes().zip(b.bytes()) {
        if x? != y? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Syncs the folder of `path`, so that its name survives a power cut: otherwise the queue may remember a move that the
/// disk forgot.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    // Windows cannot open folders; there, NTFS journals names by itself.
    if cfg!(unix)
        && let Some(folder) = path.parent()
    {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn file(&self, name: &str, content: &str) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, content).unwrap();
            path
        }

        fn wanted(&self) -> impl Fn(u32) -> PathBuf {
            |number| self.0.path().join("shelf").join(format!("song [{number}].wav"))
        }
    }

    #[test]
    fn two_songs_of_one_name_both_stay() {
        let folder = Folder::new();
        let (first, second) = (folder.file("a", "first"), folder.file("b", "other"));
        assert_eq!(place(&first, folder.wanted()).unwrap(), folder.wanted()(1));
        assert_eq!(place(&second, folder.wanted()).unwrap(), folder.wanted()(2));
        assert_eq!(fs::read_to_string(folder.wanted()(1)).unwrap(), "first");
        assert_eq!(fs::read_to_string(folder.wanted()(2)).unwrap(), "other");
        assert!(!first.exists() && !second.exists());
    }

    #[test]
    fn the_same_song_twice_is_kept_once() {
        let folder = Folder::new();
        let (first, second) = (folder.file("a", "same"), folder.file("b", "same"));
        place(&first, folder.wanted()).unwrap();
        assert_eq!(place(&second, folder.wanted()).unwrap(), folder.wanted()(1));
        assert!(!second.exists() && !folder.wanted()(2).exists());
    }

    #[test]
    fn a_run_that_was_cut_off_is_taken_up_again() {
        let folder = Folder::new();
        let source = folder.file("a", "song");
        // Interrupted between the second name and the deletion of the first.
        make_shelf(&folder.wanted()(1)).unwrap();
        give_name(&source, &folder.wanted()(1)).unwrap();
        assert!(!was_placed(&source).unwrap());
        assert_eq!(place(&source, folder.wanted()).unwrap(), folder.wanted()(1));
        // Interrupted between the deletion of the first name and the report.
        assert!(was_placed(&source).unwrap());
        assert_eq!(place(&source, folder.wanted()).unwrap(), folder.wanted()(1));
        assert_eq!(fs::read_to_string(folder.wanted()(1)).unwrap(), "song");
        assert!(!folder.wanted()(2).exists());
    }

    #[test]
    fn without_links_nothing_is_overwritten_either() {
        let folder = Folder::new();
        let (first, second) = (folder.file("a", "first"), folder.file("b", "other"));
        let target = folder.0.path().join("song");
        look_and_rename(&first, &target).unwrap();
        assert_eq!(look_and_rename(&second, &target).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(target).unwrap(), "first");
    }

    #[test]
    fn a_source_that_never_was_is_an_error() {
        let folder = Folder::new();
        let error = place(&folder.0.path().join("none"), folder.wanted()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
