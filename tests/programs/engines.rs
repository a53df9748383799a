//! Copies into docker, podman and containerd, each started by the test in a directory of its
//! own: what moves, what containers print, and what is left behind.
//!
//! A machine that can't run an engine names it in `N2C_TEST_WITHOUT`, as `docker,containerd`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::images::Image;
use crate::support::program::{Run, build_image, n2c_with, wait_until};
use crate::support::registry::Registry;

/// Whether the tests of an engine are left out on this machine.
fn is_left_out(engine: &str) -> bool {
    let without = std::env::var("N2C_TEST_WITHOUT").unwrap_or_default();
    without.split(',').any(|name| name == engine)
}

/// A directory with an image.json of three layers, of which the last has a text.
struct Built(TempDir);

impl Built {
    fn new() -> Self {
        let built = Self(tempfile::tempdir().expect("a directory"));
        fs::create_dir_all(built.path("programs/bin")).expect("made");
        fs::copy("/bin/busybox", built.path("programs/bin/busybox")).expect("copied");
        for applet in ["sh", "cat"] {
            let link = built.path("programs/bin").join(applet);
            std::os::unix::fs::symlink("busybox", link).expect("linked");
        }
        fs::create_dir(built.path("large")).expect("made");
        fs::write(built.path("large/blob"), vec![7; 3_000_000]).expect("written");
        fs::create_dir(built.path("data")).expect("made");
        let config = json!({ "Cmd": ["/bin/cat", "/text"], "Env": ["A=1"] });
        fs::write(built.path("config.json"), config.to_string()).expect("written");
        built.build("good morning");
        built
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn build(&self, text: &str) {
        fs::write(self.path("data/text"), text).expect("written");
        let trees = ["programs", "large", "data"];
        build_image(self.0.path(), &trees, &["--rewrites", "rules.json"]);
    }

    fn copy(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
        copy(self.0.path(), &[&["image.json"], arguments].concat(), variables)
    }
}

fn copy(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    n2c_with(directory, &[&["copy"], arguments].concat(), variables)
}

/// How many layers were sent.
fn sent(run: &Run) -> usize {
    assert_eq!(run.code, 0, "{}", run.stderr);
    run.stderr.lines().filter(|line| line.starts_with("note: sent `")).count()
}

/// A daemon in a directory of its own. It is stopped when it is dropped.
struct Daemon {
    child: Child,
    directory: TempDir,
}

impl Daemon {
    fn start(program: &str, arguments: impl Fn(&Path) -> Vec<String>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let log = File::create(directory.path().join("log")).expect("a log");
        let child = Command::new(program)
            .args(arguments(directory.path()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("`{program}`: {error}; `tests/run` installs it"));
        Self { child, directory }
    }

    fn file(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Gently, so that it unmounts what it mounted.
        let id = self.child.id().to_string();
        let _ = Command::new("kill").arg(&id).status();
        let _ = self.child.wait();
    }
}

/// Runs a program that must succeed, and returns what it printed.
fn run(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = Command::new(program).args(arguments).envs(variables.iter().copied()).output();
    let output = output.unwrap_or_else(|error| panic!("`{program}`: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
#[ignore = "needs docker.io and root; run `tests/run`"]
fn docker_gets_the_layers_that_changed() {
    if is_left_out("docker") {
        return;
    }
    let daemon = Daemon::start("dockerd", |directory| {
        let path = |name: &str| directory.join(name).display().to_string();
        vec![
            "--bridge=none".into(),
            "--iptables=false".into(),
            "--storage-driver=vfs".into(),
            format!("--data-root={}", path("data")),
            format!("--exec-root={}", path("exec")),
            format!("--pidfile={}", path("pid")),
            format!("--host=unix://{}", path("docker.sock")),
        ]
    });
    let host = format!("unix://{}", daemon.file("docker.sock"));
    let variables = [("DOCKER_HOST", host.as_str())];
    let is_ready = || {
        let ping = Command::new("docker").args(["-H", &host, "version"]).output();
        ping.is_ok_and(|output| output.status.success())
    };
    wait_until("docker answers", is_ready);
    let docker = |arguments: &[&str]| run("docker", arguments, &variables);
    let container = |name: &str| docker(&["run", "--rm", "--network", "none", name]);

    let built = Built::new();
    assert_eq!(sent(&built.copy(&["docker-daemon:acme/app:1"], &variables)), 3);
    assert_eq!(container("acme/app:1"), "good morning");
    // Nothing is sent again, and further names are given.
    let more = ["docker-daemon:other/app:1", "--additional-tag", "acme/app:2"];
    assert_eq!(sent(&built.copy(&more, &variables)), 0);
    for name in ["other/app:1", "acme/app:2"] {
        assert_eq!(container(name), "good morning");
    }
    built.build("good evening");
    let run = built.copy(&["docker-daemon:acme/app:1"], &variables);
    assert_eq!(sent(&run), 1, "{}", run.stderr);
    assert_eq!(container("acme/app:1"), "good evening");
    assert_eq!(container("other/app:1"), "good morning");
    let text = docker(&["image", "inspect", "acme/app:1"]);
    let found: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(found[0]["Config"]["Env"], json!(["A=1"]));
    // docker on another machine: its own program is at the other end of `ssh`, which isn't here.
    let programs = built.path("programs-for-ssh");
    fs::create_dir(&programs).expect("made");
    let script = format!(
        "#!/bin/sh\n[ \"$*\" = '-o ConnectTimeout=30 -T -l me -p 2222 -- there docker system dial-stdio' ] \
         && DOCKER_HOST={host} exec docker system dial-stdio\n"
    );
    fs::write(programs.join("ssh"), script).expect("written");
    self::run("chmod", &["+x", &programs.join("ssh").display().to_string()], &[]);
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").expect("a path"));
    let remote = [("DOCKER_HOST", "ssh://me@there:2222"), ("PATH", path.as_str())];
    built.build("from afar");
    assert_eq!(sent(&built.copy(&["docker-daemon:remote:1"], &remote)), 1);
    assert_eq!(container("remote:1"), "from afar");
    // An image of a registry, whose layers are compressed.
    let registry = Registry::start();
    registry.put_image("app", "1", &Image::new("linux/amd64", &["one", "two"]));
    let from = [&*registry.reference("app:1"), "docker-daemon:pulled:1", "--arch", "amd64"];
    assert_eq!(sent(&copy(built.0.path(), &from, &variables)), 2);
    docker(&["image", "inspect", "docker.io/library/pulled:1"]);
    assert_eq!(sent(&copy(built.0.path(), &from, &variables)), 0);
    // A layer that changed is an error, not an image.
    fs::write(built.path("data/text"), "another").expect("written");
    docker(&["image", "rm", "--force", "acme/app:1", "remote:1"]);
    let run = built.copy(&["docker-daemon:acme/app:1"], &variables);
    assert!(run.error(8).contains("can't be made again"), "{}", run.stderr);
    let names = docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert!(!names.lines().any(|name| name == "acme/app:1"), "{names}");
}

#[test]
#[ignore = "needs podman, runc and root; run `tests/run`"]
fn podman_gets_the_layers_that_changed() {
    if is_left_out("podman") {
        return;
    }
    let built = Built::new();
    let settings = built.path("storage.conf").display().to_string();
    let text = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
        built.path("root").display(),
        built.path("run").display()
    );
    fs::write(&settings, text).expect("written");
    let variables = [("CONTAINERS_STORAGE_CONF", settings.as_str())];
    let podman = |arguments: &[&str]| {
        let options = ["--cgroup-manager", "cgroupfs", "--events-backend", "file"];
        let runtime = ["--runtime", "/usr/sbin/runc"];
        run("podman", &[&options[..], &runtime, arguments].concat(), &variables)
    };
    let container = |name: &str| {
        let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];
        podman(&[&["run", "--rm", "--network", "none"][..], &limits, &[name]].concat())
    };
    assert_eq!(sent(&built.copy(&["containers-storage:acme/app:1"], &variables)), 3);
    assert_eq!(container("docker.io/acme/app:1"), "good morning");
    assert_eq!(sent(&built.copy(&["podman:localhost/other:1"], &variables)), 0);
    built.build("good evening");
    let arguments = ["containers-storage:acme/app:1", "--additional-tag", "acme/app:2"];
    assert_eq!(sent(&built.copy(&arguments, &variables)), 1);
    for name in ["docker.io/acme/app:1", "docker.io/acme/app:2"] {
        assert_eq!(container(name), "good evening");
    }
    assert_eq!(container("localhost/other:1"), "good morning");
    let names = podman(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert_eq!(names.lines().count(), 3, "{names}");
    fs::write(built.path("data/text"), "another").expect("written");
    podman(&["rmi", "--force", "--all"]);
    let run = built.copy(&["containers-storage:acme/app:1"], &variables);
    assert!(run.error(8).contains("can't be made again"), "{}", run.stderr);
    assert_eq!(podman(&["images", "--quiet"]), "");
}

/// Starts containerd, with its socket in the file `socket`.
fn containerd() -> Daemon {
    let daemon = Daemon::start("containerd", |directory| {
        let path = |name: &str| directory.join(name).display().to_string();
        let text = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{}\"\n[ttrpc]\naddress = \"{}\"\n",
            path("root"),
            path("state"),
            path("socket"),
            path("ttrpc")
        );
        fs::write(path("settings"), text).expect("written");
        vec!["--config".to_owned(), path("settings")]
    });
    let socket = daemon.file("socket");
    let is_ready = || {
        let version = Command::new("ctr").args(["-a", &socket, "version"]).output();
        version.is_ok_and(|output| output.status.success())
    };
    wait_until("containerd answers", is_ready);
    daemon
}

#[test]
#[ignore = "needs containerd, runc and root; run `tests/run`"]
fn containerd_gets_the_layers_that_changed() {
    if is_left_out("containerd") {
        return;
    }
    let daemon = containerd();
    let socket = daemon.file("socket");
    let variables = [("CONTAINERD_ADDRESS", socket.as_str())];
    let ctr = |arguments: &[&str]| run("ctr", arguments, &variables);
    let container = |name: &str| ctr(&["run", "--rm", name, "test"]);

    let built = Built::new();
    assert_eq!(sent(&built.copy(&["containerd:acme/app:1"], &variables)), 3);
    assert_eq!(container("docker.io/acme/app:1"), "good morning");
    assert_eq!(sent(&built.copy(&["containerd:acme/app:1"], &variables)), 0);
    built.build("good evening");
    let arguments = ["containerd:acme/app:1", "--additional-tag", "acme/app:2"];
    let run = built.copy(&arguments, &variables);
    assert_eq!(sent(&run), 1, "{}", run.stderr);
    for name in ["docker.io/acme/app:1", "docker.io/acme/app:2"] {
        assert_eq!(container(name), "good evening");
    }
    // Another namespace has nothing yet.
    assert_eq!(sent(&built.copy(&["containerd:k8s.io/acme/app:1"], &variables)), 3);
    let names = ctr(&["--namespace", "k8s.io", "images", "ls", "--quiet"]);
    assert_eq!(names.trim(), "docker.io/acme/app:1");
    fs::write(built.path("data/text"), "another").expect("written");
    let run = built.copy(&["containerd:third/acme.example/app:1"], &variables);
    assert!(run.error(8).contains("can't be made again"), "{}", run.stderr);
    assert_eq!(ctr(&["--namespace", "third", "images", "ls", "--quiet"]), "");
}

// What nix-snapshotter would mount is missing: not less, and not something else.
#[test]
#[ignore = "needs containerd, runc and root; run `tests/run`"]
fn a_node_without_nix_snapshotter_has_no_files_of_its_image() {
    if is_left_out("containerd") {
        return;
    }
    let daemon = containerd();
    let socket = daemon.file("socket");
    let variables = [("CONTAINERD_ADDRESS", socket.as_str())];
    let directory = tempfile::tempdir().expect("a directory");
    let store = directory.path().join("store").display().to_string();
    let program = format!("{store}/00000000000000000000000000000001-busybox");
    fs::create_dir_all(format!("{program}/bin")).expect("made");
    fs::copy("/bin/busybox", format!("{program}/bin/busybox")).expect("copied");
    let write = |name: &str, json: &Value| {
        fs::write(directory.path().join(name), json.to_string()).expect("written");
    };
    write("graph.json", &json!([{ "path": program, "references": [] }]));
    write("rules.json", &json!([{ "path": program, "regex": format!("^{program}"), "repl": "" }]));
    write("config.json", &json!({ "Entrypoint": ["/bin/busybox", "echo"] }));
    let variables = [variables[0], ("NIX_STORE_DIR", store.as_str())];
    let n2c = |arguments: &[&str]| n2c_with(directory.path(), arguments, &variables);
    let layers = ["layers-from-reproducible-storepaths", "layers.json", "graph.json"];
    n2c(&[&layers[..], &["--rewrites", "rules.json"]].concat()).text();
    for (name, more) in [("real", &[][..]), ("nix", &["--snapshotter", "legacy"][..])] {
        let output = format!("{name}.json");
        let image = ["image", &*output, "config.json", "layers.json"];
        n2c(&[&image[..], more].concat()).text();
        let copied =
            copy(directory.path(), &[&output, &format!("containerd:{name}:1")], &variables);
        assert_eq!(sent(&copied), 1);
        let is_told = copied.stderr.contains("`CONTAINERD_SNAPSHOTTER` names");
        assert_eq!(is_told, name == "nix", "{}", copied.stderr);
    }
    let container = |name: &str| {
        let name = format!("docker.io/library/{name}:1");
        let arguments =
            ["-a", &socket, "run", "--rm", &name, "test-of-mounts", "/bin/busybox", "echo", "x"];
        Command::new("ctr").args(arguments).output().expect("ctr")
    };
    let real = container("real");
    assert_eq!(real.stdout, b"x\n", "{}", String::from_utf8_lossy(&real.stderr));
    let without = container("nix");
    let stderr = String::from_utf8_lossy(&without.stderr);
    assert!(!without.status.success() && stderr.contains("no such file"), "{stderr}");
}
