//! Copies into container engines on this machine or elsewhere: docker, podman and containerd.
//!
//! Each gets an archive without the layers that it has. What it has is asked first; if that
//! was wrong, the engine says so, and gets all of them.

mod archive;
mod containerd;
mod docker;
mod docker_host;
mod error;
mod podman;
mod program;
mod ssh;

use std::collections::HashSet;
use std::sync::Arc;

use super::{Copier, Error as CopyError, Selection};
use crate::environment::Environment;
use crate::formats::convert;
use crate::formats::docker_archive::Name;
use crate::observer::{Arrival, Event, Silent};
use crate::oci::digest::Digest;
use crate::oci::image::Image;
use crate::serve::{Catalog, Registry};
use archive::PartialArchive;
use containerd::Containerd;
use docker::Docker;
pub use error::Error;
use podman::Podman;

/// An engine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Engine {
    /// docker, at the place that `DOCKER_HOST` or docker's context names.
    Docker,
    /// podman, and everything else that uses its storage.
    Podman,
    /// containerd, and the namespace in it, if one was named.
    Containerd {
        /// The namespace.
        namespace: Option<String>,
    },
}

/// What a copy into an engine came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EngineSummary {
    /// The digest of the image's manifest in the engine.
    pub digest: Digest,
    /// How many bytes of layers were sent.
    pub sent: u64,
    /// How many bytes the layers have.
    pub total: u64,
}

/// What all engines can do.
enum Connected {
    Docker(Docker),
    Podman(Podman),
    Containerd(Containerd),
}

impl Copier<'_> {
    /// Copies an image into an engine, under these names, of which there is at least one.
    pub async fn to_engine(
        &self,
        image: &Image,
        names: &[Name],
        engine: &Engine,
        environment: &Environment,
    ) -> Result<EngineSummary, CopyError> {
        let subject = format!("`{}`", image.manifest().raw().digest());
        // In an archive like this, not all engines can read Docker's manifests.
        let image = &convert::with_oci_manifest(&subject, image)?;
        let engine = match engine {
            Engine::Docker => Connected::Docker(Docker::connect(environment).await?),
            Engine::Podman => Connected::Podman(Podman::default()),
            Engine::Containerd { namespace } => {
                Connected::Containerd(Containerd::new(namespace.clone(), environment))
            }
        };
        let digest = image.manifest().raw().digest().clone();
        let total = image.manifest().layers().iter().map(|layer| layer.size).sum();
        if engine.has_image(image, names).await? {
            engine.name(image, names).await?;
            self.tell_layers(image, &HashSet::new());
            return Ok(EngineSummary { digest, sent: 0, total });
        }
        let there = engine.layers_of(image).await?;
        if let Connected::Podman(podman) = &engine
            && there.is_empty()
            && podman::is_here(environment)
            && self.serve_to(podman, image, names).await?
        {
            self.tell_layers(
                image,
                &image.manifest().layers().iter().map(|one| one.digest.clone()).collect(),
            );
            return Ok(EngineSummary { digest, sent: total, total });
        }
        let sent = match self.load(&engine, image, names, &there).await {
            Err(CopyError::Engine(Error::Refused { .. })) if !there.is_empty() => {
                let text = "the engine lacks layers that it seemed to have; sending all of them";
                self.observer.observe(&Event::Note(text));
                self.load(&engine, image, names, &HashSet::new()).await?
            }
            result => result?,
        };
        // podman gave it the name in the archive; docker is asked again, to see that it has it.
        let more = match &engine {
            Connected::Podman(_) => names.get(1..).unwrap_or_default(),
            Connected::Docker(_) | Connected::Containerd(_) => names,
        };
        engine.name(image, more).await?;
        self.tell_layers(image, &sent);
        let layers = image.manifest().layers().iter();
        let mut counted = HashSet::new();
        let sizes = layers
            .filter(|layer| sent.contains(&layer.digest) && counted.insert(&layer.digest))
            .map(|layer| layer.size);
        Ok(EngineSummary { digest, sent: sizes.sum(), total })
    }

    /// Lets podman on this machine pull an image, which it does faster than it reads an archive:
    /// it stores several layers at once. Returns `false` if it can't.
    async fn serve_to(
        &self,
        podman: &Podman,
        image: &Image,
        names: &[Name],
    ) -> Result<bool, CopyError> {
        let selection = Selection::one(image.clone());
        let Some(images) = selection.contents() else { return Ok(false) };
        let mut catalog = Catalog::new();
        catalog.add_images(podman::REPOSITORY, podman::TAG, &images, self.blobs).await?;
        let Ok(registry) = Registry::start(catalog, Arc::new(Silent)) else { return Ok(false) };
        let was_pulled = podman.pull(registry.address(), image, names).await?;
        Ok(was_pulled)
    }

    /// Sends an image without the layers in `there`, and returns those that were sent.
    async fn load(
        &self,
        engine: &Connected,
        image: &Image,
        names: &[Name],
        there: &HashSet<Digest>,
    ) -> Result<HashSet<Digest>, CopyError> {
        let archive = PartialArchive::new(self.blobs, image, names, there).await?;
        let (sent, failure) = (archive.layers(), archive.failure());
        let loaded = engine.load(archive).await;
        // If a layer can't be read, the engine only sees that the archive ends too early.
        if let Some((digest, source)) = failure.take() {
            return Err(crate::source::Error::of_content(&digest, source).into());
        }
        loaded?;
        Ok(sent)
    }

    fn tell_layers(&self, image: &Image, sent: &HashSet<Digest>) {
        for layer in image.manifest().layers() {
            let (digest, size) = (&layer.digest, layer.size);
            let arrival = if sent.contains(digest) { Arrival::Sent } else { Arrival::Present };
            self.observer.observe(&Event::BlobPushed { digest, size, arrival });
        }
    }
}

impl Connected {
    /// Whether the engine has this very image.
    async fn has_image(&self, image: &Image, names: &[Name]) -> Result<bool, Error> {
        match self {
            Self::Docker(docker) => docker.has_image(image).await,
            Self::Podman(podman) => podman.has_image(image).await,
            // Without a name, containerd keeps nothing.
            Self::Containerd(containerd) => containerd.has_image(image, names).await,
        }
    }

    /// The layers of an image that the engine probably has.
    async fn layers_of(&self, image: &Image) -> Result<HashSet<Digest>, Error> {
        match self {
            Self::Docker(docker) => docker.layers_of(image).await,
            Self::Podman(podman) => podman.layers_of(image).await,
            Self::Containerd(containerd) => containerd.layers_of(image).await,
        }
    }

    async fn load(&self, archive: PartialArchive) -> Result<(), Error> {
        match self {
            Self::Docker(docker) => docker.load(archive).await,
            Self::Podman(podman) => podman.load(archive).await,
            Self::Containerd(containerd) => containerd.load(archive).await,
        }
    }

    /// Gives an image that is there its names.
    async fn name(&self, image: &Image, names: &[Name]) -> Result<(), Error> {
        match self {
            Self::Docker(docker) => docker.name(image, names).await,
            Self::Podman(podman) => podman.name(image, names).await,
            Self::Containerd(containerd) => containerd.name(names).await,
        }
    }
}
