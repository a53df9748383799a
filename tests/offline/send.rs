//! The library's futures can be awaited on any thread: a server that uses the library runs
//! on several. The test is that this compiles.

use n2c::formats::lockfile::Entry;
use n2c::observer::Observer;
use n2c::oci::location::Location;
use n2c::oci::platform::Platform;
use n2c::registry::{BlobRequest, Client};
use n2c::resolve::Resolution;
use n2c::source::Locked;
use n2c::stream::sink::Sink;

fn is_send<T: Send>(_: T) {}

#[allow(dead_code)]
struct Parts<'a> {
    client: &'a Client,
    observer: &'a dyn Observer,
    location: &'a Location,
    platform: &'a Platform,
    resolution: &'a Resolution<'a>,
    locked: &'a Locked<'a>,
    entry: &'a Entry,
}

#[allow(dead_code)]
fn futures_are_send(parts: &Parts<'_>, blob: &BlobRequest<'_>, sink: &mut dyn Sink) {
    is_send(parts.client.download(blob, sink));
    is_send(Resolution::open(parts.location, parts.client, parts.observer));
    is_send(parts.resolution.image(parts.platform));
    is_send(parts.resolution.pending(parts.platform));
    is_send(parts.locked.served_image(parts.entry));
}

#[test]
fn a_client_can_be_shared_by_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Client>();
    is_shared::<Resolution<'_>>();
}
