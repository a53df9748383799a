//! `n2c serve`: a read-only registry of images on this machine.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use n2c::copy::{Cache, Changes, Copier};
use n2c::observer::{Event, Observer};
use n2c::oci::reference::Reference;
use n2c::serve::{Catalog, Registry};
use n2c::source::CompressedLayers;
use n2c::stream::compress::Compression;
use n2c::{Diagnose, Kind};
use tokio::signal::unix::SignalKind;
use tokio::sync::oneshot;

use super::copy::sources::{Given, Opened};
use super::copy::{CompressionFormat, cache_directory};
use crate::cli::failure::{Failure, Usage};
use crate::cli::hints::Hint;
use crate::cli::options::{Jobs, RegistryOptions};
use crate::cli::platforms::{AllImages, PlatformOptions};
use crate::cli::report::Report;

/// How long nobody may ask for anything before `--once` ends the registry.
const QUIET: Duration = Duration::from_secs(2);
/// How long a client may take nothing of a blob.
const STALLED: Duration = Duration::from_secs(30);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Args)]
pub(crate) struct Options {
    /// A name, with a tag or without, and the image that is there: a source of `n2c copy`
    #[arg(required = true, value_name = "NAME[:TAG]=IMAGE")]
    images: Vec<String>,

    /// The address and port to listen at; 0 is a free port
    ///
    /// There is no authentication: whoever can connect can read the images.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// Compress layers that are not, which makes them smaller and slower to serve
    #[arg(long, value_name = "ALGORITHM")]
    compress: Option<CompressionFormat>,

    /// End after an image was read and nothing else is asked for
    #[arg(long)]
    once: bool,

    #[command(flatten)]
    jobs: Jobs,

    #[command(flatten)]
    platforms: PlatformOptions,

    #[command(flatten)]
    all: AllImages,

    #[command(flatten)]
    registry: RegistryOptions,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen at `{address}`")]
struct Listen {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

impl Diagnose for Listen {
    fn kind(&self) -> Kind {
        Kind::Other
    }
}

impl Hint for Listen {
    fn hint(&self) -> Option<String> {
        Some("choose another port, or leave out `--listen`".to_owned())
    }
}

/// Passes events on, and remembers whether an image was read.
struct Watcher {
    report: Arc<Report>,
    was_read: AtomicBool,
    was_asked: AtomicBool,
}

impl Observer for Watcher {
    fn observe(&self, event: &Event<'_>) {
        if let Event::Served { method, target, status } = event {
            self.was_asked.store(true, Ordering::Relaxed);
            if *method == "GET" && target.contains("/manifests/") && *status == 200 {
                self.was_read.store(true, Ordering::Relaxed);
            }
        }
        self.report.observe(event);
    }
}

pub(crate) async fn run(
    options: Options,
    stopped: oneshot::Receiver<SignalKind>,
    report: &Arc<Report>,
) -> Result<(), Failure> {
    let mut stopped = stopped;
    let mut catalog = Catalog::new();
    tokio::select! {
        filled = fill(&mut catalog, &options, report) => filled?,
        Ok(signal) = &mut stopped => return Err(crate::cli::failure::Interrupted(signal).into()),
    }
    let watcher = Arc::new(Watcher {
        report: report.clone(),
        was_read: AtomicBool::new(false),
        was_asked: AtomicBool::new(false),
    });
    let address = options.listen;
    if !address.ip().is_loopback() {
        report.warning("whoever can connect can read the images: there is no authentication");
    }
    let registry = Registry::listen(address, catalog, watcher.clone());
    let registry = registry.map_err(|source| Listen { address, source })?;
    report.text(&format!("{}\n", registry.address()))?;
    if options.once {
        tokio::select! {
            () = quiet(&watcher, &registry) => {}
            _ = stopped => {}
        }
    } else {
        // If nobody can stop it, it goes on.
        let _ = stopped.await;
    }
    // What runs is brought to its end.
    let ended = tokio::task::spawn_blocking(move || registry.finish()).await;
    Ok(ended.map_err(|error| Listen { address, source: io::Error::other(error) })?)
}

/// Returns once an image was read, and nobody has asked for anything for a while.
async fn quiet(watcher: &Watcher, registry: &Registry) {
    let (mut last, mut taken) = (Instant::now(), 0);
    loop {
        tokio::time::sleep(LOOK).await;
        let (running, pieces) = registry.transfers();
        let was_asked = watcher.was_asked.swap(false, Ordering::Relaxed);
        // A client that takes nothing for long has stalled.
        let waits = running > 0 && last.elapsed() < STALLED;
        if was_asked || pieces != taken {
            (last, taken) = (Instant::now(), pieces);
        }
        if waits {
            continue;
        }
        if watcher.was_read.load(Ordering::Relaxed) && last.elapsed() >= QUIET {
            return;
        }
    }
}

/// Puts the images into the catalog.
async fn fill(
    catalog: &mut Catalog,
    options: &Options,
    report: &Arc<Report>,
) -> Result<(), Failure> {
    let client = options.registry.client(report)?;
    let cache = Cache::new(cache_directory());
    for text in &options.images {
        let Some((name, image)) = text.split_once('=') else {
            let text = format!("`{}` names no image", text.escape_default());
            return Err(Usage::new(text, "write it as `NAME:TAG=IMAGE`").into());
        };
        let (repository, tag) = name_of(name)?;
        let given: Given = image.parse()?;
        let opened = Opened::open(&given, &client, report).await?;
        let loaded =
            opened.load(&options.platforms, options.all.all_platforms, true, report).await?;
        let blobs = &*loaded.blobs;
        let copier = Copier { blobs, jobs: options.jobs.get(), observer: &**report };
        let (format, annotations) = (None, &std::collections::BTreeMap::new());
        let compressed = match options.compress {
            None => None,
            Some(algorithm) => {
                let compression = Compression::new(algorithm.into());
                let layers = CompressedLayers::new(blobs, compression);
                let known = |layer: &n2c::oci::manifest::Descriptor| {
                    opened.recorded(&layer.digest, compression)
                };
                let images = loaded.selection.images();
                let _: HashSet<_> = copier.learn(images, &layers, &known, &cache, None).await?;
                Some(layers)
            }
        };
        let layers = compressed.as_ref();
        let changes = Changes { layers, format, annotations };
        let result = loaded.selection.clone().changed(&changes)?;
        let Some(contents) = result.contents() else { continue };
        match layers {
            Some(layers) => catalog.add_images(&repository, &tag, &contents, layers).await?,
            None => catalog.add_images(&repository, &tag, &contents, blobs).await?,
        }
    }
    Ok(())
}

/// The path of the repository that a name means here, and the tag.
fn name_of(name: &str) -> Result<(String, String), Failure> {
    // Without a registry, which it will have: docker's defaults aren't meant.
    let reference: Reference = format!("localhost/{name}").parse()?;
    if reference.digest().is_some() {
        let text = format!("`{}` has a digest", name.escape_default());
        return Err(Usage::new(text, "name a tag").into());
    }
    let tag = reference.tag().unwrap_or("latest").to_owned();
    Ok((reference.repository().path().to_owned(), tag))
}
