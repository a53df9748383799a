//! `n2c copy` and `n2c pull`: copy whole images.

mod batch;
mod files;
mod job;
mod options;
mod registry;
mod sides;
pub(super) mod sources;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use n2c::copy::{Cache, Destination, Selection, Source};
use n2c::oci::digest::Digest;
use n2c::source::MergedSources;

use crate::cli::environment::environment;
use crate::cli::failure::{Failure, Usage};
use crate::cli::report::Report;
use batch::Names;
use job::{Job, Results};
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
    for (index, names) in request.copies.iter().enumerate() {
        let copy = Parsed::new(names).and_then(|copy| {
            check(&request, &copy.destinations, &annotations)?;
            Ok(copy)
        });
        let note =
            |_: &Failure| note_failure(&request, index, "is not valid; nothing was copied", report);
        copies.push(copy.inspect_err(note)?);
    }
    check_distinct(copies.iter().flat_map(|copy| &copy.destinations))?;
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
    let (cache, results) = (Cache::new(cache_directory()), Results::default());
    let all = AllCopies {
        request: &request,
        annotations: &annotations,
        clients: &clients,
        cache: &cache,
        results: &results,
        report,
    };
    for (index, copy) in copies.iter().enumerate() {
        let outcome = run_one(&all, copy).await;
        let note =
            |_: &Failure| note_failure(&request, index, "failed; none behind it was begun", report);
        outcome.inspect_err(note)?;
    }
    results.print(report)
}

/// Says which of several copies has failed.
fn note_failure(request: &Request, index: usize, what: &str, report: &Report) {
    let count = request.copies.len();
    if count > 1 {
        report.note(&format!("copy {} of {count} {what}", index + 1));
    }
}

/// Refuses two copies to one place, of which the second would replace the first.
fn check_distinct<'a>(destinations: impl Iterator<Item = &'a Named>) -> Result<(), Failure> {
    let mut seen = HashSet::new();
    for destination in destinations {
        let place = match &destination.place {
            // An archive holds one image, whatever its name in it.
            Destination::OciArchive { file, .. } | Destination::DockerArchive { file, .. } => {
                file.display().to_string()
            }
            // However a reference is written.
            place => format!("{place:?}"),
        };
        if !seen.insert(place) {
            let text = format!("`{}` is the destination of two copies", destination.text);
            return Err(Usage::new(text, "name each destination once").into());
        }
    }
    Ok(())
}

/// What all copies of a run share.
#[derive(Clone, Copy)]
struct AllCopies<'a> {
    request: &'a Request,
    annotations: &'a BTreeMap<String, String>,
    clients: &'a Clients,
    cache: &'a Cache,
    results: &'a Results,
    report: &'a Arc<Report>,
}

/// Copies one image, for one platform or for several, to all its destinations.
async fn run_one(
    all_copies: &AllCopies<'_>,
    Parsed { sources, destinations }: &Parsed,
) -> Result<(), Failure> {
    let AllCopies { request, annotations, clients, cache, results, report } = *all_copies;
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
        results,
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
