//! What can go wrong between this program and a registry.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::StatusCode;

use super::transport::cause::Cause;
use super::transport::tls;
use super::{credentials, mirrors};
use crate::error::{Diagnose, Kind};
use crate::oci::digest;

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
    #[error("the variable `{variable}` holds no URL of a proxy that n2c can use")]
    Proxy {
        /// The variable.
        variable: String,
    },
    /// A blob that arrives a byte at a time.
    #[error("failed to fetch {subject} from `{host}`{}: less than {rate} bytes a second arrive", Attempts(*attempts))]
    Trickle {
        /// What was to be fetched.
        subject: String,
        /// Who was asked.
        host: String,
        /// How many bytes a second are the least.
        rate: u64,
        /// How often it was tried.
        attempts: u32,
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
    /// A list of tags is not what it should be.
    #[error("invalid list of the tags of `{repository}`")]
    Tags {
        /// The repository.
        repository: String,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// A list goes on and on, or in a circle.
    #[error("failed to list {subject}: `{host}` does not come to an end")]
    Endless {
        /// What was to be listed.
        subject: String,
        /// Who was asked.
        host: String,
    },
    /// No answer, or one that broke off.
    #[error("failed to fetch {subject} from `{host}`{}{}", Through(proxy.as_deref()), Attempts(*attempts))]
    Unreachable {
        /// What was to be fetched.
        subject: String,
        /// Who was asked.
        host: String,
        /// The proxy that it failed at, where there is one between.
        proxy: Option<String>,
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
    /// A layer that the registry does not serve, and whose URLs are not to be asked.
    #[error("{subject} is a foreign layer, which `{host}` does not serve; it is at `{url}`")]
    Foreign {
        /// What was to be fetched.
        subject: String,
        /// The registry.
        host: String,
        /// The first of its URLs, made safe to print.
        url: String,
    },
    /// A URL of a foreign layer that is not asked.
    #[error(
        "{subject}, which `{host}` does not serve, is said to be at something that is {reason}"
    )]
    ForeignUrl {
        /// What was to be fetched.
        subject: String,
        /// The registry.
        host: String,
        /// Why it is not asked.
        reason: &'static str,
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

struct Through<'a>(Option<&'a str>);

impl fmt::Display for Through<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |proxy| write!(formatter, " through the proxy `{proxy}`"))
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

impl Error {
    /// What kept a server from being reached.
    pub(super) const fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Unreachable { source, .. } => Some(source),
            _ => None,
        }
    }

    /// Whether it is the fault of this machine, and so the same wherever something is
    /// asked for.
    pub(super) const fn is_of_this_machine(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Setup(_))
    }

    /// What all places that were asked answered, the registry itself last.
    pub(super) fn of_all(subject: String, mut failures: Vec<(String, Self)>) -> Self {
        match failures.pop() {
            Some((_, error)) if failures.is_empty() => error,
            last => {
                failures.extend(last);
                Self::Everywhere { subject, failures }
            }
        }
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
            | Self::Trickle { .. }
            | Self::TokenService { .. }
            | Self::Token { .. } => Kind::Network,
            Self::Status { status, .. } => match status.as_u16() {
                404 | 410 => Kind::NotFound,
                407 => Kind::Denied,
                429 => Kind::RateLimited,
                _ => Kind::Network,
            },
            Self::Foreign { .. } | Self::ForeignUrl { .. } => Kind::NotFound,
            Self::TooLarge { .. } | Self::Tags { .. } | Self::Endless { .. } => Kind::Verification,
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
            Self::Unreachable { proxy: Some(_), .. } => Some(
                "see whether `http_proxy`, `https_proxy` or `all_proxy` names the right proxy; \
                 `no_proxy` lists what is asked without it"
                    .to_owned(),
            ),
            Self::Proxy { .. } => Some(
                "write `http://HOST:PORT`, `https://HOST:PORT` or `socks5://HOST:PORT`".to_owned(),
            ),
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
            Self::Foreign { .. } => {
                Some("leave out `--no-foreign` to fetch it from there".to_owned())
            }
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
        | Self::Trickle { attempts, .. }
        | Self::Status { attempts, .. } = &mut self
        {
            *attempts = count;
        }
        self
    }
}
