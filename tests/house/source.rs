//! The source files of the library, read for their imports.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

/// A file of `src/`, without comments, string literals and unit tests.
pub(crate) struct File {
    /// Its path from the root of the repository.
    pub(crate) path: String,
    /// The path of its module; empty for the root of the crate.
    module: Vec<String>,
    code: String,
}

/// All files of `src/` except those of unit tests.
pub(crate) fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(root, &root.join("src"), &mut files);
    assert!(files.len() > 100, "the source was not found");
    files
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if name != "tests" {
                collect(root, &path, files);
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let source = path.strip_prefix(root.join("src")).unwrap().with_extension("");
            let mut module: Vec<String> = source.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            if module.last().is_some_and(|last| last == "mod" || last == "lib") {
                module.pop();
            }
            let code = without_tests(&without_texts(&fs::read_to_string(&path).unwrap())).to_owned();
            let path = path.strip_prefix(root).unwrap().display().to_string();
            files.push(File { path, module, code });
        }
    }
}

impl File {
    /// The top module of this file; `None` for the root of the crate.
    pub(crate) fn top(&self) -> Option<String> {
        self.module.first().cloned()
    }

    /// The top modules that this file names, each with its line. A name that the root of the crate re-exports counts as
    /// the module behind it.
    pub(crate) fn top_imports(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for start in ["crate::", "super::"] {
            for (at, _) in self.code.match_indices(start) {
                let before = self.code[..at].chars().next_back();
                // Skip a match in the middle of a path or of a name.
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                    continue;
                }
                let Some(rest) = self.behind_root(&self.code[at..]) else { continue };
                let line = self.code[..at].matches('\n').count() + 1;
                found.extend(first_names(rest).into_iter().map(|name| (line, name)));
            }
        }
        found
    }

    /// The rest of a path after the root of the crate; `None` if the path does not begin there.
    fn behind_root<'a>(&self, path: &'a str) -> Option<&'a str> {
        if let Some(rest) = path.strip_prefix("crate::") {
            return Some(rest);
        }
        let (mut rest, mut climbed) = (path, 0);
        while let Some(next) = rest.strip_prefix("super::") {
            (rest, climbed) = (next, climbed + 1);
        }
        (climbed >= self.module.len()).then_some(rest)
    }
}

/// The top module of a path, or of each path in a group.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| {
        let text = text.trim_start();
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
        module_of(&text[..end])
    };
    let Some(group) = path.strip_prefix('{') else { return name(path).into_iter().collect() };
    let (mut depth, mut begin, mut names) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.extend(name(&group[begin..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.extend(name(&group[begin..at]));
                begin = at + 1;
            }
            _ => {}
        }
    }
    names
}

/// The top module of a name at the root of the crate: the name itself, or the module from which `src/lib.rs` re-exports
/// it.
fn module_of(name: &str) -> Option<String> {
    static ROOT: LazyLock<String> = LazyLock::new(|| without_texts(include_str!("../../src/lib.rs")));
    let root = &*ROOT;
    let is_module =
        |name: &str| root.lines().any(|line| line.trim_start().trim_start_matches("pub ") == format!("mod {name};"));
    if name.is_empty() || is_module(name) {
        return Some(name.to_owned()).filter(|name| !name.is_empty());
    }
    root.split("pub use ").skip(1).find_map(|import| {
        let import = import.split(';').next()?;
        let words: Vec<&str> = import.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
        let first = words.iter().find(|word| !word.is_empty() && **word != "crate")?;
        (words.contains(&name) && is_module(first)).then(|| (*first).to_owned())
    })
}

/// The code before its unit tests. A test module in a file of its own is only declared, so the code after it stays.
fn without_tests(code: &str) -> &str {
    let is_inline =
        |at: usize| code[at..].lines().find(|line| !line.starts_with("#[")).is_some_and(|line| line.ends_with('{'));
    let mut marks = code.match_indices("\n#[cfg(").filter(|(at, _)| {
        let condition = code[at + 1..].lines().next().unwrap_or_default();
        (condition == "#[cfg(test)]" || condition.starts_with("#[cfg(all(test")) && is_inline(at + 1)
    });
    &code[..marks.next().map_or(code.len(), |(at, _)| at)]
}

/// The code without comments and string literals. Line breaks stay, so that line numbers stay right.
fn without_texts(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(next) = rest.chars().next() {
        let skipped = skipped(rest);
        if skipped > 0 {
            out.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
            rest = &rest[skipped..];
        } else {
            out.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    out
}

/// Length of the comment, string or character literal at the start of `code`; 0 if there is none.
fn skipped(code: &str) -> usize {
    if code.starts_with("//") {
        return code.find('\n').unwrap_or(code.len());
    }
    if code.starts_with("r\"") || code.starts_with("r#\"") {
        let end = if code.starts_with("r#") { "\"#" } else { "\"" };
        let begin = code.find('"').map_or(0, |at| at + 1);
        return code[begin..].find(end).map_or(code.len(), |at| begin + at + end.len());
    }
    if let Some(text) = code.strip_prefix('"') {
        let mut escaped = false;
        let end = text.char_indices().find(|(_, c)| {
            let ends = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        });
        return end.map_or(code.len(), |(at, _)| at + 2);
    }
    // A character literal that contains a quote, and not a lifetime.
    ["'\"'", "'\\''", "'\\\"'"].iter().find(|quoted| code.starts_with(**quoted)).map_or(0, |quoted| quoted.len())
}
