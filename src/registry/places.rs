//! The endpoints that may serve a resource: mirrors in order, then the registry itself.

use std::collections::{HashSet, VecDeque};
use std::sync::{MutexGuard, PoisonError};

use super::Client;
use super::error::Error;
use super::mirrors::Endpoint;
use super::request::Target;
use crate::error::{Diagnose as _, Kind};
use crate::observer::Event;
use crate::oci::reference::Repository;

/// The endpoints that may serve a resource, and the failures so far.
pub(super) struct Places {
    pub(super) subject: String,
    /// The endpoints that have not been tried yet.
    endpoints: VecDeque<Endpoint>,
    pub(super) failures: Vec<(String, Error)>,
}

impl Places {
    /// Combines the failures of all endpoints into one error.
    pub(super) fn into_error(self) -> Error {
        Error::of_all(self.subject, self.failures)
    }
}

impl Client {
    /// Returns the endpoints to try: the mirrors in order, then the registry itself if
    /// all of them fail.
    pub(super) fn places(&self, target: &Target<'_>) -> Result<Places, Error> {
        let (repository, by_digest) = (target.repository, target.digest.is_some());
        let endpoints = self.endpoints(repository, by_digest, &target.subject)?;
        let (endpoints, failures) = (VecDeque::from(endpoints), Vec::new());
        Ok(Places { subject: target.subject.clone(), endpoints, failures })
    }

    /// Returns the next endpoint to try, skipping mirrors that are known to be down.
    pub(super) fn next_place(&self, places: &mut Places) -> Option<Repository> {
        loop {
            let endpoint = places.endpoints.pop_front()?;
            let host = endpoint.repository.host();
            if !places.endpoints.is_empty() && self.dead_mirrors().contains(host) {
                continue;
            }
            self.prepare(&endpoint);
            return Some(endpoint.repository);
        }
    }

    /// Records the failure of an endpoint. Returns the error if trying another endpoint
    /// would not help.
    pub(super) fn failed_at(
        &self,
        place: &Repository,
        error: Error,
        places: &mut Places,
    ) -> Result<(), Error> {
        if error.is_of_this_machine() {
            return Err(error);
        }
        let host = place.host();
        if !places.endpoints.is_empty() {
            let text = format!("mirror `{host}` failed: {}", crate::error_chain(&error));
            self.connection.observer().observe(&Event::Note(&text));
            if matches!(error.kind(), Kind::Network | Kind::RateLimited) {
                self.dead_mirrors().insert(host.to_owned());
            }
        }
        places.failures.push((host.to_owned(), error));
        Ok(())
    }

    /// Returns the endpoints of `repository`: the mirrors, then the registry. Returns an
    /// error if a setting blocks the registry.
    pub(super) fn endpoints(
        &self,
        repository: &Repository,
        by_digest: bool,
        subject: &str,
    ) -> Result<Vec<Endpoint>, Error> {
        let plan = self.mirrors.plan(repository, by_digest)?;
        match plan.blocked_by {
            Some(file) => {
                let (subject, host) = (subject.to_owned(), repository.host().to_owned());
                Err(Error::Blocked { subject, host, file })
            }
            None => Ok(plan.endpoints),
        }
    }

    fn dead_mirrors(&self) -> MutexGuard<'_, HashSet<String>> {
        self.dead_mirrors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies an endpoint's settings. An explicit `--tls-verify` takes precedence over them.
    pub(super) fn prepare(&self, endpoint: &Endpoint) {
        let host = endpoint.repository.host();
        if endpoint.insecure && self.connection.tls_verify() != Some(true) {
            self.connection.http.clients().allow_insecure(host);
        }
        if let Some(scheme) = endpoint.scheme {
            self.connection.remember(host, scheme);
        }
    }
}
