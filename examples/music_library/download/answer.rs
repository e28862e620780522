//! The meaning of a server's answer for the part that is on disk already.

use std::time::Duration;

use reqwest::header::{self, HeaderName};
use reqwest::{Response, StatusCode};

use super::DownloadError;
use super::part::{Memo, Part};

/// The content of an answer.
pub(super) enum Answer {
    /// The rest of the part.
    Rest,
    /// The whole file, with its memo.
    Whole(Memo),
    /// Bytes of a file that is not the part's, or no bytes: ask again, for the whole file.
    Other,
}

/// Reads the head of an answer to a request for the rest of `part`.
pub(super) fn read(response: &Response, part: &Part) -> Result<Answer, DownloadError> {
    let status = response.status();
    match status {
        StatusCode::OK => {
            check_content(response)?;
            let total = text(response, header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
            Ok(Answer::Whole(Memo { validator: validator(response), total }))
        }
        StatusCode::PARTIAL_CONTENT if part.range().is_some() => {
            check_content(response)?;
            // `If-Range` should have ensured it. But some servers do not support it, and some caches mix two versions
            // of a file.
            let range = text(response, header::CONTENT_RANGE).and_then(read_content_range);
            let goes_on = range.is_some_and(|(start, total)| start == part.have() && part.may_have_total(total));
            let same = validator(response).is_none_or(|validator| part.is_from(&validator));
            Ok(if goes_on && same { Answer::Rest } else { Answer::Other })
        }
        StatusCode::RANGE_NOT_SATISFIABLE if part.range().is_some() => Ok(Answer::Other),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(DownloadError::Refused(status)),
        _ => {
            let wait = text(response, header::RETRY_AFTER).and_then(|seconds| seconds.trim().parse().ok());
            // Wait at most an hour, even if the server says "next week".
            let retry_after = wait.map(|seconds: u64| Duration::from_secs(seconds.min(3600)));
            Err(DownloadError::Status { status, retry_after })
        }
    }
}

fn check_content(response: &Response) -> Result<(), DownloadError> {
    match text(response, header::CONTENT_ENCODING) {
        None | Some("" | "identity") => {}
        Some(encoding) => return Err(DownloadError::Compressed(encoding.to_owned())),
    }
    // Log-in pages and "not found" with status 200.
    let kind = text(response, header::CONTENT_TYPE).unwrap_or("");
    if kind.starts_with("text/html") { Err(DownloadError::WebPage) } else { Ok(()) }
}

/// Identifies this version of the file. A weak tag is not used, because it only says "about the same".
fn validator(response: &Response) -> Option<String> {
    let tag = text(response, header::ETAG).filter(|tag| !tag.starts_with("W/"));
    tag.or_else(|| text(response, header::LAST_MODIFIED)).map(str::to_owned)
}

fn text(response: &Response, name: HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

/// Start and total of `bytes 100-199/200`; the total may be `*`.
fn read_content_range(header: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = header.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((start.trim().parse().ok()?, total))
}
