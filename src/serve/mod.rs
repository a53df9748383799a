//! A registry in this process. It is read-only, listens on loopback unless it is told
//! otherwise, and serves only what it was given (OCI distribution-spec, "Pull" and "Content discovery").
//!
//! A request never becomes a file path: names and digests are looked up in a [`Catalog`].

mod answer;
mod catalog;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;

use crate::observer::{Event, Observer};
pub use answer::Answer;
pub use catalog::{Catalog, Error};

/// How many connections to serve at once. Others wait.
const CONNECTIONS: usize = 256;
/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A running registry. It stops when it is dropped.
pub struct Registry {
    address: SocketAddr,
    stop: Option<oneshot::Sender<Stop>>,
    thread: Option<JoinHandle<()>>,
    transfers: Transfers,
}

/// How a registry stops.
enum Stop {
    /// At once.
    Now,
    /// When the transfers that run are done.
    Gracefully,
}

/// How long a client may take nothing before the end doesn't wait for it.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Counts the blobs that are being sent, each of which holds a share, and their pieces.
#[derive(Clone, Default)]
pub(crate) struct Transfers(Arc<AtomicU64>);

impl Transfers {
    /// Takes note of a piece that a client took.
    pub(crate) fn advance(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn pieces(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn count(&self) -> usize {
        // The registry has one share, its catalog another, and its thread a third.
        Arc::strong_count(&self.0).saturating_sub(3)
    }
}

impl Registry {
    /// Serves `catalog` on a loopback port that the system chooses, on its own thread, and
    /// reports each request to `observer`.
    pub fn start(catalog: Catalog, observer: Arc<dyn Observer>) -> io::Result<Self> {
        Self::listen((Ipv4Addr::LOCALHOST, 0).into(), catalog, observer)
    }

    /// The same at another address. There is no authentication.
    pub fn listen(
        address: SocketAddr,
        mut catalog: Catalog,
        observer: Arc<dyn Observer>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let transfers = Transfers::default();
        catalog.count_with(&transfers);
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            runtime.block_on(serve(listener, Arc::new(catalog), observer, stopped));
            runtime.shutdown_background();
        });
        Ok(Self { address, stop: Some(stop), thread: Some(thread), transfers })
    }

    /// How many blobs are being sent, and how many pieces clients have taken so far.
    #[must_use]
    pub fn transfers(&self) -> (usize, u64) {
        (self.transfers.count(), self.transfers.pieces())
    }

    /// Stops taking requests, and waits until the transfers that run are done.
    pub fn finish(mut self) {
        self.end(Stop::Gracefully);
    }

    fn end(&mut self, how: Stop) {
        if let Some(stop) = self.stop.take() {
            // If nobody listens, it has ended.
            let _ = stop.send(how);
        }
        if let Some(thread) = self.thread.take() {
            // The thread has no result that could be lost.
            let _ = thread.join();
        }
    }

    /// The address that it listens on: `127.0.0.1:PORT`.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.end(Stop::Now);
    }
}

async fn serve(
    listener: TcpListener,
    catalog: Arc<Catalog>,
    observer: Arc<dyn Observer>,
    stopped: oneshot::Receiver<Stop>,
) {
    // This can't fail: the listener already works.
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let (finish, finishing) = watch::channel(());
    let transfers = catalog.transfers.clone();
    let mut connections = JoinSet::new();
    let taking = async {
        loop {
            // The semaphore is never closed.
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            let Ok((connection, _)) = listener.accept().await else {
                // Usually there are too many open files, and other connections will close some.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let talk = talk(connection, catalog.clone(), observer.clone(), finishing.clone());
            connections.spawn(async move {
                talk.await;
                drop(permit);
            });
            // Those that are done need not be remembered.
            while connections.try_join_next().is_some() {}
        }
    };
    let how = tokio::select! {
        () = taking => Stop::Now,
        how = stopped => how.unwrap_or(Stop::Now),
    };
    if let Stop::Gracefully = how {
        drop(listener);
        drop(finish);
        let mut taken = transfers.pieces();
        while !connections.is_empty() {
            match tokio::time::timeout(STALL_TIMEOUT, connections.join_next()).await {
                Ok(_) => {}
                // Whoever takes nothing isn't waited for.
                Err(_) if transfers.pieces() == taken => return,
                Err(_) => taken = transfers.pieces(),
            }
        }
    }
}

/// Answers the requests of one connection, until it or the registry ends.
async fn talk(
    connection: TcpStream,
    catalog: Arc<Catalog>,
    observer: Arc<dyn Observer>,
    mut finishing: watch::Receiver<()>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = catalog.answer(&request);
        observer.observe(&Event::Served {
            method: request.method().as_str(),
            target: &request.uri().to_string(),
            status: response.status().as_u16(),
        });
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let talking = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(connection), service);
    let mut talking = pin!(talking);
    tokio::select! {
        // A client may hang up at any time.
        _ = talking.as_mut() => return,
        _ = finishing.changed() => {}
    }
    talking.as_mut().graceful_shutdown();
    let _ = talking.await;
}
