//! Runs the programs of engines.

use std::io;
use std::process::Stdio;

use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::archive::PartialArchive;
use super::error::{Error, message};
use crate::cleanup::{Guard, Leftover};

/// How many bytes of a program's output are read.
const OUTPUT_LIMIT: u64 = 64 << 20;

/// What a program printed, and whether it succeeded.
pub(super) struct Outcome {
    pub(super) success: bool,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Runs a program, and hands it an archive if there is one.
pub(super) async fn run(
    program: &'static str,
    arguments: &[&str],
    archive: Option<PartialArchive>,
) -> Result<Outcome, Error> {
    let start = |source| Error::Start { program, source };
    let stdin = if archive.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(start)?;
    let _guard = child.id().map(|id| Guard::new(Leftover::Child(id)));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        let (Some(mut stdin), Some(archive)) = (stdin, archive) else { return };
        let mut pieces = archive.into_stream();
        while let Some(piece) = pieces.next().await {
            // Without its end, the archive is not accepted. The program says why it stopped
            // reading, and the archive why it ended.
            let Ok(piece) = piece else { return };
            if stdin.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    let (out, err) = (read(stdout), read(stderr));
    let ((), stdout, stderr, status) =
        futures_util::future::join4(feed, out, err, child.wait()).await;
    let status = status.map_err(start)?;
    Ok(Outcome { success: status.success(), stdout, stderr })
}

async fn read(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What was read before an error may say more than the error.
        let _: io::Result<usize> = pipe.take(OUTPUT_LIMIT).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs a program that must succeed, and returns what it printed.
pub(super) async fn ask(
    program: &'static str,
    task: &'static str,
    arguments: &[&str],
) -> Result<String, Error> {
    let Outcome { success, stdout, stderr } = run(program, arguments, None).await?;
    if success {
        return Ok(stdout);
    }
    Err(Error::Failed { engine: program, task, message: message(&stderr) })
}

/// Hands a program an archive.
pub(super) async fn load(
    program: &'static str,
    arguments: &[&str],
    archive: PartialArchive,
) -> Result<(), Error> {
    let outcome = run(program, arguments, Some(archive)).await?;
    if outcome.success {
        return Ok(());
    }
    Err(Error::Refused { engine: program, message: message(&outcome.stderr) })
}
