//! A registry in this process. It is read-only, listens on loopback, and serves only
//! what it was given (OCI distribution-spec, "Pull" and "Content discovery").
//!
//! A request never becomes a file path: names and digests are looked up in a [`Catalog`].

mod answer;
mod catalog;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, oneshot};

use crate::observer::{Event, Observer};
pub use answer::Answer;
pub use catalog::{Catalog, Error};

/// How many connections to serve at once. Others wait.
const CONNECTIONS: usize = 256;
/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A running registry, on a loopback port that the system chose. It stops when it is dropped.
pub struct Registry {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Registry {
    /// Serves `catalog` on its own thread, and reports each request to `observer`.
    pub fn start(catalog: Catalog, observer: Arc<dyn Observer>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, Arc::new(catalog), observer) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// The address that it listens on: `127.0.0.1:PORT`.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread has no result that could be lost.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, catalog: Arc<Catalog>, observer: Arc<dyn Observer>) {
    // This can't fail: the listener already works.
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        let Ok((connection, _)) = listener.accept().await else {
            // Usually there are too many open files, and other connections will close some.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (catalog, observer) = (catalog.clone(), observer.clone());
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let response = catalog.answer(&request);
                observer.observe(&Event::Served {
                    method: request.method().as_str(),
                    target: &request.uri().to_string(),
                    status: response.status().as_u16(),
                });
                std::future::ready(Ok::<_, Infallible>(response))
            });
            // A client may hang up at any time.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(connection), service)
                .await;
            drop(permit);
        });
    }
}
