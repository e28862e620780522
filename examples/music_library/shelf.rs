//! Putting a file where it belongs, without ever overwriting another.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files::beside;

/// What became of a file that was to be put on its shelf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It is there now, or an earlier run put it there and did not live to say so.
    At(PathBuf),
    /// A file with the very same content is there already; the new one is gone.
    Twin(PathBuf),
}

/// Moves `source` to the first free of the paths `wanted(1)`, `wanted(2)`, ... It never overwrites anything, whoever
/// else puts files there at the same time, and may be cut off anywhere and called again.
///
/// A rename would overwrite. So a placeholder that must be a new file takes the name first; it holds the path of its
/// source, by which a later run knows it as its own. And `NAME.placed` beside the source says where it was taken, for
/// a run that finds the source gone.
pub(crate) fn place(source: &Path, wanted: impl Fn(u32) -> PathBuf) -> io::Result<Placed> {
    let note = beside(source, ".placed");
    if !source.try_exists()? {
        return match fs::read_to_string(&note) {
            // Nothing but the rename takes the source away, so the note is true.
            Ok(target) => Ok(Placed::At(target.into())),
            Err(_) => Err(io::Error::new(io::ErrorKind::NotFound, format!("{} is gone", source.display()))),
        };
    }
    let mut number = 1;
    loop {
        let target = wanted(number);
        if take_name(source, &target)? {
            let text = target.to_str().ok_or_else(|| io::Error::other("the library's path is not Unicode"))?;
            fs::write(&note, text)?;
            if let Err(error) = fs::rename(source, &target) {
                fs::remove_file(&target)?;
                return Err(error);
            }
            sync_folder(&target)?;
            return Ok(Placed::At(target));
        }
        if same_content(source, &target)? {
            fs::write(&note, target.to_string_lossy().as_bytes())?;
            fs::remove_file(source)?;
            return Ok(Placed::Twin(target));
        }
        number += 1;
    }
}

/// True when `source` is gone because it was put in its place.
pub(crate) fn was_placed(source: &Path) -> io::Result<bool> {
    Ok(beside(source, ".placed").try_exists()? && !source.try_exists()?)
}

/// Puts `source`'s placeholder at `target`: true when it is there, now or since an earlier run.
fn take_name(source: &Path, target: &Path) -> io::Result<bool> {
    let mark = source.to_string_lossy();
    if let Some(shelf) = target.parent()
        && !shelf.try_exists()?
    {
        fs::create_dir_all(shelf)?;
        sync_folder(shelf)?;
    }
    match fs::File::create_new(target) {
        Ok(mut file) => io::Write::write_all(&mut file, mark.as_bytes()).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let is_ours = fs::metadata(target)?.len() == mark.len() as u64 && fs::read(target)? == mark.as_bytes();
            Ok(is_ours)
        }
        Err(error) => Err(error),
    }
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

/// Makes the name of `path` outlast a power cut: without it the queue may remember a move that the disk forgot.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    // Windows opens no folders; there, NTFS journals names by itself.
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
        let first = place(&first, folder.wanted()).unwrap();
        let second = place(&second, folder.wanted()).unwrap();
        assert_eq!(first, Placed::At(folder.wanted()(1)));
        assert_eq!(second, Placed::At(folder.wanted()(2)));
        assert_eq!(fs::read_to_string(folder.wanted()(1)).unwrap(), "first");
        assert_eq!(fs::read_to_string(folder.wanted()(2)).unwrap(), "other");
    }

    #[test]
    fn the_same_song_twice_is_kept_once() {
        let folder = Folder::new();
        let (first, second) = (folder.file("a", "same"), folder.file("b", "same"));
        place(&first, folder.wanted()).unwrap();
        assert_eq!(place(&second, folder.wanted()).unwrap(), Placed::Twin(folder.wanted()(1)));
        assert!(!second.exists() && !folder.wanted()(2).exists());
    }

    #[test]
    fn a_run_that_was_cut_off_is_taken_up_again() {
        let folder = Folder::new();
        let source = folder.file("a", "song");
        // Cut off between placeholder and rename.
        assert!(take_name(&source, &folder.wanted()(1)).unwrap());
        assert_eq!(place(&source, folder.wanted()).unwrap(), Placed::At(folder.wanted()(1)));
        // Cut off between rename and report.
        assert_eq!(place(&source, folder.wanted()).unwrap(), Placed::At(folder.wanted()(1)));
        assert_eq!(fs::read_to_string(folder.wanted()(1)).unwrap(), "song");
        assert!(!folder.wanted()(2).exists());
    }

    #[test]
    fn a_placeholder_of_another_is_left_alone() {
        let folder = Folder::new();
        let (mine, others) = (folder.file("a", "mine"), folder.file("b", "others"));
        assert!(take_name(&others, &folder.wanted()(1)).unwrap());
        assert_eq!(place(&mine, folder.wanted()).unwrap(), Placed::At(folder.wanted()(2)));
        assert_eq!(place(&others, folder.wanted()).unwrap(), Placed::At(folder.wanted()(1)));
    }

    #[test]
    fn a_source_that_never_was_is_an_error() {
        let folder = Folder::new();
        let error = place(&folder.0.path().join("none"), folder.wanted()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
