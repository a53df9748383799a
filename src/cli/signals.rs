//! A command that can always be ended: by Ctrl-C or a signal, whatever it waits for.

use std::process;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime as AsyncRuntime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::failure::{Failure, Interrupted, Runtime};
use super::report::Report;

/// How long a command has to end by itself after a signal. One that waits for a disk,
/// a pipe or another program can't.
const GRACE: Duration = Duration::from_secs(1);
/// How long its last words may take: whoever reads them may not do so.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Runs a command that waits for others. A signal ends it by dropping it, or, where
/// it can't be dropped in the middle of something, with the program. A second one
/// ends the program at once.
pub(super) fn interruptible(
    report: &Arc<Report>,
    command: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let runtime = runtime()?;
    let (sender, interrupted) = oneshot::channel();
    watch(report.clone(), sender)?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = command => result,
            Ok(signal) = interrupted => Err(Interrupted(signal).into()),
        }
    });
    // Nothing that blocks a thread is waited for: what it was for is over.
    runtime.shutdown_background();
    n2c::clean_up();
    result
}

/// Waits for signals on a thread that does nothing else.
fn watch(report: Arc<Report>, first: oneshot::Sender<SignalKind>) -> Result<(), Failure> {
    let runtime = runtime()?;
    // From here on a signal does not end the program by itself.
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
            // A command that is done listens no more, and is about to end.
            let _ = first.send(signal);
            if tokio::time::timeout(GRACE, next()).await.is_err() {
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
