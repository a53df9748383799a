//! The parts of sentences about failed requests: what was done, how often, and who was denied.

use std::fmt;

use reqwest::StatusCode;

/// What was being done when something failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Task {
    /// Something was fetched from a registry.
    Fetch,
    /// Something was pushed to a registry.
    Push,
}

impl Task {
    pub(super) const fn preposition(self) -> &'static str {
        match self {
            Self::Fetch => "from",
            Self::Push => "to",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Fetch => "fetch",
            Self::Push => "push",
        })
    }
}

pub(super) struct Attempts(pub(super) u32);

impl fmt::Display for Attempts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 1 { write!(formatter, " after {} attempts", self.0) } else { Ok(()) }
    }
}

pub(super) struct Through<'a>(pub(super) Option<&'a str>);

impl fmt::Display for Through<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |proxy| write!(formatter, " through the proxy `{proxy}`"))
    }
}

pub(super) struct Message<'a>(pub(super) Option<&'a str>);

impl fmt::Display for Message<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |message| write!(formatter, ": {message}"))
    }
}

/// A denied request, and the user who was denied.
#[derive(Debug)]
pub struct Denial {
    /// What was done.
    pub task: Task,
    /// What was being fetched.
    pub subject: String,
    /// The server that denied access: the registry or its token service.
    pub host: String,
    /// The name of the registry that the user logs in to.
    pub registry: String,
    /// The status code.
    pub status: StatusCode,
    /// The server's message, made safe to print.
    pub message: Option<String>,
    /// The user and where the credential was found.
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
