//! Changes texts inside a JSON text, and keeps everything else as it was written.

use std::borrow::Cow;

/// Passes each text value to `change`, which returns a new text or `None`. Field names, numbers, order and spaces stay
/// as they are. Returns `None` when no text was changed.
///
/// `json` must be valid JSON; in any other text only quoted texts are changed.
pub(crate) fn filled(json: &str, mut change: impl FnMut(&str) -> Option<String>) -> Option<String> {
    let (mut written, mut rest) = (String::new(), json);
    let mut any = false;
    while let Some(start) = rest.find('"') {
        let Some(length) = length(&rest[start..]) else { break };
        let (before, behind) = (&rest[..start], &rest[start + length..]);
        let quoted = &rest[start..start + length];
        written.push_str(before);
        let is_name = behind.trim_start().starts_with(':');
        let new = if is_name { None } else { text(quoted).and_then(|text| change(&text)) };
        match new.and_then(|new| serde_json::to_string(&new).ok()) {
            Some(new) => {
                written.push_str(&new);
                any = true;
            }
            None => written.push_str(quoted),
        }
        rest = behind;
    }
    written.push_str(rest);
    any.then_some(written)
}

/// The number of bytes from a quotation mark to its closing mark, both included.
fn length(json: &str) -> Option<usize> {
    let mut escaped = false;
    let end = json.bytes().skip(1).position(|byte| {
        let is_end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        is_end
    });
    end.map(|end| end + 2)
}

/// The text between the quotation marks.
fn text(quoted: &str) -> Option<Cow<'_, str>> {
    if quoted.contains('\\') {
        return serde_json::from_str::<String>(quoted).ok().map(Cow::Owned);
    }
    quoted.get(1..quoted.len() - 1).map(Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn louder(text: &str) -> Option<String> {
        text.strip_suffix('!').map(|text| format!("{text}\"\n"))
    }

    #[test]
    fn texts_change_and_all_else_stays_as_it_was_written() {
        let json = r#"{ "a!" : 18446744073709551616, "b":["c!", 1.10,"\"!", "d"],"a!" :1e5}"#;
        let expected = r#"{ "a!" : 18446744073709551616, "b":["c\"\n", 1.10,"\"\"\n", "d"],"a!" :1e5}"#;
        assert_eq!(filled(json, louder).unwrap(), expected);
        assert_eq!(filled(r#"{"a!":[1,"b","\\"]}"#, louder), None);
        assert_eq!(filled(r#""a!"#, louder), None);
    }

    fn each_text(value: &mut Value) {
        match value {
            Value::String(text) => *text = louder(text).unwrap_or_else(|| text.clone()),
            Value::Array(items) => items.iter_mut().for_each(each_text),
            Value::Object(fields) => fields.values_mut().for_each(each_text),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let text = r#"[a-c!"\\:,\[{ä\n]{0,6}"#;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(text, inner, 0..5).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_does_what_a_change_of_the_value_does(value in any_json(), pretty in any::<bool>()) {
            let json = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let json = json.unwrap();
            let new = filled(&json, louder);
            let mut expected = value.clone();
            each_text(&mut expected);
            let read: Value = serde_json::from_str(new.as_deref().unwrap_or(&json)).unwrap();
            prop_assert_eq!(read, expected);
        }
    }
}
