//! The `Authorization` header, and whose it is.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use url::form_urlencoded;

use super::credentials::{Credential, Found, Origin, Secret};

/// The value of an `Authorization` header. Never shown.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Authorization {
    value: HeaderValue,
    user: Option<User>,
}

/// Who asks, as it may be shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct User {
    name: String,
    origin: Origin,
}

impl User {
    pub(super) fn of(found: &Found) -> Self {
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
    pub(super) fn bearer(token: &str, found: Option<&Found>) -> Option<Self> {
        Self::new(format!("Bearer {token}"), found)
    }

    /// A user and a password, or what stands for one.
    pub(super) fn basic(user: &str, password: &Secret, found: &Found) -> Option<Self> {
        let encoded = STANDARD.encode(format!("{user}:{}", password.expose()));
        Self::new(format!("Basic {encoded}"), Some(found))
    }

    fn new(text: String, found: Option<&Found>) -> Option<Self> {
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(Self { value, user: found.map(User::of) })
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.value.clone()
    }

    /// Whose credential is behind it; nobody's behind an anonymous token.
    pub(super) const fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Authorization({:?})", self.user)
    }
}

/// How much of a secret may be repeated, in bytes.
const LONGEST_PART: usize = 15;

/// All secrets of a run, so that no server can make this program show one.
#[derive(Default)]
pub(super) struct Secrets(Mutex<HashSet<String>>);

impl Secrets {
    /// Notes a secret, in the forms in which it is sent.
    pub(super) fn add(&self, secret: &str) {
        let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let forms = [secret.to_owned(), encoded];
        secrets.extend(forms.into_iter().filter(|secret| !secret.is_empty()));
    }

    /// Notes the secret of a credential, also as Basic authentication sends it.
    pub(super) fn add_credential(&self, credential: &Credential) {
        let (user, secret) = (credential.user(), credential.secret().expose());
        self.add(secret);
        if !secret.is_empty() {
            self.add(&STANDARD.encode(format!("{user}:{secret}")));
        }
    }

    /// Whether `text` repeats a secret, or a good part of a long one.
    pub(super) fn are_in(&self, text: &str) -> bool {
        let secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = |text: &str| -> HashSet<Vec<u8>> {
            text.as_bytes().windows(LONGEST_PART + 1).map(<[u8]>::to_vec).collect()
        };
        let in_text = parts(text);
        let repeats = |secret: &String| {
            text.contains(secret.as_str()) || !parts(secret).is_disjoint(&in_text)
        };
        secrets.iter().any(repeats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_long_secrets_are_known() {
        let secrets = Secrets::default();
        secrets.add("");
        assert!(!secrets.are_in("anything"));
        secrets.add(&"0123456789abcdef/".repeat(40));
        secrets.add("p w");
        assert!(secrets.are_in("the token is 6789abcdef/012345, or so"));
        assert!(secrets.are_in("password=p+w"));
        assert!(!secrets.are_in("the digest is 0123456789abcde"));
    }
}
