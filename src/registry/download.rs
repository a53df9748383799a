//! A blob, streamed to a file: hashed on the way, and resumed where the
//! connection breaks.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};

use reqwest::header::{self, HeaderMap};
use reqwest::{Response, StatusCode};

use super::connection::{self, Connection, Request};
use super::error::Error;
use crate::digest::{self, Digest, Hasher};
use crate::observer::Event;

/// What of a blob is here.
struct Progress<'a> {
    digest: &'a Digest,
    /// The size that the blob must have, where the caller knows it.
    size: Option<u64>,
    /// The size that the server announced, where the caller knows none.
    announced: Option<u64>,
    hasher: Hasher,
    done: u64,
    file: &'a mut File,
}

/// Fetches the blob `digest` into `file`, which is empty, and returns its size.
/// When this fails, what is in `file` means nothing.
pub(super) async fn download(
    connection: &Connection,
    mut request: Request<'_>,
    digest: &Digest,
    size: Option<u64>,
    file: &mut File,
) -> Result<u64, Error> {
    let hasher = Hasher::new(digest.algorithm());
    let mut progress = Progress { digest, size, announced: None, hasher, done: 0, file };
    let mut failures = 0;
    loop {
        let before = progress.done;
        request.range = progress.missing_range();
        let result = match open(connection, &request, &progress).await {
            Ok(Some(response)) => progress.receive(connection, &request, response).await,
            Ok(None) => Ok(()),
            Err(error) => return Err(error),
        };
        let error = match result {
            Ok(()) => return progress.finish(connection, &request),
            Err(error) => error,
        };
        // Opening has its own tries; what counts here is that bytes arrive.
        failures = if progress.done > before { 1 } else { failures + 1 };
        let Some(delay) = connection.retry_delay(&error, failures) else {
            return Err(error.after(failures));
        };
        connection.pause(&request.subject, &error, delay).await;
    }
}

/// Asks for what is missing. `None` where nothing is.
async fn open(
    connection: &Connection,
    request: &Request<'_>,
    progress: &Progress<'_>,
) -> Result<Option<Response>, Error> {
    let opened =
        connection.with_retries(&request.subject, async || connection.exchange(request).await);
    match opened.await {
        Ok(response) => Ok(Some(response)),
        // All bytes were here when the connection broke.
        Err(Error::Status { status: StatusCode::RANGE_NOT_SATISFIABLE, .. })
            if progress.total() == Some(progress.done) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Progress<'_> {
    fn total(&self) -> Option<u64> {
        self.size.or(self.announced)
    }

    /// The range to ask for: none at the start, a closed one where the end is
    /// known, for some servers refuse an open one.
    fn missing_range(&self) -> Option<(u64, Option<u64>)> {
        (self.done > 0).then(|| (self.done, self.total().map(|total| total.saturating_sub(1))))
    }

    fn restart(&mut self, subject: &str) -> Result<(), Error> {
        self.hasher = Hasher::new(self.digest.algorithm());
        self.done = 0;
        let write = |source| Error::Write { subject: subject.to_owned(), source };
        self.file.seek(SeekFrom::Start(0)).map_err(write)?;
        self.file.set_len(0).map_err(write)
    }

    /// Takes the body of an answer, to its end or to where it breaks.
    async fn receive(
        &mut self,
        connection: &Connection,
        request: &Request<'_>,
        mut response: Response,
    ) -> Result<(), Error> {
        let subject = request.subject.as_str();
        if self.done > 0 && !continues_at(&response, self.done, self.total()) {
            // The server ignores ranges, or answers another one.
            if response.status() == StatusCode::PARTIAL_CONTENT {
                self.restart(subject)?;
                let whole = Request {
                    range: None,
                    path: request.path.clone(),
                    subject: subject.to_owned(),
                    ..*request
                };
                response = connection
                    .with_retries(subject, async || connection.exchange(&whole).await)
                    .await?;
            }
            self.restart(subject)?;
        }
        let rest = response.content_length();
        if self.announced.is_none() {
            self.announced = rest.map(|rest| self.done + rest);
        }
        if let (Some(size), Some(rest)) = (self.size, rest)
            && self.done + rest != size
        {
            return Err(self.wrong_size(subject, self.done + rest));
        }
        let observer = connection.observer();
        observer.observe(&Event::TransferStarted {
            digest: self.digest,
            done: self.done,
            total: self.total(),
        });
        let url = response.url().clone();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|source| connection::unreachable(subject, &url, source))?
        {
            let done = self.done + chunk.len() as u64;
            if let Some(size) = self.size.filter(|size| done > *size) {
                return Err(self.wrong_size(subject, done.max(size)));
            }
            self.hasher.update(&chunk);
            self.file
                .write_all(&chunk)
                .map_err(|source| Error::Write { subject: subject.to_owned(), source })?;
            self.done = done;
            observer.observe(&Event::TransferAdvanced { digest: self.digest, done });
        }
        Ok(())
    }

    fn wrong_size(&self, subject: &str, actual: u64) -> Error {
        let expected = self.size.unwrap_or_default();
        digest::Error::Size { subject: subject.to_owned(), expected, actual }.into()
    }

    fn finish(self, connection: &Connection, request: &Request<'_>) -> Result<u64, Error> {
        let subject = request.subject.as_str();
        if self.size.is_some_and(|size| size != self.done) {
            return Err(self.wrong_size(subject, self.done));
        }
        let actual = self.hasher.finish();
        if actual != *self.digest {
            return Err(digest::Error::Mismatch {
                subject: subject.to_owned(),
                expected: self.digest.clone(),
                actual,
                size: self.done,
            }
            .into());
        }
        connection
            .observer()
            .observe(&Event::TransferFinished { digest: self.digest, total: self.done });
        Ok(self.done)
    }
}

/// Whether the answer to a range begins at `first` and goes to the end of a
/// blob of `total` bytes. A 200 never does.
fn continues_at(response: &Response, first: u64, total: Option<u64>) -> bool {
    response.status() == StatusCode::PARTIAL_CONTENT
        && content_range(response.headers()).is_some_and(|range| {
            range.first == first
                && range.total.is_none_or(|told| told == range.last.saturating_add(1))
                && total.is_none_or(|total| total == range.last.saturating_add(1))
        })
}

/// A `Content-Range` header: `bytes first-last/total` (RFC 9110 section 14.4).
#[derive(Debug, Eq, PartialEq)]
struct ContentRange {
    first: u64,
    last: u64,
    total: Option<u64>,
}

fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    let mut values = headers.get_all(header::CONTENT_RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (range, total) = value.to_str().ok()?.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.trim().split_once('-')?;
    let range = ContentRange {
        first: first.parse().ok()?,
        last: last.parse().ok()?,
        total: if total == "*" { None } else { Some(total.parse().ok()?) },
    };
    (range.first <= range.last).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    // protocol rule 53
    #[test]
    fn rule_53_content_range_is_read_strictly() {
        let parse = |lines: &[&'static str]| {
            let headers =
                lines.iter().map(|line| (header::CONTENT_RANGE, line.parse().expect("a value")));
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(name, value);
            }
            content_range(&map)
        };
        let range = |first, last, total| Some(ContentRange { first, last, total });
        assert_eq!(parse(&["bytes 5-9/10"]), range(5, 9, Some(10)));
        assert_eq!(parse(&["bytes 5-9/*"]), range(5, 9, None));
        for lines in [
            &[][..],
            &["bytes 5-9/10", "bytes 5-9/10"],
            &["bytes 9-5/10"],
            &["bytes */10"],
            &["bytes 5-9"],
            &["5-9/10"],
            &["bytes -5-9/10"],
            &["bytes 5-99999999999999999999/*"],
        ] {
            assert_eq!(parse(lines), None, "{lines:?}");
        }
    }
}
