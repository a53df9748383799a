//! Private and encrypted registries, and a proxy: CNCF distribution with its various kinds
//! of authentication, and tinyproxy. `tests/run` installs them.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use n2c::observer::Silent;
use n2c::oci::manifest::Descriptor;
use n2c::oci::reference::Repository;
use n2c::registry::{BlobPush, Client, ClientOptions, Pushed};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use url::form_urlencoded;

use crate::support::images::{Blob, Image, write_layout};
use crate::support::program::{Run, command, n2c_in, n2c_with};
use crate::support::registry::{Registry, Reply};
use crate::support::tools::{Distribution, run};

const PASSWORD: &str = "open-sesame";

/// Pushes a small image as `private/app:1`.
fn push(registry: &Distribution, more: &[&str]) -> Image {
    let layout = tempfile::tempdir().expect("a directory");
    let image = Image::new("linux/amd64", &["one", "two"]);
    let blobs = [&image.config, &image.layers[0], &image.layers[1]];
    write_layout(layout.path(), &[("1", &image.manifest)], &blobs);
    registry.push(layout.path(), "1", "private/app:1", &[&["--preserve-digests"], more].concat());
    image
}

fn auth_file(directory: &Path, key: &str, password: &str) {
    let auth = STANDARD.encode(format!("bob:{password}"));
    let file = json!({ "auths": { key: { "auth": auth } } });
    std::fs::write(directory.join("auth.json"), file.to_string()).expect("written");
}

/// Checks that bob can lock, inspect and fetch a layer, and that all three are denied with
/// a wrong password and without credentials.
fn assert_closed_but_for_bob(registry: &Distribution, image: &Image) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let (reference, repository) =
        (registry.reference("private/app:1"), registry.reference("private/app"));
    let layer = image.layers[1].digest().to_string();
    let commands: [&[&str]; 3] = [
        &["lock", &reference, "--arch", "amd64"],
        &["inspect", &reference, "--arch", "amd64"],
        &["blob", &repository, &layer, "-o", "layer"],
    ];
    let with_file = ["--authfile", "auth.json", "-v"];
    for password in [PASSWORD, "wrong-password"] {
        // a key for the repository, which docker itself doesn't support
        auth_file(path, &repository, password);
        for arguments in commands {
            let run = n2c_in(path, &[arguments, &with_file].concat());
            if password == PASSWORD {
                assert_eq!(run.code, 0, "{}", run.stderr);
            } else {
                assert!(run.error(5).contains("user `bob`"), "{}", run.stderr);
            }
            assert!(!run.stderr.contains(password), "{}", run.stderr);
        }
    }
    for arguments in commands {
        assert!(n2c_in(path, arguments).error(5).contains("(no credentials)"));
    }
    assert_eq!(std::fs::read(path.join("layer")).expect("the layer"), image.layers[1].bytes);
}

/// Checks that bob can copy an image within the registry, which mounts its blobs, and that
/// nobody else can.
fn assert_copied_by_bob_alone(registry: &Distribution) {
    let directory = tempfile::tempdir().expect("a directory");
    let name = |name: &str| format!("docker://{}", registry.reference(name));
    let (from, to) = (name("private/app:1"), name("private/copy:2"));
    let copy = |options: &[&str]| {
        let arguments = ["copy", &from, &to, "--arch", "amd64"];
        n2c_in(directory.path(), &[&arguments, options].concat())
    };
    let (right, wrong) = (format!("bob:{PASSWORD}"), "bob:wrong-password");
    let source = ["--src-creds", &right];
    assert!(copy(&[&source[..], &["--dest-creds", wrong]].concat()).error(5).contains("denied"));
    let denied = copy(&[&source[..], &["--dest-no-creds"]].concat());
    assert!(denied.error(5).contains("(no credentials)"), "{}", denied.stderr);
    let run = copy(&[&source[..], &["--dest-creds", &right]].concat());
    assert!(run.text().starts_with(&registry.reference("private/copy@sha256:")), "{}", run.stderr);
    assert_eq!(run.stderr.matches("note: mounted").count(), 3, "{}", run.stderr);
}

#[test]
#[ignore = "needs docker-registry, skopeo and htpasswd; run `tests/run`"]
fn a_registry_with_htpasswd() {
    let directory = tempfile::tempdir().expect("a directory");
    let users = directory.path().join("users");
    std::fs::write(&users, run("htpasswd", &["-Bbn", "bob", PASSWORD])).expect("written");
    let auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", users.display());
    let registry = Distribution::start_with("", &auth);
    let image = push(&registry, &["--dest-creds", &format!("bob:{PASSWORD}")]);
    assert_closed_but_for_bob(&registry, &image);
    assert_copied_by_bob_alone(&registry);
}

/// A token service that knows bob, and signs its tokens as distribution requires
/// (distribution `docs/content/spec/auth/jwt.md`).
fn token_service(key: &KeyPair, certificate: &rcgen::Certificate) -> Registry {
    let service = Registry::start();
    let signer =
        jsonwebtoken::EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).expect("a key");
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
    header.x5c = Some(vec![STANDARD.encode(certificate.der())]);
    let expected = format!("Basic {}", STANDARD.encode(format!("bob:{PASSWORD}")));
    service.hook(move |call| {
        let query = call.target.split_once('?').map_or("", |(_, query)| query);
        let is_bob = call.header("authorization") == Some(&expected);
        if call.header("authorization").is_some() && !is_bob {
            return Some(Reply::error(401, "UNAUTHORIZED", "who is that?"));
        }
        let access: Vec<Value> = form_urlencoded::parse(query.as_bytes())
            .filter(|(name, _)| name == "scope")
            .filter_map(|(_, scope)| {
                let (rest, actions) = scope.rsplit_once(':')?;
                let (kind, name) = rest.split_once(':')?;
                let actions: Vec<&str> = actions.split(',').filter(|_| is_bob).collect();
                Some(json!({ "type": kind, "name": name, "actions": actions }))
            })
            .collect();
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_secs();
        let claims = json!({
            "iss": "test", "aud": "registry", "sub": "bob", "jti": "1",
            "iat": now, "nbf": now - 5, "exp": now + 300, "access": access,
        });
        let token = jsonwebtoken::encode(&header, &claims, &signer).expect("a token");
        Some(Reply::new(200, json!({ "token": token, "expires_in": 300 }).to_string()))
    });
    service
}

#[test]
#[ignore = "needs docker-registry and skopeo; run `tests/run`"]
fn a_registry_with_signed_tokens() {
    let directory = tempfile::tempdir().expect("a directory");
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::default().self_signed(&key).expect("a certificate");
    let bundle = directory.path().join("bundle.pem");
    std::fs::write(&bundle, certificate.pem()).expect("written");
    let service = token_service(&key, &certificate);
    let auth = format!(
        "auth:\n  token:\n    realm: http://{}/token\n    service: registry\n    issuer: test\n    rootcertbundle: {}\n",
        service.host(),
        bundle.display()
    );
    let registry = Distribution::start_with("", &auth);
    let image = push(&registry, &["--dest-creds", &format!("bob:{PASSWORD}")]);
    assert_closed_but_for_bob(&registry, &image);
    assert_copied_by_bob_alone(&registry);

    // "with a bearer token, 5" requests, for an index. This image has no index, so 4; and
    // 3 for a blob.
    let path = directory.path();
    auth_file(path, &registry.reference("private/app"), PASSWORD);
    let (asked, told) = (registry.requests_of_n2c().len(), service.calls().len());
    let reference = registry.reference("private/app:1");
    n2c_in(path, &["lock", &reference, "--arch", "amd64", "--authfile", "auth.json"]).json();
    let requests = registry.requests_of_n2c().split_off(asked);
    let config = image.config.digest();
    let expected = [
        "GET /v2/private/app/manifests/1 401".to_owned(),
        "GET /v2/private/app/manifests/1 200".to_owned(),
        format!("GET /v2/private/app/blobs/{config} 200"),
    ];
    assert_eq!((requests.as_slice(), service.calls().len() - told), (&expected[..], 1));
    let (asked, told) = (registry.requests_of_n2c().len(), service.calls().len());
    let (repository, digest) = (registry.reference("private/app"), config.to_string());
    n2c_in(path, &["blob", &repository, &digest, "-o", "config", "--authfile", "auth.json"]);
    let requests = registry.requests_of_n2c().split_off(asked);
    let get = format!("GET /v2/private/app/blobs/{config}");
    assert_eq!(requests, [format!("{get} 401"), format!("{get} 200")]);
    assert_eq!(service.calls().len() - told, 1);

    // To push, and to mount from another repository, tokens must allow that.
    let options = ClientOptions { authfile: Some(path.join("auth.json")), ..Default::default() };
    auth_file(path, registry.host(), PASSWORD);
    let client = Client::new(options, Arc::new(Silent)).expect("a client");
    let blob: Descriptor =
        serde_json::from_value(image.layers[0].descriptor()).expect("a descriptor");
    let content = Bytes::from(image.layers[0].bytes.clone());
    let [from, mounted, sent] = ["app", "mounted", "sent"].map(|name| -> Repository {
        registry.reference(&format!("private/{name}")).parse().expect("a repository")
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        for (repository, mounted, expected) in
            [(&mounted, Some(&from), Pushed::Mounted), (&sent, None, Pushed::Sent)]
        {
            let (blob, content) = (&blob, &content);
            let push = BlobPush { repository, blob, mounted, is_absent: false, content };
            assert_eq!(client.push_blob(&push).await.expect("pushed"), expected);
        }
    });
    let scopes: Vec<String> = service.calls()[told + 1..]
        .iter()
        .map(|call| {
            let query = call.target.split_once('?').map_or("", |(_, query)| query);
            let pairs = form_urlencoded::parse(query.as_bytes());
            let scopes =
                pairs.filter(|(name, _)| name == "scope").map(|(_, scope)| scope.into_owned());
            scopes.collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert!(
        scopes.iter().any(|scope| scope.contains("private/mounted:pull,push")
            && scope.contains("private/app:pull")),
        "{scopes:?}"
    );
    assert!(scopes.iter().any(|scope| scope.contains("private/sent:pull,push")), "{scopes:?}");
}

/// A private certificate authority, with a server certificate for the given names and a
/// client certificate for bob.
struct Authority {
    directory: TempDir,
}

impl Authority {
    fn new(names: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "a private authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"))
            .expect("an authority");
        std::fs::write(directory.path().join("ca.crt"), issuer.pem()).expect("written");
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (file, names) in [("server", names), ("client", vec!["bob".to_owned()])] {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(names).expect("names");
            let certificate = params.signed_by(&key, &issuer).expect("a certificate");
            std::fs::write(directory.path().join(format!("{file}.cert")), certificate.pem())
                .expect("written");
            std::fs::write(directory.path().join(format!("{file}.key")), key.serialize_pem())
                .expect("written");
        }
        Self { directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The settings of a registry with the server certificate. If `wants_client`, it requires
    /// a client certificate.
    fn settings(&self, wants_client: bool) -> String {
        let client = if wants_client {
            format!("    clientcas:\n      - {}\n", self.file("ca.crt").display())
        } else {
            String::new()
        };
        let (certificate, key) = (self.file("server.cert"), self.file("server.key"));
        format!(
            "  tls:\n    certificate: {}\n    key: {}\n{client}",
            certificate.display(),
            key.display()
        )
    }
}

fn lock_with(
    registry: &Distribution,
    host: &str,
    directory: &Path,
    options: &[&str],
    variables: &[(&str, &str)],
) -> Run {
    let reference = registry.reference("private/app:1").replace("127.0.0.1", host);
    let arguments = [&["lock", &reference, "--arch", "amd64"], options].concat();
    n2c_with(directory, &arguments, variables)
}

// protocol rules 71 and 72
#[test]
#[ignore = "needs docker-registry and skopeo; run `tests/run`"]
fn rule_72_a_registry_with_a_private_certificate_authority() {
    let authority = Authority::new(&["127.0.0.1"]);
    let registry = Distribution::start_with(&authority.settings(false), "");
    push(&registry, &[]);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let lock = |options: &[&str], variables: &[(&str, &str)]| {
        lock_with(&registry, "127.0.0.1", path, options, variables)
    };
    let ca = authority.file("ca.crt");
    let ca = ca.to_str().expect("a path");

    for options in [&[][..], &["--tls-verify"]] {
        let run = lock(options, &[]);
        assert!(run.error(7).contains("UnknownIssuer"), "{}", run.stderr);
        assert!(run.stderr.contains("--cacert"), "{}", run.stderr);
    }
    let lock_text = lock(&["--cacert", ca], &[]).text().to_owned();
    assert_eq!(lock(&["--tls-verify=false"], &[]).text(), lock_text);
    assert_eq!(lock(&[], &[("SSL_CERT_FILE", ca)]).text(), lock_text);
    assert_eq!(lock(&[], &[("NIX_SSL_CERT_FILE", ca)]).text(), lock_text);
    // as in a build sandbox: one variable names a missing file, the other is empty
    let sandbox = [("NIX_SSL_CERT_FILE", "/etc/ssl/missing.crt"), ("SSL_CERT_FILE", "")];
    assert_eq!(lock(&["--cacert", ca], &sandbox).text(), lock_text);
    assert!(lock(&["--cacert", "missing.crt"], &[]).error(1).contains("missing.crt"));
    std::fs::write(path.join("empty.crt"), "").expect("written");
    assert!(lock(&["--cacert", "empty.crt"], &[]).error(1).contains("empty.crt"));
    // rule 71: certs.d, here in the user's home
    let own = path.join(".config/containers/certs.d").join(registry.host());
    std::fs::create_dir_all(&own).expect("a folder");
    std::fs::copy(ca, own.join("ca.crt")).expect("copied");
    assert_eq!(lock(&[], &[]).text(), lock_text);
    // as for pulls, so for pushes
    let name = |name: &str| format!("docker://{}", registry.reference(name));
    let (from, to) = (name("private/app:1"), name("private/copy:1"));
    n2c_in(path, &["copy", &from, &to, "--arch", "amd64", "--cacert", ca]).text();
    // a name that the certificate does not have
    let run = lock_with(&registry, "localhost", path, &["--cacert", ca], &[]);
    assert!(run.error(7).contains("certificate not valid for name"), "{}", run.stderr);
}

// protocol rule 71
#[test]
#[ignore = "needs docker-registry and skopeo; run `tests/run`"]
fn rule_71_a_registry_that_requires_a_client_certificate() {
    let authority = Authority::new(&["127.0.0.1"]);
    let registry = Distribution::start_with(&authority.settings(true), "");
    let certificates = authority.directory.path().to_str().expect("a path");
    push(&registry, &["--dest-cert-dir", certificates]);
    let directory = tempfile::tempdir().expect("a directory");
    let name = |name: &str| format!("docker://{}", registry.reference(name));
    let (from, to) = (name("private/app:1"), name("private/copy:1"));
    let from = ["copy", &from, "--arch", "amd64", "--src-cert-dir", certificates];
    let copied = n2c_in(directory.path(), &[&from, &["dir:copy"][..]].concat());
    assert_eq!(copied.code, 0, "{}", copied.stderr);
    let to = ["copy", "dir:copy", &to, "--arch", "amd64"];
    n2c_in(directory.path(), &to).error(7);
    let to = [&to[..], &["--dest-cert-dir", certificates]].concat();
    n2c_in(directory.path(), &to).text();
    let own = directory.path().join(".config/containers/certs.d").join(registry.host());
    std::fs::create_dir_all(&own).expect("a folder");
    let lock = || lock_with(&registry, "127.0.0.1", directory.path(), &[], &[]);
    std::fs::copy(authority.file("ca.crt"), own.join("ca.crt")).expect("copied");
    lock().error(7);
    std::fs::copy(authority.file("client.cert"), own.join("client.cert")).expect("copied");
    assert!(lock().error(1).contains("needs `client.key` in the same directory"));
    std::fs::copy(authority.file("client.key"), own.join("client.key")).expect("copied");
    assert_eq!(lock().code, 0);
}

/// tinyproxy with a password, which resolves `registry.test` to this machine. It stops when
/// it is dropped.
struct Proxy {
    child: Child,
    address: String,
    directory: TempDir,
}

impl Proxy {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let port = crate::support::tools::free_port();
        let settings = format!(
            "Port {port}\nListen 127.0.0.1\nTimeout 60\nLogLevel Connect\nBasicAuth proxy {PASSWORD}\n"
        );
        std::fs::write(directory.path().join("settings"), settings).expect("written");
        std::fs::write(directory.path().join("hosts"), "127.0.0.1 registry.test localhost\n")
            .expect("written");
        let log = File::create(directory.path().join("log")).expect("a log");
        // The proxy gets its own /etc/hosts.
        let script = "mount --bind \"$0/hosts\" /etc/hosts && exec tinyproxy -d -c \"$0/settings\"";
        let child = Command::new("unshare")
            .args(["-m", "sh", "-c", script, directory.path().to_str().expect("a path")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("unshare");
        let proxy = Self { child, address: format!("127.0.0.1:{port}"), directory };
        for _ in 0..200 {
            if TcpStream::connect(&proxy.address).is_ok() {
                return proxy;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("the proxy does not listen: {}; `tests/run` installs it", proxy.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// protocol rules 72 and 73
#[test]
#[ignore = "needs docker-registry, skopeo, tinyproxy and root; run `tests/run`"]
fn rule_73_a_proxy_that_requires_a_password() {
    let authority = Authority::new(&["registry.test", "127.0.0.1"]);
    let encrypted = Distribution::start_with(&authority.settings(false), "");
    let plain = Distribution::start();
    push(&encrypted, &[]);
    push(&plain, &[]);
    let proxy = Proxy::start();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let ca = authority.file("ca.crt");
    let ca = ["--cacert", ca.to_str().expect("a path")];
    let with_password = format!("http://proxy:{PASSWORD}@{}", proxy.address);
    let without_password = format!("http://{}", proxy.address);

    // The other spelling is set but empty, as in a build sandbox.
    for (name, other) in [("https_proxy", "HTTPS_PROXY"), ("HTTPS_PROXY", "https_proxy")] {
        let variables = [
            (name, with_password.as_str()),
            (other, ""),
            ("no_proxy", ""),
            ("NO_PROXY", ""),
            ("all_proxy", ""),
        ];
        let run = lock_with(&encrypted, "registry.test", path, &ca, &variables);
        assert_eq!(run.code, 0, "{name}: {}", run.stderr);
    }
    assert!(proxy.log().contains("CONNECT registry.test"), "{}", proxy.log());
    // What is pushed goes there too.
    let (from, to) = (
        format!("docker://{}", encrypted.reference("private/app:1")),
        format!("docker://{}", encrypted.reference("private/proxied:1")),
    );
    let to = to.replace("127.0.0.1", "registry.test");
    let arguments = ["copy", &from, &to, "--arch", "amd64", ca[0], ca[1]];
    let pushed = command(path, &arguments).env("https_proxy", &with_password).output();
    let pushed = pushed.expect("a run");
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    // requests over plain HTTP go to the proxy itself
    let variables = [("http_proxy", with_password.as_str()), ("https_proxy", "")];
    let run = lock_with(&plain, "registry.test", path, &["--tls-verify=false"], &variables);
    assert_eq!(run.code, 0, "{}", run.stderr);

    for variables in
        [[("https_proxy", without_password.as_str())], [("HTTPS_PROXY", without_password.as_str())]]
    {
        let run =
            lock_with(&encrypted, "registry.test", path, &[&ca[..], &["-v"]].concat(), &variables);
        run.error(5);
        assert!(run.stderr.contains("the proxy requires a user and a password"), "{}", run.stderr);
        assert!(!run.stderr.contains(PASSWORD), "{}", run.stderr);
    }
    // hosts in `no_proxy`, and this machine, are contacted directly
    let asked = proxy.log().len();
    let variables = [("https_proxy", with_password.as_str()), ("no_proxy", "example.com,.test")];
    lock_with(&encrypted, "registry.test", path, &ca, &variables).error(7);
    let variables =
        [("https_proxy", with_password.as_str()), ("http_proxy", with_password.as_str())];
    assert_eq!(lock_with(&encrypted, "127.0.0.1", path, &ca, &variables).code, 0);
    assert_eq!(proxy.log().len(), asked, "the proxy was asked");
}

// protocol rule 29
#[test]
#[ignore = "needs docker-registry; run `tests/run`"]
fn rule_29_a_token_service_without_tls_gets_no_password() {
    let authority = Authority::new(&["127.0.0.1"]);
    let service = Registry::start();
    let auth = format!(
        "auth:\n  token:\n    realm: http://{}/token\n    service: registry\n    issuer: test\n    rootcertbundle: {}\n",
        service.host(),
        authority.file("ca.crt").display()
    );
    let registry = Distribution::start_with(&authority.settings(false), &auth);
    let directory = tempfile::tempdir().expect("a directory");
    auth_file(directory.path(), registry.host(), PASSWORD);
    let ca = authority.file("ca.crt");
    let options = ["--cacert", ca.to_str().expect("a path"), "--authfile", "auth.json"];
    let run = lock_with(&registry, "127.0.0.1", directory.path(), &options, &[]);
    assert!(
        run.error(5).contains("which is not encrypted although the registry is"),
        "{}",
        run.stderr
    );
    assert_eq!(service.log(), Vec::<String>::new());
}

// protocol rule 69
#[test]
#[ignore = "needs docker-registry and skopeo; run `tests/run`"]
fn rule_69_small_requests_share_a_connection_and_large_ones_do_not() {
    let authority = Authority::new(&["127.0.0.1"]);
    let registry = Distribution::start_with(&authority.settings(false), "");
    let layer = |length: usize| {
        let bytes: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[1]).collect();
        Blob::new("application/vnd.oci.image.layer.v1.tar", bytes)
    };
    let (small, large) = (layer(1000), layer(1 << 20));
    let layers = vec![small.clone(), large.clone()];
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.digest().to_string()).collect();
    let config = serde_json::json!({
        "os": "linux", "architecture": "amd64",
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    registry.push_image(&Image::from_parts(&config, layers), "app:1");
    let directory = tempfile::tempdir().expect("a directory");
    let ca = authority.file("ca.crt");
    let run = |arguments: &[&str]| {
        let more = ["--tls-verify", "--cacert", ca.to_str().expect("a path"), "-q"];
        let run = n2c_in(directory.path(), &[arguments, &more].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
    };
    run(&["pull", &registry.reference("app:1"), "dir:d", "--arch", "amd64"]);
    // The size isn't known in advance.
    run(&["blob", &registry.reference("app"), &small.digest().to_string(), "-o", "layer"]);
    let asked = registry.requests_with_protocol();
    let protocols = |of: &str| -> Vec<&str> {
        let words = asked.iter().filter(|line| line.contains(of));
        words.filter_map(|line| line.split(' ').nth(2)).collect()
    };
    assert_eq!(protocols("/manifests/"), ["HTTP/2.0"]);
    assert_eq!(protocols(&small.digest().to_string()), ["HTTP/2.0", "HTTP/1.1"]);
    assert_eq!(protocols(&large.digest().to_string()), ["HTTP/1.1"]);
}

// protocol rules 64 and 69
#[test]
fn rule_69_http_1_1_is_used_if_http_2_does_not_work() {
    let authority = Authority::new(&["127.0.0.1"]);
    let server = Registry::start();
    server.put_image("app", "1", &Image::new("linux/amd64", &["one"]));
    let tls = TlsFront::start(&authority, &server.host(), &["h2", "http/1.1"]);
    let directory = tempfile::tempdir().expect("a directory");
    let ca = authority.file("ca.crt");
    let ca = ca.to_str().expect("a path");
    let reference = format!("{}/app:1", tls.address);
    for verify in ["--tls-verify", "--tls-verify=false"] {
        let run = n2c_in(
            directory.path(),
            &["lock", &reference, "--arch", "amd64", "--cacert", ca, verify],
        );
        assert_eq!(run.code, 0, "{}", run.stderr);
        // After one failure, HTTP/2 isn't tried again.
        assert_eq!(run.stderr.matches("warning: ").count(), 1, "{}", run.stderr);
    }
}

// A redirect from TLS to plain HTTP is not followed: otherwise anybody on the network could
// decide what a tag points to.
#[test]
fn rule_50_a_redirect_out_of_tls_is_refused() {
    let authority = Authority::new(&["127.0.0.1"]);
    let server = crate::support::registry::Registry::start();
    let location = format!("http://{}/elsewhere", server.host());
    server.hook(move |_| Some(Reply::new(302, "").with("location", location.clone())));
    let tls = TlsFront::start(&authority, &server.host(), &[]);
    let directory = tempfile::tempdir().expect("a directory");
    let ca = authority.file("ca.crt");
    let reference = format!("{}/app:1", tls.address);
    let run = n2c_in(
        directory.path(),
        &["lock", &reference, "--cacert", ca.to_str().expect("a path"), "--tls-verify"],
    );
    assert!(run.error(7).ends_with("redirects from https to http"), "{}", run.stderr);
    assert!(server.log().iter().all(|line| !line.contains("elsewhere")), "{:?}", server.log());
}

/// The first byte of a TLS connection.
const TLS_HANDSHAKE: u8 = 22;

/// Terminates TLS in front of a plain server, for one request per connection.
struct TlsFront {
    address: String,
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl TlsFront {
    /// Starts a server that claims to speak all of `protocols`, but only speaks HTTP/1.1.
    fn start(authority: &Authority, target: &str, protocols: &[&str]) -> Self {
        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        use std::io::{Read as _, Write as _};
        let chain = CertificateDer::pem_file_iter(authority.file("server.cert"))
            .expect("a certificate")
            .collect::<Result<Vec<_>, _>>()
            .expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(authority.file("server.key")).expect("a key");
        let mut config = rustls::ServerConfig::builder_with_provider(
            rustls::crypto::ring::default_provider().into(),
        )
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate");
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let config = std::sync::Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (stopped, target) = (stop.clone(), target.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if stopped.load(std::sync::atomic::Ordering::SeqCst) {
                    return;
                }
                let (Ok(mut client), Ok(session)) =
                    (client, rustls::ServerConnection::new(config.clone()))
                else {
                    continue;
                };
                let mut first = [0];
                if client.peek(&mut first).is_ok() && first != [TLS_HANDSHAKE] {
                    // Go's servers answer this way.
                    let _ = client.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
                    continue;
                }
                let mut stream = rustls::StreamOwned::new(session, client);
                let mut request = [0; 8192];
                let Ok(count) = stream.read(&mut request) else { continue };
                let mut server = TcpStream::connect(&target).expect("the server");
                let text = String::from_utf8_lossy(&request[..count])
                    .replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
                server.write_all(text.as_bytes()).expect("a request");
                let mut answer = Vec::new();
                server.read_to_end(&mut answer).expect("an answer");
                let _ = stream.write_all(&answer);
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        Self { address, stop }
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
    }
}
