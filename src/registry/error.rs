//! What can go wrong between this program and a registry.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::StatusCode;

use super::{credentials, mirrors, tls};
use crate::digest;
use crate::error::{Diagnose, Kind};

/// Why a registry did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// There is no telling which credential to use.
    #[error(transparent)]
    Credentials(#[from] credentials::Error),
    /// The settings of mirrors are not usable.
    #[error(transparent)]
    Mirrors(#[from] mirrors::Error),
    /// The HTTP client could not be set up.
    #[error("failed to set up the HTTP client")]
    Setup(#[source] Cause),
    /// A variable that should name a proxy holds no URL. What it holds is not
    /// shown: it may be a password.
    #[error("the variable `{variable}` holds no URL of a proxy")]
    Proxy {
        /// The variable.
        variable: String,
    },
    /// A small answer that takes too long.
    #[error("failed to fetch {subject}: `{host}` is too slow")]
    TooSlow {
        /// What was to be fetched.
        subject: String,
        /// Who was asked.
        host: String,
    },
    /// A registry that wants a password has a credential of another kind.
    #[error("`{host}` wants a password for {subject}, which is not what {origin} has")]
    Unfit {
        /// What was to be fetched.
        subject: String,
        /// The registry.
        host: String,
        /// Where the credential stands.
        origin: String,
    },
    /// The registry's name makes no URL.
    #[error("failed to fetch {subject}: `{host}` makes no valid URL")]
    Url {
        /// What was to be fetched.
        subject: String,
        /// The registry.
        host: String,
        /// What the parser said.
        #[source]
        source: url::ParseError,
    },
    /// No answer, or one that broke off.
    #[error("failed to fetch {subject} from `{host}`{}", Attempts(*attempts))]
    Unreachable {
        /// What was to be fetched.
        subject: String,
        /// Who was asked.
        host: String,
        /// How often it was tried.
        attempts: u32,
        /// What happened last.
        #[source]
        source: Cause,
    },
    /// An answer that is a refusal.
    #[error("failed to fetch {subject} from `{host}`{}: HTTP {status}{}", Attempts(*attempts), Message(message.as_deref()))]
    Status {
        /// What was to be fetched.
        subject: String,
        /// Who was asked.
        host: String,
        /// The status code.
        status: StatusCode,
        /// What the registry says about it, made safe to print.
        message: Option<String>,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
        /// Whether it says that no pulls are left.
        limit_reached: bool,
        /// Whether it comes from where the registry redirected to.
        redirected: bool,
        /// How often it was tried.
        attempts: u32,
    },
    /// The registry does not let this user, or nobody, have it.
    #[error("{0}")]
    Denied(Denial),
    /// The registry and all its mirrors failed.
    #[error("failed to fetch {subject} from any of {}", Failures(failures))]
    Everywhere {
        /// What was to be fetched.
        subject: String,
        /// Who was asked, and why each failed; the registry itself is last.
        failures: Vec<(String, Error)>,
    },
    /// A setting forbids this registry.
    #[error("{subject} is not fetched: `{host}` is blocked by `{}`", file.display())]
    Blocked {
        /// What was to be fetched.
        subject: String,
        /// The registry.
        host: String,
        /// The file with the setting.
        file: PathBuf,
    },
    /// An answer to a range that was not asked for.
    #[error("failed to fetch {subject} from `{host}`{}: it answers another range than the one asked for", Attempts(*attempts))]
    Range {
        /// What was to be fetched.
        subject: String,
        /// Who was asked.
        host: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A body larger than what it is to be can be.
    #[error("{subject} from `{host}` is larger than {limit} bytes")]
    TooLarge {
        /// What was to be fetched.
        subject: String,
        /// Who served it.
        host: String,
        /// How many bytes are read at most.
        limit: u64,
    },
    /// A chain of redirects that does not end, or leads nowhere.
    #[error("failed to fetch {subject}: `{host}` redirects {reason}")]
    Redirect {
        /// What was to be fetched.
        subject: String,
        /// Who redirects.
        host: String,
        /// Where to, in words.
        reason: &'static str,
    },
    /// The registry names a token service that must not be asked.
    #[error("`{host}` names the token service `{realm}`, {reason}")]
    Realm {
        /// The registry.
        host: String,
        /// The token service, without what may be secret in it.
        realm: String,
        /// Why it is not asked.
        reason: &'static str,
    },
    /// The token service answers with something else than a token or a refusal.
    #[error("failed to fetch {subject} from the token service `{realm}`: HTTP {status}")]
    TokenService {
        /// What was to be fetched.
        subject: String,
        /// The token service, without what may be secret in it.
        realm: String,
        /// The status code.
        status: StatusCode,
    },
    /// The token service's answer holds no token.
    #[error("the token service `{realm}` of `{host}` gave no token")]
    Token {
        /// The registry.
        host: String,
        /// The token service, without what may be secret in it.
        realm: String,
    },
    /// What arrived is not what was asked for.
    #[error(transparent)]
    Digest(#[from] digest::Error),
    /// The blob could not be written to disk.
    #[error("failed to write {subject}")]
    Write {
        /// What was being fetched.
        subject: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

const PROXY_HINT: &str = "the proxy wants a user and a password, in `https_proxy` or `http_proxy`";

struct Attempts(u32);

impl fmt::Display for Attempts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 1 { write!(formatter, " after {} attempts", self.0) } else { Ok(()) }
    }
}

struct Message<'a>(Option<&'a str>);

impl fmt::Display for Message<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |message| write!(formatter, ": {message}"))
    }
}

/// A refusal, and whom it refused.
#[derive(Debug)]
pub struct Denial {
    /// What was to be fetched.
    pub subject: String,
    /// Who refused: the registry, or its token service.
    pub host: String,
    /// The registry that it is about, as a user logs into it.
    pub registry: String,
    /// The status code.
    pub status: StatusCode,
    /// What it says about it, made safe to print.
    pub message: Option<String>,
    /// Whose credential it was, and where that stands.
    pub user: Option<String>,
}

impl fmt::Display for Denial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, host, status, message, user, .. } = self;
        write!(
            formatter,
            "`{host}` denied access to {subject}: HTTP {status}{}",
            Message(message.as_deref())
        )?;
        match user {
            Some(user) => write!(formatter, " ({user})"),
            None => formatter.write_str(" (no credentials)"),
        }
    }
}

struct Failures<'a>(&'a [(String, Error)]);

impl fmt::Display for Failures<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (host, error)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(formatter, "{separator}`{host}` ({})", crate::error_chain(error))?;
        }
        Ok(())
    }
}

impl Diagnose for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Tls(error) => error.kind(),
            Self::Credentials(error) => error.kind(),
            Self::Mirrors(error) => error.kind(),
            Self::Setup(_) | Self::Proxy { .. } | Self::Write { .. } => Kind::Other,
            Self::Everywhere { failures, .. } => {
                failures.last().map_or(Kind::Network, |(_, error)| error.kind())
            }
            Self::Url { .. } => Kind::Usage,
            Self::Unreachable { source, .. } if source.is_proxy_denial() => Kind::Denied,
            Self::Unreachable { .. }
            | Self::Redirect { .. }
            | Self::TooSlow { .. }
            | Self::Range { .. }
            | Self::TokenService { .. }
            | Self::Token { .. } => Kind::Network,
            Self::Status { status, .. } => match status.as_u16() {
                404 | 410 => Kind::NotFound,
                407 => Kind::Denied,
                429 => Kind::RateLimited,
                _ => Kind::Network,
            },
            Self::TooLarge { .. } => Kind::Verification,
            Self::Denied(_) | Self::Unfit { .. } | Self::Blocked { .. } | Self::Realm { .. } => {
                Kind::Denied
            }
            Self::Digest(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { source, .. } if source.is_certificate() => Some(
                "name its authority's certificate with `--cacert`, or pass `--tls-verify=false`"
                    .to_owned(),
            ),
            Self::Unreachable { source, .. } if source.is_proxy_denial() => {
                Some(PROXY_HINT.to_owned())
            }
            Self::Denied(denial) => Some(denial.hint()),
            Self::Tls(error) => error.hint(),
            Self::Credentials(error) => error.hint(),
            Self::Mirrors(error) => error.hint(),
            Self::Everywhere { failures, .. } => {
                failures.last().and_then(|(_, error)| error.hint())
            }
            Self::Status { limit_reached: true, host, .. } => Some(format!(
                "no pulls are left on `{host}`: log in, wait, or pull from a mirror with `--mirror`"
            )),
            Self::Status { status, host, retry_after, .. } => match status.as_u16() {
                407 => Some(PROXY_HINT.to_owned()),
                404 => Some("check the name, the tag and the registry".to_owned()),
                429 => Some(match retry_after {
                    Some(wait) => format!("`{host}` asks to wait {} s", wait.as_secs()),
                    None => "wait, or pull from a mirror with `--mirror`".to_owned(),
                }),
                _ => None,
            },
            Self::Digest(error) => error.hint(),
            _ => None,
        }
    }
}

impl Denial {
    fn hint(&self) -> String {
        match self.user {
            Some(_) => {
                "check that this user may pull it; credentials that have expired also close \
                        what is public"
                    .to_owned()
            }
            None => format!(
                "it does not exist, or is private: log in with `docker login {}`, or name a file with \
                 `--authfile`",
                self.registry
            ),
        }
    }
}

impl Error {
    /// The same error, after `count` tries.
    pub(super) fn after(mut self, count: u32) -> Self {
        if let Self::Unreachable { attempts, .. }
        | Self::Range { attempts, .. }
        | Self::Status { attempts, .. } = &mut self
        {
            *attempts = count;
        }
        self
    }
}

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
    pub(super) fn speaks_tls(&self) -> bool {
        !matches!(self.tls(), None | Some(rustls::Error::InvalidMessage(_)))
    }

    /// Whether the server's certificate was refused.
    fn is_certificate(&self) -> bool {
        matches!(self.tls(), Some(rustls::Error::InvalidCertificate(_)))
    }

    /// Whether a proxy between refused. Its client has no type for that.
    fn is_proxy_denial(&self) -> bool {
        let denial = "proxy authorization required";
        self.0.is_connect() && self.chain().any(|error| error.to_string().contains(denial))
    }

    /// Whether this is how a server looks that is spoken to by the wrong
    /// scheme: no connection, or one that is closed at once.
    pub(super) fn may_be_wrong_scheme(&self) -> bool {
        !self.is_certificate()
            && !self.0.is_timeout()
            && (self.0.is_connect() || self.0.is_request())
    }

    /// Whether the same request may well succeed a little later: time-outs and
    /// connections that broke off. A refused connection, an unknown host or a
    /// wrong certificate will be the same in a second.
    pub(super) fn is_transient(&self) -> bool {
        if self.tls().is_some() || self.is_proxy_denial() {
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
            Some(root) => write!(formatter, "{root}"),
            None => write!(formatter, "{}", self.0),
        }
    }
}

impl StdError for Cause {}
