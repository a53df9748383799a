//! One request to a registry, from what is asked for to the head of a usable
//! answer: scheme, challenges, and tries.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use url::Url;

use super::authorization::{Authorization, User};
use super::challenge::Challenge;
use super::clients::Lane;
use super::credentials::CredentialStore;
use super::encoding;
use super::error::Error;
use super::http::{self, Asked, Http, Outgoing};
use super::origin;
use super::retry::RetryPolicy;
use super::token::TokenCache;
use crate::observer::{Event, Observer};
use crate::oci::media_type::ACCEPTED_MANIFESTS;
use crate::oci::reference::Repository;

/// How often a mirror is tried.
const MIRROR_ATTEMPTS: u32 = 2;

/// What is asked of a registry.
pub(super) struct Request<'a> {
    pub(super) repository: &'a Repository,
    /// The path below the repository's URL: `manifests/latest`.
    pub(super) path: &'a str,
    /// What it is, for people: "manifest `docker.io/library/alpine:3.19`".
    pub(super) subject: &'a str,
    /// Bytes to ask for, first and last, where not all are.
    pub(super) range: Option<(u64, Option<u64>)>,
    /// Where it is instead of at the registry; nobody there is told who asks.
    pub(super) elsewhere: Option<&'a Url>,
    /// Whether the registry itself is asked where this fails.
    pub(super) is_mirror: bool,
    /// GET, or HEAD where the answer's head is enough.
    pub(super) method: Method,
    pub(super) lane: Lane,
}

impl<'a> Request<'a> {
    /// A GET of something whole.
    pub(super) const fn get(repository: &'a Repository, path: &'a str, subject: &'a str) -> Self {
        let (method, lane) = (Method::GET, Lane::Shared);
        let (range, elsewhere, is_mirror) = (None, None, false);
        Self { repository, path, subject, range, elsewhere, is_mirror, method, lane }
    }

    /// What an error of it says.
    pub(super) fn asked(&self, url: &'a Url, user: Option<&'a User>) -> Asked<'a> {
        Asked { subject: self.subject, url, registry: self.repository.host(), user }
    }
}

/// A whole answer.
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    pub(super) content_type: Option<String>,
    /// The `Link` headers: where a list goes on.
    pub(super) links: Vec<String>,
    /// Whether the bytes are said to be compressed for the way.
    pub(super) is_encoded: bool,
}

/// Talks to registries; keeps tokens, and what it learned of each.
pub(super) struct Connection {
    pub(super) http: Http,
    pub(super) credentials: CredentialStore,
    retry: RetryPolicy,
    tls_verify: Option<bool>,
    tokens: TokenCache,
    /// The scheme that each registry was found, or said, to speak.
    schemes: Mutex<HashMap<String, &'static str>>,
}

impl Connection {
    pub(super) fn new(
        http: Http,
        credentials: CredentialStore,
        retry: RetryPolicy,
        tls_verify: Option<bool>,
    ) -> Self {
        let (tokens, schemes) = (TokenCache::default(), Mutex::default());
        Self { http, credentials, retry, tls_verify, tokens, schemes }
    }

    pub(super) fn observer(&self) -> &dyn Observer {
        self.http.observer()
    }

    /// Runs `operation` until it succeeds or trying again is no use.
    async fn with_retries<T>(
        &self,
        request: &Request<'_>,
        operation: impl AsyncFn(&Request<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut attempt = 1;
        let mut request = Request { method: request.method.clone(), ..*request };
        loop {
            let error = match operation(&request).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let Some(delay) = self.retry_delay(&request, &error, attempt) else {
                return Err(error.after(attempt));
            };
            self.pause(request.subject, &error, delay).await;
            // Not every server or proxy that offers HTTP/2 can do it.
            request.lane = Lane::Own;
            attempt += 1;
        }
    }

    /// How long to wait before going on after `error`, failure number
    /// `failures`; `None` where that is no use.
    pub(super) fn retry_delay(
        &self,
        request: &Request<'_>,
        error: &Error,
        failures: u32,
    ) -> Option<Duration> {
        let attempts = if request.is_mirror {
            MIRROR_ATTEMPTS.min(self.retry.attempts)
        } else {
            self.retry.attempts
        };
        RetryPolicy { attempts, ..self.retry }.delay(error, failures)
    }

    pub(super) const fn tls_verify(&self) -> Option<bool> {
        self.tls_verify
    }

    /// Tells of a failure and waits.
    pub(super) async fn pause(&self, subject: &str, error: &Error, delay: Duration) {
        let reason = crate::error_chain(error);
        self.observer().observe(&Event::Retrying { subject, reason: &reason, delay });
        tokio::time::sleep(delay).await;
    }

    /// A whole body of at most `limit` bytes.
    pub(super) async fn fetch(&self, request: &Request<'_>, limit: u64) -> Result<Body, Error> {
        self.with_retries(request, async |request| {
            let response = self.exchange(request).await?;
            let content_type = http::text_header(response.headers(), &header::CONTENT_TYPE);
            let is_encoded = encoding::is_gzip(response.headers());
            let links = response.headers().get_all(header::LINK).iter();
            let links = links.filter_map(|link| Some(link.to_str().ok()?.to_owned())).collect();
            let bytes = http::read_body(request.subject, response, limit).await?;
            Ok(Body { bytes, content_type, links, is_encoded })
        })
        .await
    }

    /// Sends a request once, answers a challenge once, and returns a success.
    pub(super) async fn exchange(&self, request: &Request<'_>) -> Result<Response, Error> {
        if let Some(url) = request.elsewhere {
            return self.exchange_elsewhere(request, url).await;
        }
        let mut authorization = self.tokens.get(request.repository).await;
        let mut response = self.ask(request, authorization.as_ref()).await?;
        let registry = url_of(request, self.scheme(request.repository.host()))?;
        // Only the registry itself is answered, not who it redirected to.
        if response.status() == StatusCode::UNAUTHORIZED
            && origin::same_origin(response.url(), &registry)
        {
            let challenges = challenges(response.headers());
            authorization = self
                .tokens
                .answer(self, request, &registry, challenges, authorization.as_ref())
                .await?
                .or(authorization);
            if authorization.is_some() {
                response = self.ask(request, authorization.as_ref()).await?;
            }
        }
        let user = authorization.as_ref().and_then(Authorization::user);
        self.http.check_status(&request.asked(&registry, user), response).await
    }

    /// Sends a request to somebody who is no registry.
    async fn exchange_elsewhere(
        &self,
        request: &Request<'_>,
        url: &Url,
    ) -> Result<Response, Error> {
        let outgoing = Outgoing {
            method: request.method.clone(),
            headers: headers_of(request),
            lane: request.lane,
            ..Outgoing::get(request.subject, url.clone())
        };
        let response = self.http.follow(outgoing).await?;
        let host = http::host_of(url);
        let asked = Asked { subject: request.subject, url, registry: &host, user: None };
        self.http.check_status(&asked, response).await
    }

    /// The challenges of the API's root: some registries send none with the
    /// refusal itself, and some send them with a success.
    pub(super) async fn ping(
        &self,
        request: &Request<'_>,
        registry: &Url,
    ) -> Result<Vec<Challenge>, Error> {
        let mut url = registry.clone();
        url.set_path("/v2/");
        let outgoing = Outgoing { lane: request.lane, ..Outgoing::get(request.subject, url) };
        let response = self.http.follow(outgoing).await?;
        if !origin::same_origin(response.url(), registry) {
            return Ok(Vec::new());
        }
        let found = challenges(response.headers());
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            self.http.check_status(&request.asked(registry, None), response).await?;
        }
        Ok(found)
    }

    /// The head of an answer, whose body is not read.
    pub(super) async fn head(&self, request: &Request<'_>) -> Result<Response, Error> {
        self.with_retries(request, async |request| self.exchange(request).await).await
    }

    /// Sends a request by the scheme that the registry speaks, and finds out
    /// which that is.
    async fn ask(
        &self,
        request: &Request<'_>,
        authorization: Option<&Authorization>,
    ) -> Result<Response, Error> {
        let host = request.repository.host();
        let (scheme, other) = self.schemes(request)?;
        let result = self.ask_by(scheme, request, authorization).await;
        // A server of HTTPS answers 400 to plain HTTP, or just hangs up.
        let may_speak_other = match &result {
            Ok(response) => scheme == "http" && response.status() == StatusCode::BAD_REQUEST,
            Err(Error::Unreachable { source, .. }) => source.may_be_wrong_scheme(scheme),
            Err(_) => false,
        };
        let Some(other) = other.filter(|_| may_speak_other) else {
            let had_tls = matches!(&result,
                Err(Error::Unreachable { source, .. }) if source.had_tls());
            if result.is_ok() || had_tls && scheme == "https" {
                self.remember(host, scheme);
            }
            return result;
        };
        let was_not_tls = |error: &Error| matches!(error, Error::Unreachable { source, .. } if source.is_not_tls());
        match self.ask_by(other, request, authorization).await {
            Ok(response) => {
                self.remember(host, other);
                Ok(response)
            }
            // An answer that is no TLS is one in plain HTTP: what failed there counts.
            Err(error) if result.as_ref().is_err_and(was_not_tls) => {
                self.remember(host, "http");
                Err(error)
            }
            Err(error) if was_not_tls(&error) => {
                self.remember(host, "http");
                result
            }
            // Nothing there speaks the other scheme either.
            Err(Error::Unreachable { source, .. }) if !source.speaks_tls() => result,
            Err(error) => Err(error),
        }
    }

    async fn ask_by(
        &self,
        scheme: &str,
        request: &Request<'_>,
        authorization: Option<&Authorization>,
    ) -> Result<Response, Error> {
        let headers = headers_of(request);
        let url = url_of(request, scheme)?;
        self.http
            .follow(Outgoing {
                subject: request.subject,
                method: request.method.clone(),
                url,
                headers,
                form: None,
                authorization,
                lane: request.lane,
            })
            .await
    }

    /// Notes which scheme a registry speaks.
    pub(super) fn remember(&self, host: &str, scheme: &'static str) {
        let mut schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
        schemes.insert(host.to_owned(), scheme);
    }

    /// The scheme to use, and another to try where nothing speaks the first.
    /// Plain HTTP is for loopback, and for whoever turned verification off.
    fn schemes(
        &self,
        request: &Request<'_>,
    ) -> Result<(&'static str, Option<&'static str>), Error> {
        let host = request.repository.host();
        let found = {
            let schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
            schemes.get(host).copied()
        };
        Ok(match (found, self.tls_verify) {
            (Some(scheme), _) => (scheme, None),
            _ if !self.http.clients().is_verified(host) => ("https", Some("http")),
            // No credential is in the first request, so nothing leaks by
            // asking without TLS, and a local registry mostly has none.
            (None, None) if origin::is_loopback(&url_of(request, "https")?) => {
                ("http", Some("https"))
            }
            (None, _) => ("https", None),
        })
    }

    fn scheme(&self, host: &str) -> &'static str {
        let schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
        schemes.get(host).copied().unwrap_or("https")
    }
}

/// What a request says beside its URL.
fn headers_of(request: &Request<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if request.path.starts_with("manifests/") {
        let accept = ACCEPTED_MANIFESTS.join(", ");
        headers.extend(HeaderValue::try_from(accept).map(|value| (header::ACCEPT, value)));
    }
    if let Some((first, last)) = request.range {
        let last = last.map(|last| last.to_string()).unwrap_or_default();
        let range = HeaderValue::try_from(format!("bytes={first}-{last}"));
        headers.extend(range.map(|value| (header::RANGE, value)));
    }
    headers
}

/// The URL of what is asked for.
fn url_of(request: &Request<'_>, scheme: &str) -> Result<Url, Error> {
    let host = request.repository.host();
    let (dial, path) = (origin::dial_host(host), request.repository.path());
    format!("{scheme}://{dial}/v2/{path}/{}", request.path).parse().map_err(|source| Error::Url {
        subject: request.subject.to_owned(),
        host: host.to_owned(),
        source,
    })
}

fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let lines = headers.get_all(header::WWW_AUTHENTICATE);
    Challenge::parse_all(lines.iter().filter_map(|line| line.to_str().ok()))
}
