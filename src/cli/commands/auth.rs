//! `n2c auth`: shows which credentials are used, and exports them for a sandbox.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use n2c::oci::reference::Reference;
use n2c::registry::credentials::{self, CredentialStore, Match};

use crate::cli::environment::environment;
use crate::cli::failure::{Failure, NoCredential};
use crate::cli::options::CredentialOptions;
use crate::cli::report::Report;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show the file, key and user of a reference's credentials, but never the secret
    Show(Show),
    /// Write the credentials for references to a file, including those from helpers
    ///
    /// The file has mode 0600 and contains only the credentials for these
    /// references, in the format of podman and skopeo. In a build sandbox, it
    /// belongs at /etc/skopeo/auth.json.
    Export(Export),
}

#[derive(Args)]
pub(crate) struct Show {
    /// A reference such as `ghcr.io/owner/image`
    reference: String,

    #[command(flatten)]
    credentials: CredentialOptions,
}

#[derive(Args)]
pub(crate) struct Export {
    /// References such as `ghcr.io/owner/image`
    #[arg(required = true, value_name = "REFERENCE")]
    references: Vec<String>,

    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    #[command(flatten)]
    credentials: CredentialOptions,
}

pub(crate) async fn run(command: Command, report: &Arc<Report>) -> Result<(), Failure> {
    match command {
        Command::Show(options) => show(options, report).await,
        Command::Export(options) => export(options, report).await,
    }
}

async fn show(options: Show, report: &Arc<Report>) -> Result<(), Failure> {
    let reference: Reference = options.reference.parse()?;
    let store = CredentialStore::new(
        options.credentials.authfile.as_deref(),
        environment(),
        report.clone(),
    )?;
    let repository = reference.repository();
    let text = match store.find(repository).await? {
        Some(Match { credential, origin }) => {
            let mut lines = vec![
                repository.to_string(),
                format!("file    {}", origin.file.display()),
                format!("key     {}", origin.key),
            ];
            lines.extend(origin.helper.map(|helper| format!("helper  {helper}")));
            if !credential.user().is_empty() {
                lines.push(format!("user    {}", credential.user()));
            }
            lines.push(format!("kind    {}\n", credential.kind()));
            lines.join("\n")
        }
        None => format!("{repository}\nno credentials: pulled anonymously\n"),
    };
    report.text(&text)
}

async fn export(options: Export, report: &Arc<Report>) -> Result<(), Failure> {
    let store = CredentialStore::new(
        options.credentials.authfile.as_deref(),
        environment(),
        report.clone(),
    )?;
    let mut found = Vec::new();
    for text in &options.references {
        let reference: Reference = text.parse()?;
        let repository = reference.repository().clone();
        match store.find(&repository).await? {
            Some(Match { credential, .. }) => found.push((repository, credential)),
            None => return Err(NoCredential { repository }.into()),
        }
    }
    Ok(credentials::export(&found, &options.output)?)
}
