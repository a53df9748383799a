//! Bearer tokens: asking a registry's token service, and keeping what it gives.
//!
//! distribution `docs/content/spec/auth/token.md`. One token serves a
//! repository for the whole run; whoever comes while it is being fetched waits
//! for it instead of fetching another.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::HeaderValue;
use serde::Deserialize;
use url::Url;

use super::challenge::Challenge;
use super::connection::{Connection, Request};
use super::error::Error;
use super::origin::{self, SafeUrl};
use crate::reference::Repository;

/// The largest answer of a token service that is read, in bytes.
const ANSWER_LIMIT: u64 = 1 << 20;
/// What a token lives at least: shorter times are those of servers that leave
/// the field out or get it wrong.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);
/// Tokens are renewed this long before they expire.
const MARGIN: Duration = Duration::from_secs(5);

/// The value of an `Authorization` header. Never shown.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Authorization(HeaderValue);

impl Authorization {
    fn bearer(token: &str) -> Option<Self> {
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
        value.set_sensitive(true);
        Some(Self(value))
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Authorization(…)")
    }
}

#[derive(Debug, Default)]
pub(super) struct TokenCache {
    slots: Mutex<HashMap<Repository, Slot>>,
}

type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

#[derive(Debug)]
struct Token {
    authorization: Authorization,
    expires: Instant,
}

impl Token {
    fn is_fresh(&self) -> bool {
        Instant::now() < self.expires
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<f64>,
}

impl TokenCache {
    fn slot(&self, repository: &Repository) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(repository.clone()).or_default().clone()
    }

    /// The token at hand for `repository`, if there is one.
    pub(super) async fn get(&self, repository: &Repository) -> Option<Authorization> {
        let slot = self.slot(repository);
        let token = slot.lock().await;
        token.as_ref().filter(|token| token.is_fresh()).map(|token| token.authorization.clone())
    }

    /// Answers the challenges to a request. `refused` is what the request
    /// carried; if another task has a newer token already, that is the answer.
    pub(super) async fn answer(
        &self,
        connection: &Connection,
        request: &Request<'_>,
        registry: &Url,
        challenges: &[Challenge],
        refused: Option<&Authorization>,
    ) -> Result<Authorization, Error> {
        let slot = self.slot(request.repository);
        let mut current = slot.lock().await;
        if let Some(token) = current.as_ref().filter(|token| token.is_fresh())
            && refused != Some(&token.authorization)
        {
            return Ok(token.authorization.clone());
        }
        let token = fetch(connection, request, registry, challenges).await?;
        let authorization = token.authorization.clone();
        *current = Some(token);
        Ok(authorization)
    }
}

/// Asks the token service that the first usable challenge names.
async fn fetch(
    connection: &Connection,
    request: &Request<'_>,
    registry: &Url,
    challenges: &[Challenge],
) -> Result<Token, Error> {
    let host = request.repository.host().to_owned();
    let bearer = challenges
        .iter()
        .filter(|challenge| challenge.scheme() == "bearer")
        .find_map(|challenge| Some((challenge, challenge.parameter("realm")?)));
    let Some((challenge, realm)) = bearer else {
        let reason = if challenges.iter().any(|challenge| challenge.scheme() == "basic") {
            "there is no user and password for it"
        } else {
            "does not say how"
        };
        return Err(Error::Challenge { subject: request.subject.clone(), host, reason });
    };
    let mut url = token_service(&host, registry, realm)?;
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = challenge.parameter("service") {
            query.append_pair("service", service);
        }
        for scope in scopes(request.repository, challenge.parameter("scope")) {
            query.append_pair("scope", &scope);
        }
    }
    let realm = SafeUrl(&url).to_string();
    let bytes = connection.fetch_token(request, &url, ANSWER_LIMIT).await?;
    parse_answer(&bytes, Instant::now()).ok_or(Error::Token { host, realm })
}

/// The scopes to ask for, each one once: the challenge's first, for some
/// servers read no more than the first, and always to pull the repository.
fn scopes(repository: &Repository, challenge: Option<&str>) -> Vec<String> {
    let own = format!("repository:{}:pull", repository.path());
    let mut scopes: Vec<String> = challenge
        .unwrap_or_default()
        .split_ascii_whitespace()
        .filter(|scope| *scope != "*")
        .map(str::to_owned)
        .collect();
    if !scopes.contains(&own) {
        scopes.push(own);
    }
    scopes
}

/// The token service's URL, or why it must not be asked: a credential would go
/// there, and a registry may be made to name anything.
fn token_service(host: &str, registry: &Url, realm: &str) -> Result<Url, Error> {
    let refused = |realm: String, reason| Error::Realm { host: host.to_owned(), realm, reason };
    let url = registry
        .join(realm)
        .map_err(|_| refused(realm.escape_default().to_string(), "which is no URL"))?;
    let shown = SafeUrl(&url).to_string();
    match (registry.scheme(), url.scheme()) {
        ("https", "http") => Err(refused(shown, "which is not encrypted though the registry is")),
        (_, "http" | "https") if origin::is_local(&url) && !origin::is_local(registry) => {
            Err(refused(shown, "a private address, though the registry is public"))
        }
        (_, "http" | "https") => Ok(url),
        _ => Err(refused(shown, "which is not reached over HTTP")),
    }
}

/// The token in an answer. Its time of issue is not used: clocks differ, and
/// the time of arrival is never earlier.
fn parse_answer(bytes: &[u8], now: Instant) -> Option<Token> {
    let answer: Answer = serde_json::from_slice(bytes).ok()?;
    let text =
        [answer.token, answer.access_token].into_iter().flatten().find(|text| !text.is_empty())?;
    let life = answer
        .expires_in
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .unwrap_or(SHORTEST_LIFE)
        .clamp(SHORTEST_LIFE, Duration::from_secs(86_400));
    Some(Token {
        authorization: Authorization::bearer(&text)?,
        expires: now + life.saturating_sub(MARGIN),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().expect("a valid URL")
    }

    // protocol rules 14, 15 and 12
    #[test]
    fn rule_12_scopes_are_asked_for_once_and_the_challenge_first() {
        let repository: Repository = "host:1/a/b".parse().expect("valid");
        let ask = |scope| scopes(&repository, scope);
        assert_eq!(ask(None), ["repository:a/b:pull"]);
        assert_eq!(ask(Some("repository:a/b:pull")), ["repository:a/b:pull"]);
        assert_eq!(ask(Some("*")), ["repository:a/b:pull"]);
        assert_eq!(
            ask(Some("repository:t:pull,push repository:p:pull")),
            ["repository:t:pull,push", "repository:p:pull", "repository:a/b:pull"]
        );
    }

    // protocol rule 29
    #[test]
    fn rule_29_a_realm_must_not_be_weaker_or_nearer_than_its_registry() {
        let public = url("https://ghcr.io/v2/");
        assert!(token_service("ghcr.io", &public, "https://auth.ghcr.io/token").is_ok());
        assert_eq!(
            token_service("ghcr.io", &public, "/token").expect("relative").as_str(),
            "https://ghcr.io/token"
        );
        for realm in [
            "http://ghcr.io/token",
            "https://127.0.0.1/token",
            "https://localhost/token",
            "https://10.0.0.1/token",
            "https://169.254.169.254/latest",
            "https://[::1]/",
            "file:///etc/passwd",
            "https://",
        ] {
            let error = token_service("ghcr.io", &public, realm).expect_err(realm);
            assert!(matches!(error, Error::Realm { .. }), "{realm}: {error}");
        }
        let local = url("http://localhost:5000/v2/");
        assert!(token_service("localhost:5000", &local, "http://127.0.0.1:5001/token").is_ok());
    }

    // protocol rules 17 and 18
    #[test]
    fn rule_17_either_field_is_the_token() {
        let now = Instant::now();
        let life = |text: &str| {
            parse_answer(text.as_bytes(), now).map(|token| (token.expires - now + MARGIN).as_secs())
        };
        assert_eq!(life(r#"{"token":"t"}"#), Some(60));
        assert_eq!(life(r#"{"access_token":"t","expires_in":300}"#), Some(300));
        assert_eq!(life(r#"{"token":"","access_token":"t","expires_in":1}"#), Some(60));
        assert_eq!(life(r#"{"token":"t","expires_in":-5,"issued_at":"1999-01-01"}"#), Some(60));
        assert_eq!(life(r#"{"token":"t","expires_in":1e300}"#), Some(60));
        for nothing in
            ["", "{}", "null", r#"{"token":null}"#, r#"{"token":""}"#, r#"{"token":"a\nb"}"#]
        {
            assert_eq!(life(nothing), None, "{nothing}");
        }
    }
}
