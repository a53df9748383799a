//! Pushes to CNCF distribution: what n2c's client pushes, skopeo reads back.

use std::sync::Arc;

use bytes::Bytes;
use n2c::environment::Environment;
use n2c::observer::Silent;
use n2c::oci::digest::Verified;
use n2c::oci::manifest::Descriptor;
use n2c::oci::reference::Repository;
use n2c::registry::{BlobPush, Client, ClientOptions, ManifestPush, Pushed};

use crate::support::images::{Blob, Image};
use crate::support::tools::{Distribution, skopeo};

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

async fn push_blob(
    client: &Client,
    repository: &Repository,
    blob: &Blob,
    mounted: Option<&Repository>,
) -> Pushed {
    let descriptor: Descriptor = serde_json::from_value(blob.descriptor()).expect("a descriptor");
    let content = Bytes::from(blob.bytes.clone());
    let (blob, content) = (&descriptor, &content);
    let push = BlobPush { repository, blob, mounted, is_absent: false, content };
    client.push_blob(&push).await.expect("pushed")
}

#[test]
#[ignore = "needs docker-registry and skopeo; run `tests/run`"]
fn skopeo_reads_what_was_pushed_and_a_second_repository_mounts_it() {
    // Locations of uploads are absolute by default.
    for settings in ["", "  relativeurls: true\n"] {
        let registry = Distribution::start_with(settings, "");
        let image = Image::new("linux/amd64", &["base", "top"]);
        let client = Client::new(
            ClientOptions { environment: Environment::default(), ..ClientOptions::default() },
            Arc::new(Silent),
        )
        .expect("a client");
        let repository =
            |name: &str| -> Repository { registry.reference(name).parse().expect("a repository") };
        let (first, second) = (repository("team/first"), repository("team/second"));
        let blobs: Vec<&Blob> = image.layers.iter().chain([&image.config]).collect();
        wait(async {
            let raw = Verified::as_found(image.manifest.bytes.clone());
            for (repository, mounted, expected) in
                [(&first, None, Pushed::Sent), (&second, Some(&first), Pushed::Mounted)]
            {
                for blob in &blobs {
                    let pushed = push_blob(&client, repository, blob, mounted).await;
                    assert_eq!(pushed, expected, "{}", blob.media_type);
                    let again = push_blob(&client, repository, blob, mounted).await;
                    assert_eq!(again, Pushed::Present);
                }
                let media_type = &image.manifest.media_type;
                let put = client
                    .push_manifest(&ManifestPush {
                        repository,
                        tag: Some("v1"),
                        media_type,
                        raw: &raw,
                    })
                    .await;
                put.expect("pushed");
            }
        });
        for name in ["team/first:v1", "team/second:v1"] {
            let source = format!("docker://{}", registry.reference(name));
            let raw = skopeo(&["inspect", "--tls-verify=false", "--raw", &source]);
            assert_eq!(raw, image.manifest.bytes);
            let directory = tempfile::tempdir().expect("a directory");
            let copy = format!("dir:{}", directory.path().join("copy").display());
            skopeo(&["copy", "--quiet", "--src-tls-verify=false", &source, &copy]);
            for blob in &blobs {
                let path = directory.path().join("copy").join(blob.digest().hex());
                assert_eq!(std::fs::read(path).expect("a blob"), blob.bytes);
            }
        }
    }
}
