//! Real programs from Debian: a registry, tools that push to it, and Nix.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::images::Image;

/// Runs a program that must succeed, and returns what it printed.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output =
        output.unwrap_or_else(|error| panic!("`{program}`: {error}; `tests/run` installs it"));
    assert!(
        output.status.success(),
        "`{program} {}` failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Runs skopeo without a signature policy.
#[track_caller]
pub fn skopeo(arguments: &[&str]) -> Vec<u8> {
    run("skopeo", &[&["--insecure-policy"], arguments].concat())
}

/// A free port for a program that can't be handed a listener. It is outside the range from
/// which the system could give it to another program in the meantime.
pub fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| rand::random_range(20_000..32_000))
        .find(is_free)
        .expect("a free port")
}

/// CNCF distribution on a loopback port. It stops when it is dropped.
pub struct Distribution {
    child: Child,
    address: String,
    directory: TempDir,
}

impl Distribution {
    /// Starts a registry over plain HTTP, without authentication.
    pub fn start() -> Self {
        Self::start_with("", "")
    }

    /// Starts a registry with more settings: `http` for its `http` section, and `more` for
    /// the top level.
    pub fn start_with(http: &str, more: &str) -> Self {
        Self::start_on(tempfile::tempdir().expect("a directory"), "", http, more)
    }

    /// Starts a registry that serves what this one has, and takes nothing.
    pub fn into_read_only(mut self) -> Self {
        self.stop();
        let empty = tempfile::tempdir().expect("a directory");
        let directory = std::mem::replace(&mut self.directory, empty);
        Self::start_on(directory, ", maintenance: {readonly: {enabled: true}}", "", "")
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn start_on(directory: TempDir, storage: &str, http: &str, more: &str) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let config = format!(
            "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: false}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}{storage}}}\n\
             http:\n  addr: {address}\n{http}{more}",
            directory.path().join("data").display()
        );
        let file = directory.path().join("config.yml");
        std::fs::write(&file, config).expect("a file is written");
        let log = File::create(directory.path().join("log")).expect("a log");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("`docker-registry`: {error}; `tests/run` installs it"));
        let registry = Self { child, address, directory };
        for _ in 0..200 {
            if TcpStream::connect(&registry.address).is_ok() {
                return registry;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("the registry does not listen: {}", registry.log());
    }

    /// A reference to `name` in this registry.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// `HOST:PORT`.
    pub fn host(&self) -> &str {
        &self.address
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// The requests that n2c has made so far, as `METHOD /path STATUS`.
    pub fn requests_of_n2c(&self) -> Vec<String> {
        let without_protocol = |line: String| {
            let words: Vec<&str> =
                line.split(' ').filter(|word| !word.starts_with("HTTP/")).collect();
            words.join(" ")
        };
        self.requests_with_protocol().into_iter().map(without_protocol).collect()
    }

    /// The requests that n2c has made so far, as `METHOD /path HTTP/VERSION STATUS`.
    pub fn requests_with_protocol(&self) -> Vec<String> {
        // The log is written a moment after the answer.
        std::thread::sleep(Duration::from_millis(100));
        self.log()
            .lines()
            .filter(|line| line.contains("\"n2c/") && !line.contains("level="))
            .filter_map(|line| {
                let mut quoted = line.split('"').skip(1);
                let request = quoted.next()?;
                let status = quoted.next()?.split_whitespace().next()?;
                Some(format!("{request} {status}"))
            })
            .collect()
    }

    /// Removes a tag, as a registry's clean-up does.
    pub fn remove_tag(&self, repository: &str, tag: &str) {
        let repositories = self.directory.path().join("data/docker/registry/v2/repositories");
        let folder = repositories.join(repository).join("_manifests/tags").join(tag);
        std::fs::remove_dir_all(folder).expect("a tag is removed");
    }

    /// Removes a blob.
    pub fn remove_blob(&self, digest: &n2c::oci::digest::Digest) {
        let folder = self.directory.path().join("data/docker/registry/v2/blobs/sha256");
        let folder = folder.join(&digest.hex()[..2]).join(digest.hex());
        std::fs::remove_dir_all(folder).expect("a blob is removed");
    }

    /// Pushes an image with skopeo, whatever its media types, without changing its bytes.
    pub fn push_image(&self, image: &Image, name: &str) {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(directory.path().join(name), bytes).expect("a file is written");
        };
        write("version", b"Directory Transport Version: 1.1\n");
        write("manifest.json", &image.manifest.bytes);
        for blob in image.layers.iter().chain([&image.config]) {
            write(blob.digest().hex(), &blob.bytes);
        }
        let source = format!("dir:{}", directory.path().display());
        let destination = format!("docker://{}", self.reference(name));
        let options = ["--quiet", "--preserve-digests", "--dest-tls-verify=false"];
        skopeo(&[&["copy"], &options[..], &[&source, &destination]].concat());
    }

    /// Pushes an image or a whole index from an OCI layout with skopeo. `more` holds further
    /// options; `--preserve-digests` keeps the bytes unchanged.
    pub fn push(&self, layout: &Path, tag: &str, name: &str, more: &[&str]) {
        let source = format!("oci:{}:{tag}", layout.display());
        let destination = format!("docker://{}", self.reference(name));
        let copy = ["copy", "--quiet", "--all", "--dest-tls-verify=false"];
        skopeo(&[&copy, more, &[&source, &destination]].concat());
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// podman with a store of its own. It runs containers as root, without a network.
pub struct Podman {
    directory: TempDir,
}

impl Podman {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory") }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        let mut command = Command::new("podman");
        command
            .args(["--root", &path("root"), "--runroot", &path("run")])
            .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"])
            .args(["--events-backend", "file", "--runtime", "/usr/sbin/runc"])
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs podman, and returns what it prints.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output();
        let output =
            output.unwrap_or_else(|error| panic!("`podman`: {error}; `tests/run` installs it"));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "podman {arguments:?}: {stderr}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs a container, and returns what it prints.
    pub fn run_container(&self, image: &str, arguments: &[&str]) -> String {
        let options = ["run", "--rm", "--network", "none", "--ulimit", "nofile=1024:1024"];
        let more = ["--ulimit", "nproc=1000:1000", image];
        self.run(&[&options[..], &more, arguments].concat())
    }
}

/// A busybox root file system, as a tar archive.
pub fn busybox_root() -> Vec<u8> {
    let program = ["/bin/busybox", "/usr/bin/busybox"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.exists());
    let program = program.expect("busybox-static; `tests/run` installs it");
    let mut archive = tar::Builder::new(Vec::new());
    archive.mode(tar::HeaderMode::Deterministic);
    archive.append_path_with_name(program, "bin/busybox").expect("a file is added");
    for applet in ["sh", "ls", "cat", "wget"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive
            .append_link(&mut header, format!("bin/{applet}"), "busybox")
            .expect("a link is added");
    }
    archive.into_inner().expect("an archive")
}

/// Nix with its own store and configuration. It runs as root, in a mount namespace with
/// another `/nix`.
pub struct Nix {
    directory: TempDir,
}

impl Nix {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(directory.path().join("nix")).expect("a folder");
        std::fs::create_dir_all("/nix").expect("a mount point");
        let nix = Self { directory };
        nix.configure("sandbox = false\n");
        nix
    }

    /// Writes `nix.conf`: the settings that every test needs, and these.
    pub fn configure(&self, settings: &str) {
        let text = format!(
            "experimental-features = nix-command flakes\nbuild-users-group =\nsubstituters =\nmax-jobs = 4\n{settings}"
        );
        std::fs::write(self.directory.path().join("nix.conf"), text).expect("written");
    }

    /// The test's directory. The store is `nix/store` in it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where the store path `/nix/store/…` is on this machine.
    pub fn file(&self, path: &str) -> PathBuf {
        self.directory.path().join(path.strip_prefix('/').expect("a store path"))
    }

    /// Starts Nix's daemon, which serves programs run by `try_run_as_nobody`.
    pub fn start_daemon(&self) -> NixDaemon {
        use std::os::unix::fs::PermissionsExt as _;
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.directory(), open).expect("a directory for all");
        let mut command = self.command("nix-daemon", &[], "");
        let daemon = NixDaemon(command.stderr(Stdio::null()).spawn().expect("unshare"));
        let socket = self.file("/nix/var/nix/daemon-socket/socket");
        for _ in 0..200 {
            if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
                return daemon;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("nix-daemon does not listen");
    }

    /// Runs a program as an ordinary user, who can reach the store only through the daemon.
    pub fn try_run_as_nobody(&self, program: &str, arguments: &[&str]) -> (bool, String, String) {
        let user = ["--reuid=65534", "--regid=65534", "--clear-groups", program];
        output_of(&mut self.command("setpriv", &[&user[..], arguments].concat(), "daemon"))
    }

    /// Runs a program that may fail. Returns whether it succeeded, its stdout and its stderr.
    pub fn try_run(&self, program: &str, arguments: &[&str]) -> (bool, String, String) {
        output_of(&mut self.command(program, arguments, "local"))
    }

    fn command(&self, program: &str, arguments: &[&str], remote: &str) -> Command {
        let script = "mount --bind \"$0/nix\" /nix && exec \"$@\"";
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", script])
            .arg(self.directory.path())
            .arg(program)
            .args(arguments)
            .current_dir(self.directory.path())
            .env("NIX_CONF_DIR", self.directory.path())
            .env("NIX_REMOTE", remote)
            .env("HOME", self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a Nix program that must succeed, and returns what it printed.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let (success, stdout, stderr) = self.try_run(program, arguments);
        assert!(success, "{program}: {stderr}");
        stdout
    }
}

/// Runs a command. Returns whether it succeeded, its stdout and its stderr.
fn output_of(command: &mut Command) -> (bool, String, String) {
    let output = command.output().expect("unshare");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.success(), text(output.stdout).trim().to_owned(), text(output.stderr))
}

/// A running `nix-daemon`. It stops when it is dropped.
pub struct NixDaemon(Child);

impl Drop for NixDaemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
