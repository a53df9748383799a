//! Upload sessions (distribution-spec, "Pushing a blob"; protocol rules 78 and 80).

use reqwest::header::{HeaderName, LOCATION};
use reqwest::{Method, Response, StatusCode};
use url::Url;
use url::form_urlencoded::Serializer;

use crate::oci::digest::Digest;
use crate::oci::reference::Repository;
use crate::registry::Client;
use crate::registry::auth::scope::Scope;
use crate::registry::error::Error;
use crate::registry::request::{Request, Resource};
use crate::registry::transport::body::Body;
use crate::registry::transport::clients::Lane;
use crate::registry::transport::{http, origin};

/// The header with the least size of a piece in bytes.
const MINIMUM: HeaderName = HeaderName::from_static("oci-chunk-min-length");
/// The largest piece in bytes, whatever a registry asks for: it is held in memory.
const LARGEST_PIECE: usize = 64 << 20;

/// Where the bytes of an upload go.
pub(super) struct Session {
    pub(super) url: Url,
    /// Whether that is the registry itself, which may see a credential.
    pub(super) is_registry: bool,
    /// How many bytes a piece must have at least, unless it is the last one.
    pub(super) least: usize,
}

impl Client {
    /// Opens an upload session, unless the registry can mount the blob from a repository.
    pub(super) async fn open_session(
        &self,
        request: &Request<'_>,
        mounted: Option<(&Repository, &Digest)>,
    ) -> Result<Option<Session>, Error> {
        if let Some((mounted, digest)) = mounted {
            let query = Serializer::new(String::new())
                .append_pair("mount", &digest.to_string())
                .append_pair("from", mounted.path())
                .finish();
            let scope = Scope::mount(request.repository(), mounted);
            let resource = Resource::Uploads(query);
            let post = Request { scope, method: Method::POST, resource: &resource, ..*request };
            match self.connection.exchange(&post).await {
                Ok(response) if response.status() == StatusCode::CREATED => return Ok(None),
                Ok(response) => return self.session(request, &response).map(Some),
                // That the other repository has it was a guess, and may be nobody's business.
                Err(error) if self.connection.retry_delay(request, &error, 1).is_none() => {}
                Err(error) => return Err(error),
            }
        }
        let resource = Resource::Uploads(String::new());
        let post = Request { method: Method::POST, resource: &resource, ..*request };
        let response = self.connection.exchange(&post).await?;
        self.session(request, &response).map(Some)
    }

    /// Where the bytes of an upload go: to the `Location` of the answer, which may be relative,
    /// and which a registry behind a proxy may give with the wrong scheme.
    fn session(&self, request: &Request<'_>, response: &Response) -> Result<Session, Error> {
        let refused = |reason| {
            let (subject, host) = (request.subject.to_owned(), origin::host_of(response.url()));
            Error::Session { subject, host, reason }
        };
        // Not who answered, to whom the registry may have redirected.
        let registry = request.root(self.connection.scheme(request.repository().host()))?;
        let location = http::text_header(response.headers(), &LOCATION)
            .ok_or_else(|| refused("does not say where its bytes go"))?;
        let url = response.url().join(&location);
        let mut url = url.map_err(|_| refused("wants its bytes at no URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused("wants its bytes at something other than HTTP"));
        }
        origin::remove_credentials(&mut url);
        let ports = [None, registry.port(), registry.port_or_known_default()];
        if url.scheme() != registry.scheme()
            && url.host() == registry.host()
            && ports.contains(&url.port())
        {
            let _ = url.set_scheme(registry.scheme());
            let _ = url.set_port(registry.port());
        }
        let is_registry = origin::same_origin(&url, &registry);
        if !is_registry && origin::is_local(&url) && !origin::is_local(&registry) {
            return Err(refused("wants its bytes at a private address"));
        }
        if !is_registry && registry.scheme() == "https" && url.scheme() == "http" {
            return Err(refused("wants its bytes without encryption"));
        }
        // Not more than this client would hold in memory (distribution-spec, "Pushing a blob
        // in chunks").
        let least = http::text_header(response.headers(), &MINIMUM);
        let least = least.and_then(|least| least.parse().ok()).unwrap_or(0);
        Ok(Session { url, is_registry, least: least.min(LARGEST_PIECE) })
    }

    /// Sends a request to an upload session.
    pub(super) async fn send_to(
        &self,
        request: &Request<'_>,
        session: &Session,
        url: &Url,
        (method, body): (Method, Body<'_>),
    ) -> Result<Response, Error> {
        let resource = Resource::Session(url.clone());
        let elsewhere = (!session.is_registry).then_some(url);
        let (resource, lane) = (&resource, Lane::Upload);
        let request = Request { resource, elsewhere, method, body, lane, ..*request };
        self.connection.exchange(&request).await
    }

    /// Follows a session to where the registry wants the next bytes. Where it doesn't say,
    /// it wants them in the same place.
    pub(super) fn follow_session(
        &self,
        request: &Request<'_>,
        session: &mut Session,
        response: &Response,
    ) -> Result<(), Error> {
        if response.headers().contains_key(LOCATION) {
            *session = Session { least: session.least, ..self.session(request, response)? };
        }
        Ok(())
    }

    /// Ends an upload session with the last bytes and the digest of all of them.
    pub(super) async fn close_session(
        &self,
        request: &Request<'_>,
        session: Session,
        digest: &Digest,
        body: Body<'_>,
    ) -> Result<(), Error> {
        let mut url = session.url.clone();
        // What is in the query already is the registry's own state.
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        self.send_to(request, &session, &url, (Method::PUT, body)).await.map(drop)
    }
}
