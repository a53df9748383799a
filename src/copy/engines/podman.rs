//! podman, by its program: it knows where its storage is, and whose user namespace it is in.

use std::collections::HashSet;

use super::archive::PartialArchive;
use super::error::Error;
use super::program::{ask, load, run};
use crate::formats::docker_archive::Name;
use crate::oci::digest::Digest;
use crate::oci::image::Image;

const PROGRAM: &str = "podman";
/// How many images are asked for their layers: command lines have an end.
const IMAGES: usize = 500;

pub(super) struct Podman;

/// An image's ID is the digest of its config.
fn id(image: &Image) -> &str {
    image.config().raw().digest().hex()
}

impl Podman {
    pub(super) async fn has_image(&self, image: &Image) -> Result<bool, Error> {
        Ok(run(PROGRAM, &["image", "exists", id(image)], None).await?.success)
    }

    /// podman needs no layer that it has, wherever it got it from.
    pub(super) async fn layers_of(&self, image: &Image) -> Result<HashSet<Digest>, Error> {
        let task = "list its images";
        let listed = ask(PROGRAM, task, &["images", "--quiet", "--no-trunc"]).await?;
        let distinct: HashSet<&str> = listed.lines().collect();
        if distinct.is_empty() {
            return Ok(HashSet::new());
        }
        let format = ["image", "inspect", "--format", "{{json .RootFS.Layers}}"];
        let ids: Vec<&str> = distinct.into_iter().take(IMAGES).collect();
        // An image may be removed in the meantime.
        let found = run(PROGRAM, &[&format[..], &ids].concat(), None).await?;
        let known: HashSet<Digest> = found
            .stdout
            .lines()
            .filter_map(|line| serde_json::from_str::<Vec<Digest>>(line).ok())
            .flatten()
            .collect();
        let pairs = image.manifest().layers().iter().zip(image.config().diff_ids());
        let there = pairs.filter(|(_, diff_id)| known.contains(diff_id));
        Ok(there.map(|(layer, _)| layer.digest.clone()).collect())
    }

    pub(super) async fn load(&self, archive: PartialArchive) -> Result<(), Error> {
        load(PROGRAM, &["load", "--quiet"], archive).await
    }

    pub(super) async fn name(&self, image: &Image, names: &[Name]) -> Result<(), Error> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let task = "tag the image";
        ask(PROGRAM, task, &[&["tag", id(image)], &names[..]].concat()).await.map(drop)
    }
}
