//! Downloads over HTTP that go on where they stopped, and end with every byte there or not at all.

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

/// A server that sends nothing for so long is taken for gone.
const SILENCE: Duration = Duration::from_secs(30);

/// A client that can talk TLS and does not wait for ever.
pub(crate) fn client() -> Result<Client, reqwest::Error> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Refused only when another thread was quicker, with the same provider.
        rustls::crypto::ring::default_provider().install_default().unwrap_or(());
    }
    Client::builder()
        .user_agent(concat!("callboard-music-library/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(SILENCE)
        .build()
}

/// One file to fetch.
pub(crate) struct Download<'a> {
    pub(crate) client: &'a Client,
    pub(crate) url: &'a str,
    /// Sent as it is.
    pub(crate) cookie: Option<&'a str>,
    /// Where the whole file goes; until then it is `NAME.part` beside it.
    pub(crate) target: &'a Path,
}

/// A file that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Arrived {
    pub(crate) bytes: u64,
    /// How many of them an earlier attempt had brought.
    pub(crate) resumed_at: u64,
}

impl Download<'_> {
    /// Fetches what is missing of the file, tells `progress` how much there is of how much, and puts it in place.
    ///
    /// Stops when `cancelled` ends. Whatever stops it, the part that arrived stays for the next attempt.
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

    /// Asks for the rest of `part`, or for the whole when the server's file is no longer the one it came from.
    async fn ask(&self, part: &mut Part) -> Result<Response, DownloadError> {
        let response = self.send(part).await?;
        match answer::read(&response, part)? {
            Answer::Rest => return Ok(response),
            Answer::Whole(memo) => {
                part.restart(memo).await?;
                return Ok(response);
            }
            // Nothing of it may be glued to what comes now.
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
        // A compressed answer would have another length, and its parts could not be joined.
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
            // The length tells it better than the client's "error decoding response body".
            Err(_) if part.is_short() => break Ok(()),
            Err(error) => break Err(error.into()),
        }
    };
    part.flush().await?;
    end
}

#[cfg(test)]
mod tests;
