//! Size bounds of a task's fields. Every field is checked before anything is sent to storage.

use crate::json;

/// The greatest length of a limit key, in bytes.
pub(crate) const LONGEST_KEY: usize = 250;

/// The greatest number of tags of a task.
pub(crate) const MOST_TAGS: usize = 100;
/// The greatest length of a tag, in bytes.
pub(crate) const LONGEST_TAG: usize = 200;
/// The greatest length, in bytes, of a text that a caller gives: a cancellation's reason or a schedule's description.
pub(crate) const LONGEST_TEXT: usize = 10_000;
/// The greatest length of a stored error, in bytes; a longer error is cut.
pub(crate) const LONGEST_ERROR: usize = 64 << 10;
/// The greatest length of the message of a progress report, in bytes; a longer message is cut.
pub(crate) const LONGEST_REPORT: usize = 4 << 10;

/// Size bounds from a board's settings, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    params: usize,
    meta: usize,
    result: usize,
}

impl Bounds {
    pub(crate) fn new(params: usize, meta: usize, result: usize) -> Self {
        Self { params, meta, result }
    }

    /// The same bound for params, meta and results.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn all(bytes: usize) -> Self {
        Self { params: bytes, meta: bytes, result: bytes }
    }

    /// Returns the reason if params are too large.
    pub(super) fn params_fault(self, bytes: usize) -> Option<String> {
        too_large("params", bytes, self.params, "max_params_bytes", "push")
    }

    /// Returns the reason if meta is too large or nested too deeply.
    pub(super) fn meta_fault(self, meta: &serde_json::Value) -> Option<String> {
        let text = meta.to_string();
        too_large("meta", text.len(), self.meta, "max_meta_bytes", "push")
            .or_else(|| json::too_deep(&text).map(|fault| format!("meta cannot be kept: {fault}")))
    }

    /// Returns the reason if the result of a run is too large or nested too deeply.
    pub(crate) fn result_fault(self, text: &str) -> Option<String> {
        too_large("the result", text.len(), self.result, "max_result_bytes", "return")
            .or_else(|| json::too_deep(text).map(|fault| format!("the result cannot be kept: {fault}")))
    }
}

fn too_large(what: &str, bytes: usize, most: usize, setting: &str, verb: &str) -> Option<String> {
    (bytes > most).then(|| {
        let take = if what == "params" { "take" } else { "takes" };
        format!(
            "{what} {take} {bytes} bytes, more than the {most} that `{setting}` allows; store the data elsewhere and \
             {verb} a reference to it"
        )
    })
}

/// Returns the reason if there are too many tags, or if a tag is empty or too long.
pub(super) fn tags_fault(tags: &[String]) -> Option<String> {
    if tags.len() > MOST_TAGS {
        return Some(format!("a task has at most {MOST_TAGS} tags, this one {}", tags.len()));
    }
    let tag = tags.iter().find(|tag| tag.is_empty() || tag.len() > LONGEST_TAG)?;
    let shown: String = tag.chars().take(40).collect();
    Some(format!("a tag has 1 to {LONGEST_TAG} bytes, {shown:?} has {}", tag.len()))
}

/// Returns the reason if a text that a caller gives contains NUL or is too long.
pub(crate) fn text_fault(what: &str, text: &str) -> Option<String> {
    if text.contains('\0') {
        return Some(format!("{what} contains the character NUL; leave it out"));
    }
    let bytes = text.len();
    (bytes > LONGEST_TEXT).then(|| format!("{what} takes {bytes} bytes; at most {LONGEST_TEXT} are allowed"))
}

/// Returns the reason if a limit key is empty, is too long or contains a control character.
pub(crate) fn key_fault(key: &str) -> Option<String> {
    let fault = key.is_empty() || key.len() > LONGEST_KEY || key.chars().any(char::is_control);
    fault.then(|| {
        let shown: String = key.chars().take(40).collect();
        format!("limit_key {shown:?} must have 1 to {LONGEST_KEY} bytes and no control characters")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_key_is_short_and_has_no_control_characters() {
        assert!(key_fault("api:7").is_none());
        assert!(key_fault("").is_some() && key_fault(&"x".repeat(251)).is_some() && key_fault("a\u{1f}").is_some());
    }
}
