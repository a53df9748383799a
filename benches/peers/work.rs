//! What is measured, and how each program is asked to do it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::store::{self, Store};
use crate::support::images::{Blob, Image, index, write_layout};
use crate::support::program::n2c_in;
use crate::support::tools::Distribution;
use crate::{Contender, Work, built, copied, distance, images};

const N2C: &str = env!("CARGO_BIN_EXE_n2c");
const ROUND_TRIP: Duration = Duration::from_millis(50);
const ARCHITECTURE: &str = "--arch amd64";

/// A registry with images, one far away, a store, and lockfiles.
pub(crate) struct Place {
    registry: Distribution,
    far: SocketAddr,
    /// The one behind `far_encrypted`.
    _encrypted: Distribution,
    far_encrypted: SocketAddr,
    store: Store,
    directory: TempDir,
    /// What layers are made of.
    built: TempDir,
    /// What is copied into a registry.
    copied: TempDir,
    large: Image,
    huge: Image,
    four: Image,
    many: Image,
    /// What `bench/index:1` leads to for this platform.
    listed: Image,
}

/// A current skopeo, which Debian's is not.
pub(crate) fn skopeo() -> Option<String> {
    std::env::var("N2C_BENCH_SKOPEO").ok().filter(|path| !path.is_empty())
}

pub(crate) fn crane() -> Option<String> {
    program("N2C_BENCH_CRANE", "crane")
}

pub(crate) fn nix2container() -> Option<String> {
    program("N2C_BENCH_NIX2CONTAINER", "nix2container")
}

/// A program of the user's: where a variable says, or on the `PATH`.
fn program(variable: &str, name: &str) -> Option<String> {
    let named = std::env::var(variable).ok().filter(|path| !path.is_empty());
    let is_there = || Command::new(name).arg("--help").output().is_ok();
    named.or_else(|| is_there().then(|| name.to_owned()))
}

fn one(name: &'static str, script: String) -> Contender {
    maybe(name, Some(script))
}

fn maybe(name: &'static str, script: Option<String>) -> Contender {
    Contender { name, prepare: String::new(), script, times: 1.0 }
}

/// Makes a certificate, and what a registry with it has in its settings.
fn tls_settings(directory: &Path) -> String {
    let names = vec!["127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| directory.join(name));
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display())
}

/// Pushes an image for two platforms, and returns the first.
fn push_index(registry: &Distribution) -> Image {
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
    let [first, _] = all;
    first
}

impl Place {
    pub(crate) fn prepare() -> Self {
        let registry = Distribution::start();
        let far = distance::start(registry.host().to_owned(), ROUND_TRIP);
        let directory = tempfile::tempdir().expect("a directory");
        let encrypted = Distribution::start_with(&tls_settings(directory.path()), "");
        let far_encrypted = distance::start(encrypted.host().to_owned(), ROUND_TRIP);
        let push = |image: Image, name: &str| {
            registry.push_image(&image, &format!("bench/{name}:1"));
            image
        };
        let large = push(images::image(1, 400_000_000), "large");
        let huge = push(images::image(1, 1_000_000_000), "huge");
        let four = push(images::image(4, 100_000_000), "four");
        let many = push(images::image(42, 64 << 10), "many");
        encrypted.push_image(&many, "bench/many:1");
        let listed = push_index(&registry);
        for number in 0..100 {
            push(Image::new("linux/amd64", &[&number.to_string()]), &format!("small{number}"));
        }
        let place = Self {
            registry,
            far,
            _encrypted: encrypted,
            far_encrypted,
            store: Store::start(),
            directory,
            built: built::prepare(),
            copied: copied::prepare(),
            large,
            huge,
            four,
            many,
            listed,
        };
        place.write_files();
        place
    }

    /// What some of the programs read.
    fn write_files(&self) {
        let here = self.directory.path();
        let host = self.registry.host();
        let lock = |reference: &str, file: &str| {
            let arguments = ["lock", reference, "--arch=amd64", "-q", "-o", file];
            assert_eq!(n2c_in(here, &arguments).code, 0);
        };
        std::fs::create_dir(here.join("lockfiles")).expect("a folder");
        for number in 0..100 {
            let reference = format!("{}/bench/small{number}:1", self.far);
            lock(&reference, &format!("lockfiles/{number}.json"));
        }
        lock(&format!("{host}/bench/huge:1"), "huge.json");
        lock(&format!("{host}/bench/many:1"), "many.json");
        std::fs::write(self.huge_file(), &self.huge.layers[0].bytes).expect("written");
        let mut map = serde_json::Map::new();
        let mut urls = String::new();
        for blob in self.many.layers.iter().chain([&self.many.config]) {
            let (digest, file) = (blob.digest(), here.join(blob.digest().hex()));
            std::fs::write(&file, &blob.bytes).expect("written");
            map.insert(digest.hex().to_owned(), file.display().to_string().into());
            let url = format!("http://{}/v2/bench/many/blobs/{digest}", self.far);
            // Writing to a string can't fail.
            let _ = writeln!(urls, "url={url}\noutput={}", digest.hex());
        }
        let map = serde_json::Value::from(map).to_string();
        std::fs::write(here.join("blobs.json"), map).expect("written");
        std::fs::write(here.join("urls"), urls).expect("written");
    }

    fn huge_file(&self) -> PathBuf {
        self.directory.path().join("huge")
    }

    pub(crate) fn all(&self) -> Vec<Work> {
        let (near, far) = (self.registry.host().to_owned(), self.far.to_string());
        let encrypted = self.far_encrypted.to_string();
        let work = |name, contenders| Work { name, contenders };
        let mut works = vec![
            work("lock, 50 ms away", self.lock(&far)),
            work("lock, on loopback", self.lock(&near)),
            work("one layer of 400 MB", self.layer(&near)),
            work("pull, 4 × 100 MB", self.pull_four(&near)),
            work("pull, 42 layers, 50 ms away", self.pull_many(&far)),
            work(
                "pull, 42 layers, TLS, 50 ms away",
                pull(&encrypted, "many", "--tls-verify=false"),
            ),
            work("hash, 400 MB", self.hash(&near)),
            work("check of 100 lockfiles, 50 ms away", self.check(&far)),
            work("image.json of 42 layers", self.image_json()),
            work("1 GB into a store", self.prefetch()),
            work(
                "a layer of 2 GB in 8 files",
                self.layers("large", "", "cat large/* | openssl sha256 > sum"),
            ),
            work(
                "8 layers of 2 GB in all",
                self.layers("eight", "--max-layers 8", "cat large/* | openssl sha256 > sum"),
            ),
            work(
                "a layer of 50,000 files",
                self.layers("small", "", "tar -c small | openssl sha256 > sum"),
            ),
            work(
                "the same with 40 rules",
                self.layers("small", "--perms perms.json", "tar -c small | openssl sha256 > sum"),
            ),
            work(
                "20,000 store paths in 100 layers",
                self.layers("graph", "--max-layers 100", "tar -c graph | openssl sha256 > sum"),
            ),
        ];
        works.extend(copied::works(self.copied.path(), &near, &self.far.to_string()));
        works
    }

    /// Layers of the store paths in a graph, hashed: `floor` only reads and hashes them.
    fn layers(&self, graph: &str, options: &str, floor: &str) -> Vec<Contender> {
        let folder = self.built.path().display();
        let layers = |program: &str| {
            format!(
                "cd {folder} && {program} layers-from-reproducible-storepaths out.json {graph}.json {options}"
            )
        };
        vec![
            one("n2c layers", layers(N2C)),
            maybe("nix2container", nix2container().map(|program| layers(&program) + " 2> log")),
            one("tar or cat, and openssl", format!("cd {folder} && {floor}")),
        ]
    }

    fn lock(&self, host: &str) -> Vec<Contender> {
        let script = self.directory.path().join(format!("get-manifest-{host}"));
        std::fs::write(&script, get_manifest(host)).expect("written");
        let url = format!("http://{host}/v2/bench/index");
        let [manifest, config] = [&self.listed.manifest, &self.listed.config].map(Blob::digest);
        let accept = "-H 'Accept: application/vnd.oci.image.index.v1+json' \
                      -H 'Accept: application/vnd.oci.image.manifest.v1+json'";
        vec![
            one("n2c lock", format!("{N2C} lock {host}/bench/index:1 {ARCHITECTURE} -q > manifest.json")),
            one("getManifest", format!("bash {}", script.display())),
            maybe("crane manifest", crane().map(|crane| {
                format!("{crane} manifest --insecure --platform linux/amd64 {host}/bench/index:1 > manifest.json")
            })),
            one("curl of the same three", format!(
                "curl -sSf {accept} {url}/manifests/1 {url}/manifests/{manifest} {url}/blobs/{config} > all"
            )),
        ]
    }

    fn layer(&self, host: &str) -> Vec<Contender> {
        let layer = self.large.layers[0].digest();
        let url = format!("http://{host}/v2/bench/large/blobs/{layer}");
        vec![
            one("n2c blob", format!("{N2C} blob -q {host}/bench/large {layer} -o out")),
            one("curl, tee, openssl", format!("curl -sSf {url} | tee out | openssl sha256 > sum")),
            one("Debian's skopeo", copy("skopeo", host, "large", "dir:out")),
            maybe("skopeo", skopeo().map(|skopeo| copy(&skopeo, host, "large", "dir:out"))),
            maybe(
                "crane blob",
                crane().map(|crane| {
                    format!("{crane} blob --insecure {host}/bench/large@{layer} > out")
                }),
            ),
        ]
    }

    fn pull_four(&self, host: &str) -> Vec<Contender> {
        // All at once, by somebody who knows the digests already.
        let mut floor = String::new();
        for layer in &self.four.layers {
            let digest = layer.digest();
            let url = format!("http://{host}/v2/bench/four/blobs/{digest}");
            let hex = digest.hex();
            // Writing to a string can't fail.
            let _ = write!(floor, "curl -sSf {url} | tee {hex} | openssl sha256 > {hex}.sum & ");
        }
        let mut contenders = pull(host, "four", "");
        contenders.push(one("4 × curl, tee, openssl", floor + "wait"));
        contenders
    }

    fn pull_many(&self, host: &str) -> Vec<Contender> {
        let urls = self.directory.path().join("urls");
        let floor =
            format!("curl -sSfZ --parallel-immediate --parallel-max 50 -K {}", urls.display());
        let mut contenders = pull(host, "many", "");
        contenders.push(one("curl of the blobs", floor));
        contenders
    }

    fn hash(&self, host: &str) -> Vec<Contender> {
        // What nix-prefetch-docker does.
        let pull = copy("skopeo", host, "four", "docker-archive:out.tar:four:1");
        let hash = "nix-hash --flat --type sha256 --base32 out.tar > sum";
        let add = format!("{}; nix-store --add-fixed sha256 out.tar > path", self.store.setup());
        let n2c =
            format!("{N2C} hash -q {host}/bench/four:1 {ARCHITECTURE} --for dockerTools > sum");
        let prefetch = one("skopeo, nix-hash, nix-store", format!("{pull} && {hash} && {add}"));
        vec![one("n2c hash", n2c), Contender { prepare: self.store.empty(), ..prefetch }]
    }

    fn check(&self, host: &str) -> Vec<Contender> {
        let folder = self.directory.path();
        // Ten of a hundred, each as the script does it.
        let ten: Vec<String> = (0..10)
            .map(|number| {
                let image = format!("small{number}");
                format!("skopeo inspect --tls-verify=false --raw docker://{host}/bench/{image}:1 | jq > {image}.json")
            })
            .collect();
        let update = format!("cd {} && {N2C} update --check -q > /dev/null", folder.display());
        let ten = one("100 × getManifest", ten.join("\n"));
        vec![one("n2c update", update), Contender { times: 10.0, ..ten }]
    }

    fn image_json(&self) -> Vec<Contender> {
        let here = self.directory.path().display();
        let arguments = format!("image-from-manifest out.json {here}/many.json {here}/blobs.json");
        vec![
            one("n2c image-from-manifest", format!("{N2C} {arguments}")),
            maybe(
                "nix2container",
                nix2container().map(|program| format!("{program} {arguments} 2> /dev/null")),
            ),
        ]
    }

    fn prefetch(&self) -> Vec<Contender> {
        let (setup, socket) = (self.store.setup(), self.store.socket());
        let this = std::env::current_exe().expect("this program");
        let (file, name) = (self.huge_file(), self.huge.layers[0].digest());
        let bare = format!(
            "{} {} {} {} {}",
            this.display(),
            store::FLAG,
            socket.display(),
            file.display(),
            name.hex()
        );
        let here = self.directory.path().display();
        [
            one("n2c prefetch", format!("{setup}; {N2C} prefetch -q {here}/huge.json")),
            one("a bare client, from a file", bare),
            one(
                "nix-store, from a file",
                format!(
                    "{setup}; NIX_REMOTE=daemon nix-store --add-fixed sha256 {} > path",
                    file.display()
                ),
            ),
        ]
        .into_iter()
        .map(|contender| Contender { prepare: self.store.empty(), ..contender })
        .collect()
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

fn copy(skopeo: &str, host: &str, image: &str, destination: &str) -> String {
    let options = "--insecure-policy copy -q --src-tls-verify=false";
    format!("{skopeo} {options} docker://{host}/bench/{image}:1 {destination}")
}

fn pull(host: &str, image: &str, options: &str) -> Vec<Contender> {
    let n2c = format!("{N2C} pull {host}/bench/{image}:1 dir:out {ARCHITECTURE} -q {options}");
    let crane = crane()
        .map(|crane| format!("{crane} pull --insecure --format=oci {host}/bench/{image}:1 out"));
    vec![
        one("n2c pull", n2c),
        one("Debian's skopeo", copy("skopeo", host, image, "dir:out")),
        maybe("skopeo", skopeo().map(|skopeo| copy(&skopeo, host, image, "dir:out"))),
        maybe("crane pull", crane),
    ]
}
