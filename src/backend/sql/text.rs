//! Values that are stored as text.

use std::borrow::Cow;

use crate::clock::Timestamp;
use crate::task::{Extras, Retry, Unique, UniqueMode, UniqueScope};

/// A buffer for a UUID as text.
pub(super) const EMPTY_ID: [u8; uuid::fmt::Hyphenated::LENGTH] = [0; uuid::fmt::Hyphenated::LENGTH];

/// The text of the default retry policy, as a constant so that it is not formatted again for each task.
const DEFAULT_RETRY: &str = "exponential 1000000 3600000000 0.2";

/// The wait between attempts as text: `fixed DELAY` or `exponential BASE CAP JITTER`, in microseconds.
pub(super) fn retry_text(retry: &Retry) -> Cow<'static, str> {
    match retry {
        Retry::Fixed { delay_us } => format!("fixed {delay_us}").into(),
        Retry::Exponential { base_us: 1_000_000, cap_us: 3_600_000_000, jitter } if *jitter == 0.2 => {
            DEFAULT_RETRY.into()
        }
        // `{:?}` writes an exponent where plain digits would need hundreds of characters.
        Retry::Exponential { base_us, cap_us, jitter } => format!("exponential {base_us} {cap_us} {jitter:?}").into(),
    }
}

/// Parses a retry policy; `None` if the text is invalid.
pub(super) fn read_retry(text: &str) -> Option<Retry> {
    if text == DEFAULT_RETRY {
        return Some(Retry::default());
    }
    let mut words = text.split(' ');
    let retry = match words.next()? {
        "fixed" => Retry::Fixed { delay_us: words.next()?.parse().ok()? },
        "exponential" => Retry::Exponential {
            base_us: words.next()?.parse().ok()?,
            cap_us: words.next()?.parse().ok()?,
            jitter: words.next()?.parse().ok().filter(|share| (0.0..=1.0).contains(share))?,
        },
        _ => return None,
    };
    words.next().is_none().then_some(retry)
}

/// The first character of a stored key that differs from the key as given. The character after it tells the kind.
const MARK: char = '\u{1f}';
/// Prefix of a stored key for which the task waits.
const FOLLOWS: &str = "\u{1f}>";
/// Prefix of a stored key that itself begins with the mark.
const AS_GIVEN: &str = "\u{1f}=";

/// A unique key as it is stored for the task that holds it.
pub(super) fn held_key(key: &str) -> Cow<'_, str> {
    if key.starts_with(MARK) { format!("{AS_GIVEN}{key}").into() } else { key.into() }
}

/// A unique key as it is stored for the task that waits for the holder. No key given by a user, when held, is stored in
/// this form.
pub(super) fn followed_key(key: &str) -> String {
    format!("{FOLLOWS}{key}")
}

/// The key for which a task waits, if its stored key is of that kind.
pub(super) fn key_followed(stored: &str) -> Option<&str> {
    stored.strip_prefix(FOLLOWS)
}

/// The key as the caller of the push gave it.
pub(super) fn plain_key(stored: &str) -> &str {
    stored.strip_prefix(AS_GIVEN).or_else(|| key_followed(stored)).unwrap_or(stored)
}

/// The scope of a key, the mode for a second push, and the key: `until_done return_existing KEY`. The key is included
/// even if a different task has taken it, so that a retry can check whether it is free.
fn rule_text(unique: &Unique) -> String {
    format!("{} {} {}", unique.scope, unique.mode, unique.key)
}

/// A parsed value of the `unique_rule` column.
pub(super) struct Rule<'a> {
    pub(super) scope: UniqueScope,
    pub(super) mode: UniqueMode,
    pub(super) key: &'a str,
}

pub(super) fn read_rule(text: &str) -> Option<Rule<'_>> {
    let mut words = text.splitn(3, ' ');
    let (scope, mode) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Rule { scope, mode, key: words.next()? })
}

/// The extras of a task as they are stored.
pub(super) struct ExtraTexts {
    pub(super) unique_rule: Option<String>,
    pub(super) unique_until: Option<i64>,
    pub(super) tags: Option<String>,
    pub(super) meta: Option<String>,
    pub(super) expires_at: Option<i64>,
}

impl ExtraTexts {
    pub(super) fn new(extras: &Extras, created_at: Timestamp) -> Self {
        let unique = extras.unique.as_ref();
        Self {
            unique_rule: unique.map(rule_text),
            unique_until: unique.and_then(|unique| unique.until(created_at)).map(Timestamp::as_micros),
            tags: (!extras.tags.is_empty()).then(|| serde_json::json!(extras.tags).to_string()),
            meta: extras.meta.as_ref().map(ToString::to_string),
            expires_at: extras.expires_at.map(Timestamp::as_micros),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_retry_policy_comes_back_as_it_was() {
        let policies = [
            Retry::default(),
            Retry::fixed(Duration::ZERO),
            Retry::fixed(Duration::MAX),
            Retry::exponential(Duration::from_micros(7)).cap(Duration::from_secs(3)).jitter(1.0 / 3.0),
            // A push stores such a small jitter as 0, but the text has room for it.
            Retry::Exponential { base_us: u64::MAX, cap_us: u64::MAX, jitter: 1e-300 },
            Retry::Exponential { base_us: u64::MAX, cap_us: u64::MAX, jitter: f64::from_bits(1) },
        ];
        for policy in policies {
            assert!(retry_text(&policy).len() <= 255, "it is too long for MySQL: {}", retry_text(&policy));
            assert_eq!(read_retry(&retry_text(&policy)), Some(policy));
        }
    }

    #[test]
    fn no_key_is_stored_like_another_and_each_comes_back_as_it_was() {
        let mut keys: Vec<String> =
            ["a", "a\u{1f}next", "a\u{1f}", "=a", ">a", "", "\u{1f}"].map(String::from).into();
        // A user may also give a key that equals a stored form.
        for _ in 0..2 {
            let stored = keys.iter().flat_map(|key| [held_key(key).into_owned(), followed_key(key)]);
            keys.extend(stored.collect::<Vec<_>>());
            keys.sort_unstable();
            keys.dedup();
        }
        let mut stored = std::collections::BTreeSet::new();
        for key in &keys {
            for (text, waits) in [(held_key(key).into_owned(), false), (followed_key(key), true)] {
                assert_eq!(plain_key(&text), key, "{text:?}");
                assert_eq!(key_followed(&text).is_some(), waits, "{text:?}");
                assert!(stored.insert(text.clone()), "two are stored as {text:?}");
            }
        }
    }

    #[test]
    fn nonsense_is_no_retry_policy() {
        for text in
            ["", "fixed", "fixed x", "fixed 1 2", "exponential 1 2", "exponential 1 2 NaN", "{}", "exponential 1 2 3"]
        {
            assert_eq!(read_retry(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_text_of_the_default_policy_is_the_default_policy() {
        assert_eq!(retry_text(&Retry::default()), DEFAULT_RETRY);
    }
}
