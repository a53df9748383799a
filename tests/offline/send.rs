//! The library's futures can be awaited on any thread: a server that uses the library runs
//! on several. The test is that this compiles.

use std::path::Path;

use n2c::copy::Copier;
use n2c::formats::lockfile::{Entry, Lockfile};
use n2c::formats::oci_layout::Images;
use n2c::fs::OutputFile;
use n2c::observer::Observer;
use n2c::oci::image::Image;
use n2c::oci::location::Location;
use n2c::oci::manifest::Descriptor;
use n2c::oci::platform::Platform;
use n2c::oci::reference::Repository;
use n2c::registry::{BlobPush, BlobRequest, Client};
use n2c::resolve::{PendingImage, Resolution};
use n2c::source::LockedImages;
use n2c::store::StoreDirectory;
use n2c::stream::readable::Readable;
use n2c::stream::sink::Sink;
use n2c::upkeep::update::Updater;
use n2c::upkeep::verify;

fn is_send<T: Send>(_: T) {}

#[allow(dead_code)]
struct Parts<'a> {
    client: &'a Client,
    observer: &'a dyn Observer,
    location: &'a Location,
    platform: &'a Platform,
    resolution: &'a Resolution<'a>,
    locked: &'a LockedImages<'a>,
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

#[allow(dead_code)]
fn copies_are_send(
    copier: &Copier<'_>,
    (image, pending): (&Image, PendingImage<'_>),
    images: &Images<'_>,
    (first, second): (OutputFile, OutputFile),
) {
    is_send(copier.to_directory(pending, Path::new("")));
    is_send(copier.to_docker_archive(image, first, &[]));
    is_send(copier.to_oci_layout(images, Path::new(""), None));
    is_send(copier.to_oci_archive(images, second, None));
    is_send(copier.directory_hash(image));
    is_send(copier.docker_archive_hash(image, &[]));
}

#[allow(dead_code)]
fn upkeep_is_send(
    updater: &Updater<'_>,
    lockfile: &Lockfile,
    store: &StoreDirectory,
    client: &Client,
) {
    is_send(updater.update(&[lockfile]));
    is_send(updater.refresh(&[lockfile], store));
    is_send(verify::online(lockfile, client, 1));
}

#[allow(dead_code)]
fn pushes_are_send(client: &Client, to: &Repository, blob: &Descriptor, content: &dyn Readable) {
    let (repository, mounted) = (to, None);
    is_send(client.push_blob(&BlobPush { repository, blob, mounted, is_absent: false, content }));
}

#[test]
fn a_client_can_be_shared_by_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Client>();
    is_shared::<Resolution<'_>>();
}
