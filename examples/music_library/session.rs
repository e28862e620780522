//! Session cookies: kept in the public store while they are valid, then fetched again.

use std::fmt;
use std::time::Duration;

use reqwest::header::{HeaderMap, SET_COOKIE};
use reqwest::{Client, StatusCode, Url};

/// The path where a server gives out sessions.
const PATH: &str = "/session";

/// The validity of a cookie if the server does not state it.
const UNSAID: Duration = Duration::from_secs(600);

/// A session that the server accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// For the `Cookie` header.
    pub(crate) cookie: String,
    pub(crate) good_for: Duration,
}

/// The reason why there is no session.
#[derive(Debug)]
pub(crate) enum SessionError {
    Url(String),
    Network(reqwest::Error),
    Status(StatusCode),
    NoCookie,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(why) => write!(f, "no URL for a session: {why}"),
            Self::Network(error) => write!(f, "no connection for a session: {error}"),
            Self::Status(status) => write!(f, "the server asks for a session, but {PATH} answered {status}"),
            Self::NoCookie => write!(f, "the server asks for a session, but {PATH} gave no cookie"),
        }
    }
}

/// No `source`: the text already contains the text of the cause.
impl std::error::Error for SessionError {}

impl SessionError {
    /// True if a retry cannot help.
    pub(crate) fn is_fatal(&self) -> bool {
        match self {
            Self::Url(_) | Self::NoCookie => true,
            Self::Network(_) => false,
            Self::Status(status) => status.is_client_error(),
        }
    }
}

/// The store key for the sessions of a URL's server.
pub(crate) fn key(url: &str) -> String {
    let origin = Url::parse(url).map_or_else(|_| url.to_owned(), |url| url.origin().ascii_serialization());
    format!("session:{origin}")
}

/// Requests a new session from the server of `url`.
pub(crate) async fn fetch(client: &Client, url: &str) -> Result<Session, SessionError> {
    let url = Url::parse(url).and_then(|url| url.join(PATH)).map_err(|error| SessionError::Url(error.to_string()))?;
    let response = client.get(url).send().await.map_err(SessionError::Network)?;
    if !response.status().is_success() {
        return Err(SessionError::Status(response.status()));
    }
    read_cookies(response.headers()).ok_or(SessionError::NoCookie)
}

/// All cookies of an answer together; they are valid until the first of them expires.
fn read_cookies(headers: &HeaderMap) -> Option<Session> {
    let mut cookies = Vec::new();
    let mut good_for = None;
    for cookie in headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok()) {
        let mut parts = cookie.split(';').map(str::trim);
        let age = cookie.split(';').rev().find_map(|part| {
            let (name, value) = part.trim().split_once('=')?;
            name.eq_ignore_ascii_case("max-age").then(|| value.parse::<i64>().ok()).flatten()
        });
        let age = age.map(|age| Duration::from_secs(age.max(0).unsigned_abs()));
        // An age of 0 deletes a cookie.
        if age == Some(Duration::ZERO) {
            continue;
        }
        cookies.extend(parts.next().filter(|pair| pair.contains('=')).map(str::to_owned));
        good_for = good_for.into_iter().chain(age).min();
    }
    (!cookies.is_empty()).then(|| Session { cookie: cookies.join("; "), good_for: good_for.unwrap_or(UNSAID) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&'static str]) -> Option<Session> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(SET_COOKIE, line.parse().unwrap());
        }
        read_cookies(&headers)
    }

    #[test]
    fn cookies_are_read_with_their_age() {
        let session =
            |cookie: &str, secs| Some(Session { cookie: cookie.into(), good_for: Duration::from_secs(secs) });
        assert_eq!(read(&["a=1; Max-Age=20; Path=/; HttpOnly"]), session("a=1", 20));
        assert_eq!(read(&["a=1; max-age=20", "b=2; Max-Age=10", "c=3"]), session("a=1; b=2; c=3", 10));
        assert_eq!(read(&["a=1"]), session("a=1", 600));
        assert_eq!(read(&["a=; Max-Age=0"]), None);
        assert_eq!(read(&["a=; Max-Age=-1", "nonsense"]), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn a_server_has_one_key() {
        assert_eq!(key("http://localhost:8080/a/b?c"), "session:http://localhost:8080");
        assert_eq!(key("https://example.org/x"), "session:https://example.org");
    }
}
