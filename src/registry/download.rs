//! Downloading a blob into a sink: it is hashed while it arrives, and resumed if the
//! connection breaks.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::time::{Duration, Instant};

use reqwest::header::{self, HeaderMap};
use reqwest::{Response, StatusCode};

use super::connection::Connection;
use super::error::Error;
use super::request::Request;
use super::transport::clients::Lane;
use super::transport::encoding;
use super::transport::{http, origin};
use super::writer::Writer;
use crate::fs;
use crate::observer::{Event, Observer};
use crate::oci::digest::{self, Digest, Hasher};
use crate::stream::hash_thread::HashThread;
use crate::stream::sink::Sink;

/// How many new bytes reset the count of failures. With a lower number, a server could
/// keep a download busy forever by sending a byte at a time.
const PROGRESS: u64 = 1 << 20;
/// The size in bytes below which a blob is small. Fetching a small blob takes about as
/// long as one round trip, so small blobs may share a connection, and many may be
/// requested at once.
pub const SMALL_BLOB: u64 = 1 << 20;
/// The lowest acceptable rate in bytes per second spent waiting, averaged over
/// [`WINDOW`]. At a lower rate, a download would take forever.
const LEAST_RATE: u64 = 1000;
/// The time over which [`LEAST_RATE`] is measured.
const WINDOW: Duration = Duration::from_secs(60);
/// How many bytes larger than the blob its encoded form may be.
const ENCODING_SLACK: u64 = 1 << 20;

/// The state of a download.
struct Progress<'a> {
    digest: &'a Digest,
    /// The size that the blob must have, if the caller knows it.
    size: Option<u64>,
    /// The size that the server announced, used if `size` is not known.
    announced: Option<u64>,
    hasher: Hasher,
    done: u64,
    /// Whether the bytes received so far came from several responses.
    is_pieced: bool,
    /// Whether the response says that it is compressed for transfer.
    is_encoded: bool,
    sink: &'a mut dyn Sink,
    /// A temporary file for an encoded body, used if the sink has no file of its own. It
    /// is needed until it is known whether the blob is the encoded or the decoded bytes.
    spool: Option<File>,
}

/// The thread that hashes, and possibly writes, while the network is read.
enum Beside {
    Writer(Writer),
    Hash(Box<HashThread>),
}

/// Downloads the blob `digest` into `sink`, replacing its content, and returns the size.
/// If this fails, the content of `sink` is undefined.
pub(super) async fn download(
    connection: &Connection,
    mut request: Request<'_>,
    digest: &Digest,
    size: Option<u64>,
    sink: &mut dyn Sink,
) -> Result<u64, Error> {
    let mut progress = Progress {
        digest,
        size,
        announced: None,
        hasher: Hasher::new(digest.algorithm()),
        done: 0,
        is_pieced: false,
        is_encoded: false,
        sink,
        spool: None,
    };
    progress.restart(request.subject)?;
    if size.is_none_or(|size| size >= SMALL_BLOB) {
        request.lane = Lane::Own;
    }
    let (mut failures, mut furthest, mut was_wrong) = (0, 0, false);
    loop {
        let error = match progress.go_on(connection, &mut request).await {
            Ok(()) => match progress.verify(request.subject) {
                Ok(total) => {
                    let finished = Event::TransferFinished { digest, total };
                    connection.observer().observe(&finished);
                    return Ok(total);
                }
                // One of the pieces may have been wrong, so fetch the whole blob once more.
                Err(Error::Digest(_)) if progress.is_pieced && !was_wrong => {
                    was_wrong = true;
                    progress.restart(request.subject)?;
                    continue;
                }
                Err(error) => return Err(error),
            },
            Err(error) => error,
        };
        if progress.done >= furthest + PROGRESS {
            (failures, furthest) = (1, progress.done);
        } else {
            failures += 1;
        }
        let Some(delay) = connection.retry_delay(&request, &error, failures) else {
            return Err(error.after(failures));
        };
        connection.pause(request.subject, &error, delay).await;
        request.lane = Lane::Own;
    }
}

/// Fetches the last `count` bytes of a blob of `size` bytes. Returns `None` if the server
/// doesn't support ranges.
pub(super) async fn end(
    connection: &Connection,
    mut request: Request<'_>,
    size: u64,
    count: u64,
) -> Result<Option<Vec<u8>>, Error> {
    let Some(start) = size.checked_sub(count) else { return Ok(None) };
    request.range = Some((start, Some(size.saturating_sub(1))));
    let mut response = connection.exchange(&request).await?;
    if !continues_at(&response, start, Some(size)) {
        return Ok(None);
    }
    let url = response.url().clone();
    let mut bytes = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|source| http::unreachable(request.subject, &url, source))?
    {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > count {
            return Ok(None);
        }
    }
    Ok((bytes.len() as u64 == count).then_some(bytes))
}

impl Progress<'_> {
    fn total(&self) -> Option<u64> {
        self.size.or(self.announced)
    }

    fn restart(&mut self, subject: &str) -> Result<(), Error> {
        self.hasher = Hasher::new(self.digest.algorithm());
        (self.done, self.announced) = (0, None);
        (self.is_pieced, self.is_encoded, self.spool) = (false, false, None);
        let write = |source| Error::Write { subject: subject.to_owned(), source };
        self.sink.restart().map_err(write)
    }

    /// Requests the missing bytes and receives them until the end or a failure.
    async fn go_on(
        &mut self,
        connection: &Connection,
        request: &mut Request<'_>,
    ) -> Result<(), Error> {
        if self.is_encoded {
            // Offsets into an encoded body are not stable, so start over.
            self.restart(request.subject)?;
        }
        let missing = self.done > 0;
        if missing && self.total() == Some(self.done) {
            // All bytes are here; only the end of the message was lost.
            return Ok(());
        }
        // Send a closed range if the end is known: some servers reject an open one.
        request.range =
            missing.then(|| (self.done, self.total().map(|total| total.saturating_sub(1))));
        match connection.exchange(request).await {
            Ok(response) => self.receive(connection, request, response).await,
            Err(Error::Status { status: StatusCode::RANGE_NOT_SATISFIABLE, host, .. })
                if missing =>
            {
                if self.total().is_none() {
                    // All bytes may be here already, since the size was not known. The digest
                    // will show.
                    self.is_pieced = true;
                    return Ok(());
                }
                self.restart(request.subject)?;
                Err(Error::Range { subject: request.subject.to_owned(), host, attempts: 1 })
            }
            Err(error) => Err(error),
        }
    }

    async fn receive(
        &mut self,
        connection: &Connection,
        request: &Request<'_>,
        response: Response,
    ) -> Result<(), Error> {
        let subject = request.subject;
        if self.done > 0 && !continues_at(&response, self.done, self.total()) {
            // Either the server ignores ranges and this is the whole blob, or it sent a
            // different range, which is useless.
            self.restart(subject)?;
            if response.status() == StatusCode::PARTIAL_CONTENT {
                let host = origin::host_of(response.url());
                return Err(Error::Range { subject: subject.to_owned(), host, attempts: 1 });
            }
        }
        self.is_pieced |= self.done > 0;
        self.is_encoded = encoding::is_gzip(response.headers());
        let end = response.content_length().map(|rest| self.done.saturating_add(rest));
        if !self.is_encoded {
            self.announced = self.announced.or(end);
            if let Some(end) = end {
                digest::check_size(&subject, end, self.size)?;
            }
        }
        let (digest, done, total) = (self.digest, self.done, self.total());
        let started = Event::TransferStarted { subject, digest, done, total };
        connection.observer().observe(&started);
        self.transfer(connection.observer(), subject, response).await
    }

    /// Receives a body to its end. Another thread hashes it and, if the sink has a
    /// writer, writes it too.
    async fn transfer(
        &mut self,
        observer: &dyn Observer,
        subject: &str,
        mut response: Response,
    ) -> Result<(), Error> {
        let write = |source| Error::Write { subject: subject.to_owned(), source };
        if self.is_encoded && self.sink.whole_file().is_none() {
            self.spool = Some(fs::unnamed().map_err(write)?);
        }
        let writer = match &mut self.spool {
            Some(spool) => spool.writer(),
            None => self.sink.writer(),
        };
        let hasher = self.hasher.clone();
        let mut beside = match writer.map_err(write)? {
            Some(writer) => Beside::Writer(Writer::start(writer, hasher)),
            None => Beside::Hash(Box::new(HashThread::new(hasher))),
        };
        let received = self.pass_on(observer, subject, &mut response, &mut beside).await;
        // Bytes that arrived before a failure are written and hashed too, and kept.
        self.hasher = match beside {
            Beside::Writer(writer) => writer.finish().await.map_err(write)?,
            Beside::Hash(thread) => thread.finish(),
        };
        received
    }

    /// Hands over the pieces of a body as they arrive.
    async fn pass_on(
        &mut self,
        observer: &dyn Observer,
        subject: &str,
        response: &mut Response,
        beside: &mut Beside,
    ) -> Result<(), Error> {
        let limit = match self.size {
            Some(size) if self.is_encoded => Some(size.saturating_add(ENCODING_SLACK)),
            size => size,
        };
        let url = response.url().clone();
        let broken = |source| http::unreachable(subject, &url, source);
        let write = |source| Error::Write { subject: subject.to_owned(), source };
        let mut window = Window::default();
        loop {
            let asked = Instant::now();
            let Some(chunk) = response.chunk().await.map_err(broken)? else { break };
            if window.is_trickle(asked.elapsed(), chunk.len() as u64) {
                let (subject, host) = (subject.to_owned(), origin::host_of(&url));
                return Err(Error::Trickle { subject, host, rate: LEAST_RATE, attempts: 1 });
            }
            let done = self.done + chunk.len() as u64;
            if limit.is_some_and(|limit| done > limit) {
                digest::check_size(&subject, done, self.size)?;
            }
            match beside {
                Beside::Writer(writer) => {
                    if !writer.take(chunk).await {
                        // `finish` returns the error.
                        break;
                    }
                }
                Beside::Hash(thread) => {
                    thread.update_shared(chunk.clone());
                    self.sink.write_all(&chunk).map_err(write)?;
                }
            }
            self.done = done;
            observer.observe(&Event::TransferAdvanced { digest: self.digest, done });
        }
        Ok(())
    }

    /// Checks the digest and the size of the blob, moves a spooled body into the sink,
    /// and returns the size.
    fn verify(&mut self, subject: &str) -> Result<u64, Error> {
        let write = |source| Error::Write { subject: subject.to_owned(), source };
        let actual = self.hasher.clone().finish();
        let mut total = self.done;
        if actual != *self.digest {
            let file = self.spool.as_mut().or(self.sink.whole_file()).filter(|_| self.is_encoded);
            let decoded = file.map(|file| encoding::decode_file(file, self.digest, self.size));
            match decoded.transpose().map_err(write)?.flatten() {
                Some(size) => total = size,
                None => digest::check(&subject, &actual, self.done, self.digest, self.size)?,
            }
        }
        // A descriptor may state a wrong size for the right bytes.
        digest::check_size(&subject, total, self.size)?;
        if let Some(mut spool) = self.spool.take() {
            spool.seek(SeekFrom::Start(0)).map_err(write)?;
            io::copy(&mut spool, &mut self.sink).map_err(write)?;
        }
        Ok(total)
    }
}

/// Measures how fast bytes arrive. Only the time spent waiting for them counts, since a
/// slow disk is not the server's fault.
#[derive(Default)]
struct Window {
    waited: Duration,
    bytes: u64,
}

impl Window {
    /// Adds `bytes` that arrived after `waited`. Returns whether too few arrived in a whole window.
    fn is_trickle(&mut self, waited: Duration, bytes: u64) -> bool {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < WINDOW {
            return false;
        }
        let is_trickle = self.bytes < LEAST_RATE * WINDOW.as_secs();
        *self = Self::default();
        is_trickle
    }
}

/// Whether the response to a range request starts at `first` and goes to the end of a
/// blob of `total` bytes. Never true for a 200.
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

    proptest::proptest! {
        // A formatted header parses back to the same value, and nothing panics.
        #[test]
        fn content_ranges_round_trip(first: u64, last: u64, total: Option<u64>, junk in "\\PC*") {
            let text = match total {
                Some(total) => format!("bytes {first}-{last}/{total}"),
                None => format!("bytes {first}-{last}/*"),
            };
            let parse = |text: &str| {
                let value = text.parse().ok()?;
                content_range(&HeaderMap::from_iter([(header::CONTENT_RANGE, value)]))
            };
            let expected = (first <= last).then_some(ContentRange { first, last, total });
            proptest::prop_assert_eq!(parse(&text), expected);
            let _ = parse(&junk);
        }
    }

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

    #[test]
    fn what_trickles_is_known_for_it() {
        let second = Duration::from_secs(1);
        let seconds = |rate: u64| {
            let mut window = Window::default();
            (1..=200).find(|_| window.is_trickle(second, rate))
        };
        assert_eq!(seconds(LEAST_RATE - 1), Some(60));
        assert_eq!(seconds(LEAST_RATE), None);
        // Slow after a fast minute: each minute is judged on its own.
        let mut window = Window::default();
        assert!(!window.is_trickle(second * 60, 1 << 30));
        assert!(window.is_trickle(second * 60, 1));
        // Time that is not spent waiting doesn't count.
        assert!((0..1000).all(|_| !window.is_trickle(Duration::ZERO, 0)));
    }
}
