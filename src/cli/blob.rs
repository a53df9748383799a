//! `n2c blob`: one blob, by its digest alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use n2c::fs::OutputFile;
use n2c::oci::digest::Digest;
use n2c::oci::reference::Repository;
use n2c::registry::BlobRequest;

use super::failure::Failure;
use super::report::Report;
use super::{RegistryOptions, output};

#[derive(Args)]
pub(crate) struct Options {
    /// A reference without tag and digest, such as `docker.io/library/alpine`
    repository: String,

    /// `sha256:` and 64 hex digits
    digest: String,

    /// Write to this file, at once and only when all is verified
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,

    /// How many bytes the blob has; what has more is refused before it is all here
    #[arg(long, value_name = "BYTES")]
    size: Option<u64>,

    /// Where else the blob is, if the registry has it not; may be repeated
    #[arg(long = "url", value_name = "URL", conflicts_with = "manifest")]
    urls: Vec<String>,

    /// The digest is that of a manifest or an index
    #[arg(long)]
    manifest: bool,

    #[command(flatten)]
    registry: RegistryOptions,
}

pub(crate) async fn run(options: Options, report: &Arc<Report>) -> Result<(), Failure> {
    let repository: Repository = options.repository.parse()?;
    let digest: Digest = options.digest.parse()?;
    let client = options.registry.client(report)?;
    let mut output = create(&options.output)?;
    if options.manifest {
        let raw = client.manifest_bytes(&repository, &digest, options.size).await?;
        output.write_all(raw.bytes())?;
    } else {
        let (size, urls) = (options.size, options.urls.as_slice());
        let blob = BlobRequest { repository: &repository, digest: &digest, size, urls };
        client.download(&blob, &mut output).await?;
    }
    Ok(output.commit()?)
}

/// The output of the derivation that this builds is written in its place.
fn create(path: &Path) -> Result<OutputFile, Failure> {
    if output::is_built(path) {
        return Ok(OutputFile::create_in_place(path)?);
    }
    Ok(OutputFile::create(path)?)
}
