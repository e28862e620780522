//! The closing table: songs that are done, that needed several attempts, and that were given up, with the reason.

use std::fmt;

use console::{Alignment, measure_text_width, pad_str};

/// How a song ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Done,
    /// Done, but not at the first attempt.
    Retried,
    GivenUp,
    /// Not ended: the next start continues it.
    Left,
}

impl End {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retried => "retried",
            Self::GivenUp => "given up",
            Self::Left => "left",
        }
    }
}

/// A song.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) end: End,
    pub(crate) song: String,
    pub(crate) attempts: u32,
    pub(crate) bytes: Option<u64>,
    /// Its path, or the reason why it has none.
    pub(crate) remark: String,
}

/// The whole table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    /// Songs of the list that an earlier run had put into the library.
    pub(crate) before: usize,
}

impl Report {
    fn count(&self, end: End) -> usize {
        self.rows.iter().filter(|row| row.end == end).count()
    }
}

const HEAD: [&str; 5] = ["", "song", "attempts", "size", "where it is, or why not"];

/// The maximum width of the column for names.
const WIDEST: usize = 48;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by_key(|row| row.end);
        let cells: Vec<[String; 5]> = rows.into_iter().map(cells).collect();
        // Width in terminal columns, not in bytes or characters: Chinese and Japanese characters take two each.
        let width = |column: usize| {
            let widths = cells.iter().map(|row| measure_text_width(&row[column]));
            widths.chain([measure_text_width(HEAD[column])]).max().unwrap_or(0).min(WIDEST)
        };
        let widths: [usize; 4] = std::array::from_fn(width);
        let line = |f: &mut fmt::Formatter<'_>, row: [&str; 5]| {
            let mut text = String::new();
            for (column, cell) in row[..4].iter().enumerate() {
                let side = if matches!(column, 2 | 3) { Alignment::Right } else { Alignment::Left };
                text += &pad_str(cell, widths[column], side, Some("…"));
                text += "  ";
            }
            writeln!(f, "{}", (text + row[4]).trim_end())
        };
        if !cells.is_empty() {
            line(f, HEAD)?;
            for row in &cells {
                line(f, row.each_ref().map(String::as_str))?;
            }
            writeln!(f)?;
        }
        let done = self.count(End::Done) + self.count(End::Retried);
        write!(
            f,
            "{done} done ({} of them retried), {} given up",
            self.count(End::Retried),
            self.count(End::GivenUp)
        )?;
        write!(f, ", {} left", self.count(End::Left))?;
        if self.before > 0 {
            write!(f, "; {} were there before", self.before)?;
        }
        Ok(())
    }
}

fn cells(row: &Row) -> [String; 5] {
    [
        row.end.as_str().into(),
        printable(&row.song),
        row.attempts.to_string(),
        row.bytes.map(size).unwrap_or_default(),
        printable(&row.remark),
    ]
}

/// A number of bytes in readable form.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
    }
}

/// Text from lists and servers, with terminal control characters shown and not executed.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let row = |end, song: &str, attempts, bytes, remark: &str| Row {
            end,
            song: song.into(),
            attempts,
            bytes,
            remark: remark.into(),
        };
        let report = Report {
            rows: vec![
                row(End::GivenUp, "Tape\u{1b}[2J", 1, None, "the server answered 404"),
                row(End::Done, "玉盘 - 葫芦童声", 1, Some(158_804), "葫芦童声/玉盘.wav"),
                row(End::Retried, "Libertus - Chen-U_EG", 3, Some(1_588_044), "Chen-U_EG/Libertus.wav"),
            ],
            before: 2,
        };
        let expected = [
            "          song                  attempts    size  where it is, or why not",
            "done      玉盘 - 葫芦童声              1  158 kB  葫芦童声/玉盘.wav",
            "retried   Libertus - Chen-U_EG         3  1.5 MB  Chen-U_EG/Libertus.wav",
            "given up  Tape\\u{1b}[2J                1          the server answered 404",
            "",
            "2 done (1 of them retried), 1 given up, 0 left; 2 were there before",
        ];
        assert_eq!(report.to_string().lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn nothing_done_needs_no_table() {
        let report = Report { rows: Vec::new(), before: 3 };
        assert_eq!(report.to_string(), "0 done (0 of them retried), 0 given up, 0 left; 3 were there before");
    }
}
