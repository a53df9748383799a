//! Requests to registries, up to the head of a successful response: choosing the scheme,
//! answering challenges, and retrying.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header;
use reqwest::{Method, Response, StatusCode};
use url::Url;

use super::auth::challenge::Challenge;
use super::auth::token::{Services, TokenCache};
use super::credentials::CredentialStore;
use super::credentials::authorization::Authorization;
use super::error::Error;
use super::request::{Request, Resource};
use super::transport::cause::Cause;
use super::transport::clients::Lane;
use super::transport::encoding;
use super::transport::http::{self, Http, Outgoing, RequestContext};
use super::transport::origin;
use super::transport::retry::RetryPolicy;
use crate::observer::{Event, Observer};

/// How many times a request to a mirror is attempted.
const MIRROR_ATTEMPTS: u32 = 2;

/// A complete response.
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    pub(super) content_type: Option<String>,
    /// The `Link` headers, which say where a list continues.
    pub(super) links: Vec<String>,
    /// Whether the response says that the bytes are compressed for transfer.
    pub(super) is_encoded: bool,
}

/// Talks to registries. Keeps tokens and what it has learned about each registry.
pub(super) struct Connection {
    pub(super) http: Http,
    pub(super) credentials: CredentialStore,
    retry: RetryPolicy,
    tls_verify: Option<bool>,
    tokens: TokenCache,
    /// The scheme of each registry, as detected or configured.
    schemes: Mutex<HashMap<String, &'static str>>,
    /// Registries that closed a TLS connection but answer over plain HTTP. No credentials
    /// are sent to them.
    doubtful: Mutex<HashSet<String>>,
}

impl Connection {
    pub(super) fn new(
        http: Http,
        credentials: CredentialStore,
        retry: RetryPolicy,
        tls_verify: Option<bool>,
    ) -> Self {
        let (tokens, schemes, doubtful) =
            (TokenCache::default(), Mutex::default(), Mutex::default());
        Self { http, credentials, retry, tls_verify, tokens, schemes, doubtful }
    }

    pub(super) fn observer(&self) -> &dyn Observer {
        self.http.observer()
    }

    /// Waits before `request` is sent again after `error`, its failure number `attempt`,
    /// and gives it a connection of its own. Returns the error if retrying would not
    /// help.
    async fn again(
        &self,
        request: &mut Request<'_>,
        error: Error,
        attempt: u32,
    ) -> Result<(), Error> {
        let Some(delay) = self.retry_delay(request, &error, attempt) else {
            return Err(error.after(attempt));
        };
        self.pause(request.subject, &error, delay).await;
        // Some servers and proxies offer HTTP/2 but can't handle it.
        request.lane = Lane::Own;
        Ok(())
    }

    /// Returns how long to wait before retrying after `error`, failure number `failures`,
    /// or `None` if retrying would not help.
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

    /// Reports a failure and waits.
    pub(super) async fn pause(&self, subject: &str, error: &Error, delay: Duration) {
        let reason = crate::error_chain(error);
        self.observer().observe(&Event::Retrying { subject, reason: &reason, delay });
        tokio::time::sleep(delay).await;
    }

    /// Fetches a whole body of at most `limit` bytes.
    pub(super) async fn fetch(&self, request: &Request<'_>, limit: u64) -> Result<Body, Error> {
        let (mut request, mut attempt) = (request.clone(), 1);
        loop {
            match self.fetch_once(&request, limit).await {
                Ok(body) => return Ok(body),
                Err(error) => self.again(&mut request, error, attempt).await?,
            }
            attempt += 1;
        }
    }

    async fn fetch_once(&self, request: &Request<'_>, limit: u64) -> Result<Body, Error> {
        let response = self.exchange(request).await?;
        let content_type = http::text_header(response.headers(), &header::CONTENT_TYPE);
        let is_encoded = encoding::is_gzip(response.headers());
        let links = response.headers().get_all(header::LINK).iter();
        let links = links.filter_map(|link| Some(link.to_str().ok()?.to_owned())).collect();
        let bytes = http::read_body(request.subject, response, limit).await?;
        Ok(Body { bytes, content_type, links, is_encoded })
    }

    /// Sends a request once, answers a challenge at most once, and returns the response
    /// if it is a success.
    pub(super) async fn exchange(&self, request: &Request<'_>) -> Result<Response, Error> {
        if let Some(url) = request.elsewhere {
            return self.exchange_elsewhere(request, url).await;
        }
        let mut authorization = self.tokens.get(request.scope).await;
        let mut response = self.ask(request, authorization.as_ref()).await?;
        let registry = request.root(self.scheme(request.repository().host()))?;
        // Only answer a challenge from the registry itself, not from the target of a redirect.
        if response.status() == StatusCode::UNAUTHORIZED
            && !self.is_doubtful(request.repository().host())
            && origin::same_origin(response.url(), &registry)
        {
            let services = Services { http: &self.http, credentials: &self.credentials };
            let challenges = Challenge::of(response.headers());
            authorization = self
                .tokens
                .answer(services, request, &registry, challenges, authorization.as_ref())
                .await?
                .or(authorization);
            if authorization.is_some() {
                // With it goes the rest of what was being sent.
                drop(response);
                response = self.ask(request, authorization.as_ref()).await?;
            }
        }
        let user = authorization.as_ref().and_then(Authorization::user);
        self.http.check_status(&request.context(&registry, user), response).await
    }

    /// Sends a request to a server that is not a registry.
    async fn exchange_elsewhere(
        &self,
        request: &Request<'_>,
        url: &Url,
    ) -> Result<Response, Error> {
        // Such a server must not redirect the request into this machine's network, unless
        // the registry is there too.
        let may_be_local = origin::is_local(&request.root("https")?);
        let outgoing = Outgoing {
            method: request.method.clone(),
            headers: request.headers(),
            body: request.body,
            lane: request.lane,
            may_be_local,
            ..Outgoing::get(request.subject, url.clone())
        };
        let response = self.http.follow(outgoing).await?;
        let host = origin::host_of(url);
        // Of an upload, the registry sent it here: a refusal is that of a redirect's target,
        // and another session may lead elsewhere.
        let root = request.root("https")?;
        let url = if matches!(request.resource, Resource::Session(_)) { &root } else { url };
        let context = RequestContext { subject: request.subject, url, registry: &host, user: None };
        self.http.check_status(&context, response).await
    }

    /// Sends a request, again if that may help, and returns the response without its body.
    pub(super) async fn head(&self, request: &Request<'_>) -> Result<Response, Error> {
        let (mut request, mut attempt) = (request.clone(), 1);
        loop {
            match self.exchange(&request).await {
                Ok(response) => return Ok(response),
                Err(error) => self.again(&mut request, error, attempt).await?,
            }
            attempt += 1;
        }
    }

    /// Sends a request over the scheme that the registry speaks, detecting the scheme if
    /// it is not known yet.
    async fn ask(
        &self,
        request: &Request<'_>,
        authorization: Option<&Authorization>,
    ) -> Result<Response, Error> {
        let host = request.repository().host();
        let (scheme, other) = self.schemes(request)?;
        let result = self.ask_by(scheme, request, authorization).await;
        let failed_by =
            |is: fn(&Cause) -> bool| result.as_ref().err().and_then(Error::cause).is_some_and(is);
        // An HTTPS server answers plain HTTP with 400, or just closes the connection.
        let may_speak_other = match &result {
            Ok(response) => scheme == "http" && response.status() == StatusCode::BAD_REQUEST,
            Err(error) => error.cause().is_some_and(|cause| cause.may_be_wrong_scheme(scheme)),
        };
        let Some(other) = other.filter(|_| may_speak_other) else {
            if result.is_ok() || scheme == "https" && failed_by(Cause::had_tls) {
                self.remember(host, scheme);
            }
            return result;
        };
        match self.ask_by(other, request, authorization).await {
            Ok(response) => {
                if scheme == "https" && !failed_by(Cause::asks_for_plain) {
                    self.doubt(host);
                }
                self.remember(host, other);
                Ok(response)
            }
            // A server that answers TLS with something else speaks plain HTTP, so the failure
            // over HTTP is the one to report.
            Err(error) if failed_by(Cause::is_not_tls) => {
                self.remember(host, "http");
                Err(error)
            }
            Err(error) if error.cause().is_some_and(Cause::is_not_tls) => {
                self.remember(host, "http");
                result
            }
            // The server doesn't speak the other scheme either.
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
        let headers = request.headers();
        let url = request.url(scheme)?;
        self.http
            .follow(Outgoing {
                subject: request.subject,
                method: request.method.clone(),
                url,
                headers,
                body: request.body,
                authorization,
                lane: request.lane,
                // What is sent somewhere changes something there.
                may_be_local: matches!(request.method, Method::GET | Method::HEAD)
                    || origin::is_local(&request.root(scheme)?),
            })
            .await
    }

    fn doubt(&self, host: &str) {
        let mut doubtful = self.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        if doubtful.insert(host.to_owned()) {
            let text = format!(
                "`{host}` rejects TLS but answers over plain HTTP: no credentials are sent to it"
            );
            self.observer().observe(&Event::Warning(&text));
        }
    }

    fn is_doubtful(&self, host: &str) -> bool {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner).contains(host)
    }

    /// Remembers which scheme a registry speaks.
    pub(super) fn remember(&self, host: &str, scheme: &'static str) {
        let mut schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
        schemes.insert(host.to_owned(), scheme);
    }

    /// Returns the scheme to use, and another one to try if the server doesn't speak the
    /// first. Plain HTTP is only used on loopback, or if certificate verification is
    /// turned off.
    fn schemes(
        &self,
        request: &Request<'_>,
    ) -> Result<(&'static str, Option<&'static str>), Error> {
        let host = request.repository().host();
        let found = {
            let schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
            schemes.get(host).copied()
        };
        Ok(match (found, self.tls_verify) {
            (Some(scheme), _) => (scheme, None),
            _ if !self.http.clients().is_verified(host) => ("https", Some("http")),
            // The first request carries no credential, so starting without TLS leaks nothing,
            // and most local registries have no TLS.
            (None, None) if origin::is_loopback(&request.root("https")?) => ("http", Some("https")),
            (None, _) => ("https", None),
        })
    }

    pub(super) fn scheme(&self, host: &str) -> &'static str {
        let schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
        schemes.get(host).copied().unwrap_or("https")
    }
}
