//! Failures of the HTTP client: what they were at the root, and what they mean.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use crate::text;

/// How much of a failure is shown, in characters.
const LONGEST: usize = 300;

/// A failure of the HTTP client, told by its root: `connection refused`, not
/// the layers above it, and without a URL, which may hold a signature.
#[derive(Debug)]
pub struct Cause(reqwest::Error);

impl From<reqwest::Error> for Cause {
    fn from(error: reqwest::Error) -> Self {
        Self(error.without_url())
    }
}

impl Cause {
    /// The errors from the outermost to the root.
    fn chain(&self) -> impl Iterator<Item = &(dyn StdError + 'static)> {
        let outermost: &(dyn StdError + 'static) = &self.0;
        std::iter::successors(Some(outermost), |error| inner(*error))
    }

    fn io_kind(&self) -> Option<io::ErrorKind> {
        self.chain()
            .filter_map(|error| error.downcast_ref::<io::Error>())
            .last()
            .map(io::Error::kind)
    }

    fn tls(&self) -> Option<&rustls::Error> {
        self.chain().find_map(|error| error.downcast_ref::<rustls::Error>())
    }

    /// Whether the server speaks TLS, and that failed: a certificate was refused
    /// by one side or the other.
    pub(in crate::registry) fn speaks_tls(&self) -> bool {
        self.tls().is_some() && !self.is_not_tls()
    }

    /// Whether the server agreed to HTTP/2, and then failed at it.
    pub(in crate::registry) fn is_http2(&self) -> bool {
        self.chain().any(<dyn StdError>::is::<h2::Error>)
    }

    /// Whether the server answered by something else than TLS.
    pub(in crate::registry) fn is_not_tls(&self) -> bool {
        // The first byte of a record says what it is, and no text begins with one of TLS.
        let not_a_record = rustls::InvalidMessage::InvalidContentType;
        matches!(self.tls(), Some(rustls::Error::InvalidMessage(what)) if *what == not_a_record)
    }

    /// Whether the answer is no HTTP, or has more headers than any real one.
    fn is_malformed(&self) -> bool {
        let is = |error: &hyper::Error| error.is_parse();
        self.chain().any(|error| error.downcast_ref::<hyper::Error>().is_some_and(is))
    }

    /// Whether there was no connection.
    pub(in crate::registry) fn is_connect(&self) -> bool {
        self.0.is_connect()
    }

    /// Whether the server's certificate was refused.
    pub(in crate::registry) fn is_certificate(&self) -> bool {
        matches!(self.tls(), Some(rustls::Error::InvalidCertificate(_)))
    }

    /// Whether a proxy between refused. Its client has no type for that.
    pub(in crate::registry) fn is_proxy_denial(&self) -> bool {
        let denial = "proxy authorization required";
        self.0.is_connect() && self.chain().any(|error| error.to_string().contains(denial))
    }

    /// Whether the server answered in TLS to a request by `https`: with an alert, or by
    /// a connection that failed only later. What follows may not go in plain text.
    pub(in crate::registry) fn had_tls(&self) -> bool {
        self.speaks_tls() || !self.is_connect()
    }

    /// Whether a fall-back to plain HTTP after this is what the server itself wants: it
    /// does not listen there, or answered by something else than TLS. One that just
    /// hangs up may be anybody's doing.
    pub(in crate::registry) fn asks_for_plain(&self) -> bool {
        self.is_not_tls() || self.io_kind() == Some(io::ErrorKind::ConnectionRefused)
    }

    /// Whether this looks like a server that was spoken to by the wrong scheme: no
    /// connection, or one that is closed at once.
    pub(in crate::registry) fn may_be_wrong_scheme(&self, scheme: &str) -> bool {
        let is_right = self.speaks_tls() || scheme == "https" && self.had_tls();
        let may_be = self.0.is_connect() || self.0.is_request();
        may_be && !is_right && !self.is_http2() && !self.0.is_timeout()
    }

    /// Whether there was a connection, and it ended in the middle.
    pub(in crate::registry) fn has_broken_off(&self) -> bool {
        !self.is_connect() && !self.0.is_timeout() && self.is_transient()
    }

    /// Whether the same request may well succeed a little later: time-outs and
    /// connections that broke off. A refused connection, an unknown host or a
    /// wrong certificate will be the same in a second.
    pub(in crate::registry) fn is_transient(&self) -> bool {
        if self.tls().is_some() || self.is_proxy_denial() || self.is_malformed() {
            return false;
        }
        if self.0.is_timeout() {
            return true;
        }
        match self.io_kind() {
            Some(
                io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::TimedOut,
            ) => true,
            Some(_) => false,
            // hyper's own: the connection closed before the message was complete.
            None => {
                !self.0.is_connect()
                    && (self.0.is_request() || self.0.is_body() || self.0.is_decode())
            }
        }
    }
}

/// What `error` wraps. An `io::Error` made from another error has it inside,
/// not as its source.
fn inner<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_timeout() {
            return formatter.write_str("timed out");
        }
        match self.chain().last() {
            // The other side may have had its say in it.
            Some(root) => formatter.write_str(&text::one_line(&root.to_string(), LONGEST)),
            None => write!(formatter, "{}", self.0),
        }
    }
}

impl StdError for Cause {}
