//! A blob, streamed to where it goes: hashed on the way, and resumed where the
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

/// How many new bytes make a failure forgiven: less would let a server keep
/// this busy for ever with a byte at a time.
const PROGRESS: u64 = 1 << 20;
/// Blobs below this size are small, in bytes: to fetch one takes as long as a
/// question, so they may share a connection, and many be asked for at once.
pub const SMALL_BLOB: u64 = 1 << 20;
/// How many bytes of a blob must arrive in a second of waiting for them, over
/// [`WINDOW`]: less would take for ever.
const LEAST_RATE: u64 = 1000;
/// The time over which [`LEAST_RATE`] is taken.
const WINDOW: Duration = Duration::from_secs(60);
/// How much longer than a blob its encoded form may be, in bytes.
const ENCODING_SLACK: u64 = 1 << 20;

/// What of a blob is here.
struct Progress<'a> {
    digest: &'a Digest,
    /// The size that the blob must have, where the caller knows it.
    size: Option<u64>,
    /// The size that the server announced, where the caller knows none.
    announced: Option<u64>,
    hasher: Hasher,
    done: u64,
    /// Whether what is here came in several pieces.
    is_pieced: bool,
    /// Whether it is said to be compressed for the way.
    is_encoded: bool,
    sink: &'a mut dyn Sink,
    /// What holds an encoded body until it is known which bytes are meant, where
    /// the sink itself can't.
    spool: Option<File>,
}

/// What works beside the network.
enum Beside {
    Writer(Writer),
    Hash(Box<HashThread>),
}

/// Fetches the blob `digest` into `sink`, over whatever is in it, and returns
/// its size. When this fails, what is in `sink` means nothing.
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
                // One of the pieces may have been wrong; a whole blob is not.
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

/// Fetches the last `count` bytes of a blob of `size` bytes, if the server
/// serves parts.
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

    /// Asks for what is missing, and takes it to its end or to where it breaks.
    async fn go_on(
        &mut self,
        connection: &Connection,
        request: &mut Request<'_>,
    ) -> Result<(), Error> {
        if self.is_encoded {
            // The bytes of an encoded body have no stable positions.
            self.restart(request.subject)?;
        }
        let missing = self.done > 0;
        if missing && self.total() == Some(self.done) {
            // Only the end of the message was lost.
            return Ok(());
        }
        // A closed range where the end is known: some servers refuse an open one.
        request.range =
            missing.then(|| (self.done, self.total().map(|total| total.saturating_sub(1))));
        match connection.exchange(request).await {
            Ok(response) => self.receive(connection, request, response).await,
            Err(Error::Status { status: StatusCode::RANGE_NOT_SATISFIABLE, host, .. })
                if missing =>
            {
                if self.total().is_none() {
                    // Maybe all bytes were here, and their number was not known.
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
            // The server ignores ranges, and this is the whole blob; or it
            // answers another range, and this is of no use.
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

    /// Takes a body to its end, hashed beside the network, and written there too
    /// where it goes to a file.
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
        // What arrived before a failure is written too, and counts.
        self.hasher = match beside {
            Beside::Writer(writer) => writer.finish().await.map_err(write)?,
            Beside::Hash(thread) => thread.finish(),
        };
        received
    }

    /// Passes pieces on as they arrive.
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
                        // Its end says why.
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

    /// The size of the blob, if it is the one that was asked for.
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
        // A descriptor may lie about the size of the right bytes.
        digest::check_size(&subject, total, self.size)?;
        if let Some(mut spool) = self.spool.take() {
            spool.seek(SeekFrom::Start(0)).map_err(write)?;
            io::copy(&mut spool, &mut self.sink).map_err(write)?;
        }
        Ok(total)
    }
}

/// How fast bytes arrive, in the time that is spent waiting for them: a slow disk is
/// no server's fault.
#[derive(Default)]
struct Window {
    waited: Duration,
    bytes: u64,
}

impl Window {
    /// Adds some bytes, and says whether too few came in a whole window.
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

    proptest::proptest! {
        // What is written is read back, and nothing panics.
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
        // Slow now, and fast before: each minute counts.
        let mut window = Window::default();
        assert!(!window.is_trickle(second * 60, 1 << 30));
        assert!(window.is_trickle(second * 60, 1));
        // What is not waited for is nobody's fault.
        assert!((0..1000).all(|_| !window.is_trickle(Duration::ZERO, 0)));
    }
}
