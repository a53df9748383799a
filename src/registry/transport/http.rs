//! HTTP for registries: one client per kind of server, redirects that drop credentials on
//! the way, and bodies with a size limit.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use url::Url;

use super::body::Body;
use super::cause::Cause;
use super::clients::{Clients, Lane};
use super::origin::{self, SafeUrl, host_of};
use super::retry;
use crate::environment::Environment;
use crate::observer::{Event, Observer};
use crate::registry::credentials::authorization::{Authorization, User};
use crate::registry::error::{Denial, Error, Task};
use crate::registry::secrets::Secrets;
use crate::text;

const REDIRECT_LIMIT: usize = 10;
/// How long a server may take to start its final response, even if it sends something
/// before that.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a small body may take in all. Silence fails earlier, after the read timeout.
const BODY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long the body of an error may take.
const ERROR_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that asks for a wait of at most this long allows requests again afterwards,
/// so its pull limit is not used up.
const SHORT_WAIT: Duration = Duration::from_secs(60);
/// How many characters of a server's message are shown.
const LONGEST: usize = 200;
/// How many different warnings are reported.
const WARNING_LIMIT: usize = 20;
/// How many bytes of an error's body are read.
const ERROR_LIMIT: u64 = 64 << 10;

/// A request to any server, not just a registry.
pub(in crate::registry) struct Outgoing<'a> {
    /// What is being fetched, as shown to users: "manifest `docker.io/library/alpine:3.19`".
    pub(in crate::registry) subject: &'a str,
    pub(in crate::registry) url: Url,
    pub(in crate::registry) headers: HeaderMap,
    pub(in crate::registry) method: Method,
    pub(in crate::registry) body: Body<'a>,
    pub(in crate::registry) authorization: Option<&'a Authorization>,
    pub(in crate::registry) lane: Lane,
    /// Whether a redirect may lead to this machine or its private network.
    pub(in crate::registry) may_be_local: bool,
}

impl<'a> Outgoing<'a> {
    pub(in crate::registry) fn get(subject: &'a str, url: Url) -> Self {
        let (headers, method) = (HeaderMap::new(), Method::GET);
        let (body, authorization, lane) = (Body::Empty, None, Lane::Shared);
        Self { subject, url, headers, method, body, authorization, lane, may_be_local: true }
    }
}

/// The header that holds a manifest's digest (distribution-spec, "Pulling manifests").
pub(in crate::registry) static CONTENT_DIGEST: HeaderName =
    HeaderName::from_static("docker-content-digest");

/// Sends requests, follows redirects, and keeps connections.
pub(in crate::registry) struct Http {
    clients: Clients,
    /// The warnings from servers that were reported, so that each is reported once.
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

    pub(in crate::registry) fn shared_observer(&self) -> Arc<dyn Observer> {
        self.observer.clone()
    }

    pub(in crate::registry) fn observer(&self) -> &dyn Observer {
        &*self.observer
    }

    /// Sends a request and follows redirects. The credential is dropped at the first
    /// redirect to another origin, and is not sent again afterwards.
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
            let keeps_request = matches!(status, 307 | 308);
            if matches!(outgoing.body, Body::Form(_)) {
                // A form may hold a token, which is for this server alone.
                if !keeps_request || !origin::same_origin(&outgoing.url, &next) {
                    (outgoing.body, outgoing.method) = (Body::Empty, Method::GET);
                }
            } else if !keeps_request && !matches!(outgoing.method, Method::GET | Method::HEAD) {
                // The next server would only be asked for a page.
                return Err(redirect_error(&outgoing, "without keeping what was sent"));
            }
            outgoing.url = next;
        }
        Err(redirect_error(&outgoing, "too many times"))
    }

    fn next_step(&self, outgoing: &Outgoing<'_>, response: &Response) -> Result<Url, Error> {
        let location = text_header(response.headers(), &header::LOCATION);
        let next = location
            .and_then(|location| outgoing.url.join(&location).ok())
            .ok_or_else(|| redirect_error(outgoing, "without a valid target"))?;
        if origin::is_local(&next) && !outgoing.may_be_local {
            return Err(redirect_error(outgoing, "to a private address"));
        }
        match (outgoing.url.scheme(), next.scheme()) {
            ("https", "http") if self.clients.is_verified(&host_of(&outgoing.url)) => {
                Err(redirect_error(outgoing, "from https to http"))
            }
            (_, "http" | "https") => Ok(next),
            _ => Err(redirect_error(outgoing, "to a URL that is not HTTP")),
        }
    }

    async fn send(&self, outgoing: &Outgoing<'_>) -> Result<Response, Error> {
        let url = &outgoing.url;
        let mut headers = outgoing.headers.clone();
        // Layers are already compressed, and hashed in that form.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(authorization) = outgoing.authorization {
            headers.insert(header::AUTHORIZATION, authorization.header());
        }
        outgoing.body.describe(&outgoing.method, &mut headers);
        let unreadable = |source| Error::Content { subject: outgoing.subject.to_owned(), source };
        let method = &outgoing.method;
        let mut request =
            self.clients.get(url, outgoing.lane)?.request(method.clone(), url.clone());
        let mut progress = None;
        if let Some((body, upload)) = outgoing.body.open().map_err(unreadable)? {
            (request, progress) = (request.body(body), upload);
        }
        let started = Instant::now();
        let sending = request.headers(headers).send();
        let sent = match &progress {
            // However long it takes, as long as bytes are taken.
            Some(progress) => tokio::select! {
                sent = sending => Some(sent.map(|mut response| {
                    // Nobody needs the rest of an upload that is answered already.
                    response.extensions_mut().insert(progress.stop_when_dropped());
                    response
                })),
                () = progress.stalled() => None,
            },
            None => tokio::time::timeout(HEAD_TIMEOUT, sending).await.ok(),
        };
        if let Some(source) = progress.and_then(|progress| progress.failure()) {
            return Err(unreadable(source));
        }
        let Some(sent) = sent else {
            let (subject, host) = (outgoing.subject.to_owned(), host_of(url));
            // What was pushed too slowly may be there already, and is tried again.
            let pushes = matches!(*method, Method::PUT | Method::PATCH);
            let task = if pushes { Task::Push } else { Task::Fetch };
            return Err(Error::TooSlow { task, subject, host });
        };
        let response = sent
            .map_err(|source| {
                not_reached(self.clients.environment(), outgoing.subject, url, source)
            })
            .inspect_err(|error| {
                // If one side closes the connection, the error may not show that HTTP/2 was
                // the reason.
                let shared = outgoing.lane == Lane::Shared && url.scheme() == "https";
                if matches!(error, Error::Unreachable { source, .. }
                    if source.is_http2() || shared && source.has_broken_off())
                {
                    self.clients.avoid_http2(host_of(url));
                }
            })?;
        self.tell(method, url, &response, started.elapsed());
        Ok(response)
    }

    fn tell(&self, method: &Method, url: &Url, response: &Response, elapsed: Duration) {
        self.observer.observe(&Event::Answered {
            method: method.as_str(),
            // The target of a redirect may contain anything.
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

    /// Reports a registry's warnings (distribution-spec, warnings). They are only for the
    /// user; n2c doesn't act on them.
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

    /// Returns the response if it is a success, otherwise its error.
    pub(in crate::registry) async fn check_status(
        &self,
        context: &RequestContext<'_>,
        response: Response,
    ) -> Result<Response, Error> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let (subject, host) = (context.subject.to_owned(), host_of(response.url()));
        let redirected = !origin::same_origin(response.url(), context.url);
        let headers = response.headers();
        let retry_after = retry::retry_after(headers, SystemTime::now());
        let nothing_left = text_header(headers, &HeaderName::from_static("ratelimit-remaining"))
            .is_some_and(|remaining| remaining.split(';').next() == Some("0"));
        // With a 416, distribution announces more bytes than it sends.
        let body = if status == StatusCode::RANGE_NOT_SATISFIABLE {
            Vec::new()
        } else {
            let body = read_body(context.subject, response, ERROR_LIMIT);
            let body = tokio::time::timeout(ERROR_TIMEOUT, body).await;
            body.ok().and_then(Result::ok).unwrap_or_default()
        };
        let message = error_message(&body).and_then(|message| self.quotable(&message));
        if matches!(status.as_u16(), 401 | 403) && !redirected {
            let (user, registry) =
                (context.user.map(ToString::to_string), context.registry.to_owned());
            return Err(Error::Denied(Denial {
                task: Task::Fetch,
                subject,
                host,
                registry,
                status,
                message,
                user,
            }));
        }
        // If a short wait is enough, the pull limit is not used up, whatever the message says.
        let may_wait = retry_after.is_some_and(|wait| wait <= SHORT_WAIT);
        let told_of_limit = message.as_ref().is_some_and(|text| text.contains("pull rate limit"));
        Err(Error::Status {
            task: Task::Fetch,
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

    /// Makes a server's message safe to show: at most 200 characters, with control
    /// characters escaped. Returns `None` if it repeats a secret: a server may say
    /// anything, including what it was just sent.
    fn quotable(&self, text: &str) -> Option<String> {
        let is_secret = self.secrets().are_in(text);
        (!is_secret).then(|| text::one_line(text.trim_end_matches('.'), LONGEST))
    }
}

/// What was requested, where, and by whom, for error messages.
pub(in crate::registry) struct RequestContext<'a> {
    pub(in crate::registry) subject: &'a str,
    /// The URL of the first request. A response from another origin comes from the target
    /// of a redirect.
    pub(in crate::registry) url: &'a Url,
    /// The name of the registry that the user logs in to.
    pub(in crate::registry) registry: &'a str,
    /// The user whose credential was sent.
    pub(in crate::registry) user: Option<&'a User>,
}

fn redirect_error(outgoing: &Outgoing<'_>, reason: &'static str) -> Error {
    let (subject, host) = (outgoing.subject.to_owned(), host_of(&outgoing.url));
    Error::Redirect { task: Task::Fetch, subject, host, reason }
}

/// Creates the error for a server, or the proxy in front of it, that could not be reached.
fn not_reached(
    environment: &Environment,
    subject: &str,
    url: &Url,
    source: reqwest::Error,
) -> Error {
    let mut error = unreachable(subject, url, source);
    if let Error::Unreachable { proxy, source, .. } = &mut error
        && source.is_connect()
        && !origin::is_loopback(url)
    {
        *proxy = super::proxy::of_url(environment, url);
    }
    error
}

pub(in crate::registry) fn unreachable(subject: &str, url: &Url, source: reqwest::Error) -> Error {
    Error::Unreachable {
        task: Task::Fetch,
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

/// Reads a whole body of at most `limit` bytes.
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
            return Err(Error::TooSlow {
                task: Task::Fetch,
                subject: subject.to_owned(),
                host: host_of(&url),
            });
        }
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Returns the first error in a registry's response (distribution-spec, error codes), or
/// `None` if the body is something else.
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
    // Long enough to find secrets in, and more than is ever shown.
    Some(text.chars().take(4096).collect())
}
