//! JSON as text that can be written, and read back unchanged.
//!
//! Text is kept as it was written, because a number may be larger or more exact than any number type of this program.
//! Text that could not be read back is refused by the call that supplies it.

mod canonical;
mod finite;
mod places;

use std::io;

use serde::Serialize;

pub(crate) use canonical::canonical;
pub(crate) use places::filled;

/// The JSON reader refuses deeper nesting, so the writer must refuse it too.
pub(crate) const DEEPEST: usize = 127;

/// Each level takes two characters, so a shorter text cannot be too deep.
const SHORT: usize = 2 * (DEEPEST + 1);

/// Writes a value as JSON text that can be read back.
///
/// # Errors
/// Why the value is invalid: no JSON form, a number that is not finite, or nesting that is too deep.
pub(crate) fn written<T: Serialize + ?Sized>(value: &T) -> Result<String, String> {
    let text = serde_json::to_string(value).map_err(|error| error.to_string())?;
    // The writer replaces a number that is not finite by `null`, and few texts contain `null`.
    if text.contains("null") {
        finite::check(value)?;
    }
    match too_deep(&text) {
        Some(fault) => Err(fault),
        None => Ok(text),
    }
}

/// Why a text is nested too deep, if it is.
pub(crate) fn too_deep(text: &str) -> Option<String> {
    let depth = if text.len() < SHORT { 0 } else { depth(text) };
    (depth > DEEPEST)
        .then(|| format!("it is nested {depth} levels deep, and {DEEPEST} can be read again; flatten it"))
}

/// JSON text from storage as a value. Text that is no JSON becomes a JSON string, so that it is still shown.
pub(crate) fn shown(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|_| serde_json::Value::String(text.into()))
}

/// The size of a value as JSON text, in bytes.
pub(crate) fn size(value: &impl Serialize) -> usize {
    struct Counter(usize);

    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut counter = Counter(0);
    // A value that cannot be written is refused elsewhere, and has no size.
    match serde_json::to_writer(&mut counter, value) {
        Ok(()) => counter.0,
        Err(_) => 0,
    }
}

/// A text of at most `most` bytes. If it was cut, it ends with a note of the full size.
pub(crate) fn cut(text: Box<str>, most: usize) -> Box<str> {
    if text.len() <= most {
        return text;
    }
    let mark = format!(" [cut: {} bytes in all]", text.len());
    let mut end = most.saturating_sub(mark.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{mark}", &text[..end]).into()
}

/// The deepest nesting of a JSON text.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json, value::RawValue};

    use super::*;

    fn nested(levels: usize) -> Value {
        (0..levels).fold(Value::Null, |inner, _| json!([inner]))
    }

    #[test]
    fn as_deep_as_can_be_read_again_and_no_deeper() {
        let text = written(&nested(DEEPEST)).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), nested(DEEPEST));
        assert!(written(&nested(DEEPEST + 1)).unwrap_err().contains("128 levels"));
        assert_eq!(too_deep(&format!("{:?}", "[".repeat(1_000))), None, "brackets in a text are no levels");
    }

    #[test]
    fn numbers_are_kept_as_they_are_written() {
        for text in ["18446744073709551616", "340282366920938463463374607431768211455", "1.10", "1e400", "-0"] {
            let raw = RawValue::from_string(text.into()).unwrap();
            assert_eq!(written(&raw).unwrap(), text);
        }
        assert_eq!(written(&u128::MAX).unwrap(), u128::MAX.to_string());
    }

    #[test]
    fn a_number_that_is_none_is_refused_by_the_name_of_its_field() {
        #[derive(serde::Serialize)]
        struct Offer {
            name: Option<String>,
            prices: Vec<f64>,
        }
        let offer = |price| written(&Offer { name: None, prices: vec![1.0, price] });
        assert_eq!(offer(2.5).unwrap(), r#"{"name":null,"prices":[1.0,2.5]}"#);
        for price in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let fault = offer(price).unwrap_err();
            assert!(fault.contains("prices") && fault.contains(&price.to_string()), "{fault}");
        }
        assert!(written(&Some(f32::NAN)).is_err());
        assert!(written(&std::collections::BTreeMap::from([("a", f64::NAN)])).is_err());
    }

    #[test]
    fn a_size_is_that_of_the_text() {
        for value in [json!(null), json!({"a": ["\u{1}\"ä", 1.5, true]}), json!("")] {
            assert_eq!(size(&value), value.to_string().len());
        }
    }

    #[test]
    fn a_cut_text_says_how_long_it_was() {
        assert_eq!(&*cut("short".into(), 5), "short");
        let text = "ä".repeat(100);
        for most in 40..60 {
            let cut = cut(text.clone().into(), most);
            assert!(cut.len() <= most && cut.ends_with("[cut: 200 bytes in all]"), "{cut}");
        }
    }
}
