//! `n2c copy` and `n2c pull`: copy whole images.

mod batch;
mod files;
mod options;
mod registry;
mod sides;
pub(super) mod sources;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use n2c::copy::engines::Engine;
use n2c::copy::{Cache, Changes, Copier, Destination, Selection, Source};
use n2c::formats::docker_archive::Name;
use n2c::oci::digest::Digest;
use n2c::source::{Blobs, CompressedLayers, MergedSources};
use n2c::stream::compress::Compression;

use crate::cli::environment::environment;
use crate::cli::failure::{Failure, Usage};
use crate::cli::report::Report;
use batch::Names;
use options::{Common, PushOptions, Request};
pub(crate) use options::{CompressionFormat, Copy, Pull};
use sides::Clients;
use sources::{Given, Loaded, Opened};

pub(crate) async fn pull(options: Pull, report: &Arc<Report>) -> Result<(), Failure> {
    let request = Request::from(options);
    let mut names = request.copies.iter().flat_map(|copy| &copy.destinations);
    if names.any(|name| name.starts_with("docker:")) {
        let hint = "use `n2c copy`";
        return Err(Usage::new("`n2c pull` doesn't copy into a registry", hint).into());
    }
    run(request, report).await
}

pub(crate) async fn copy(options: Copy, report: &Arc<Report>) -> Result<(), Failure> {
    run(Request::try_from(options)?, report).await
}

async fn run(mut request: Request, report: &Arc<Report>) -> Result<(), Failure> {
    let annotations = request.push.annotations()?;
    let mut copies = Vec::new();
    for names in &request.copies {
        let copy = Parsed::new(names)?;
        check(&request, &copy.destinations, &annotations)?;
        copies.push(copy);
    }
    let (mut from, mut to) = (Vec::new(), Vec::new());
    for copy in &copies {
        for source in &copy.sources {
            from.extend(source.registry());
        }
        to.extend(copy.destinations.iter().filter_map(Named::registry));
    }
    let sides = std::mem::take(&mut request.sides);
    let registries = (&request.registry, request.push.retry_times);
    let clients = sides::clients(sides, registries, &distinct(from), &distinct(to), report)?;
    for destination in copies.iter().flat_map(|copy| &copy.destinations) {
        destination.place.check()?;
    }
    // What one copy finds out, the next ones need not.
    let cache = Cache::new(cache_directory());
    for copy in &copies {
        run_one(&request, copy, &annotations, &clients, &cache, report).await?;
    }
    Ok(())
}

/// Copies one image, for one platform or for several, to all its destinations.
async fn run_one(
    request: &Request,
    Parsed { sources, destinations }: &Parsed,
    annotations: &BTreeMap<String, String>,
    clients: &Clients,
    cache: &Cache,
    report: &Arc<Report>,
) -> Result<(), Failure> {
    if let (
        [Given { source: Source::Location(location), .. }],
        [Named { place: Destination::Directory(path), text }],
    ) = (&sources[..], &destinations[..])
        && files::is_simple(request, annotations)?
    {
        let client = clients.source();
        if files::to_directory(location, path, &request.common, client, report).await? {
            report.copied_to(text);
            return Ok(());
        }
    }
    let mut opened = Vec::new();
    for source in sources {
        opened.push(Opened::open(source, clients.source(), report).await?);
    }
    let needs_manifest =
        destinations.iter().any(|one| !matches!(one.place, Destination::DockerArchive { .. }));
    let Common { platforms, all, .. } = &request.common;
    let mut loaded = Vec::new();
    for one in &opened {
        loaded.push(one.load(platforms, all.all_platforms, needs_manifest, report).await?);
    }
    let mut blobs = MergedSources::default();
    for Loaded { selection, blobs: own } in &loaded {
        let digests = selection.contents().map(|contents| contents.blob_digests());
        blobs.add(digests.unwrap_or_default(), &**own);
    }
    let selection = match &loaded[..] {
        [only] => only.selection.clone(),
        several => Selection::joined(several.iter().map(|one| one.selection.clone()).collect()),
    };
    let made = sources.iter().zip(&loaded).filter(|(source, _)| source.has_no_manifest());
    let made: HashSet<Digest> = made
        .flat_map(|(_, loaded)| loaded.selection.images())
        .map(|image| image.manifest().raw().digest().clone())
        .collect();
    let job = Job {
        request,
        blobs: &blobs,
        opened: &opened,
        selection,
        made,
        annotations,
        clients,
        cache,
        report,
    };
    for destination in destinations {
        job.copy_to(destination).await?;
    }
    Ok(())
}

/// The names of a copy, understood.
struct Parsed {
    sources: Vec<Given>,
    destinations: Vec<Named>,
}

impl Parsed {
    fn new(names: &Names) -> Result<Self, Failure> {
        let sources = names.sources.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let mut destinations = Vec::new();
        for text in &names.destinations {
            destinations.push(Named { text: text.clone(), place: text.parse()? });
        }
        Ok(Self { sources, destinations })
    }
}

/// A destination, and what the user called it.
struct Named {
    text: String,
    place: Destination,
}

impl Named {
    /// The registry, if it is in one.
    fn registry(&self) -> Option<String> {
        match &self.place {
            Destination::Registry(reference) => Some(reference.repository().host().to_owned()),
            _ => None,
        }
    }
}

/// Everything that is known of a copy.
struct Job<'a> {
    request: &'a Request,
    blobs: &'a MergedSources<'a>,
    opened: &'a [Opened<'a>],
    selection: Selection,
    /// The images that have no manifest before they are copied, by the one that they get.
    made: HashSet<Digest>,
    annotations: &'a BTreeMap<String, String>,
    clients: &'a Clients,
    cache: &'a Cache,
    report: &'a Arc<Report>,
}

impl Job<'_> {
    async fn copy_to(&self, destination: &Named) -> Result<(), Failure> {
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
            Destination::Engine { engine: Engine::Containerd { .. }, .. } => {
                if environment().get("CONTAINERD_SNAPSHOTTER").is_none() {
                    self.report.warning(&format!(
                        "containerd unpacks `{name}` with its usual snapshotter; nix-snapshotter's \
                         is the one that `CONTAINERD_SNAPSHOTTER` names, as a rule `nix`"
                    ));
                }
            }
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

    fn copier<'b>(&'b self, blobs: &'b dyn Blobs) -> Copier<'b> {
        Copier { blobs, jobs: self.request.common.jobs.get(), observer: &**self.report }
    }

    fn changed(&self, layers: Option<&CompressedLayers<'_>>) -> Result<Selection, Failure> {
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
    fn recorded(
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

fn distinct(mut hosts: Vec<String>) -> Vec<String> {
    hosts.sort();
    hosts.dedup();
    hosts
}

/// Refuses what doesn't fit together.
fn check(
    request: &Request,
    destinations: &[Named],
    annotations: &BTreeMap<String, String>,
) -> Result<(), Failure> {
    let is_archive = |one: &Named| matches!(one.place, Destination::DockerArchive { .. });
    let is_registry = |one: &Named| matches!(one.place, Destination::Registry(_));
    let PushOptions { dry_run, json, precompute, reuse_from, .. } = &request.push;
    if destinations.iter().any(is_archive) {
        let is_changed = request.common.format.is_some() || !annotations.is_empty();
        if is_changed {
            let hint = "it has its own format; leave out `--format` and `--annotation`";
            let text = "a `docker-archive:` holds no manifest to convert";
            return Err(Usage::new(text, hint).into());
        }
    }
    let is_engine = |one: &Named| matches!(one.place, Destination::Engine { .. });
    if destinations.iter().any(is_engine) {
        let is_changed = request.common.format.is_some()
            || !annotations.is_empty()
            || request.push.compression(false)?.is_some();
        if is_changed {
            let hint = "leave out `--format`, `--annotation` and `--dest-compress…`";
            return Err(Usage::new("an engine gets the image as it is", hint).into());
        }
    }
    let has_tags = !request.common.additional_tags.is_empty();
    let has_names = |one: &Named| is_archive(one) || is_registry(one) || is_engine(one);
    if has_tags && !destinations.iter().all(has_names) {
        let hint = "only registries, engines and a `docker-archive:` know several names";
        return Err(Usage::new("`--additional-tag` does not apply to the destination", hint).into());
    }
    if !destinations.iter().all(is_registry) {
        let only = [
            ("--dry-run", *dry_run),
            ("--json", *json),
            ("--precompute", *precompute),
            ("--reuse-from", reuse_from.is_some()),
        ];
        if let Some((name, _)) = only.iter().find(|(_, is_given)| *is_given) {
            let hint = "it is for copies into registries";
            return Err(
                Usage::new(format!("`{name}` does not apply to the destination"), hint).into()
            );
        }
    }
    Ok(())
}

/// Where what was found out is remembered. In a build sandbox there is no such place.
pub(super) fn cache_directory() -> Option<std::path::PathBuf> {
    let environment = environment();
    if environment.get("NIX_BUILD_TOP").is_some() {
        return None;
    }
    let home = || environment.path("HOME").map(|home| home.join(".cache"));
    Some(environment.path("XDG_CACHE_HOME").or_else(home)?.join("n2c"))
}
