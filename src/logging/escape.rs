//! Makes untrusted text safe for log lines that people read.

use std::borrow::Cow;
use std::fmt::Write;

/// Escapes characters that could break a line, move a terminal's cursor, or show text in a different order than it is
/// written. All other Unicode characters stay as they are.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(misleads) else { return Cow::Borrowed(text) };
    let (clean, rest) = text.split_at(first);
    let mut escaped = String::with_capacity(text.len() + 16);
    escaped.push_str(clean);
    for character in rest.chars() {
        push(&mut escaped, character);
    }
    Cow::Owned(escaped)
}

/// Like [`escape`], but adds quotes when the text would otherwise run into the text beside it.
pub(crate) fn quote(text: &str) -> Cow<'_, str> {
    let plain = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '"' || c == '=');
    if plain {
        return escape(text);
    }
    let mut quoted = String::with_capacity(text.len() + 16);
    quoted.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        push(&mut quoted, character);
    }
    quoted.push('"');
    Cow::Owned(quoted)
}

fn push(text: &mut String, character: char) {
    match character {
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        character if misleads(character) => {
            // Writing to a String cannot fail.
            let _ok = write!(text, "\\u{{{:x}}}", u32::from(character));
        }
        character => text.push(character),
    }
}

fn misleads(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            // Line and paragraph separators.
            '\u{2028}' | '\u{2029}'
            // Marks, embeddings, overrides and isolates of writing direction.
            | '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_misleads_is_escaped() {
        let nasty = "a\nb\r\t\0\u{1b}[2J\u{7f}\u{85}\u{9b}\u{2028}\u{2029}\u{202e}\u{2066}\u{200f}\u{061c}z";
        let escaped = escape(nasty);
        assert_eq!(
            escaped,
            r"a\nb\r\t\u{0}\u{1b}[2J\u{7f}\u{85}\u{9b}\u{2028}\u{2029}\u{202e}\u{2066}\u{200f}\u{61c}z"
        );
        assert!(!escaped.contains(misleads));
    }

    #[test]
    fn all_else_stays() {
        let text = r"größer 日本語 עברית عربي 👩‍👩‍👧 e\u0301 C:\dir";
        assert!(matches!(escape(text), Cow::Borrowed(same) if same == text));
    }

    #[test]
    fn quotes_only_where_needed() {
        assert_eq!(quote("plain\\ä"), "plain\\ä");
        assert_eq!(quote(""), "\"\"");
        assert_eq!(quote("a b"), "\"a b\"");
        assert_eq!(quote("x=1"), "\"x=1\"");
        assert_eq!(quote("say \"hi\"\\\n"), r#""say \"hi\"\\\n""#);
    }
}
