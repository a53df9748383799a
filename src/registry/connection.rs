//! Requests to registries, from what is asked for to the head of a usable
//! answer: scheme, challenges, and tries.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header;
use reqwest::{Response, StatusCode};
use url::Url;

use super::auth::challenge::Challenge;
use super::auth::token::{Services, TokenCache};
use super::credentials::CredentialStore;
use super::credentials::authorization::Authorization;
use super::error::Error;
use super::request::Request;
use super::transport::cause::Cause;
use super::transport::clients::Lane;
use super::transport::encoding;
use super::transport::http::{self, Asked, Http, Outgoing};
use super::transport::origin;
use super::transport::retry::RetryPolicy;
use crate::observer::{Event, Observer};

/// How often a mirror is tried.
const MIRROR_ATTEMPTS: u32 = 2;

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
    /// Registries that hung up on TLS, and answer in plain text: they are told nothing
    /// that is secret.
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

    /// Waits before a request is sent again after `error`, failure number `attempt`, and
    /// gives it a connection of its own; the error where trying again is no use.
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
        // Not every server or proxy that offers HTTP/2 can do it.
        request.lane = Lane::Own;
        Ok(())
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

    /// Sends a request once, answers a challenge once, and returns a success.
    pub(super) async fn exchange(&self, request: &Request<'_>) -> Result<Response, Error> {
        if let Some(url) = request.elsewhere {
            return self.exchange_elsewhere(request, url).await;
        }
        let mut authorization = self.tokens.get(request.repository).await;
        let mut response = self.ask(request, authorization.as_ref()).await?;
        let registry = request.url(self.scheme(request.repository.host()))?;
        // Only the registry itself is answered, not who it redirected to.
        if response.status() == StatusCode::UNAUTHORIZED
            && !self.is_doubtful(request.repository.host())
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
        // Nobody out there may send a request on into the network that this machine is
        // in, unless the registry is there too.
        let may_be_local = origin::is_local(&request.url("https")?);
        let outgoing = Outgoing {
            method: request.method.clone(),
            headers: request.headers(),
            lane: request.lane,
            may_be_local,
            ..Outgoing::get(request.subject, url.clone())
        };
        let response = self.http.follow(outgoing).await?;
        let host = origin::host_of(url);
        let asked = Asked { subject: request.subject, url, registry: &host, user: None };
        self.http.check_status(&asked, response).await
    }

    /// The head of an answer, whose body is not read.
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
        let failed_by =
            |is: fn(&Cause) -> bool| result.as_ref().err().and_then(Error::cause).is_some_and(is);
        // A server of HTTPS answers 400 to plain HTTP, or just hangs up.
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
            // An answer that is no TLS is one in plain HTTP: what failed there counts.
            Err(error) if failed_by(Cause::is_not_tls) => {
                self.remember(host, "http");
                Err(error)
            }
            Err(error) if error.cause().is_some_and(Cause::is_not_tls) => {
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
        let headers = request.headers();
        let url = request.url(scheme)?;
        self.http
            .follow(Outgoing {
                subject: request.subject,
                method: request.method.clone(),
                url,
                headers,
                form: None,
                authorization,
                lane: request.lane,
                may_be_local: true,
            })
            .await
    }

    fn doubt(&self, host: &str) {
        let mut doubtful = self.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        if doubtful.insert(host.to_owned()) {
            let text = format!(
                "`{host}` hung up on TLS, and answers in plain text: no credentials are sent there"
            );
            self.observer().observe(&Event::Warning(&text));
        }
    }

    fn is_doubtful(&self, host: &str) -> bool {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner).contains(host)
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
            (None, None) if origin::is_loopback(&request.url("https")?) => ("http", Some("https")),
            (None, _) => ("https", None),
        })
    }

    fn scheme(&self, host: &str) -> &'static str {
        let schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
        schemes.get(host).copied().unwrap_or("https")
    }
}
