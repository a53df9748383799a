//! Signal handling: Ctrl-C or SIGTERM always ends a command, whatever it is waiting for.

use std::process;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime as AsyncRuntime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::cli::failure::{Failure, Interrupted, Runtime};
use crate::cli::report::Report;

/// How long a command may take to stop by itself after a signal. A command that is blocked
/// on a disk, a pipe or another program can't stop by itself.
const GRACE: Duration = Duration::from_secs(1);
/// How long printing the final error may take: stderr's reader may have stopped reading.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Runs a command that can be interrupted. The first signal drops the command's future. If
/// that isn't possible within [`GRACE`], because the command is blocked, the program exits.
/// A second signal ends the program at once.
pub(super) fn interruptible(
    report: &Arc<Report>,
    command: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let runtime = runtime()?;
    let (sender, interrupted) = oneshot::channel();
    watch(report.clone(), sender, Some(GRACE))?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = command => result,
            Ok(signal) = interrupted => Err(Interrupted(signal).into()),
        }
    });
    // Don't wait for blocked threads: their results are no longer needed.
    runtime.shutdown_background();
    n2c::clean_up();
    result
}

/// Runs a command that ends by itself after the first signal, which it is handed. A second
/// signal ends the program at once.
pub(super) fn until_stopped<F: Future<Output = Result<(), Failure>>>(
    report: &Arc<Report>,
    command: impl FnOnce(oneshot::Receiver<SignalKind>) -> F,
) -> Result<(), Failure> {
    let runtime = runtime()?;
    let (sender, stopped) = oneshot::channel();
    watch(report.clone(), sender, None)?;
    let result = runtime.block_on(command(stopped));
    runtime.shutdown_background();
    n2c::clean_up();
    result
}

/// Waits for signals on a dedicated thread. Sends the first one to `first`.
/// After it, a command has `grace` to end, or until the second one.
fn watch(
    report: Arc<Report>,
    first: oneshot::Sender<SignalKind>,
    grace: Option<Duration>,
) -> Result<(), Failure> {
    let runtime = runtime()?;
    // From here on, signals no longer end the program by default.
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Runtime)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Runtime)?;
    drop(guard);
    thread::spawn(move || {
        runtime.block_on(async move {
            let mut next = async || {
                tokio::select! {
                    _ = interrupt.recv() => SignalKind::interrupt(),
                    _ = terminate.recv() => SignalKind::terminate(),
                }
            };
            let signal = next().await;
            // Fails if the command is done; the program is then about to exit anyway.
            let _ = first.send(signal);
            let was_repeated = if let Some(grace) = grace {
                tokio::time::timeout(grace, next()).await.is_ok()
            } else {
                next().await;
                true
            };
            if !was_repeated {
                let words = thread::spawn(move || report.failure(&Interrupted(signal).into()));
                let ended = tokio::time::timeout(LAST_WORDS, async {
                    while !words.is_finished() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                });
                let _ = ended.await;
            }
            n2c::clean_up();
            process::exit(Failure::from(Interrupted(signal)).exit_code().into());
        });
    });
    Ok(())
}

fn runtime() -> Result<AsyncRuntime, Failure> {
    Ok(Builder::new_current_thread().enable_all().build().map_err(Runtime)?)
}
