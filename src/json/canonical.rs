//! A canonical text for all JSON texts with the same meaning: field names sorted, spaces left out, numbers as they were
//! written.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The canonical form of a JSON text. `None` when the text is no valid JSON.
pub(crate) fn canonical(json: &str) -> Option<String> {
    let mut written = String::with_capacity(json.len());
    write(json, &mut written)?;
    Some(written)
}

fn write(json: &str, out: &mut String) -> Option<()> {
    let json = json.trim_start();
    match json.bytes().next()? {
        b'{' => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(json).ok()?;
            list(out, ('{', '}'), fields, |(name, value), out| {
                out.push_str(&serde_json::to_string(&name).ok()?);
                out.push(':');
                write(value.get(), out)
            })
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
            list(out, ('[', ']'), items, |item, out| write(item.get(), out))
        }
        b'"' => {
            out.push_str(&serde_json::to_string(&serde_json::from_str::<String>(json).ok()?).ok()?);
            Some(())
        }
        _ => {
            out.push_str(serde_json::from_str::<&RawValue>(json).ok()?.get());
            Some(())
        }
    }
}

fn list<T>(
    out: &mut String,
    (open, close): (char, char),
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(T, &mut String) -> Option<()>,
) -> Option<()> {
    out.push(open);
    for (place, item) in items.into_iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        write(item, out)?;
    }
    out.push(close);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_spaces_do_not_count_and_every_digit_does() {
        let one = canonical(r#"{"b": [1, 2.50, "\u0061"], "a": {"d":null,"c":true}}"#).unwrap();
        assert_eq!(one, r#"{"a":{"c":true,"d":null},"b":[1,2.50,"a"]}"#);
        assert_ne!(canonical("18446744073709551616"), canonical("18446744073709551617"));
        assert_ne!(canonical("[1,2]"), canonical("[2,1]"));
        for broken in ["", "{", "nul", "[1,]", r#"{"a"}"#] {
            assert_eq!(canonical(broken), None, "{broken}");
        }
    }
}
