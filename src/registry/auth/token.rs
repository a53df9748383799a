//! Bearer tokens: requesting them from a registry's token service, and caching them.
//!
//! Specified in distribution's `docs/content/spec/auth/token.md`. The token for a
//! scope is used for the whole run. A task that needs a token while another is fetching it waits
//! for that one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;

use super::challenge::Challenge;
use super::scope::Scope;
use crate::observer::Event;
use crate::oci::reference::Repository;
use crate::registry::credentials::authorization::{Authorization, User};
use crate::registry::credentials::{Credential, CredentialStore, Match};
use crate::registry::error::Error;
use crate::registry::request::Request;
use crate::registry::transport;
use crate::registry::transport::body::Body;
use crate::registry::transport::clients::Lane;
use crate::registry::transport::http::{Http, Outgoing, RequestContext};
use crate::registry::transport::origin::{self, SafeUrl};

/// The size limit of a token service's answer, in bytes.
const ANSWER_LIMIT: u64 = 1 << 20;
/// The shortest lifetime of a token. Servers that report a shorter one, or none, leave
/// the field out or get it wrong.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);
/// Tokens are renewed this long before they expire.
const MARGIN: Duration = Duration::from_secs(5);
/// The name by which this program identifies itself to token services.
const CLIENT_ID: &str = "n2c";

/// What is needed to answer a challenge.
#[derive(Clone, Copy)]
pub(in crate::registry) struct Services<'a> {
    pub(in crate::registry) http: &'a Http,
    pub(in crate::registry) credentials: &'a CredentialStore,
}

impl Services<'_> {
    /// Returns the challenges of the API root. Some registries send none with the refusal
    /// itself, and some send them with a success.
    async fn ping(&self, request: &Request<'_>, registry: &Url) -> Result<Vec<Challenge>, Error> {
        let mut url = registry.clone();
        url.set_path("/v2/");
        let outgoing = Outgoing { lane: request.lane, ..Outgoing::get(request.subject, url) };
        let response = self.http.follow(outgoing).await?;
        if !origin::same_origin(response.url(), registry) {
            return Ok(Vec::new());
        }
        let found = Challenge::of(response.headers());
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            self.http.check_status(&request.context(registry, None), response).await?;
        }
        Ok(found)
    }
}

/// The known authorizations, by scope.
#[derive(Default)]
pub(in crate::registry) struct TokenCache {
    /// By [`Scope::key`].
    slots: Mutex<HashMap<String, Slot>>,
}

type Slot = Arc<tokio::sync::Mutex<State>>;

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// The challenge that led to a token. Harbor sends a Basic challenge once a token has
    /// expired, although it wants a new token.
    bearer: Option<Challenge>,
    /// Whether the credential was looked up. If so, the result is in `credential`.
    was_looked_for: bool,
    credential: Option<Match>,
}

impl State {
    /// Looks up the credential, unless that was done before.
    async fn look_up(
        &mut self,
        services: Services<'_>,
        repository: &Repository,
    ) -> Result<(), Error> {
        if self.was_looked_for {
            return Ok(());
        }
        let found = services.credentials.find(repository).await?;
        if let Some(found) = &found {
            let (user, secret) = (found.credential.user(), found.credential.secret().expose());
            services.http.secrets().add_password(user, secret);
        }
        services.http.observer().observe(&Event::Credential {
            repository: &repository.to_string(),
            origin: found.as_ref().map(|found| found.origin.to_string()).as_deref(),
        });
        (self.was_looked_for, self.credential) = (true, found);
        Ok(())
    }
}

#[derive(Debug)]
struct Token {
    authorization: Authorization,
    expires: Option<Instant>,
}

impl Token {
    /// Creates a token that is valid until it is refused.
    const fn lasting(authorization: Authorization) -> Self {
        Self { authorization, expires: None }
    }

    fn is_fresh(&self) -> bool {
        self.expires.is_none_or(|expires| Instant::now() < expires)
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
    fn slot(&self, scope: Scope<'_>) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(scope.key()).or_default().clone()
    }

    /// The authorization at hand for `scope`, if there is one.
    pub(in crate::registry) async fn get(&self, scope: Scope<'_>) -> Option<Authorization> {
        let slot = self.slot(scope);
        let state = slot.lock().await;
        let token = state.token.as_ref().filter(|token| token.is_fresh());
        token.map(|token| token.authorization.clone())
    }

    /// Answers the challenges to a request. Returns `None` if there is no answer.
    /// `refused` is the authorization that the request carried; if another task has
    /// obtained a newer one in the meantime, that one is returned.
    pub(in crate::registry) async fn answer(
        &self,
        services: Services<'_>,
        request: &Request<'_>,
        registry: &Url,
        mut challenges: Vec<Challenge>,
        refused: Option<&Authorization>,
    ) -> Result<Option<Authorization>, Error> {
        let slot = self.slot(request.scope);
        let mut state = slot.lock().await;
        if let Some(token) = state.token.as_ref().filter(|token| token.is_fresh())
            && refused != Some(&token.authorization)
        {
            return Ok(Some(token.authorization.clone()));
        }
        state.look_up(services, request.repository()).await?;
        let found = state.credential.clone();
        if bearer(&challenges).is_none() && basic(&challenges).is_none() && state.bearer.is_none() {
            challenges = services.ping(request, registry).await?;
        }
        let challenge = bearer(&challenges).cloned().or(state.bearer.clone());
        let token = match (challenge, found) {
            (_, Some(found)) if matches!(found.credential, Credential::RegistryToken(_)) => {
                let text = found.credential.secret().expose();
                Authorization::bearer(text, Some(&found)).map(Token::lasting)
            }
            (Some(challenge), found) => {
                let service = TokenService::new(request, registry, &challenge)?;
                let token = service.fetch(services.http, found.as_ref()).await?;
                state.bearer = Some(challenge);
                Some(token)
            }
            (None, Some(found)) if basic(&challenges).is_some() => match &found.credential {
                Credential::Password { user, password } => {
                    Authorization::basic(user, password, &found).map(Token::lasting)
                }
                _ => {
                    return Err(Error::Unfit {
                        subject: request.subject.to_owned(),
                        host: request.repository().host().to_owned(),
                        origin: found.origin.to_string(),
                    });
                }
            },
            (None, _) => None,
        };
        let authorization = token.as_ref().map(|token| token.authorization.clone());
        state.token = token;
        Ok(authorization)
    }
}

/// Returns the first bearer challenge that names a token service.
fn bearer(challenges: &[Challenge]) -> Option<&Challenge> {
    challenges
        .iter()
        .find(|challenge| challenge.scheme() == "bearer" && challenge.parameter("realm").is_some())
}

fn basic(challenges: &[Challenge]) -> Option<&Challenge> {
    challenges.iter().find(|challenge| challenge.scheme() == "basic")
}

/// The token service that a challenge names, and the parameters of the request to it.
struct TokenService<'a> {
    host: &'a str,
    subject: String,
    url: Url,
    service: Option<&'a str>,
    scopes: Vec<String>,
    lane: Lane,
}

impl<'a> TokenService<'a> {
    fn new(request: &Request<'a>, registry: &Url, challenge: &'a Challenge) -> Result<Self, Error> {
        let host = request.repository().host();
        let realm = challenge.parameter("realm").unwrap_or_default();
        Ok(Self {
            host,
            subject: format!("a token for {}", request.subject),
            url: checked_realm(host, registry, realm)?,
            service: challenge.parameter("service"),
            scopes: request.scope.requested(challenge.parameter("scope")),
            lane: request.lane,
        })
    }

    async fn fetch(&self, http: &Http, found: Option<&Match>) -> Result<Token, Error> {
        if let Some(found) = found
            && let Credential::IdentityToken { .. } = found.credential
            && let Some(token) = self.refresh(http, found).await?
        {
            return Ok(token);
        }
        let mut url = self.url.clone();
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = self.service {
                query.append_pair("service", service);
            }
            // Quay rejects several scopes in one parameter.
            for scope in &self.scopes {
                query.append_pair("scope", scope);
            }
            if let Some(user) =
                found.map(|found| found.credential.user()).filter(|user| !user.is_empty())
            {
                query.append_pair("account", user);
            }
        }
        let authorization = found.and_then(|found| {
            Authorization::basic(found.credential.user(), found.credential.secret(), found)
        });
        let authorization = authorization.as_ref();
        let outgoing =
            Outgoing { authorization, lane: self.lane, ..Outgoing::get(&self.subject, url) };
        self.send(http, outgoing, found).await
    }

    /// Exchanges an identity token by POST. Returns `None` if the service doesn't support
    /// that, in which case the token is to be sent as a password.
    async fn refresh(&self, http: &Http, found: &Match) -> Result<Option<Token>, Error> {
        let form = Serializer::new(String::new())
            .append_pair("grant_type", "refresh_token")
            .append_pair("refresh_token", found.credential.secret().expose())
            .append_pair("service", self.service.unwrap_or_default())
            .append_pair("client_id", CLIENT_ID)
            .append_pair("scope", &self.scopes.join(" "))
            .finish();
        let outgoing = Outgoing {
            method: Method::POST,
            body: Body::Form(&form),
            lane: self.lane,
            ..Outgoing::get(&self.subject, self.url.clone())
        };
        match self.send(http, outgoing, Some(found)).await {
            Ok(token) => Ok(Some(token)),
            Err(Error::TokenService { status, .. })
                if matches!(status.as_u16(), 400 | 404 | 405) =>
            {
                Ok(None)
            }
            Err(Error::Denied(denial)) if denial.status == StatusCode::UNAUTHORIZED => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Turns a client error of the token service, except 429, into
    /// [`Error::TokenService`]: a 404 from the token service doesn't mean that the image
    /// is missing.
    fn not_gone(&self, error: Error) -> Error {
        match error {
            Error::Status { status, subject, .. }
                if status.is_client_error() && status.as_u16() != 429 =>
            {
                Error::TokenService { subject, realm: SafeUrl(&self.url).to_string(), status }
            }
            error => error,
        }
    }

    async fn send(
        &self,
        http: &Http,
        outgoing: Outgoing<'_>,
        found: Option<&Match>,
    ) -> Result<Token, Error> {
        let url = outgoing.url.clone();
        let response = http.follow(outgoing).await?;
        let user = found.map(User::of);
        let context = RequestContext {
            subject: &self.subject,
            url: &url,
            registry: self.host,
            user: user.as_ref(),
        };
        let response =
            http.check_status(&context, response).await.map_err(|error| self.not_gone(error))?;
        let bytes = transport::http::read_body(&self.subject, response, ANSWER_LIMIT).await?;
        let (text, token) = parse_answer(&bytes, Instant::now(), found).ok_or_else(|| {
            Error::Token { host: self.host.to_owned(), realm: SafeUrl(&self.url).to_string() }
        })?;
        http.secrets().add(&text);
        Ok(token)
    }
}

/// Returns the token service's URL, or an error if it must not be contacted. A credential
/// would be sent there, and a malicious registry could name any address.
fn checked_realm(host: &str, registry: &Url, realm: &str) -> Result<Url, Error> {
    let refused = |realm: String, reason| Error::Realm { host: host.to_owned(), realm, reason };
    let url = registry
        .join(realm)
        .map_err(|_| refused(realm.escape_default().to_string(), "which is not a valid URL"))?;
    let shown = SafeUrl(&url).to_string();
    match (registry.scheme(), url.scheme()) {
        ("https", "http") => Err(refused(shown, "which is not encrypted although the registry is")),
        (_, "http" | "https") if origin::is_local(&url) && !origin::is_local(registry) => {
            Err(refused(shown, "a private address although the registry is public"))
        }
        (_, "http" | "https") => Ok(url),
        _ => Err(refused(shown, "which is not an HTTP URL")),
    }
}

/// Parses the token in an answer. The lifetime counts from `now`, the time of arrival,
/// which is never before the time of issue; the time of issue itself is ignored, because
/// clocks differ.
fn parse_answer(bytes: &[u8], now: Instant, found: Option<&Match>) -> Option<(String, Token)> {
    let answer: Answer = serde_json::from_slice(bytes).ok()?;
    let text =
        [answer.token, answer.access_token].into_iter().flatten().find(|text| !text.is_empty())?;
    let life = answer
        .expires_in
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .unwrap_or(SHORTEST_LIFE)
        .clamp(SHORTEST_LIFE, Duration::from_secs(86_400));
    let authorization = Authorization::bearer(&text, found)?;
    let token = Token { authorization, expires: Some(now + life.saturating_sub(MARGIN)) };
    Some((text, token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().expect("a valid URL")
    }

    // protocol rule 29
    #[test]
    fn rule_29_a_realm_must_not_be_weaker_or_nearer_than_its_registry() {
        let public = url("https://ghcr.io/v2/");
        assert!(checked_realm("ghcr.io", &public, "https://auth.ghcr.io/token").is_ok());
        assert_eq!(
            checked_realm("ghcr.io", &public, "/token").expect("relative").as_str(),
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
            let error = checked_realm("ghcr.io", &public, realm).expect_err(realm);
            assert!(matches!(error, Error::Realm { .. }), "{realm}: {error}");
        }
        let local = url("http://localhost:5000/v2/");
        assert!(checked_realm("localhost:5000", &local, "http://127.0.0.1:5001/token").is_ok());
    }

    // protocol rules 17 and 18
    #[test]
    fn rule_17_either_field_is_the_token() {
        let now = Instant::now();
        let life = |text: &str| {
            let (_, token) = parse_answer(text.as_bytes(), now, None)?;
            Some((token.expires? - now + MARGIN).as_secs())
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
