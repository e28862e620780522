//! The download list: lines `URL<TAB>file name`.

use std::fmt;

use reqwest::Url;

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) url: String,
    pub(crate) name: String,
}

/// An unusable line, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadLine {
    pub(crate) line: usize,
    pub(crate) why: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

/// Reads a list. Every line becomes an entry or a report, except empty lines, comments (`#`) and exact repeats.
///
/// Takes bytes, so that a line in a different encoding does not make the rest unreadable.
pub(crate) fn read(list: &[u8]) -> (Vec<Entry>, Vec<BadLine>) {
    let (mut entries, mut bad) = (Vec::new(), Vec::new());
    let mut seen = std::collections::HashSet::new();
    let list = list.strip_prefix("\u{feff}".as_bytes()).unwrap_or(list);
    for (number, line) in list.split(|&byte| byte == b'\n').enumerate() {
        match read_line(line) {
            Ok(Some(entry)) => {
                if seen.insert((entry.url.clone(), entry.name.clone())) {
                    entries.push(entry);
                }
            }
            Ok(None) => {}
            Err(why) => bad.push(BadLine { line: number + 1, why }),
        }
    }
    (entries, bad)
}

fn read_line(line: &[u8]) -> Result<Option<Entry>, String> {
    let line = std::str::from_utf8(line).map_err(|_| "not UTF-8; save the list as UTF-8".to_owned())?.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (url, name) = line.split_once('\t').ok_or("no tab; expected URL<TAB>file name")?;
    let (url, name) = (url.trim(), name.trim());
    if name.is_empty() {
        return Err("no file name after the tab".into());
    }
    let parsed = Url::parse(url).map_err(|error| format!("{} is no URL: {error}", url.escape_debug()))?;
    match parsed.scheme() {
        "http" | "https" => Ok(Some(Entry { url: url.to_owned(), name: name.to_owned() })),
        other => Err(format!("{other}: cannot be downloaded; expected http: or https:")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_an_entry_or_a_report() {
        let list = b"\xef\xbb\xbfhttp://a/1\tOne - A\r\n\
            # a comment\n\
            \n\
            https://a/2\t\xe7\x8e\x89\xe7\x9b\x98 - B\n\
            http://a/3 Three - C\n\
            http://a/4\t \n\
            ftp://a/5\tFive\n\
            nonsense\tSix\n\
            http://a/7\t\xff\xfe\n\
            http://a/1\tOne - A\n\
            http://a/1\tOne again - A";
        let (entries, bad) = read(list);
        let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["One - A", "玉盘 - B", "One again - A"]);
        let lines: Vec<_> = bad.iter().map(|bad| bad.line).collect();
        assert_eq!(lines, [5, 6, 7, 8, 9]);
        assert_eq!(bad[0].to_string(), "line 5: no tab; expected URL<TAB>file name");
    }
}
