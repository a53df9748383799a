//! `n2c blob`: fetches one blob by its digest.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use n2c::fs::OutputFile;
use n2c::oci::digest::Digest;
use n2c::oci::reference::Repository;
use n2c::registry::BlobRequest;

use crate::cli::failure::Failure;
use crate::cli::options::RegistryOptions;
use crate::cli::output;
use crate::cli::report::Report;

#[derive(Args)]
pub(crate) struct Options {
    /// A reference without tag or digest, such as `docker.io/library/alpine`
    repository: String,

    /// `sha256:` and 64 hex digits
    digest: String,

    /// Write to this file, atomically and only after verification
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,

    /// The size of the blob in bytes; more than that is rejected without downloading the rest
    #[arg(long, value_name = "BYTES")]
    size: Option<u64>,

    /// Another URL to fetch the blob from if the registry does not have it; may be repeated
    #[arg(long = "url", value_name = "URL", conflicts_with = "manifest")]
    urls: Vec<String>,

    /// Fetch a manifest or an index, not a blob
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

/// Creates the output file. If it is the output of the derivation that this process is
/// building, it is written in place.
fn create(path: &Path) -> Result<OutputFile, Failure> {
    if output::is_built(path) {
        return Ok(OutputFile::create_in_place(path)?);
    }
    Ok(OutputFile::create(path)?)
}
