//! Names that are valid on every file system.

use std::path::{Path, PathBuf};

use crate::names::Song;

/// The longest name made here, in bytes with the extension. File systems allow 255; the rest is for `.part.json`.
const LONGEST: usize = 240;

/// The artist of songs whose name contains no artist.
const NO_ARTIST: &str = "Unknown Artist";

/// Extensions that are recognised at the end of a name; any other text after a dot belongs to the name (`Vol.2`).
const AUDIO: [&str; 14] =
    ["aac", "aif", "aiff", "ape", "flac", "m4a", "mka", "mp3", "mp4", "oga", "ogg", "opus", "wav", "webm"];

/// Makes `name` a single path component that means the same on every system. It has at most `longest` bytes. It is
/// never empty, `.` or `..`. It has no path separators, no control or direction characters, no leading dot (hidden),
/// and no trailing dot or space (Windows drops them). It is no device name of Windows. A safe name stays unchanged.
pub(crate) fn safe_name(name: &str, longest: usize) -> String {
    let mut safe: String = name.trim().chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    if safe.starts_with('.') {
        safe.replace_range(..1, "_");
    }
    if is_device(&safe) {
        safe.insert(0, '_');
    }
    let end = (0..=longest.min(safe.len())).rev().find(|&at| safe.is_char_boundary(at)).unwrap_or(0);
    safe.truncate(end);
    safe.truncate(safe.trim_end_matches(|c: char| c == '.' || c.is_whitespace()).len());
    // Truncation may have produced a device name (`CONx`, cut to three bytes).
    if safe.is_empty() || is_device(&safe) { "_".into() } else { safe }
}

fn allowed(c: char) -> bool {
    let parts_or_means_something = matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|');
    let breaks_a_line = matches!(c, '\u{2028}' | '\u{2029}');
    let turns_text_around = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !(c.is_control() || parts_or_means_something || breaks_a_line || turns_text_around)
}

/// True for the names that Windows reserves for devices, with any extension.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_ascii_uppercase();
    let numbered = |prefix: &str| {
        stem.strip_prefix(prefix)
            .is_some_and(|n| matches!(n, "¹" | "²" | "³") || n.parse::<u8>().is_ok_and(|n| n < 10))
    };
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$")
        || numbered("COM")
        || numbered("LPT")
}

/// Splits a name from its extension, if it ends with an audio extension.
pub(crate) fn split_extension(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once('.') {
        Some((stem, ext)) if !stem.trim().is_empty() && AUDIO.iter().any(|a| ext.eq_ignore_ascii_case(a)) => {
            (stem, Some(ext))
        }
        _ => (name, None),
    }
}

/// The file type according to the first bytes of a file, for names and addresses without an extension.
pub(crate) fn sniff_extension(head: &[u8]) -> Option<&'static str> {
    match head {
        [b'R', b'I', b'F', b'F', ..] => Some("wav"),
        [b'f', b'L', b'a', b'C', ..] => Some("flac"),
        [b'O', b'g', b'g', b'S', ..] => Some("ogg"),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Some("m4a"),
        [b'I', b'D', b'3', ..] | [0xff, 0xe0..=0xff, ..] => Some("mp3"),
        _ => None,
    }
}

/// The path of a song below the library: `<first artist>/<title> (<version>).<ext>`. From the second song of the same
/// name on, the path contains `number`.
pub(crate) fn shelf_path(song: &Song, extension: &str, number: u32) -> PathBuf {
    let artist = song.artists.first().map_or(NO_ARTIST, String::as_str);
    let extension = safe_name(extension, 10);
    let number = if number > 1 { format!(" [{number}]") } else { String::new() };
    let title = safe_name(&song.full_title(), LONGEST - number.len() - extension.len() - 1);
    Path::new(&safe_name(artist, LONGEST)).join(format!("{title}{number}.{extension}"))
}

/// The name of a downloaded file before it has its place.
pub(crate) fn incoming_name(name: &str) -> String {
    safe_name(name, LONGEST)
}

/// The path with `suffix` added to its last component.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_made_safe() {
        for (name, safe) in [
            ("AC/DC", "AC_DC"),
            ("../../etc/passwd", "_._.._etc_passwd"),
            ("..", "_"),
            ("...", "_"),
            ("...Baby One More Time", "_..Baby One More Time"),
            ("", "_"),
            ("   ", "_"),
            (".hidden", "_hidden"),
            ("ends. . ", "ends"),
            ("a\u{0}b\nc\u{9b}d", "a_b_c_d"),
            ("nul", "_nul"),
            ("COM7.tar", "_COM7.tar"),
            ("COM77", "COM77"),
            ("Console", "Console"),
            ("evil\u{202e}gpj.exe", "evil_gpj.exe"),
            ("どうして… (为什么)", "どうして… (为什么)"),
            ("'07 ver_", "'07 ver_"),
        ] {
            assert_eq!(safe_name(name, LONGEST), safe, "{name:?}");
        }
        assert_eq!(safe_name("玉盘玉盘", 7), "玉盘");
        assert_eq!(safe_name("CONx", 3), "_");
    }

    #[test]
    fn extensions_are_those_of_audio() {
        assert_eq!(split_extension("Song - A.MP3"), ("Song - A", Some("MP3")));
        assert_eq!(split_extension("Vol.2 - Mr. Big"), ("Vol.2 - Mr. Big", None));
        assert_eq!(split_extension(".wav"), (".wav", None));
        assert_eq!(sniff_extension(b"RIFF1234WAVE"), Some("wav"));
        assert_eq!(sniff_extension(b"<html>"), None);
    }

    #[test]
    fn a_song_stands_with_its_first_artist() {
        let path = |name, number| shelf_path(&Song::parse(name), "wav", number);
        assert_eq!(
            path("The Edge (Original Mix) - Grant _ Nevve", 1),
            Path::new("Grant/The Edge (Original Mix).wav")
        );
        assert_eq!(path("玉盘 - 葫芦童声", 2), Path::new("葫芦童声/玉盘 [2].wav"));
        assert_eq!(path("no artist", 1), Path::new("Unknown Artist/no artist.wav"));
        assert_eq!(path("../x - ../../etc", 1), Path::new("_._.._etc/_._x.wav"));
    }

    proptest! {
        #[test]
        fn any_name_becomes_one_plain_component(name in any::<String>(), longest in 1_usize..300) {
            let safe = safe_name(&name, longest);
            let components: Vec<_> = Path::new(&safe).components().collect();
            prop_assert!(matches!(components[..], [std::path::Component::Normal(_)]), "{safe:?}");
            prop_assert!(safe.len() <= longest && !safe.starts_with('.') && !safe.ends_with(['.', ' ']));
            prop_assert!(safe.chars().all(allowed) && !is_device(&safe));
            prop_assert_eq!(safe_name(&safe, longest), safe);
        }

        #[test]
        fn a_shelf_path_never_leaves_the_library(name in any::<String>(), ext in any::<String>(), number: u32) {
            let path = shelf_path(&Song::parse(&name), &ext, number);
            prop_assert_eq!(path.components().count(), 2);
            prop_assert!(path.components().all(|c| matches!(c, std::path::Component::Normal(_))));
            prop_assert!(path.file_name().unwrap().len() <= LONGEST);
        }
    }
}
