//! Failures of the HTTP client: their root cause, and what it means.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use crate::text;

/// How many characters of a failure are shown.
const LONGEST: usize = 300;

/// A failure of the HTTP client. Displays its root cause, such as `connection refused`,
/// without the layers above it, and without a URL, which may hold a signature.
#[derive(Debug)]
pub struct Cause(reqwest::Error);

impl From<reqwest::Error> for Cause {
    fn from(error: reqwest::Error) -> Self {
        Self(error.without_url())
    }
}

impl Cause {
    /// Returns the chain of errors from the outermost to the root.
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

    /// Whether the server speaks TLS, but TLS failed because one side refused the other,
    /// for example its certificate.
    pub(in crate::registry) fn speaks_tls(&self) -> bool {
        self.tls().is_some() && !self.is_not_tls()
    }

    /// Whether the server negotiated HTTP/2 and then failed to speak it.
    pub(in crate::registry) fn is_http2(&self) -> bool {
        self.chain().any(<dyn StdError>::is::<h2::Error>)
    }

    /// Whether the server answered with something other than TLS.
    pub(in crate::registry) fn is_not_tls(&self) -> bool {
        // The first byte of a TLS record is its type. No text starts with a valid one.
        let not_a_record = rustls::InvalidMessage::InvalidContentType;
        matches!(self.tls(), Some(rustls::Error::InvalidMessage(what)) if *what == not_a_record)
    }

    /// Whether the response is not valid HTTP, or has more headers than any real one.
    fn is_malformed(&self) -> bool {
        let is = |error: &hyper::Error| error.is_parse();
        self.chain().any(|error| error.downcast_ref::<hyper::Error>().is_some_and(is))
    }

    /// Whether no connection could be made.
    pub(in crate::registry) fn is_connect(&self) -> bool {
        self.0.is_connect()
    }

    /// Whether the server's certificate was refused.
    #[must_use]
    pub fn is_certificate(&self) -> bool {
        matches!(self.tls(), Some(rustls::Error::InvalidCertificate(_)))
    }

    /// Whether a proxy in between denied access. The proxy client has no error type for that.
    #[must_use]
    pub fn is_proxy_denial(&self) -> bool {
        let denial = "proxy authorization required";
        self.0.is_connect() && self.chain().any(|error| error.to_string().contains(denial))
    }

    /// Whether the server answered an `https` request over TLS: with an alert, or on a
    /// connection that failed only afterwards. Nothing may be sent to such a server in
    /// plain text.
    pub(in crate::registry) fn had_tls(&self) -> bool {
        self.speaks_tls() || !self.is_connect()
    }

    /// Whether the server itself asks for a fallback to plain HTTP: its HTTPS port
    /// refuses connections, or it answered with something other than TLS. If the
    /// connection is merely closed, anyone on the network may have done that.
    pub(in crate::registry) fn asks_for_plain(&self) -> bool {
        self.is_not_tls() || self.io_kind() == Some(io::ErrorKind::ConnectionRefused)
    }

    /// Whether this looks like HTTP sent to an HTTPS port, or the reverse: no connection,
    /// or one that is closed at once.
    pub(in crate::registry) fn may_be_wrong_scheme(&self, scheme: &str) -> bool {
        let is_right = self.speaks_tls() || scheme == "https" && self.had_tls();
        let may_be = self.0.is_connect() || self.0.is_request();
        may_be && !is_right && !self.is_http2() && !self.0.is_timeout()
    }

    /// Whether a connection was made and then broke.
    pub(in crate::registry) fn has_broken_off(&self) -> bool {
        !self.is_connect() && !self.0.is_timeout() && self.is_transient()
    }

    /// Whether the same request may succeed a little later, as after timeouts and broken
    /// connections. A refused connection, an unknown host or an invalid certificate will
    /// be the same in a second.
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
            // An error of hyper itself: the connection was closed before the message was complete.
            None => {
                !self.0.is_connect()
                    && (self.0.is_request() || self.0.is_body() || self.0.is_decode())
            }
        }
    }
}

/// Returns the error that `error` wraps. An `io::Error` made from another error returns
/// it from `get_ref`, not from `source`.
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
            // The text may come from the other side, so make it safe to print.
            Some(root) => formatter.write_str(&text::one_line(&root.to_string(), LONGEST)),
            None => write!(formatter, "{}", self.0),
        }
    }
}

impl StdError for Cause {}
