//! podman, by its program: it knows where its storage is, and whose user namespace it is in.

use std::collections::HashSet;
use std::net::SocketAddr;

use tokio::sync::OnceCell;

use super::archive::PartialArchive;
use super::error::Error;
use super::program::{ask, load, run};
use crate::environment::Environment;
use crate::formats::docker_archive::Name;
use crate::oci::digest::Digest;
use crate::oci::image::Image;

const PROGRAM: &str = "podman";
/// How many images are asked for their layers: command lines have an end.
const IMAGES: usize = 500;

/// podman, and the IDs of its images once they were listed: each question is a process.
#[derive(Default)]
pub(super) struct Podman(OnceCell<HashSet<String>>);

/// An image's ID is the digest of its config.
fn id(image: &Image) -> &str {
    image.config().raw().digest().hex()
}

/// What an image is called while podman pulls it.
pub(super) const REPOSITORY: &str = "n2c/copy";
pub(super) const TAG: &str = "1";

/// Whether podman runs on this machine, and can reach a port of it.
pub(super) fn is_here(environment: &Environment) -> bool {
    let is_remote = ["CONTAINER_HOST", "CONTAINER_CONNECTION"]
        .iter()
        .any(|variable| environment.get(variable).is_some());
    cfg!(target_os = "linux") && !is_remote
}

impl Podman {
    /// Pulls an image from a registry of this program. Returns `false` if that fails, for
    /// whatever reason: the image can still be sent.
    pub(super) async fn pull(
        &self,
        address: SocketAddr,
        image: &Image,
        names: &[Name],
    ) -> Result<bool, Error> {
        let name = format!("{address}/{REPOSITORY}:{TAG}");
        let pull = ["pull", "--quiet", "--tls-verify=false", &name];
        if !run(PROGRAM, &pull, None).await?.success {
            return Ok(false);
        }
        self.name(image, names).await?;
        // With its name: without one, podman would remove all names of the image.
        ask(PROGRAM, "remove a name", &["untag", id(image), &name]).await?;
        Ok(true)
    }

    pub(super) async fn has_image(&self, image: &Image) -> Result<bool, Error> {
        Ok(self.ids().await?.contains(id(image)))
    }

    async fn ids(&self) -> Result<&HashSet<String>, Error> {
        let list = async || {
            let task = "list its images";
            let listed = ask(PROGRAM, task, &["images", "--quiet", "--no-trunc"]).await?;
            let ids = listed.lines().map(|line| line.trim_start_matches("sha256:").to_owned());
            Ok(ids.collect())
        };
        self.0.get_or_try_init(list).await
    }

    /// podman needs no layer that it has, wherever it got it from.
    pub(super) async fn layers_of(&self, image: &Image) -> Result<HashSet<Digest>, Error> {
        let ids = self.ids().await?;
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        let format = ["image", "inspect", "--format", "{{json .RootFS.Layers}}"];
        let ids: Vec<&str> = ids.iter().take(IMAGES).map(String::as_str).collect();
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
        if names.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let task = "tag the image";
        ask(PROGRAM, task, &[&["tag", id(image)], &names[..]].concat()).await.map(drop)
    }
}
