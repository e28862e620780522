//! Values that are stored as text.

use crate::clock::Timestamp;
use crate::task::{Extras, Retry, Unique, UniqueMode, UniqueScope};

/// Room for a UUID as text.
pub(super) const EMPTY_ID: [u8; uuid::fmt::Hyphenated::LENGTH] = [0; uuid::fmt::Hyphenated::LENGTH];

/// The text of the retry policy that tasks have when nothing is said, so that it is not written anew for each.
const DEFAULT_RETRY: &str = "exponential 1000000 3600000000 0.2";

/// The wait between attempts as text: `fixed DELAY` or `exponential BASE CAP JITTER`, in microseconds.
pub(super) fn retry_text(retry: &Retry) -> std::borrow::Cow<'static, str> {
    match retry {
        Retry::Fixed { delay_us } => format!("fixed {delay_us}").into(),
        Retry::Exponential { base_us: 1_000_000, cap_us: 3_600_000_000, jitter } if *jitter == 0.2 => {
            DEFAULT_RETRY.into()
        }
        // With an exponent where there would be hundreds of digits.
        Retry::Exponential { base_us, cap_us, jitter } => format!("exponential {base_us} {cap_us} {jitter:?}").into(),
    }
}

/// The retry policy that a text says, if it says one.
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

/// What a task that waits for the holder of its key has behind the key.
pub(super) const NEXT: &str = "\u{1f}next";

/// The key as the pusher gave it.
pub(super) fn plain_key(mut key: String) -> String {
    if key.ends_with(NEXT) {
        key.truncate(key.len() - NEXT.len());
    }
    key
}

/// How a key is held, what a second push gets, and the key: `until_done return_existing KEY`. The key is there
/// also when another task has taken it, so that a retry can see whether it is free.
fn rule_text(unique: &Unique) -> String {
    format!("{} {} {}", unique.scope, unique.mode, unique.key)
}

/// A text of a `unique_rule` column, read.
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
            // A push stores such a share as 0; the text has room for it all the same.
            Retry::Exponential { base_us: u64::MAX, cap_us: u64::MAX, jitter: 1e-300 },
            Retry::Exponential { base_us: u64::MAX, cap_us: u64::MAX, jitter: f64::from_bits(1) },
        ];
        for policy in policies {
            assert!(retry_text(&policy).len() <= 255, "it is too long for MySQL: {}", retry_text(&policy));
            assert_eq!(read_retry(&retry_text(&policy)), Some(policy));
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
