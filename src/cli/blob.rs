//! `n2c blob`: one blob, by its digest alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use n2c::digest::Digest;
use n2c::fs::OutputFile;
use n2c::reference::Repository;

use super::RegistryOptions;
use super::failure::Failure;
use super::report::Report;

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

    #[command(flatten)]
    registry: RegistryOptions,
}

/// `-` is stdout here as elsewhere.
fn stdout_for_dash(path: &Path) -> &Path {
    if path == Path::new("-") { Path::new("/dev/stdout") } else { path }
}

pub(crate) async fn run(options: Options, report: &Arc<Report>) -> Result<(), Failure> {
    let repository: Repository = options.repository.parse()?;
    let digest: Digest = options.digest.parse()?;
    let client = options.registry.client(report.clone())?;
    let mut output = OutputFile::create(stdout_for_dash(&options.output))?;
    client.download(&repository, &digest, options.size, output.file()).await?;
    output.commit()?;
    Ok(())
}
