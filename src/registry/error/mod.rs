//! The errors of the registry client.

mod words;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::StatusCode;

use super::transport::cause::Cause;
use super::transport::tls;
use super::{credentials, mirrors};
use crate::error::{Diagnose, Kind};
use crate::oci::digest::{self, Digest};
use words::{Attempts, Message, Through};
pub use words::{Denial, Task};

/// Why something could not be fetched from a registry, or pushed to it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The credential to use could not be determined.
    #[error(transparent)]
    Credentials(#[from] credentials::Error),
    /// The mirror configuration is unusable.
    #[error(transparent)]
    Mirrors(#[from] mirrors::Error),
    /// The HTTP client could not be set up.
    #[error("failed to set up the HTTP client")]
    Setup(#[source] Cause),
    /// A proxy variable doesn't hold a usable URL. Its value is not shown, because it may
    /// contain a password.
    #[error("the variable `{variable}` is not the URL of a proxy that n2c can use")]
    Proxy {
        /// The variable.
        variable: String,
    },
    /// A blob arrived too slowly.
    #[error("failed to fetch {subject} from `{host}`{}: it sends less than {rate} bytes per second", Attempts(*attempts))]
    Trickle {
        /// What was being fetched.
        subject: String,
        /// The server.
        host: String,
        /// The lowest acceptable rate, in bytes per second.
        rate: u64,
        /// How many attempts were made.
        attempts: u32,
    },
    /// A small response took too long, or an upload stalled.
    #[error("failed to {task} {subject}: `{host}` is too slow")]
    TooSlow {
        /// What was done.
        task: Task,
        /// What was being fetched.
        subject: String,
        /// The server.
        host: String,
    },
    /// The registry requires a password, but the credential is of another kind.
    #[error("`{host}` requires a password for {subject}, but {origin} has a token")]
    Unfit {
        /// What was being fetched.
        subject: String,
        /// The registry.
        host: String,
        /// Where the credential was found.
        origin: String,
    },
    /// The registry's name doesn't form a valid URL.
    #[error("failed to fetch {subject}: `{host}` does not form a valid URL")]
    Url {
        /// What was being fetched.
        subject: String,
        /// The registry.
        host: String,
        /// The parser's error.
        #[source]
        source: url::ParseError,
    },
    /// A list of tags is malformed.
    #[error("invalid list of tags of `{repository}`")]
    Tags {
        /// The repository.
        repository: String,
        /// The parser's error.
        #[source]
        source: serde_json::Error,
    },
    /// A list has too many pages, or its pages form a loop.
    #[error("failed to list {subject}: the list of `{host}` does not end")]
    Endless {
        /// What was being listed.
        subject: String,
        /// The server.
        host: String,
    },
    /// What was to be sent can't be read here.
    #[error("failed to read {subject}")]
    Content {
        /// What was to be sent.
        subject: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What should be pushed can't be.
    #[error("failed to push {subject}: {reason}")]
    Unpushable {
        /// What was to be pushed.
        subject: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The registry stored something else than was sent.
    #[error("`{host}` stored {subject} as `{stored}`")]
    Stored {
        /// What was pushed.
        subject: String,
        /// The registry.
        host: String,
        /// The digest that it gave.
        stored: Digest,
    },
    /// The registry opens no usable upload session.
    #[error("failed to push {subject}: `{host}` {reason}")]
    Session {
        /// What was to be pushed.
        subject: String,
        /// Who was asked.
        host: String,
        /// What is wrong with the session.
        reason: &'static str,
    },
    /// There was no response, or it broke off.
    #[error("failed to {task} {subject} {} `{host}`{}{}", task.preposition(), Through(proxy.as_deref()), Attempts(*attempts))]
    Unreachable {
        /// What was done.
        task: Task,
        /// What was being fetched.
        subject: String,
        /// The server.
        host: String,
        /// The proxy at which it failed, if there is one in between.
        proxy: Option<String>,
        /// How many attempts were made.
        attempts: u32,
        /// What happened last.
        #[source]
        source: Cause,
    },
    /// The response was an error status.
    #[error("failed to {task} {subject} {} `{host}`{}: HTTP {status}{}", task.preposition(), Attempts(*attempts), Message(message.as_deref()))]
    Status {
        /// What was done.
        task: Task,
        /// What was being fetched.
        subject: String,
        /// The server.
        host: String,
        /// The status code.
        status: StatusCode,
        /// The registry's message, made safe to print.
        message: Option<String>,
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
        /// Whether the pull limit is used up.
        limit_reached: bool,
        /// Whether the response came from the target of a redirect.
        redirected: bool,
        /// How many attempts were made.
        attempts: u32,
    },
    /// The registry denied access, to this user or to anonymous users.
    #[error("{0}")]
    Denied(Denial),
    /// The registry and all its mirrors failed.
    #[error("failed to fetch {subject} from any of {}", Failures(failures))]
    Everywhere {
        /// What was being fetched.
        subject: String,
        /// The host and error of each endpoint that was tried. The registry itself is last.
        failures: Vec<(String, Error)>,
    },
    /// A setting blocks this registry.
    #[error("failed to fetch {subject}: `{host}` is blocked by `{}`", file.display())]
    Blocked {
        /// What was being fetched.
        subject: String,
        /// The registry.
        host: String,
        /// The file with the setting.
        file: PathBuf,
    },
    /// The response has a different range than the requested one.
    #[error("failed to fetch {subject} from `{host}`{}: it sent a different range than requested", Attempts(*attempts))]
    Range {
        /// What was being fetched.
        subject: String,
        /// The server.
        host: String,
        /// How many attempts were made.
        attempts: u32,
    },
    /// A body is larger than it may be.
    #[error("{subject} from `{host}` is larger than {limit} bytes")]
    TooLarge {
        /// What was being fetched.
        subject: String,
        /// The server that sent it.
        host: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The registry doesn't serve a foreign layer, and its URLs must not be used.
    #[error("{subject} is a foreign layer, which `{host}` does not serve; its URL is `{url}`")]
    Foreign {
        /// What was being fetched.
        subject: String,
        /// The registry.
        host: String,
        /// The first of its URLs, made safe to print.
        url: String,
    },
    /// A URL of a foreign layer must not be contacted.
    #[error(
        "failed to fetch {subject}: `{host}` does not serve it, and its foreign URL is {reason}"
    )]
    ForeignUrl {
        /// What was being fetched.
        subject: String,
        /// The registry.
        host: String,
        /// Why it must not be contacted.
        reason: &'static str,
    },
    /// Redirects that don't end, or that can't be followed.
    #[error("failed to {task} {subject}: `{host}` redirects {reason}")]
    Redirect {
        /// What was done.
        task: Task,
        /// What was being fetched.
        subject: String,
        /// The server that redirected.
        host: String,
        /// Where it redirected, in words.
        reason: &'static str,
    },
    /// The registry names a token service that must not be contacted.
    #[error("`{host}` names the token service `{realm}`, {reason}")]
    Realm {
        /// The registry.
        host: String,
        /// The token service's URL, without the parts that may be secret.
        realm: String,
        /// Why it must not be contacted.
        reason: &'static str,
    },
    /// The token service answered with neither a token nor a denial.
    #[error("failed to fetch {subject} from the token service `{realm}`: HTTP {status}")]
    TokenService {
        /// What was being fetched.
        subject: String,
        /// The token service's URL, without the parts that may be secret.
        realm: String,
        /// The status code.
        status: StatusCode,
    },
    /// The token service's answer contains no token.
    #[error("the token service `{realm}` of `{host}` returned no token")]
    Token {
        /// The registry.
        host: String,
        /// The token service's URL, without the parts that may be secret.
        realm: String,
    },
    /// The content doesn't have the expected digest or size.
    #[error(transparent)]
    Digest(#[from] digest::Error),
    /// The blob could not be written to disk.
    #[error("failed to write {subject}")]
    Write {
        /// What was being fetched.
        subject: String,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
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
    /// Returns why a server could not be reached, if that is the error.
    pub(super) const fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Unreachable { source, .. } => Some(source),
            _ => None,
        }
    }

    /// Whether this machine is at fault, so that the request would fail at every endpoint.
    pub(super) const fn is_of_this_machine(&self) -> bool {
        matches!(self, Self::Content { .. } | Self::Write { .. } | Self::Setup(_))
    }

    /// Combines the failures of all endpoints, of which the registry's is the last. A
    /// single failure is returned as it is.
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
            Self::Setup(_) | Self::Proxy { .. } | Self::Content { .. } | Self::Write { .. } => {
                Kind::Other
            }
            Self::Everywhere { failures, .. } => {
                failures.last().map_or(Kind::Network, |(_, error)| error.kind())
            }
            Self::Url { .. } | Self::Unpushable { .. } => Kind::Usage,
            Self::Unreachable { source, .. } if source.is_proxy_denial() => Kind::Denied,
            Self::Unreachable { .. }
            | Self::Redirect { .. }
            | Self::TooSlow { .. }
            | Self::Range { .. }
            | Self::Trickle { .. }
            | Self::Session { .. }
            | Self::TokenService { .. }
            | Self::Token { .. } => Kind::Network,
            Self::Status { status, .. } => match status.as_u16() {
                404 | 410 => Kind::NotFound,
                407 => Kind::Denied,
                429 => Kind::RateLimited,
                _ => Kind::Network,
            },
            Self::Foreign { .. } | Self::ForeignUrl { .. } => Kind::NotFound,
            Self::Stored { .. }
            | Self::TooLarge { .. }
            | Self::Tags { .. }
            | Self::Endless { .. } => Kind::Verification,
            Self::Denied(_) | Self::Unfit { .. } | Self::Blocked { .. } | Self::Realm { .. } => {
                Kind::Denied
            }
            Self::Digest(error) => error.kind(),
        }
    }
}

impl Error {
    /// Sets the number of attempts in the error.
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

    /// The same error, if it is about `subject`, which was being pushed.
    pub(super) fn pushing(mut self, pushed: &str) -> Self {
        if let Self::Unreachable { task, subject, .. }
        | Self::TooSlow { task, subject, .. }
        | Self::Redirect { task, subject, .. }
        | Self::Denied(Denial { task, subject, .. })
        | Self::Status { task, subject, .. } = &mut self
            && subject.ends_with(pushed)
        {
            *task = Task::Push;
        }
        self
    }
}
