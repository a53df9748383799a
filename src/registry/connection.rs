//! One request to a registry, from its URL to the head of a usable answer:
//! scheme, redirects, authorization, and tries.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

use super::challenge::Challenge;
use super::error::{Cause, Error};
use super::origin::{self, SafeUrl};
use super::retry;
use super::token::{Authorization, TokenCache};
use super::{ClientOptions, tls};
use crate::media_type::ACCEPTED_MANIFESTS;
use crate::observer::{Event, Observer};
use crate::reference::Repository;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may be silent, in the middle of a body too.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const REDIRECT_LIMIT: usize = 10;
/// How much of an error's body is read, in bytes.
const ERROR_LIMIT: u64 = 64 << 10;

/// What is asked of a registry.
pub(super) struct Request<'a> {
    pub(super) repository: &'a Repository,
    /// The path below the repository's URL: `manifests/latest`.
    pub(super) path: String,
    /// What it is, for people: "manifest `docker.io/library/alpine:3.19`".
    pub(super) subject: String,
    /// Bytes to ask for, first and last, where not all are.
    pub(super) range: Option<(u64, Option<u64>)>,
}

/// Sends requests; keeps connections and tokens.
pub(super) struct Connection {
    options: ClientOptions,
    plain: reqwest::Client,
    encrypted: OnceLock<reqwest::Client>,
    tokens: TokenCache,
    /// The scheme that each registry was found to speak.
    schemes: Mutex<HashMap<String, &'static str>>,
    observer: Arc<dyn Observer>,
}

impl Connection {
    pub(super) fn new(options: ClientOptions, observer: Arc<dyn Observer>) -> Result<Self, Error> {
        Ok(Self {
            options,
            plain: build(tls::unused()?)?,
            encrypted: OnceLock::new(),
            tokens: TokenCache::default(),
            schemes: Mutex::default(),
            observer,
        })
    }

    pub(super) fn observer(&self) -> &dyn Observer {
        &*self.observer
    }

    /// Runs `operation` until it succeeds or trying again is no use.
    pub(super) async fn with_retries<T>(
        &self,
        subject: &str,
        operation: impl AsyncFn() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut attempt = 1;
        loop {
            let error = match operation().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let Some(delay) = self.retry_delay(&error, attempt) else {
                return Err(error.after(attempt));
            };
            self.pause(subject, &error, delay).await;
            attempt += 1;
        }
    }

    /// How long to wait before going on after `error`, failure number
    /// `failures`; `None` where that is no use.
    pub(super) fn retry_delay(&self, error: &Error, failures: u32) -> Option<Duration> {
        self.options.retry.delay(error, failures)
    }

    /// Tells of a failure and waits.
    pub(super) async fn pause(&self, subject: &str, error: &Error, delay: Duration) {
        let reason = crate::error_chain(error);
        self.observer.observe(&Event::Retrying { subject, reason: &reason, delay });
        tokio::time::sleep(delay).await;
    }

    /// A whole body of at most `limit` bytes, and its Content-Type.
    pub(super) async fn fetch(
        &self,
        request: &Request<'_>,
        limit: u64,
    ) -> Result<(Vec<u8>, Option<String>), Error> {
        self.with_retries(&request.subject, async || {
            let response = self.exchange(request).await?;
            let content_type = text_header(response.headers(), &header::CONTENT_TYPE);
            let bytes = read_body(&request.subject, response, limit).await?;
            Ok((bytes, content_type))
        })
        .await
    }

    /// The body of a token service's answer. It is asked without tries of its
    /// own: the request that needs the token has them.
    pub(super) async fn fetch_token(
        &self,
        request: &Request<'_>,
        url: &Url,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        let subject = format!("a token for {}", request.subject);
        let response = self.follow(&subject, url.clone(), HeaderMap::new(), None).await?;
        let response = self.check_status(&subject, response).await?;
        read_body(&subject, response, limit).await
    }

    /// Sends a request once, answers a challenge once, and returns a success.
    pub(super) async fn exchange(&self, request: &Request<'_>) -> Result<reqwest::Response, Error> {
        let mut authorization = self.tokens.get(request.repository).await;
        let mut response = self.ask(request, authorization.as_ref()).await?;
        let registry = url_of(request, self.scheme(request.repository.host()))?;
        // Only the registry itself is answered, not who it redirected to.
        if response.status() == StatusCode::UNAUTHORIZED
            && origin::same_origin(response.url(), &registry)
        {
            let challenges = challenges(response.headers());
            authorization = Some(
                self.tokens
                    .answer(self, request, &registry, &challenges, authorization.as_ref())
                    .await?,
            );
            response = self.ask(request, authorization.as_ref()).await?;
        }
        self.check_status(&request.subject, response).await
    }

    /// Sends a request by the scheme that the registry speaks, and finds out
    /// which that is.
    async fn ask(
        &self,
        request: &Request<'_>,
        authorization: Option<&Authorization>,
    ) -> Result<reqwest::Response, Error> {
        let host = request.repository.host();
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
        let (scheme, other) = self.schemes(request)?;
        let url = url_of(request, scheme)?;
        let result = self.follow(&request.subject, url, headers.clone(), authorization).await;
        // A server of HTTPS answers 400 to plain HTTP, or just hangs up.
        let may_speak_other = match &result {
            Ok(response) => scheme == "http" && response.status() == StatusCode::BAD_REQUEST,
            Err(Error::Unreachable { source, .. }) => source.may_be_wrong_scheme(),
            Err(_) => false,
        };
        let Some(other) = other.filter(|_| may_speak_other) else {
            if result.is_ok() {
                self.remember(host, scheme);
            }
            return result;
        };
        let url = url_of(request, other)?;
        match self.follow(&request.subject, url, headers, authorization).await {
            Ok(response) => {
                self.remember(host, other);
                Ok(response)
            }
            Err(_) => result,
        }
    }

    fn remember(&self, host: &str, scheme: &'static str) {
        let mut schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
        schemes.insert(host.to_owned(), scheme);
    }

    /// The scheme to use, and another to try where nothing speaks the first.
    /// Plain HTTP is for loopback, and for whoever turned verification off.
    fn schemes(
        &self,
        request: &Request<'_>,
    ) -> Result<(&'static str, Option<&'static str>), Error> {
        let found = {
            let schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
            schemes.get(request.repository.host()).copied()
        };
        Ok(match (found, self.options.tls_verify) {
            (Some(scheme), _) => (scheme, None),
            (None, Some(false)) => ("https", Some("http")),
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

    /// Sends a request and follows redirects. A credential is dropped at the
    /// first step to another origin, and does not come back.
    async fn follow(
        &self,
        subject: &str,
        mut url: Url,
        headers: HeaderMap,
        mut authorization: Option<&Authorization>,
    ) -> Result<reqwest::Response, Error> {
        for _ in 0..=REDIRECT_LIMIT {
            let response = self.send(subject, &url, headers.clone(), authorization).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let bad = |reason| Error::Redirect {
                subject: subject.to_owned(),
                host: host_of(&url),
                reason,
            };
            let location =
                response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let next = location
                .and_then(|location| url.join(location).ok())
                .ok_or_else(|| bad("without saying where to"))?;
            match (url.scheme(), next.scheme()) {
                ("https", "http") if self.options.tls_verify != Some(false) => {
                    return Err(bad("from https to http"));
                }
                (_, "http" | "https") => {}
                _ => return Err(bad("to something that is not HTTP")),
            }
            if !origin::same_origin(&url, &next) {
                authorization = None;
            }
            url = next;
        }
        Err(Error::Redirect {
            subject: subject.to_owned(),
            host: host_of(&url),
            reason: "too many times",
        })
    }

    async fn send(
        &self,
        subject: &str,
        url: &Url,
        mut headers: HeaderMap,
        authorization: Option<&Authorization>,
    ) -> Result<reqwest::Response, Error> {
        // Layers are compressed already, and hashed as they are.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(authorization) = authorization {
            headers.insert(header::AUTHORIZATION, authorization.header());
        }
        let client = if url.scheme() == "https" { self.encrypted()? } else { &self.plain };
        let started = Instant::now();
        let response = client
            .request(Method::GET, url.clone())
            .headers(headers)
            .send()
            .await
            .map_err(|source| unreachable(subject, url, source))?;
        self.observer.observe(&Event::Answered {
            method: "GET",
            url: &SafeUrl(url).to_string(),
            status: response.status().as_u16(),
            elapsed: started.elapsed(),
        });
        Ok(response)
    }

    /// The client with TLS, made when it is first needed: reading the
    /// system's certificates takes longer than all else at the start.
    fn encrypted(&self) -> Result<&reqwest::Client, Error> {
        if let Some(client) = self.encrypted.get() {
            return Ok(client);
        }
        let config = match self.options.tls_verify {
            Some(false) => tls::insecure()?,
            _ => tls::verifying()?,
        };
        let client = build(config)?;
        Ok(self.encrypted.get_or_init(|| client))
    }

    async fn check_status(
        &self,
        subject: &str,
        response: reqwest::Response,
    ) -> Result<reqwest::Response, Error> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let host = host_of(response.url());
        let retry_after = retry::retry_after(response.headers(), SystemTime::now());
        // distribution announces more bytes than it sends with a 416.
        let body = if status == StatusCode::RANGE_NOT_SATISFIABLE {
            Vec::new()
        } else {
            read_body(subject, response, ERROR_LIMIT).await.unwrap_or_default()
        };
        Err(Error::Status {
            subject: subject.to_owned(),
            host,
            status,
            message: error_message(&body),
            retry_after,
            attempts: 1,
        })
    }
}

fn build(config: rustls::ClientConfig) -> Result<reqwest::Client, Error> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .user_agent(concat!("n2c/", env!("CARGO_PKG_VERSION")))
        // Redirects are followed here, where credentials are watched.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .build()
        .map_err(|error| Error::Setup(Cause::from(error)))
}

/// The URL of what is asked for.
fn url_of(request: &Request<'_>, scheme: &str) -> Result<Url, Error> {
    let host = request.repository.host();
    let (dial, path) = (origin::dial_host(host), request.repository.path());
    format!("{scheme}://{dial}/v2/{path}/{}", request.path).parse().map_err(|source| Error::Url {
        subject: request.subject.clone(),
        host: host.to_owned(),
        source,
    })
}

/// `host[:port]` of a URL.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

pub(super) fn unreachable(subject: &str, url: &Url, source: reqwest::Error) -> Error {
    Error::Unreachable {
        subject: subject.to_owned(),
        host: host_of(url),
        attempts: 1,
        source: Cause::from(source),
    }
}

fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let lines = headers.get_all(header::WWW_AUTHENTICATE);
    Challenge::parse_all(lines.iter().filter_map(|line| line.to_str().ok()))
}

pub(super) fn text_header(headers: &HeaderMap, name: &header::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// A whole body, if it has at most `limit` bytes.
async fn read_body(
    subject: &str,
    mut response: reqwest::Response,
    limit: u64,
) -> Result<Vec<u8>, Error> {
    let url = response.url().clone();
    let too_large = || Error::TooLarge { subject: subject.to_owned(), host: host_of(&url), limit };
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|source| unreachable(subject, &url, source))?
    {
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The first error in a registry's answer (distribution-spec, error codes), or
/// nothing where the body is something else. Made safe for a terminal.
fn error_message(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        errors: Vec<Diagnostic>,
    }
    #[derive(Deserialize)]
    struct Diagnostic {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    let first = body.errors.into_iter().next()?;
    let text = match (first.code.as_str(), first.message.as_str()) {
        ("", "") => return None,
        ("", text) | (text, "") => text.to_owned(),
        (code, message) => format!("{code}: {message}"),
    };
    Some(printable(&text))
}

/// At most 200 characters, none of which moves a cursor.
fn printable(text: &dyn Display) -> String {
    let text = text.to_string();
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
