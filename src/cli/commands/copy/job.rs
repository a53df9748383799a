//! One copy: its image, and what is done for each destination.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use n2c::copy::engines::Engine;
use n2c::copy::{Cache, Changes, Copier, Destination, Selection};
use n2c::formats::docker_archive::Name;
use n2c::oci::digest::Digest;
use n2c::source::{Blobs, CompressedLayers, MergedSources};
use n2c::stream::compress::Compression;
use serde_json::Value;

use super::options::Request;
use super::sides::Clients;
use super::sources::Opened;
use super::{Named, files};
use crate::cli::environment::environment;
use crate::cli::failure::{Failure, Usage};
use crate::cli::report::Report;

/// What goes to stdout once everything was copied.
#[derive(Default)]
pub(super) struct Results {
    values: Mutex<Vec<Value>>,
    text: Mutex<String>,
}

impl Results {
    pub(super) fn add_json(&self, value: Value) {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).push(value);
    }

    pub(super) fn add_text(&self, text: &str) {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
    }

    pub(super) fn print(self, report: &Report) -> Result<(), Failure> {
        let values = self.values.into_inner().unwrap_or_else(PoisonError::into_inner);
        let text = self.text.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !values.is_empty() {
            Report::json(&values)?;
        }
        if text.is_empty() { Ok(()) } else { report.text(&text) }
    }
}

/// Everything that is known of a copy.
pub(super) struct Job<'a> {
    pub(super) request: &'a Request,
    pub(super) blobs: &'a MergedSources<'a>,
    pub(super) opened: &'a [Opened<'a>],
    pub(super) selection: Selection,
    /// The images that have no manifest before they are copied, by the one that they get.
    pub(super) made: HashSet<Digest>,
    pub(super) annotations: &'a BTreeMap<String, String>,
    pub(super) clients: &'a Clients,
    pub(super) cache: &'a Cache,
    pub(super) results: &'a Results,
    pub(super) report: &'a Arc<Report>,
}

impl Job<'_> {
    pub(super) async fn copy_to(&self, destination: &Named) -> Result<(), Failure> {
        self.warn_of_snapshotter(destination);
        if let Destination::Registry(reference) = &destination.place {
            return self.copy_to_registry(reference).await;
        }
        if let Destination::Engine { engine, name } = &destination.place {
            return self.copy_to_engine(engine, name, &destination.text).await;
        }
        let compression = match destination.place {
            Destination::DockerArchive { .. } => None,
            _ => self.request.push.compression(false)?,
        };
        let changed = match compression {
            None => self.changed(None)?,
            Some(compression) => {
                let layers = CompressedLayers::new(self.blobs, compression);
                let copier = self.copier(self.blobs);
                let known = |layer: &_| self.recorded(layer, compression, &HashSet::new());
                let images = self.selection.images();
                copier.learn(images, &layers, &known, self.cache, None).await?;
                let changed = self.changed(Some(&layers))?;
                let copier = self.copier(&layers);
                return self.write(&copier, &changed, destination).await;
            }
        };
        self.write(&self.copier(self.blobs), &changed, destination).await
    }

    /// Warns if an image goes to where nothing mounts its store paths.
    fn warn_of_snapshotter(&self, destination: &Named) {
        let images = self.selection.images();
        if !images.iter().any(|image| image.manifest().needs_nix_snapshotter()) {
            return;
        }
        let name = &destination.text;
        match &destination.place {
            Destination::Engine { engine: Engine::Containerd { .. }, .. }
                if environment().get("CONTAINERD_SNAPSHOTTER").is_none() =>
            {
                self.report.warning(&format!(
                    "containerd unpacks `{name}` with its usual snapshotter; nix-snapshotter's is \
                     the one that `CONTAINERD_SNAPSHOTTER` names, as a rule `nix`"
                ));
            }
            Destination::Engine { engine: Engine::Containerd { .. }, .. } => {}
            Destination::Engine { .. } | Destination::DockerArchive { .. } => {
                self.report.warning(&format!(
                    "`{name}` loses which store paths the image needs; nix-snapshotter mounts \
                     them for containerd only"
                ));
            }
            _ => {}
        }
    }

    /// Copies the image into an engine. Layers stay as they are.
    async fn copy_to_engine(
        &self,
        engine: &Engine,
        name: &Name,
        destination: &str,
    ) -> Result<(), Failure> {
        let [image] = self.selection.images() else {
            let text = format!("`{destination}` holds one image for one platform");
            return Err(Usage::new(text, "name one `--platform`").into());
        };
        let mut names = vec![name.clone()];
        names.extend(files::names_of(&self.request.common.additional_tags)?);
        let copier = self.copier(self.blobs);
        let summary = copier.to_engine(image, &names, engine, environment()).await?;
        self.report.pushed(destination, summary.sent, summary.total, false);
        if let Some(path) = &self.request.push.digestfile {
            Report::result(Some(path), summary.digest.to_string().as_bytes())?;
        }
        Ok(())
    }

    async fn write(
        &self,
        copier: &Copier<'_>,
        changed: &Selection,
        destination: &Named,
    ) -> Result<(), Failure> {
        let tags = &self.request.common.additional_tags;
        files::write(copier, changed, destination.place.clone(), tags).await?;
        if let (Some(path), Some(contents)) = (&self.request.push.digestfile, changed.contents()) {
            Report::result(Some(path), contents.root.digest().to_string().as_bytes())?;
        }
        self.report.copied_to(&destination.text);
        Ok(())
    }

    pub(super) fn copier<'b>(&'b self, blobs: &'b dyn Blobs) -> Copier<'b> {
        Copier { blobs, jobs: self.request.common.jobs.get(), observer: &**self.report }
    }

    pub(super) fn changed(
        &self,
        layers: Option<&CompressedLayers<'_>>,
    ) -> Result<Selection, Failure> {
        let format = self.request.common.format.map(Into::into);
        let changes = Changes { layers, format, annotations: self.annotations };
        let result = self.selection.clone().changed(&changes)?;
        let all_made = self.made.len() == self.selection.images().len();
        if self.request.push.preserve_digests && !all_made {
            let root = |selection: &Selection| {
                selection.contents().map(|contents| contents.root.digest().clone())
            };
            if root(&result) != root(&self.selection) {
                let hint = "leave out `--preserve-digests`, or what changes the image";
                return Err(Usage::new("the copy would have another digest", hint).into());
            }
        }
        Ok(result)
    }

    /// What a plain layer compresses to, if that was recorded when it was built.
    pub(super) fn recorded(
        &self,
        layer: &n2c::oci::manifest::Descriptor,
        compression: Compression,
        wrong: &HashSet<Digest>,
    ) -> Option<(Digest, u64)> {
        if wrong.contains(&layer.digest) {
            return None;
        }
        self.opened.iter().find_map(|one| one.recorded(&layer.digest, compression))
    }
}
