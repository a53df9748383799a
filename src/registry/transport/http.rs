//! HTTP as registries need it: one client for each kind of server, redirects
//! that lose credentials on the way, bodies that have a largest size.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use url::Url;

use super::cause::Cause;
use super::clients::{Clients, Lane};
use super::origin::{self, SafeUrl, host_of};
use super::retry;
use crate::observer::{Event, Observer};
use crate::registry::credentials::authorization::{Authorization, User};
use crate::registry::error::{Denial, Error};
use crate::registry::secrets::Secrets;
use crate::text;

const REDIRECT_LIMIT: usize = 10;
/// How long a server may take until its answer begins, whatever it says before.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a small body may take; no byte for a while is a failure sooner.
const BODY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long the body of an error may take.
const ERROR_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that asks to wait no longer than that has something again then.
const SHORT_WAIT: Duration = Duration::from_secs(60);
/// How much is shown of what a server says, in characters.
const LONGEST: usize = 200;
/// How many different warnings are passed on.
const WARNING_LIMIT: usize = 20;
/// How much of an error's body is read, in bytes.
const ERROR_LIMIT: u64 = 64 << 10;

/// A request to any server.
pub(in crate::registry) struct Outgoing<'a> {
    /// What it is for, for people: "manifest `docker.io/library/alpine:3.19`".
    pub(in crate::registry) subject: &'a str,
    pub(in crate::registry) url: Url,
    pub(in crate::registry) headers: HeaderMap,
    /// GET or HEAD, where there is no form.
    pub(in crate::registry) method: Method,
    /// The body of a POST.
    pub(in crate::registry) form: Option<String>,
    pub(in crate::registry) authorization: Option<&'a Authorization>,
    pub(in crate::registry) lane: Lane,
    /// Whether a redirect may lead to an address of this machine or its network.
    pub(in crate::registry) may_be_local: bool,
}

impl<'a> Outgoing<'a> {
    pub(in crate::registry) fn get(subject: &'a str, url: Url) -> Self {
        let (headers, method) = (HeaderMap::new(), Method::GET);
        let (form, authorization, lane) = (None, None, Lane::Shared);
        Self { subject, url, headers, method, form, authorization, lane, may_be_local: true }
    }
}

/// What a manifest's digest is told in (distribution-spec, "Pulling manifests").
pub(in crate::registry) static CONTENT_DIGEST: HeaderName =
    HeaderName::from_static("docker-content-digest");

/// Sends requests, follows redirects, keeps connections.
pub(in crate::registry) struct Http {
    clients: Clients,
    /// What servers warned of, each once.
    warnings: Mutex<HashSet<String>>,
    observer: Arc<dyn Observer>,
}

impl Http {
    pub(in crate::registry) fn new(clients: Clients, observer: Arc<dyn Observer>) -> Self {
        Self { clients, warnings: Mutex::default(), observer }
    }

    pub(in crate::registry) const fn clients(&self) -> &Clients {
        &self.clients
    }

    pub(in crate::registry) fn secrets(&self) -> &Secrets {
        self.clients.secrets()
    }

    pub(in crate::registry) fn observer(&self) -> &dyn Observer {
        &*self.observer
    }

    /// Sends a request and follows redirects. A credential is dropped at the
    /// first step to another origin, and does not come back.
    pub(in crate::registry) async fn follow(
        &self,
        mut outgoing: Outgoing<'_>,
    ) -> Result<Response, Error> {
        for _ in 0..=REDIRECT_LIMIT {
            let response = self.send(&outgoing).await?;
            let status = response.status().as_u16();
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let next = self.next_step(&outgoing, &response)?;
            if !origin::same_origin(&outgoing.url, &next) {
                outgoing.authorization = None;
            }
            // A form is sent again only where the server asks for that, and
            // never to somebody else: it may hold a token.
            if !matches!(status, 307 | 308) || !origin::same_origin(&outgoing.url, &next) {
                outgoing.form = None;
            }
            outgoing.url = next;
        }
        Err(redirect_error(&outgoing, "too many times"))
    }

    fn next_step(&self, outgoing: &Outgoing<'_>, response: &Response) -> Result<Url, Error> {
        let location = text_header(response.headers(), &header::LOCATION);
        let next = location
            .and_then(|location| outgoing.url.join(&location).ok())
            .ok_or_else(|| redirect_error(outgoing, "without saying where to"))?;
        if origin::is_local(&next) && !outgoing.may_be_local {
            return Err(redirect_error(outgoing, "to a private address"));
        }
        match (outgoing.url.scheme(), next.scheme()) {
            ("https", "http") if self.clients.is_verified(&host_of(&outgoing.url)) => {
                Err(redirect_error(outgoing, "from https to http"))
            }
            (_, "http" | "https") => Ok(next),
            _ => Err(redirect_error(outgoing, "to something that is not HTTP")),
        }
    }

    async fn send(&self, outgoing: &Outgoing<'_>) -> Result<Response, Error> {
        let url = &outgoing.url;
        let mut headers = outgoing.headers.clone();
        // Layers are compressed already, and hashed as they are.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(authorization) = outgoing.authorization {
            headers.insert(header::AUTHORIZATION, authorization.header());
        }
        let method = if outgoing.form.is_some() { Method::POST } else { outgoing.method.clone() };
        let mut request =
            self.clients.get(url, outgoing.lane)?.request(method.clone(), url.clone());
        if let Some(form) = &outgoing.form {
            let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(header::CONTENT_TYPE, form_type);
            request = request.body(form.clone());
        }
        let started = Instant::now();
        let sending = tokio::time::timeout(HEAD_TIMEOUT, request.headers(headers).send());
        let Ok(sent) = sending.await else {
            let (subject, host) = (outgoing.subject.to_owned(), host_of(url));
            return Err(Error::TooSlow { subject, host });
        };
        let response = sent
            .map_err(|source| not_reached(outgoing.subject, url, source))
            .inspect_err(|error| {
                // Where one side hung up, the failure may not say that it was HTTP/2's.
                let shared = outgoing.lane == Lane::Shared && url.scheme() == "https";
                if matches!(error, Error::Unreachable { source, .. }
                    if source.is_http2() || shared && source.has_broken_off())
                {
                    self.clients.avoid_http2(host_of(url));
                }
            })?;
        self.tell(&method, url, &response, started.elapsed());
        Ok(response)
    }

    fn tell(&self, method: &Method, url: &Url, response: &Response, elapsed: Duration) {
        self.observer.observe(&Event::Answered {
            method: method.as_str(),
            // A redirect's target may be made of anything.
            url: &self.secrets().clean(&SafeUrl(url).to_string(), LONGEST),
            status: response.status().as_u16(),
            elapsed,
        });
        self.pass_on_warnings(url, response);
        let rate = |name| text_header(response.headers(), &HeaderName::from_static(name));
        if let Some(remaining) = rate("ratelimit-remaining") {
            let limit = rate("ratelimit-limit").unwrap_or_else(|| "unknown".to_owned());
            let host = host_of(url);
            let clean = |text: &str| self.secrets().clean(text, LONGEST);
            self.observer.observe(&Event::RateLimit {
                host: &clean(&host),
                limit: &clean(&limit),
                remaining: &clean(&remaining),
            });
        }
    }

    /// Tells what a registry warns of (distribution-spec, warnings), which is
    /// for people: nothing is done about it.
    fn pass_on_warnings(&self, url: &Url, response: &Response) {
        for value in response.headers().get_all(header::WARNING) {
            let text = value.to_str().ok().and_then(|text| text.strip_prefix("299 - \""));
            let Some(text) = text.and_then(|text| text.strip_suffix('"')) else { continue };
            let Some(text) = self.quotable(text) else { continue };
            let text = format!("`{}` says: {text}", host_of(url));
            let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
            if warnings.len() < WARNING_LIMIT && warnings.insert(text.clone()) {
                self.observer.observe(&Event::Warning(&text));
            }
        }
    }

    /// A success, or the error that the answer is.
    pub(in crate::registry) async fn check_status(
        &self,
        asked: &Asked<'_>,
        response: Response,
    ) -> Result<Response, Error> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let (subject, host) = (asked.subject.to_owned(), host_of(response.url()));
        let redirected = !origin::same_origin(response.url(), asked.url);
        let headers = response.headers();
        let retry_after = retry::retry_after(headers, SystemTime::now());
        let nothing_left = text_header(headers, &HeaderName::from_static("ratelimit-remaining"))
            .is_some_and(|remaining| remaining.split(';').next() == Some("0"));
        // distribution announces more bytes than it sends with a 416.
        let body = if status == StatusCode::RANGE_NOT_SATISFIABLE {
            Vec::new()
        } else {
            let body = read_body(asked.subject, response, ERROR_LIMIT);
            let body = tokio::time::timeout(ERROR_TIMEOUT, body).await;
            body.ok().and_then(Result::ok).unwrap_or_default()
        };
        let message = error_message(&body).and_then(|message| self.quotable(&message));
        if matches!(status.as_u16(), 401 | 403) && !redirected {
            let (user, registry) = (asked.user.map(ToString::to_string), asked.registry.to_owned());
            return Err(Error::Denied(Denial { subject, host, registry, status, message, user }));
        }
        // Where a minute helps, a pull is left then, whatever the words are.
        let may_wait = retry_after.is_some_and(|wait| wait <= SHORT_WAIT);
        let told_of_limit = message.as_ref().is_some_and(|text| text.contains("pull rate limit"));
        Err(Error::Status {
            subject,
            host,
            status,
            message,
            retry_after,
            limit_reached: status.as_u16() == 429 && (nothing_left || told_of_limit) && !may_wait,
            redirected,
            attempts: 1,
        })
    }

    /// What may be shown of a server's words: at most 200 characters, none of
    /// which moves a cursor, and nothing where they repeat a secret. A server
    /// may say anything, also what it was just told.
    fn quotable(&self, text: &str) -> Option<String> {
        let is_secret = self.secrets().are_in(text);
        (!is_secret).then(|| text::one_line(text.trim_end_matches('.'), LONGEST))
    }
}

/// Who was asked for what, and by whom.
pub(in crate::registry) struct Asked<'a> {
    pub(in crate::registry) subject: &'a str,
    /// Where the request went first. An answer of another origin is that of a
    /// redirect's target.
    pub(in crate::registry) url: &'a Url,
    /// The registry that it is about, as a user logs into it.
    pub(in crate::registry) registry: &'a str,
    /// Whose credential is behind it.
    pub(in crate::registry) user: Option<&'a User>,
}

fn redirect_error(outgoing: &Outgoing<'_>, reason: &'static str) -> Error {
    let (subject, host) = (outgoing.subject.to_owned(), host_of(&outgoing.url));
    Error::Redirect { subject, host, reason }
}

/// A failure to reach a server, or the proxy before it.
fn not_reached(subject: &str, url: &Url, source: reqwest::Error) -> Error {
    let mut error = unreachable(subject, url, source);
    if let Error::Unreachable { proxy, source, .. } = &mut error
        && source.is_connect()
        && !origin::is_loopback(url)
    {
        *proxy = super::proxy::of_url(url);
    }
    error
}

pub(in crate::registry) fn unreachable(subject: &str, url: &Url, source: reqwest::Error) -> Error {
    Error::Unreachable {
        subject: subject.to_owned(),
        host: host_of(url),
        proxy: None,
        attempts: 1,
        source: Cause::from(source),
    }
}

pub(in crate::registry) fn text_header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// A whole body, if it has at most `limit` bytes.
pub(in crate::registry) async fn read_body(
    subject: &str,
    mut response: Response,
    limit: u64,
) -> Result<Vec<u8>, Error> {
    let url = response.url().clone();
    let too_large = || Error::TooLarge { subject: subject.to_owned(), host: host_of(&url), limit };
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let deadline = Instant::now() + BODY_TIMEOUT;
    let mut body = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|source| unreachable(subject, &url, source))?
    {
        if Instant::now() > deadline {
            return Err(Error::TooSlow { subject: subject.to_owned(), host: host_of(&url) });
        }
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The first error in a registry's answer (distribution-spec, error codes), or
/// nothing where the body is something else.
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
    // Enough to find a secret in, and to be read.
    Some(text.chars().take(4096).collect())
}
