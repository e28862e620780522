//! The options for the client library, and its support for TLS.
//!
//! MySQL's own library accepts `ssl-mode` as it is. MariaDB's library does not know it, and Diesel passes on no other
//! option. But MariaDB's library reads `name=value;name=value` in place of the host. The options to verify the server,
//! and to limit the wait for it, are passed there.

use crate::backend::BackendError;
use crate::backend::sql::url::ServerUrl;
use crate::schedule::trigger::nearest;

/// The timeout for opening a connection, in seconds, including the wait for the greeting of the server.
const CONNECT_TIMEOUT: &str = "connect-timeout=5";

/// The values of `ssl-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Disabled,
    Preferred,
    Required,
    VerifyCa,
    VerifyIdentity,
}

const MODES: [(&str, Mode); 5] = [
    ("disabled", Mode::Disabled),
    ("preferred", Mode::Preferred),
    ("required", Mode::Required),
    ("verify_ca", Mode::VerifyCa),
    ("verify_identity", Mode::VerifyIdentity),
];

/// All options, each with an alternative spelling: the spelling of MySQL's own clients, or of Diesel.
const OPTIONS: [(&str, &str); 5] = [
    ("ssl-mode", "ssl_mode"),
    ("ssl-ca", "ssl_ca"),
    ("ssl-cert", "ssl_cert"),
    ("ssl-key", "ssl_key"),
    ("unix_socket", "unix-socket"),
];

/// PostgreSQL's names for these options. A URL may still have them after a change of the database.
const ELSEWHERE: [(&str, &str); 3] = [("sslrootcert", "ssl-ca"), ("sslcert", "ssl-cert"), ("sslkey", "ssl-key")];

/// The error for an unknown option. The client library would ignore such an option, and connect without TLS.
fn no_option(unknown: &str) -> String {
    let letters = |name: &str| name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let same = |name: &str| letters(name) == letters(unknown);
    let known = OPTIONS.iter().map(|(name, _)| *name);
    let meant = ELSEWHERE.iter().find(|(other, _)| same(other)).map(|(_, own)| *own);
    let meant = meant.or_else(|| known.clone().find(|name| same(name))).or_else(|| nearest(unknown, known.clone()));
    let hint = meant.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
    format!("there is no such option: {unknown:?}{hint} There are {}", known.collect::<Vec<_>>().join(", "))
}

/// The URL by which the client library connects, and whether it must use TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// The URL for Diesel.
    pub(super) url: String,
    /// The URL for a library too old to read options in place of the host. `None` if these options are required.
    pub(super) plain: Option<String>,
    /// True if a connection in plain text must be rejected.
    pub(super) encrypted: bool,
}

impl Way {
    /// Takes the TLS options out of a URL. `mariadb` is true for MariaDB's library, and false for MySQL's.
    ///
    /// # Errors
    /// If an option or the mode is unknown, or this library does not support the mode.
    pub(super) fn new(mut url: ServerUrl, mariadb: bool) -> Result<Self, BackendError> {
        let known = OPTIONS.iter().flat_map(|(name, other)| [*name, *other]).collect::<Vec<_>>();
        if let Some(unknown) = url.other_than(&known) {
            return Err(url.bad(no_option(unknown)));
        }
        let said = url.take("ssl-mode").or_else(|| url.take("ssl_mode"));
        let mode = said.map(|said| read(&url, &said)).transpose()?;
        let mut files = false;
        // The names of MySQL's own clients are accepted as well as Diesel's. The values are paths, so their case is
        // kept.
        for (own, diesel) in [("ssl-ca", "ssl_ca"), ("ssl-cert", "ssl_cert"), ("ssl-key", "ssl_key")] {
            if let Some(value) = url.take(own).or_else(|| url.take(diesel)) {
                url.default(diesel, &value);
                files = true;
            }
        }
        // A URL that names a certificate asks for TLS.
        let mode = mode.or(files.then_some(Mode::Required));
        let encrypted = mode >= Some(Mode::Required);
        let verified = mode >= Some(Mode::VerifyCa);
        if !mariadb {
            if let Some((name, _)) = MODES.iter().find(|(_, known)| Some(*known) == mode) {
                url.default("ssl_mode", name);
            }
            return Ok(Self { url: url.text(), plain: None, encrypted });
        }
        let plain = url.text();
        let tls = match mode {
            None | Some(Mode::Disabled) => "",
            Some(Mode::Preferred | Mode::Required) => ";ssl-enforce=1",
            // MariaDB's library verifies both the host name and the certificate, or neither.
            Some(Mode::VerifyCa | Mode::VerifyIdentity) => ";ssl-verify-server-cert=1",
        };
        if url.add_to_host(&format!("{CONNECT_TIMEOUT}{tls}")) {
            return Ok(Self { url: url.text(), plain: (!verified).then_some(plain), encrypted });
        }
        if verified {
            return Err(url.bad(
                "MariaDB's client library verifies servers that are named by a host name or an IPv4 address only; \
                give one, or use ssl-mode=required",
            ));
        }
        Ok(Self { url: plain, plain: None, encrypted })
    }
}

fn read(url: &ServerUrl, said: &str) -> Result<Mode, BackendError> {
    let known = MODES.iter().find(|(name, _)| name.eq_ignore_ascii_case(said));
    known.map(|(_, mode)| *mode).ok_or_else(|| {
        let names: Vec<&str> = MODES.iter().map(|(name, _)| *name).collect();
        url.bad(format!("ssl-mode={said} is not known; allowed are {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(url: &str, mariadb: bool) -> Result<Way, BackendError> {
        Way::new(ServerUrl::new(url).unwrap(), mariadb)
    }

    #[test]
    fn mysqls_library_gets_the_mode_and_paths_as_they_are() {
        let way = way("mysql://u@h:3306/d?ssl-mode=VERIFY_CA&ssl-ca=/Etc/CA.pem", false).unwrap();
        assert_eq!(way.url, "mysql://u@h:3306/d?ssl_ca=/Etc/CA.pem&ssl_mode=verify_ca");
        assert!(way.encrypted);
    }

    #[test]
    fn mariadbs_library_is_told_where_the_host_stands() {
        for (mode, told, encrypted) in [
            ("", "", false),
            ("?ssl-mode=disabled", "", false),
            ("?ssl-mode=preferred", ";ssl-enforce=1", false),
            ("?ssl-mode=required", ";ssl-enforce=1", true),
            ("?ssl_mode=Verify_Identity", ";ssl-verify-server-cert=1", true),
        ] {
            let way = way(&format!("mysql://u@h:3306/d{mode}"), true).unwrap();
            assert_eq!(way.url, format!("mysql://u@host=h;connect-timeout=5{told}:3306/d"));
            assert_eq!(way.encrypted, encrypted, "{mode}");
        }
        let files = way("mysql://u@h/d?ssl-ca=/Etc/CA.pem", true).unwrap();
        assert!(files.encrypted && files.url.ends_with("?ssl_ca=/Etc/CA.pem"));
    }

    #[test]
    fn an_option_that_is_not_known_is_refused_with_the_right_spelling() {
        for (given, meant) in [
            ("sslmode", "ssl-mode"),
            ("SSL-Mode", "ssl-mode"),
            ("sslrootcert", "ssl-ca"),
            ("ssl-cart", "ssl-cert"),
            ("unixsocket", "unix_socket"),
        ] {
            for mariadb in [true, false] {
                let refused = way(&format!("mysql://u:secret@h/d?{given}=x"), mariadb).unwrap_err().to_string();
                assert!(refused.contains(&format!("did you mean {meant}?")), "{refused}");
                assert!(!refused.contains("secret"), "{refused}");
            }
        }
        let refused = way("mysql://u@h/d?charset=utf8", true).unwrap_err().to_string();
        assert!(refused.contains("\"charset\"") && refused.contains("There are ssl-mode, ssl-ca"), "{refused}");
        assert!(way("mysql://u@h/d?unix_socket=/run/s&ssl_ca=/a&ssl-mode=required", true).is_ok());
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        let refused = |url| way(url, true).unwrap_err().to_string();
        assert!(refused("mysql://u@h/d?ssl-mode=always").contains("allowed are disabled, preferred"));
        assert!(refused("mysql://u@[::1]/d?ssl-mode=verify_ca").contains("host name"));
        assert_eq!(way("mysql://u@[::1]/d", true).unwrap().url, "mysql://u@[::1]/d");
    }
}
