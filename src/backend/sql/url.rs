//! URLs of database servers: what is for the client library, and what is for callboard.

use crate::backend::BackendError;
use crate::backend::open::redact;

/// A URL with its options taken apart.
#[derive(Clone, Debug)]
pub(super) struct ServerUrl {
    /// Without its options.
    base: String,
    options: Vec<(String, String)>,
}

impl ServerUrl {
    pub(super) fn new(url: &str) -> Self {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let options = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self { base: base.into(), options: options.map(|(name, value)| (name.into(), value.into())).collect() }
    }

    /// Takes an option out.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let place = self.options.iter().position(|(option, _)| option == name)?;
        Some(self.options.remove(place).1)
    }

    /// Adds an option unless the user has given it.
    pub(super) fn default(&mut self, name: &str, value: &str) {
        if !self.options.iter().any(|(option, _)| option == name) {
            self.options.push((name.into(), value.into()));
        }
    }

    /// What the client library gets.
    pub(super) fn text(&self) -> String {
        let options: Vec<String> = self.options.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mark = if options.is_empty() { "" } else { "?" };
        format!("{}{mark}{}", self.base, options.join("&"))
    }

    /// The URL as it may be shown.
    pub(super) fn shown(&self) -> String {
        redact(&self.base)
    }

    pub(super) fn bad(&self, reason: impl Into<String>) -> BackendError {
        BackendError::BadUrl { url: self.shown(), reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_options_are_taken_out_and_missing_ones_added() {
        let mut url = ServerUrl::new("postgres://u:secret@h:5432/d?schema=jobs&sslmode=require");
        assert_eq!(url.take("schema").as_deref(), Some("jobs"));
        assert_eq!(url.take("schema"), None);
        url.default("sslmode", "prefer");
        url.default("keepalives", "1");
        assert_eq!(url.text(), "postgres://u:secret@h:5432/d?sslmode=require&keepalives=1");
        assert_eq!(url.shown(), "postgres://***@h:5432/d");
        assert!(!url.bad("no").to_string().contains("secret"));
    }
}
