//! Copies into registries.

use std::collections::{HashMap, HashSet};

use n2c::copy::{self, PlannedBlob, PushSummary, RegistryPush};
use n2c::oci::digest::Digest;
use n2c::oci::image::Image;
use n2c::oci::location::Location;
use n2c::oci::reference::Reference;
use n2c::resolve::Resolution;
use n2c::source::{self, CompressedLayers};
use n2c::stream::compress::Compression;
use n2c::{Diagnose as _, Kind};
use serde_json::json;

use super::job::Job;
use super::sources::Opened;
use crate::cli::failure::{Failure, Usage};
use crate::cli::report::Report;

/// What plain layers compress to.
type Mapping = HashMap<Digest, (Digest, u64)>;

impl Job<'_> {
    pub(super) async fn copy_to_registry(&self, reference: &Reference) -> Result<(), Failure> {
        let tags = self.tags(reference)?;
        let (all_platforms, dry_run) =
            (self.request.common.all.all_platforms, self.request.push.dry_run);
        let push = RegistryPush {
            client: self.clients.destination(),
            repository: reference.repository(),
            tags: &tags,
            digest: reference.digest(),
            origin: self.opened.iter().find_map(Opened::origin),
            cache: self.cache,
            streamed: &HashSet::new(),
            referrers: (all_platforms && !dry_run).then(|| self.clients.source()),
            is_dry_run: dry_run,
        };
        let summary = match self.request.push.compression(!self.made.is_empty())? {
            None => self.push_as_is(&push).await?,
            Some(compression) => self.push_compressed(&push, compression).await?,
        };
        match summary {
            Some(summary) => self.tell(reference, &summary),
            None => Ok(()),
        }
    }

    /// The tags that the image gets.
    fn tags(&self, reference: &Reference) -> Result<Vec<String>, Failure> {
        let repository = reference.repository();
        let mut tags: Vec<String> = match (reference.tag(), reference.digest()) {
            (Some(tag), _) => vec![tag.to_owned()],
            (None, Some(_)) => Vec::new(),
            (None, None) => vec!["latest".to_owned()],
        };
        for text in &self.request.common.additional_tags {
            let found = match reference.tagged(text) {
                Some(tagged) => tagged,
                None => text.parse()?,
            };
            let tag =
                found.tag().filter(|_| found.repository() == repository).ok_or_else(|| {
                    let text = format!(
                        "`--additional-tag {}` is not a tag of `{repository}`",
                        text.escape_default()
                    );
                    Usage::new(text, "name other repositories with `--to docker://NAME:TAG`")
                })?;
            if !tags.iter().any(|known| known == tag) {
                tags.push(tag.to_owned());
            }
        }
        Ok(tags)
    }

    async fn push_as_is(&self, push: &RegistryPush<'_>) -> Result<Option<PushSummary>, Failure> {
        let changed = self.changed(None)?;
        let Some(images) = changed.contents() else { return Ok(None) };
        Ok(Some(self.copier(self.blobs).to_registry(&images, push).await?))
    }

    async fn push_compressed(
        &self,
        push: &RegistryPush<'_>,
        compression: Compression,
    ) -> Result<Option<PushSummary>, Failure> {
        let reused = self.reused(push, compression).await?;
        let layers = CompressedLayers::new(self.blobs, compression);
        let (mut wrong, mut streamed) = (HashSet::new(), HashSet::new());
        loop {
            let is_streamed = !self.request.push.precompute && !push.is_dry_run;
            let copier = self.copier(self.blobs);
            let known = |layer: &n2c::oci::manifest::Descriptor| {
                let recorded = self.recorded(layer, compression, &wrong);
                let reused =
                    || reused.get(&layer.digest).filter(|_| !wrong.contains(&layer.digest));
                recorded.or_else(|| reused().cloned())
            };
            // What has a manifest changes only if that is asked for.
            let is_asked = self.request.push.compression(false)?.is_some();
            let is_compressed =
                |image: &&Image| is_asked || self.made.contains(image.manifest().raw().digest());
            let images = self.selection.images().iter().filter(is_compressed);
            let images: Vec<Image> = images.cloned().collect();
            let way = is_streamed.then_some(push);
            let sent = copier.learn(&images, &layers, &known, self.cache, way).await?;
            streamed.extend(sent);
            let changed = self.changed(Some(&layers))?;
            let Some(images) = changed.contents() else { return Ok(None) };
            let push = RegistryPush { streamed: &streamed, ..*push };
            let error = match self.copier(&layers).to_registry(&images, &push).await {
                Ok(summary) => return Ok(Some(summary)),
                Err(error) => error,
            };
            let copy::Error::Source(source::Error::NotAsRecorded { digest, .. }) = &error else {
                return Err(error.into());
            };
            let Some(plain) = layers.forget(digest) else { return Err(error.into()) };
            self.report.warning(&format!(
                "layer `{}` compresses to something else than what was recorded",
                plain.digest.short()
            ));
            self.cache.forget_compressed(&plain.digest, compression);
            wrong.insert(plain.digest);
        }
    }

    /// What layers compress to according to an image in a registry.
    async fn reused(
        &self,
        push: &RegistryPush<'_>,
        compression: Compression,
    ) -> Result<Mapping, Failure> {
        let mut reused = Mapping::new();
        let Some(text) = &self.request.push.reuse_from else { return Ok(reused) };
        let reference: Reference = text.parse()?;
        let location = Location::Registry(reference.clone());
        let observer = &**self.report;
        let resolution = match Resolution::open(&location, push.client, observer).await {
            Ok(resolution) => resolution,
            // The first image has none before it.
            Err(error) if error.kind() == Kind::NotFound => {
                self.report.warning(&n2c::error_chain(&error));
                return Ok(reused);
            }
            Err(error) => return Err(error.into()),
        };
        let suffix = compression.algorithm.name();
        for own in self.selection.images() {
            let Some(platform) = own.config().platform() else { continue };
            let image = match resolution.image(platform).await {
                Err(error) if error.kind() == Kind::NotFound => continue,
                image => image?,
            };
            let pairs = image.config().diff_ids().iter().zip(image.manifest().layers());
            for (diff_id, layer) in pairs.filter(|(_, layer)| layer.media_type.ends_with(suffix)) {
                reused.insert(diff_id.clone(), (layer.digest.clone(), layer.size));
                self.cache.suggest_repository(&layer.digest, reference.repository());
            }
        }
        Ok(reused)
    }

    /// Says what was done: the digest on stdout, and all else on stderr.
    fn tell(&self, reference: &Reference, summary: &PushSummary) -> Result<(), Failure> {
        let push = &self.request.push;
        let name = format!("{}@{}", reference.repository(), summary.digest);
        if let Some(path) = push.digestfile.as_deref().filter(|_| !push.dry_run) {
            Report::result(Some(path), summary.digest.to_string().as_bytes())?;
        }
        let (sent, total) = summary.bytes();
        self.report.pushed(&name, sent, total, push.dry_run);
        if push.json {
            self.results.add_json(json!({
                "name": reference.repository().to_string(),
                "digest": summary.digest.to_string(),
                "dryRun": push.dry_run,
                "present": summary.was_there,
                "tags": summary.moved_tags,
                "sent": sent,
                "total": total,
                "blobs": summary.blobs,
            }));
            return Ok(());
        }
        if push.dry_run {
            let line = |blob: &PlannedBlob| {
                format!("{:<7} {} {}\n", blob.action.name(), blob.digest, blob.size)
            };
            // With one destination, there is nothing to tell apart.
            let copies = &self.request.copies;
            if copies.len() > 1 || copies.iter().any(|copy| copy.destinations.len() > 1) {
                self.results.add_text(&format!("{name}\n"));
            }
            self.results.add_text(&summary.blobs.iter().map(line).collect::<String>());
            return Ok(());
        }
        self.results.add_text(&format!("{name}\n"));
        Ok(())
    }
}
