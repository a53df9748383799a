//! Benchmarks of the parts that need no network: `cargo bench --bench micro`.

#![allow(missing_docs)]

use std::hint::black_box;
use std::io::Write as _;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flate2::Compression;
use flate2::write::GzEncoder;
use n2c::formats::docker_archive::DockerArchive;
use n2c::formats::lockfile::{Entry, Lockfile};
use n2c::oci::digest::{Algorithm, Digest, Hasher, Verified};
use n2c::oci::image::{Image, ImageConfig};
use n2c::oci::location::Location;
use n2c::oci::manifest::Document;
use n2c::oci::media_type;
use n2c::oci::reference::Reference;
use n2c::registry::Challenge;
use n2c::store::StoreDirectory;
use n2c::store::nar::NarWriter;
use n2c::stream::decompress::Decompressor;
use n2c::stream::sink::NullSink;
use serde_json::{Value, json};

fn digest(number: usize) -> String {
    Digest::sha256(&number.to_le_bytes()).to_string()
}

/// Returns an index of `entries` images.
fn index(entries: usize) -> Vec<u8> {
    let entries: Vec<Value> = (0..entries)
        .map(|number| {
            json!({ "mediaType": media_type::OCI_MANIFEST, "digest": digest(number), "size": 1000,
                    "platform": { "os": "linux", "architecture": format!("arch{number}") } })
        })
        .collect();
    let index =
        json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries });
    index.to_string().into_bytes()
}

/// Returns an image with `layers` layers.
fn image(layers: usize) -> Image {
    let descriptor = |number: usize, kind: &str| json!({ "mediaType": kind, "digest": digest(number), "size": 1000 });
    let all: Vec<Value> =
        (0..layers).map(|n| descriptor(n, "application/vnd.oci.image.layer.v1.tar+gzip")).collect();
    let diff_ids: Vec<String> = (0..layers).map(|number| digest(number + 1000)).collect();
    let config = json!({ "os": "linux", "architecture": "amd64", "config": { "Env": ["PATH=/bin"] },
                         "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    let config = Verified::as_found(config.to_string().into_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "layers": all,
        "config": { "mediaType": media_type::OCI_CONFIG, "digest": config.digest().to_string(),
                    "size": config.bytes().len() },
    });
    let raw = Verified::as_found(manifest.to_string().into_bytes());
    let Ok(Document::Manifest(manifest)) = Document::parse("`bench`", raw, None) else {
        panic!("no manifest")
    };
    let config = ImageConfig::parse("`bench`", &config).expect("a config");
    Image::new("`bench`", manifest, config).expect("an image")
}

fn parsing(criterion: &mut Criterion) {
    let reference = format!("ghcr.io/acme/team/app:1.2.3@{}", digest(1));
    criterion.bench_function("reference", |bench| {
        bench.iter(|| black_box(&reference).parse::<Reference>().expect("a reference"));
    });
    let challenge = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:acme/app:pull""#;
    criterion.bench_function("challenge", |bench| {
        bench.iter(|| Challenge::parse_all([black_box(challenge)]));
    });
    for entries in [10, 100, 200, 1000] {
        let index = index(entries);
        criterion.bench_function(&format!("index of {entries}"), |bench| {
            bench.iter(|| {
                Document::parse("`bench`", Verified::as_found(black_box(index.clone())), None)
                    .expect("an index")
            });
        });
    }
}

fn lockfiles(criterion: &mut Criterion) {
    for layers in [10, 127] {
        let entry = Entry::new("linux/amd64".parse().expect("a platform"), &image(layers));
        let location: Location = format!("h.io/a/b:1@{}", digest(1)).parse().expect("a reference");
        let lockfile = Lockfile::single(location, entry);
        let text = lockfile.to_text();
        criterion.bench_function(&format!("write a lockfile of {layers} layers"), |bench| {
            bench.iter(|| black_box(&lockfile).to_text());
        });
        criterion.bench_function(&format!("read a lockfile of {layers} layers"), |bench| {
            bench
                .iter(|| Lockfile::parse("bench", black_box(text.as_bytes())).expect("a lockfile"));
        });
    }
}

fn hashing(criterion: &mut Criterion) {
    let store = StoreDirectory::default();
    let blob = Digest::sha256(b"blob");
    criterion.bench_function("store path", |bench| {
        bench.iter(|| black_box(&store).blob_path(black_box(&blob)));
    });
    let content = vec![0x5a; 1 << 20];
    let mut group = criterion.benchmark_group("1 MiB");
    group.throughput(Throughput::Bytes(1 << 20));
    group.bench_function("NAR hash", |bench| {
        bench.iter(|| {
            let mut nar = NarWriter::new(Hasher::new(Algorithm::Sha256)).expect("memory");
            nar.file(1 << 20, false).expect("memory");
            nar.get_mut().update(black_box(&content));
            nar.file_end(1 << 20).expect("memory");
            nar.into_inner().finish()
        });
    });
    let gzip = {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&content).expect("memory");
        gzip.finish().expect("memory")
    };
    group.bench_function("layer of a docker archive, from gzip", |bench| {
        bench.iter(|| {
            let mut layer = Decompressor::new(NullSink, Algorithm::Sha256);
            layer.write_all(black_box(&gzip)).expect("memory");
            layer.finish().expect("a layer").diff_id
        });
    });
    group.finish();
    let image = image(127);
    criterion.bench_function("end of a docker archive of 127 layers", |bench| {
        bench.iter(|| {
            DockerArchive::new(black_box(&image), &[]).expect("fits").end().expect("made")
        });
    });
}

criterion_group!(benches, parsing, lockfiles, hashing);
criterion_main!(benches);
