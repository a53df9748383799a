//! The `Authorization` header, and whose it is.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;

use super::{Found, Origin, Secret};

/// The value of an `Authorization` header. Never shown.
#[derive(Clone, Eq, PartialEq)]
pub(in crate::registry) struct Authorization {
    value: HeaderValue,
    user: Option<User>,
}

/// Who asks, as it may be shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::registry) struct User {
    name: String,
    origin: Origin,
}

impl User {
    pub(in crate::registry) fn of(found: &Found) -> Self {
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
    /// A bearer token. `None` where it can't stand in a header.
    pub(in crate::registry) fn bearer(token: &str, found: Option<&Found>) -> Option<Self> {
        Self::new(format!("Bearer {token}"), found)
    }

    /// A user and a password, or what stands for one.
    pub(in crate::registry) fn basic(user: &str, password: &Secret, found: &Found) -> Option<Self> {
        let encoded = STANDARD.encode(format!("{user}:{}", password.expose()));
        Self::new(format!("Basic {encoded}"), Some(found))
    }

    fn new(text: String, found: Option<&Found>) -> Option<Self> {
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(Self { value, user: found.map(User::of) })
    }

    pub(in crate::registry) fn header(&self) -> HeaderValue {
        self.value.clone()
    }

    /// Whose credential is behind it; nobody's behind an anonymous token.
    pub(in crate::registry) const fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Authorization({:?})", self.user)
    }
}
