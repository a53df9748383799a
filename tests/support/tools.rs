//! Real programs from Debian: a registry, and those that fill it.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

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

/// skopeo, without a policy and without TLS.
#[track_caller]
pub fn skopeo(arguments: &[&str]) -> Vec<u8> {
    run("skopeo", &[&["--insecure-policy"], arguments].concat())
}

/// CNCF distribution on a port of loopback. It stops when it is dropped.
pub struct Distribution {
    child: Child,
    address: String,
    directory: TempDir,
}

impl Distribution {
    /// A registry that lets everybody in, over plain HTTP.
    pub fn start() -> Self {
        Self::start_with("", "")
    }

    /// A registry with further settings: in its `http` section, and beside it.
    pub fn start_with(http: &str, more: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let address = {
            let unused = TcpListener::bind("127.0.0.1:0").expect("a free port");
            unused.local_addr().expect("an address").to_string()
        };
        let config = format!(
            "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: false}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n\
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

    /// A reference to something in here.
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

    /// The requests of n2c so far, as `METHOD /path STATUS`.
    pub fn requests_of_n2c(&self) -> Vec<String> {
        // The log is written a moment after the answer.
        std::thread::sleep(Duration::from_millis(100));
        self.log()
            .lines()
            .filter(|line| line.contains("\"n2c/") && !line.contains("level="))
            .filter_map(|line| {
                let mut quoted = line.split('"').skip(1);
                let request = quoted.next()?.trim_end_matches(" HTTP/1.1");
                let status = quoted.next()?.split_whitespace().next()?;
                Some(format!("{request} {status}"))
            })
            .collect()
    }

    /// Pushes an image of an OCI layout with skopeo, bytes unchanged.
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

/// A root file system of busybox, as a tar archive.
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
