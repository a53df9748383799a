//! What is measured, and how each program is asked to do it.

use std::net::SocketAddr;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::images::{Image, index, write_layout};
use crate::support::program::n2c_in;
use crate::support::tools::Distribution;
use crate::{Contender, Work, distance, images};

const N2C: &str = env!("CARGO_BIN_EXE_n2c");
const ROUND_TRIP: Duration = Duration::from_millis(50);

/// A registry with images, one far away, and lockfiles.
pub(crate) struct Place {
    registry: Distribution,
    far: SocketAddr,
    directory: TempDir,
    large_layer: String,
}

fn one(name: &'static str, script: String) -> Contender {
    Contender { name, script: Some(script), times: 1.0 }
}

/// A program of the user's, where a variable names it.
fn maybe(name: &'static str, variable: &str, script: impl Fn(&str) -> String) -> Contender {
    let program = std::env::var(variable).ok().filter(|path| !path.is_empty());
    Contender { name, script: program.map(|program| script(&program)), times: 1.0 }
}

/// Pushes an image for two platforms.
fn push_index(registry: &Distribution) {
    let all = ["linux/amd64", "linux/arm64"].map(|platform| Image::new(platform, &[platform]));
    let entries = [all[0].manifest.entry("linux/amd64"), all[1].manifest.entry("linux/arm64")];
    let mut blobs = Vec::new();
    for image in &all {
        blobs.extend([&image.manifest, &image.config]);
        blobs.extend(&image.layers);
    }
    let layout = tempfile::tempdir().expect("a directory");
    write_layout(layout.path(), &[("1", &index(&entries))], &blobs);
    registry.push(layout.path(), "1", "bench/index:1", &["--preserve-digests"]);
}

impl Place {
    pub(crate) fn prepare() -> Self {
        let registry = Distribution::start();
        let far = distance::start(registry.host().to_owned(), ROUND_TRIP);
        let large = images::image(1, 400_000_000);
        let large_layer = large.layers[0].digest().to_string();
        registry.push_image(&large, "bench/large:1");
        registry.push_image(&images::image(4, 100_000_000), "bench/four:1");
        registry.push_image(&images::image(42, 64 << 10), "bench/many:1");
        push_index(&registry);
        for number in 0..100 {
            let image = crate::support::images::Image::new("linux/amd64", &[&number.to_string()]);
            registry.push_image(&image, &format!("bench/small{number}:1"));
        }
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("lockfiles")).expect("a folder");
        let place = Self { registry, far, directory, large_layer };
        for number in 0..100 {
            let reference = format!("{far}/bench/small{number}:1");
            let file = format!("lockfiles/{number}.json");
            let arguments = ["lock", &reference, "--arch=amd64", "-q", "-o", &file];
            assert_eq!(n2c_in(place.directory.path(), &arguments).code, 0);
        }
        place
    }

    pub(crate) fn all(&self) -> Vec<Work> {
        let (near, far) = (self.registry.host().to_owned(), self.far.to_string());
        let work = |name, contenders| Work { name, contenders };
        vec![
            work("lock, 50 ms away", lock(&far)),
            work("lock, on loopback", lock(&near)),
            work("one layer of 400 MB", self.layer(&near)),
            work("pull, 4 × 100 MB", pull(&near, "four")),
            work("pull, 42 layers, 50 ms away", pull(&far, "many")),
            work("hash, 400 MB", hash(&near)),
            work("check of 100 lockfiles, 50 ms away", self.check(&far)),
        ]
    }

    fn layer(&self, host: &str) -> Vec<Contender> {
        let layer = &self.large_layer;
        let url = format!("http://{host}/v2/bench/large/blobs/{layer}");
        vec![
            one("n2c blob", format!("{N2C} blob -q {host}/bench/large {layer} -o out")),
            one("curl, tee, openssl", format!("curl -sSf {url} | tee out | openssl sha256 > sum")),
            one("Debian's skopeo", copy("skopeo", host, "large", "dir:out")),
        ]
    }

    fn check(&self, host: &str) -> Vec<Contender> {
        let project = self.directory.path().display();
        // Ten of a hundred, each as the script does it.
        let ten: Vec<String> = (0..10)
            .map(|number| {
                let image = format!("small{number}");
                format!("skopeo inspect --tls-verify=false --raw docker://{host}/bench/{image}:1 | jq > {image}.json")
            })
            .collect();
        vec![
            one("n2c update", format!("cd {project} && {N2C} update --check -q > /dev/null")),
            Contender { name: "100 × getManifest", script: Some(ten.join("\n")), times: 10.0 },
        ]
    }
}

/// Upstream's `getManifest`, as its script does it.
fn get_manifest(host: &str) -> String {
    let inspect = format!("skopeo inspect --tls-verify=false --raw docker://{host}/bench/index");
    let pick =
        ".manifests[] | select(.platform == {os: \"linux\", architecture: \"amd64\"}) | .digest";
    format!(
        "manifest=$({inspect}:1 | jq); echo \"$manifest\" | jq -e .manifests > /dev/null; \
         {inspect}@$(echo \"$manifest\" | jq -r '{pick}') | jq > manifest.json"
    )
}

fn lock(host: &str) -> Vec<Contender> {
    vec![
        one("n2c lock", format!("{N2C} lock {host}/bench/index:1 --arch amd64 -q > manifest.json")),
        one("getManifest", get_manifest(host)),
        maybe("crane manifest", "N2C_BENCH_CRANE", |crane| {
            format!(
                "{crane} manifest --insecure --platform linux/amd64 {host}/bench/index:1 > manifest.json"
            )
        }),
    ]
}

fn copy(skopeo: &str, host: &str, image: &str, destination: &str) -> String {
    let options = "--insecure-policy copy -q --src-tls-verify=false";
    format!("{skopeo} {options} docker://{host}/bench/{image}:1 {destination}")
}

fn pull(host: &str, image: &str) -> Vec<Contender> {
    vec![
        one("n2c pull", format!("{N2C} pull {host}/bench/{image}:1 dir:out --arch amd64 -q")),
        one("Debian's skopeo", copy("skopeo", host, image, "dir:out")),
        maybe("skopeo", "N2C_BENCH_SKOPEO", |skopeo| copy(skopeo, host, image, "dir:out")),
        maybe("crane pull", "N2C_BENCH_CRANE", |crane| {
            format!("{crane} pull --insecure --format=oci {host}/bench/{image}:1 out")
        }),
    ]
}

fn hash(host: &str) -> Vec<Contender> {
    // What nix-prefetch-docker does, but for adding to a store.
    let prefetch = copy("skopeo", host, "four", "docker-archive:out.tar:four:1");
    let hash = "nix-hash --flat --type sha256 --base32 out.tar > sum";
    let n2c = format!("{N2C} hash -q {host}/bench/four:1 --arch amd64 --for dockerTools > sum");
    vec![one("n2c hash", n2c), one("skopeo + nix-hash", format!("{prefetch} && {hash}"))]
}
