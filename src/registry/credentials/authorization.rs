//! The `Authorization` header, and the user whose credential it carries.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;

use super::{Match, Origin, Secret};

/// The value of an `Authorization` header. It is never printed.
#[derive(Clone, Eq, PartialEq)]
pub(in crate::registry) struct Authorization {
    value: HeaderValue,
    user: Option<User>,
}

/// The user behind a request, in a form that is safe to print.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::registry) struct User {
    name: String,
    origin: Origin,
}

impl User {
    pub(in crate::registry) fn of(found: &Match) -> Self {
        Self { name: found.credential.user().to_owned(), origin: found.origin.clone() }
    }
}

impl fmt::Display for User {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.name.is_empty() {
            write!(formatter, "user `{}`, ", self.name)?;
        }
        self.origin.fmt(formatter)
    }
}

impl Authorization {
    /// Creates a bearer token's header. Returns `None` if the token is not a valid header value.
    pub(in crate::registry) fn bearer(token: &str, found: Option<&Match>) -> Option<Self> {
        Self::new(format!("Bearer {token}"), found)
    }

    /// Creates the header for Basic authentication with a password, or with a token used
    /// as one. Returns `None` if it is not a valid header value.
    pub(in crate::registry) fn basic(user: &str, password: &Secret, found: &Match) -> Option<Self> {
        let encoded = STANDARD.encode(format!("{user}:{}", password.expose()));
        Self::new(format!("Basic {encoded}"), Some(found))
    }

    fn new(text: String, found: Option<&Match>) -> Option<Self> {
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(Self { value, user: found.map(User::of) })
    }

    pub(in crate::registry) fn header(&self) -> HeaderValue {
        self.value.clone()
    }

    /// Returns the user whose credential is behind it, or `None` for an anonymous token.
    pub(in crate::registry) const fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Authorization({:?})", self.user)
    }
}
