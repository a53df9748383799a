//! containerd, by its program `ctr`, which reads `$CONTAINERD_ADDRESS`.

use std::collections::HashSet;

use super::archive::PartialArchive;
use super::error::Error;
use super::program::{ask, load};
use crate::environment::Environment;
use crate::formats::docker_archive::Name;
use crate::oci::digest::Digest;
use crate::oci::image::Image;

const PROGRAM: &str = "ctr";

pub(super) struct Containerd {
    namespace: String,
}

impl Containerd {
    /// The namespace that was named, or the one that `ctr` would use.
    pub(super) fn new(namespace: Option<String>, environment: &Environment) -> Self {
        let variable = || environment.text("CONTAINERD_NAMESPACE").map(str::to_owned);
        let namespace = namespace.or_else(variable).unwrap_or_else(|| "default".to_owned());
        Self { namespace }
    }

    fn arguments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [&["--namespace", self.namespace.as_str()], more].concat()
    }

    /// Whether an image is there under its first name, with all that it needs.
    pub(super) async fn has_image(&self, image: &Image, names: &[Name]) -> Result<bool, Error> {
        let Some(name) = names.first() else { return Ok(false) };
        let filter = format!("name=={name}");
        let arguments = self.arguments(&["images", "check", &filter]);
        let checked = ask(PROGRAM, "look for the image", &arguments).await?;
        let digest = image.manifest().raw().digest().to_string();
        // REF TYPE DIGEST STATUS SIZE UNPACKED
        let is_it = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let is_whole = words.contains(&"complete") && words.last() == Some(&"true");
            words.contains(&digest.as_str()) && is_whole
        };
        Ok(checked.lines().any(is_it))
    }

    /// containerd needs no layer that is in its content store.
    pub(super) async fn layers_of(&self, image: &Image) -> Result<HashSet<Digest>, Error> {
        let arguments = self.arguments(&["content", "ls", "--quiet"]);
        let listed = ask(PROGRAM, "list its content", &arguments).await?;
        let known: HashSet<&str> = listed.lines().map(str::trim).collect();
        let layers = image.manifest().layers().iter().map(|layer| &layer.digest);
        Ok(layers.filter(|digest| known.contains(digest.to_string().as_str())).cloned().collect())
    }

    pub(super) async fn load(&self, archive: PartialArchive) -> Result<(), Error> {
        load(PROGRAM, &self.arguments(&["images", "import", "-"]), archive).await
    }

    pub(super) async fn name(&self, names: &[Name]) -> Result<(), Error> {
        let Some((first, more)) = names.split_first() else { return Ok(()) };
        let first = first.to_string();
        for name in more.iter().map(ToString::to_string) {
            let arguments = self.arguments(&["images", "tag", "--force", &first, &name]);
            ask(PROGRAM, "tag the image", &arguments).await?;
        }
        Ok(())
    }
}
