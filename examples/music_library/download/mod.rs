//! Downloads over HTTP that resume where they stopped. A download ends with every byte in place, or the target file is
//! not created.

mod answer;
mod error;
mod part;

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Response, header};

use answer::Answer;
pub(crate) use error::DownloadError;
use part::Part;

/// A server that sends nothing for this long is considered gone.
const SILENCE: Duration = Duration::from_secs(30);

/// A client with TLS and with timeouts.
pub(crate) fn client() -> Result<Client, reqwest::Error> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Fails only if a different thread installed the same provider first.
        rustls::crypto::ring::default_provider().install_default().unwrap_or(());
    }
    Client::builder()
        .user_agent(concat!("callboard-music-library/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(SILENCE)
        .build()
}

/// A file to fetch.
pub(crate) struct Download<'a> {
    pub(crate) client: &'a Client,
    pub(crate) url: &'a str,
    /// Sent unchanged.
    pub(crate) cookie: Option<&'a str>,
    /// The path of the whole file; until then it is `NAME.part` beside it.
    pub(crate) target: &'a Path,
}

/// A file that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Arrived {
    pub(crate) bytes: u64,
    /// Bytes that an earlier attempt had downloaded.
    pub(crate) resumed_at: u64,
}

impl Download<'_> {
    /// Fetches the missing bytes of the file, calls `progress` with the bytes received and the total, and moves the
    /// file to its target.
    ///
    /// Stops when `cancelled` resolves. After every kind of stop the received part stays for the next attempt.
    pub(crate) async fn run(
        &self,
        cancelled: impl Future<Output = ()>,
        mut progress: impl FnMut(u64, Option<u64>),
    ) -> Result<Arrived, DownloadError> {
        let mut part = Part::open(self.target).await?;
        let mut resumed_at = part.have();
        if !part.is_whole() {
            tokio::pin!(cancelled);
            let response = tokio::select! {
                () = &mut cancelled => return Err(DownloadError::Cancelled),
                response = self.ask(&mut part) => response?,
            };
            resumed_at = part.have();
            progress(part.have(), part.total());
            receive(response, &mut part, cancelled, progress).await?;
        }
        part.check_length().await?;
        let bytes = part.have();
        part.finish(self.target).await?;
        Ok(Arrived { bytes, resumed_at })
    }

    /// Requests the rest of `part`, or the whole if the server's file is no longer the version that the part came from.
    async fn ask(&self, part: &mut Part) -> Result<Response, DownloadError> {
        let response = self.send(part).await?;
        match answer::read(&response, part)? {
            Answer::Rest => return Ok(response),
            Answer::Whole(memo) => {
                part.restart(memo).await?;
                return Ok(response);
            }
            // Old bytes must not be joined to the bytes of the next answer.
            Answer::Other => part.restart(part::Memo::default()).await?,
        }
        drop(response);
        let response = self.send(part).await?;
        match answer::read(&response, part)? {
            Answer::Whole(memo) => part.restart(memo).await?,
            Answer::Rest | Answer::Other => {
                return Err(DownloadError::Status { status: response.status(), retry_after: None });
            }
        }
        Ok(response)
    }

    async fn send(&self, part: &Part) -> Result<Response, DownloadError> {
        // A compressed answer would have a different length, and its parts could not be joined.
        let mut request = self.client.get(self.url).header(header::ACCEPT_ENCODING, "identity");
        if let Some(cookie) = self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        if let Some((range, if_range)) = part.range() {
            request = request.header(header::RANGE, range).header(header::IF_RANGE, if_range);
        }
        Ok(request.send().await?)
    }
}

async fn receive(
    mut response: Response,
    part: &mut Part,
    cancelled: impl Future<Output = ()>,
    mut progress: impl FnMut(u64, Option<u64>),
) -> Result<(), DownloadError> {
    tokio::pin!(cancelled);
    let end = loop {
        let chunk = tokio::select! {
            () = &mut cancelled => break Err(DownloadError::Cancelled),
            chunk = response.chunk() => chunk,
        };
        match chunk {
            Ok(Some(bytes)) => {
                part.append(&bytes).await?;
                progress(part.have(), part.total());
            }
            Ok(None) => break Ok(()),
            // The length says it better than the client's "error decoding response body".
            Err(_) if part.is_short() => break Ok(()),
            Err(error) => break Err(error.into()),
        }
    };
    part.flush().await?;
    end
}

#[cfg(test)]
mod tests;
