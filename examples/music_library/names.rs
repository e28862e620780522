//! The parts of a file name of a song: `Title (version) - Artist _ Artist`.

use std::fmt;

/// A song, as described by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Song {
    /// Never empty, unless the name was empty.
    pub(crate) title: String,
    /// The recording: the text in the brackets that end the title.
    pub(crate) version: Option<String>,
    /// Empty if the name has no ` - `.
    pub(crate) artists: Vec<String>,
}

impl Song {
    /// Parses a name. Every name has a result: a name that does not follow the grammar is all title.
    ///
    /// - The last ` - ` separates title and artists, so a title may contain it and an artist may not. A hyphen without
    ///   spaces belongs to the name (`Chen-U_EG`).
    /// - ` _ ` separates artists; an underscore without a space on both sides belongs to the name (`Au_Ra`). The same
    ///   holds in a title or version, where it stands for a character that some file system did not allow (`ver_`).
    /// - Brackets that end the title contain the version. Half-width brackets need a space before them, otherwise they
    ///   belong to the title (`f(x)`); full-width brackets include their own space and need none.
    pub(crate) fn parse(name: &str) -> Self {
        let whole = || (name.trim(), Vec::new());
        let (left, artists) = match name.rsplit_once(" - ") {
            Some((left, right)) if !left.trim().is_empty() => {
                let artists: Vec<_> = right.split(" _ ").map(str::trim).filter(|a| !a.is_empty()).collect();
                if artists.is_empty() { whole() } else { (left.trim(), artists) }
            }
            _ => whole(),
        };
        let (title, version) = match split_version(left) {
            Some((title, version)) => (title, Some(version.to_owned())),
            None => (left, None),
        };
        Self { title: title.to_owned(), version, artists: artists.into_iter().map(str::to_owned).collect() }
    }

    /// The title with its version: the base of the file name.
    pub(crate) fn full_title(&self) -> String {
        match &self.version {
            Some(version) => format!("{} ({version})", self.title),
            None => self.title.clone(),
        }
    }
}

impl fmt::Display for Song {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full_title())?;
        for (n, artist) in self.artists.iter().enumerate() {
            write!(f, "{}{artist}", if n == 0 { " - " } else { " _ " })?;
        }
        Ok(())
    }
}

/// Splits `Title (version)`. Returns `None` if no brackets end the name, or if the text before or inside them is empty.
fn split_version(text: &str) -> Option<(&str, &str)> {
    let (open, close) = match text.chars().next_back()? {
        ')' => ('(', ')'),
        '）' => ('（', '）'),
        _ => return None,
    };
    // Searches from the end, so that brackets within the version (`Mix (2nd)`) stay whole.
    let mut depth = 0_usize;
    for (at, c) in text.char_indices().rev() {
        if c == close {
            depth += 1;
        } else if c == open {
            depth -= 1;
        }
        if depth == 0 {
            let (before, brackets) = text.split_at(at);
            let inside = brackets[open.len_utf8()..brackets.len() - close.len_utf8()].trim();
            let parted = open == '（' || before.ends_with(char::is_whitespace);
            let before = before.trim();
            return (parted && !before.is_empty() && !inside.is_empty()).then_some((before, inside));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn reads(name: &str, title: &str, version: &str, artists: &[&str]) {
        let song = Song::parse(name);
        assert_eq!(song.title, title);
        assert_eq!(song.version.as_deref().unwrap_or(""), version);
        assert_eq!(song.artists, artists);
    }

    #[test]
    fn the_names_people_have() {
        reads("玉盘 - 葫芦童声", "玉盘", "", &["葫芦童声"]);
        reads("Libertus - Chen-U_EG", "Libertus", "", &["Chen-U_EG"]);
        reads(
            "Silent Street (Type A) - Hyunmin Cho _ seibin _ Youngkyoung Choi _ SHIFT UP",
            "Silent Street",
            "Type A",
            &["Hyunmin Cho", "seibin", "Youngkyoung Choi", "SHIFT UP"],
        );
        reads("病名为爱 (国语) - 祖娅纳惜", "病名为爱", "国语", &["祖娅纳惜"]);
        reads("どうして… (为什么) - 凋叶棕", "どうして…", "为什么", &["凋叶棕"]);
        reads("BLUE DRAGON ('07 ver_) - 澤野弘之", "BLUE DRAGON", "'07 ver_", &["澤野弘之"]);
        reads("像鱼 (伴奏) - 王贰浪", "像鱼", "伴奏", &["王贰浪"]);
        reads("Let Her Go (DOAN Remix) - Doan", "Let Her Go", "DOAN Remix", &["Doan"]);
        reads("The Edge (Original Mix) - Grant _ Nevve", "The Edge", "Original Mix", &["Grant", "Nevve"]);
        reads("LEVEL5-judgelight- (instrumental) - fripSide", "LEVEL5-judgelight-", "instrumental", &["fripSide"]);
        reads("Ghost (The Him Remix) - Au_Ra _ Alan Walker", "Ghost", "The Him Remix", &["Au_Ra", "Alan Walker"]);
        reads("夢燈籠 (R7CKY 你的名字 Mix) - R7CKY", "夢燈籠", "R7CKY 你的名字 Mix", &["R7CKY"]);
        reads("病名为爱-古风版 (改编版原唱_ Neru) - 杨可爱", "病名为爱-古风版", "改编版原唱_ Neru", &["杨可爱"]);
        reads("RISE（中文版）登峰造极境（语言版） - 祈Inory", "RISE（中文版）登峰造极境", "语言版", &["祈Inory"]);
        reads("My Dearest (Instrumental_TV Edit) - supercell", "My Dearest", "Instrumental_TV Edit", &["supercell"]);
        reads("All Alone With You (Inst_) - EGOIST", "All Alone With You", "Inst_", &["EGOIST"]);
        reads("答案 (女声吉他弹唱) - 李瑨瑶", "答案", "女声吉他弹唱", &["李瑨瑶"]);
        reads("勾指起誓 (甜味小少年ver) - 洛少爷", "勾指起誓", "甜味小少年ver", &["洛少爷"]);
    }

    #[test]
    fn a_title_may_hold_what_parts_it_from_the_artists() {
        reads("Act 1 - Night (live) - Band", "Act 1 - Night", "live", &["Band"]);
        reads("- - -", "-", "", &["-"]);
    }

    #[test]
    fn brackets_that_do_not_end_the_title_belong_to_it() {
        reads("f(x) - Artist", "f(x)", "", &["Artist"]);
        reads("(I Can't Get No) Satisfaction - Band", "(I Can't Get No) Satisfaction", "", &["Band"]);
        reads("(untitled) - Band", "(untitled)", "", &["Band"]);
        reads("Odd) - Band", "Odd)", "", &["Band"]);
        reads("Song () - Band", "Song ()", "", &["Band"]);
        reads("Song (Mix (2nd)) - Band", "Song", "Mix (2nd)", &["Band"]);
        reads("Song (live) (2020) - Band", "Song (live)", "2020", &["Band"]);
    }

    #[test]
    fn a_name_outside_the_grammar_is_all_title() {
        reads("just a title", "just a title", "", &[]);
        reads("a title (demo)", "a title", "demo", &[]);
        reads(" - Artist", "- Artist", "", &[]);
        reads("Title -  _ ", "Title -  _", "", &[]);
        reads("Title-Artist", "Title-Artist", "", &[]);
        reads("", "", "", &[]);
    }

    /// A part of a name without any character of the grammar.
    fn plain() -> impl Strategy<Value = String> {
        "[\\PC--[()（）]]{1,20}".prop_map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")).prop_filter(
            "parts nothing",
            |text| {
                let padded = format!(" {text} ");
                !text.is_empty() && !padded.contains(" - ") && !padded.contains(" _ ")
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            title in plain(),
            version in proptest::option::of(plain()),
            artists in proptest::collection::vec(plain(), 0..4),
        ) {
            let song = Song { title, version, artists };
            prop_assert_eq!(Song::parse(&song.to_string()), song);
        }

        #[test]
        fn every_name_has_a_reading(name in "\\PC{0,60}") {
            let song = Song::parse(&name);
            prop_assert_eq!(song.title.is_empty(), name.trim().is_empty());
            prop_assert!(song.version.is_none_or(|version| !version.is_empty()));
            prop_assert!(song.artists.iter().all(|artist| !artist.is_empty() && artist.trim() == artist));
        }
    }
}
