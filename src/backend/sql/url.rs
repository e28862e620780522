//! URLs of database servers: the parts for the client library, and the options for callboard.

use crate::backend::BackendError;
use crate::backend::open::redact;

/// Options whose values are secret, in addition to the password before the host.
const SECRET_OPTIONS: [&str; 2] = ["password", "sslpassword"];

/// A parsed URL.
#[derive(Clone)]
pub(super) struct ServerUrl {
    scheme: String,
    /// User and password, as they are written in the URL.
    user: Option<String>,
    /// The host or hosts, with their ports.
    host: String,
    /// The part between the host and the options.
    path: String,
    options: Vec<(String, String)>,
    shown: String,
    secrets: Secrets,
}

/// Texts that must not be shown anywhere.
#[derive(Clone, Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// Adds a secret, both as it is written in the URL and with its percent signs decoded.
    fn add(&mut self, written: &str) {
        self.0.extend([written.to_owned(), decoded(written)].into_iter().filter(|text| !text.is_empty()));
        // A secret may contain a shorter secret, so replace the longest first.
        self.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        self.0.dedup();
    }

    /// Replaces the secrets in `text`. Errors of client libraries quote the parts of a URL that they cannot parse.
    pub(super) fn hidden(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }
}

impl ServerUrl {
    /// # Errors
    /// If the end of the password is ambiguous. A client library would take a part of the password for a host or a
    /// port, and quote it in its errors.
    pub(super) fn new(url: &str) -> Result<Self, BackendError> {
        let bad = |reason: &str| BackendError::BadUrl { url: redact(url), reason: reason.into() };
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| bad("give it as scheme://USER:PASSWORD@HOST:PORT/DATABASE"))?;
        let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = base.split_at(base.find(['/', '#']).unwrap_or(base.len()));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, authority),
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let options = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let options: Vec<(String, String)> = options.map(|(name, value)| (name.into(), value.into())).collect();
        let doubtful = user.as_ref().is_some_and(|user| user.contains('@'))
            || path.contains(['@', '#'])
            || options.iter().any(|(name, _)| name.contains(['@', '/', ':']))
            || !has_ports(host);
        if doubtful {
            return Err(bad(
                "write / ? # @ and % in a user or a password as %2F %3F %23 %40 %25, and a port in digits",
            ));
        }
        let mut secrets = Secrets::default();
        let password = user.as_deref().and_then(|user| user.split_once(':'));
        password.into_iter().for_each(|(_, password)| secrets.add(password));
        let hidden = options.iter().filter(|(name, _)| SECRET_OPTIONS.contains(&name.as_str()));
        hidden.for_each(|(_, value)| secrets.add(value));
        let mask = if user.is_some() { "***@" } else { "" };
        // Client libraries recognise the scheme in lower case only.
        let scheme = scheme.to_ascii_lowercase();
        let shown = format!("{scheme}://{mask}{host}{path}");
        Ok(Self { scheme, user, host: host.into(), path: path.into(), options, shown, secrets })
    }

    /// Sets the scheme, by which the client library recognises the database.
    #[cfg(feature = "mysql")]
    pub(super) fn set_scheme(&mut self, scheme: &str) {
        self.scheme = scheme.into();
    }

    /// True if the path or an option names a database.
    #[cfg(feature = "postgres")]
    pub(super) fn names_database(&self) -> bool {
        !self.path.trim_start_matches('/').is_empty()
            || self.options.iter().any(|(name, value)| name == "dbname" && !value.is_empty())
    }

    /// Removes an option and returns its value.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let place = self.options.iter().position(|(option, _)| option == name)?;
        Some(self.options.remove(place).1)
    }

    /// The name of the first option that is not in `known`. The returned name is empty if the option has no value,
    /// because such an option may be a part of a password.
    #[cfg(feature = "mysql")]
    pub(super) fn other_than(&self, known: &[&str]) -> Option<&str> {
        let (name, value) = self.options.iter().find(|(name, _)| !known.contains(&name.as_str()))?;
        Some(if value.is_empty() { "" } else { name })
    }

    /// Adds an option unless the user has given it.
    pub(super) fn default(&mut self, name: &str, value: &str) {
        if !self.options.iter().any(|(option, _)| option == name) {
            self.options.push((name.into(), value.into()));
        }
    }

    /// Rewrites the host as `host=HOST;added`. Returns false, without a change, unless the URL has a single host, given
    /// by its name.
    #[cfg(feature = "mysql")]
    pub(super) fn add_to_host(&mut self, added: &str) -> bool {
        let (name, port) = match self.host.split_once(':') {
            Some((name, port)) => (name, format!(":{port}")),
            None => (self.host.as_str(), String::new()),
        };
        if name.is_empty() || name.contains(['[', ',', ';', '=']) {
            return false;
        }
        self.host = format!("host={name};{added}{port}");
        true
    }

    /// The URL for the client library.
    pub(super) fn text(&self) -> String {
        let Self { scheme, user, host, path, .. } = self;
        let options: Vec<String> = self.options.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mark = if options.is_empty() { "" } else { "?" };
        let user = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        format!("{scheme}://{user}{host}{path}{mark}{}", options.join("&"))
    }

    /// The URL without secrets, safe to show.
    pub(super) fn shown(&self) -> String {
        self.shown.clone()
    }

    pub(super) fn secrets(&self) -> Secrets {
        self.secrets.clone()
    }

    pub(super) fn bad(&self, reason: impl Into<String>) -> BackendError {
        BackendError::BadUrl { url: self.shown(), reason: reason.into() }
    }
}

/// True if every port consists of digits, or there is no port: true for `[::1]:5432`, `one:5432,two` and a name alone.
fn has_ports(hosts: &str) -> bool {
    hosts.split(',').all(|host| {
        let behind = host.rsplit_once(']').map_or(host, |(_, behind)| behind);
        behind.split_once(':').is_none_or(|(_, port)| port.chars().all(|digit| digit.is_ascii_digit()))
    })
}

/// Decodes the percent-encoded bytes of `text`. Invalid sequences stay as they are.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let digits = behind.get(..2).filter(|_| *first == b'%').and_then(|pair| std::str::from_utf8(pair).ok());
        match digits.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_options_are_taken_out_and_missing_ones_added() {
        let mut url = ServerUrl::new("POSTGRES://u:secret@h:5432/d?schema=jobs&sslmode=require").unwrap();
        assert_eq!(url.take("schema").as_deref(), Some("jobs"));
        assert_eq!(url.take("schema"), None);
        url.default("sslmode", "prefer");
        url.default("keepalives", "1");
        assert_eq!(url.text(), "postgres://u:secret@h:5432/d?sslmode=require&keepalives=1");
        assert_eq!(url.shown(), "postgres://***@h:5432/d");
        assert!(!url.bad("no").to_string().contains("secret"));
    }

    #[test]
    fn what_could_be_a_part_of_a_password_is_refused_and_not_shown() {
        for url in [
            "mysql://u:se?cret@h/d",
            "postgres://u:se/cret@h/d",
            "postgres://u:12/cret@h/d",
            "postgres://u:se#cret@h/d",
            "postgres://u:se@cret@h/d",
            "postgres://u:secret",
        ] {
            let text = ServerUrl::new(url).map(|url| url.text()).unwrap_err().to_string();
            assert!(text.contains("%40") && !text.contains("cret") && !text.contains("se@"), "{text}");
        }
        for url in ["postgres://[::1]:5432/d", "postgres://a:1,b:2/d?x=a@b", "postgres:///d", "mysql://u@h/d"] {
            assert_eq!(ServerUrl::new(url).unwrap().text(), url);
        }
    }

    #[test]
    fn secrets_are_taken_out_of_what_libraries_say() {
        let url = ServerUrl::new("postgres://u:se%zzcr%40t@h/d?sslpassword=wo%72d").unwrap();
        let text = url.secrets().hidden("invalid token: \"se%zzcr%40t\", se%zzcr@t, word, wo%72d");
        assert_eq!(text, "invalid token: \"***\", ***, ***, ***");
    }
}
