//! Images for nix-snapshotter, built by real Nix: which store paths they name, and which they
//! need.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::functions::{
    ROOT, SANDBOX, build, eval, eval_error, greeting, nix_with_n2c, programs, read, with_paths,
};
use crate::support::tools::{Distribution, Nix, run, skopeo};

const CLOSURE: &str = "containerd.io/snapshot/nix-closure";
const STORE_PATH: &str = "containerd.io/snapshot/nix-store-path.";

/// An expression in which there are the arguments of an image that holds both paths.
fn with_arguments(nix: &Nix, expression: &str) -> String {
    let arguments = "{ name = \"acme/app\"; tag = \"1\"; copyToRoot = greeting; \
                     config.Cmd = [ app ]; layers = [ { deps = [ greeting ]; } ]; }";
    with_paths(nix, &format!("let arguments = {arguments}; in {expression}"))
}

fn nix_in_sandbox() -> Nix {
    let nix = nix_with_n2c();
    greeting(&nix);
    nix.configure(SANDBOX);
    nix
}

fn image(nix: &Nix, more: &str) -> (String, Value) {
    let path = build(nix, &with_arguments(nix, &format!("n2c.buildImage (arguments // {more})")));
    let image = read(&nix.file(&path));
    (path, image)
}

/// The base names of store paths, without their hashes, in order.
fn names<'a>(paths: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> =
        paths.into_iter().map(|path| &path["/nix/store/".len() + 33..]).collect();
    names.sort_unstable();
    names
}

/// The names of what a store path refers to, with what that refers to.
fn closure(nix: &Nix, path: &str) -> String {
    nix.run("nix-store", &["--query", "--requisites", path])
}

#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn images_name_what_a_node_mounts() {
    let nix = nix_in_sandbox();
    let (path, legacy) = image(&nix, "{ snapshotter = \"legacy\"; }");
    let [layer] = &legacy["layers"].as_array().expect("layers")[..] else { panic!("{legacy}") };
    let annotations = layer["annotations"].as_object().expect("annotations");
    let mounted = annotations.iter().filter(|(name, _)| name.starts_with(STORE_PATH));
    let mounted: Vec<&str> = mounted.map(|(_, path)| path.as_str().expect("text")).collect();
    // Without the file with the config, as nix-snapshotter does it.
    assert_eq!(names(mounted.iter().copied()), ["app", "greeting"]);
    // The image brings them with it, from a binary cache for example.
    let needed = closure(&nix, &path);
    assert!(mounted.iter().all(|path| needed.lines().any(|line| line == *path)), "{needed}");

    let (path, by_closure) = image(&nix, "{ snapshotter = \"closure\"; }");
    let annotations = by_closure["layers"][0]["annotations"].clone();
    let info = annotations[CLOSURE].as_str().expect("a path");
    assert_eq!(annotations, json!({ CLOSURE: info }));
    let listed = fs::read_to_string(nix.file(info).join("store-paths")).expect("a list");
    assert_eq!(names(listed.lines()), ["app", "greeting"]);
    assert!(closure(&nix, &path).lines().any(|line| line == info));
    // Nix knows what it lists, so a node gets all of it at once.
    assert_eq!(names(closure(&nix, info).lines()), ["app", "closure-info", "greeting"]);
    assert_ne!(by_closure["layers"][0]["digest"], layer["digest"]);
}

#[test]
#[ignore = "needs nix-bin, umoci and root; run `tests/run`"]
fn its_files_are_links_into_the_store() {
    let nix = nix_in_sandbox();
    let program = nix.directory().join("n2c/bin/n2c").display().to_string();
    // Without annotations, the same layer is for those who mount the whole store.
    for more in ["{ snapshotter = \"legacy\"; }", "{ includeStorePaths = false; }"] {
        let (path, image) = image(&nix, more);
        let has_annotations = image["layers"][0]["annotations"].is_object();
        assert_eq!(has_annotations, more.contains("legacy"));
        let layout = nix.directory().join("layout").display().to_string();
        nix.run(&program, &["copy", "--quiet", &format!("nix:{path}"), &format!("oci:{layout}:1")]);
        let bundle = nix.directory().join("bundle").display().to_string();
        run("umoci", &["unpack", "--image", &format!("{layout}:1"), &bundle]);
        let root = Path::new(&bundle).join("rootfs");
        let target = fs::read_link(root.join("bin/greet")).expect("a link");
        let text = fs::read_to_string(nix.file(&target.display().to_string())).expect("a script");
        assert!(text.contains("echo hi"), "{text}");
        let store = root.join("nix/store");
        for entry in fs::read_dir(&store).expect("mount points") {
            let found = entry.expect("an entry").metadata().expect("metadata");
            assert!(found.is_dir() || found.len() == 0);
        }
        let expected = if has_annotations { 2 } else { 0 };
        assert_eq!(fs::read_dir(&store).expect("mount points").count(), expected);
        fs::remove_dir_all(&layout).expect("removed");
        fs::remove_dir_all(&bundle).expect("removed");
    }
}

#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn a_node_finds_an_image_in_its_store() {
    let nix = nix_in_sandbox();
    let expression = "n2c.buildImage (arguments // { resolvedByNix = true; })";
    let path = build(&nix, &with_arguments(&nix, expression));
    assert!(path.ends_with("-nix-image-app.tar"), "{path}");
    // The name that a Pod gives it.
    let named = with_arguments(&nix, &format!("({expression}).image"));
    assert_eq!(eval(&nix, "x86_64-linux", &named), json!(format!("nix:0{path}")));
    let unpacked = nix.directory().join("unpacked");
    fs::create_dir(&unpacked).expect("made");
    let [archive, folder] =
        [nix.file(&path), unpacked.clone()].map(|path| path.display().to_string());
    run("tar", &["-xf", &archive, "-C", &folder]);
    let index = read(&unpacked.join("index.json"));
    let entry = &index["manifests"][0];
    assert_eq!(entry["annotations"]["io.containerd.image.name"], format!("nix:0{path}:latest"));
    let digest = entry["digest"].as_str().expect("a digest").replace(':', "/");
    let manifest = read(&unpacked.join("blobs").join(digest));
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(layer["annotations"]["containerd.io/snapshot/nix-layer"], "true");
    // What the archive refers to is what is mounted, and itself.
    let requisites = closure(&nix, &path);
    assert_eq!(names(requisites.lines()), ["app", "greeting", "nix-image-app.tar"]);
}

#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn layers_that_are_archives_stay() {
    let nix = nix_in_sandbox();
    let tar = nix.directory().join("given.tar").display().to_string();
    let folder = nix.directory().join("greeting").display().to_string();
    run("tar", &["-cf", &tar, "-C", &folder, "."]);
    let more = format!(
        "{{ snapshotter = \"legacy\"; fromImage = n2c.buildImage {{ name = \"base\"; layers = [ \
         {{ deps = [ (builtins.toFile \"base\" \"\") ]; }} ]; }}; layers = [ (n2c.buildLayer {{ \
         fromTar = builtins.path {{ path = {tar}; name = \"given.tar\"; }}; }}) {{ deps = [ app ]; \
         ensureDirs = [ {{ path = \"/var/spool\"; mode = \"1777\"; }} ]; }} ]; }}"
    );
    let (_, image) = image(&nix, &more);
    let layers = image["layers"].as_array().expect("layers");
    let kinds: Vec<(bool, bool)> = layers
        .iter()
        .map(|layer| (layer["layer-path"].is_string(), layer["content"] == "mount-points"))
        .collect();
    // The base's, the archive, and the mount points.
    assert_eq!(kinds, [(false, false), (true, false), (false, true)], "{image}");
    assert!(layers[2]["paths"].to_string().contains("1777"), "{image}");
}

#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn the_example_has_an_image_for_each_node() {
    let nix = nix_in_sandbox();
    let programs = programs(&nix);
    let here = nix.directory().display();
    for (name, layers) in [("everywhere", 1), ("legacy", 1), ("closure", 1), ("pod", 0)] {
        let expression = format!(
            "(import {ROOT}/examples/snapshotter.nix {{ n2c = {here}/n2c; programs = {programs}; \
             system = \"x86_64-linux\"; }}).{name}"
        );
        let path = nix.run("nix-build", &["--no-out-link", "-E", &expression]);
        let built = read(&nix.file(&path));
        let found = built["layers"].as_array().map_or(0, Vec::len);
        assert_eq!(found, layers, "{name}: {built}");
        if name == "pod" {
            let image = built["spec"]["containers"][0]["image"].as_str().expect("a name");
            assert!(image.starts_with("nix:0/nix/store/"), "{image}");
            assert!(nix.file(&image["nix:0".len()..]).is_file());
        }
    }
}

#[test]
#[ignore = "needs nix-bin, docker-registry, skopeo and root; run `tests/run`"]
fn both_kinds_of_nodes_find_an_image_in_a_registry() {
    let nix = nix_in_sandbox();
    let registry = Distribution::start();
    let (programs, here) = (programs(&nix), nix.directory().display());
    let expression = format!(
        "(import {ROOT}/examples/snapshotter.nix {{ n2c = {here}/n2c; programs = {programs}; \
         system = \"x86_64-linux\"; name = \"{}\"; }}).copyBoth",
        registry.reference("team/hello")
    );
    let script = nix.run("nix-build", &["--no-out-link", "-E", &expression]);
    let printed = nix.run(&format!("{script}/bin/copy-images"), &["--quiet"]);
    assert_eq!(printed.lines().count(), 2, "{printed}");
    let raw = |tag: &str| -> Value {
        let image = format!("docker://{}", registry.reference(&format!("team/hello:{tag}")));
        let text = skopeo(&["inspect", "--raw", "--tls-verify=false", &image]);
        serde_json::from_slice(&text).expect("JSON")
    };
    let (index, alone) = (raw("1"), raw("1-nix"));
    let entries = index["manifests"].as_array().expect("an index");
    let features = entries.iter().map(|entry| &entry["platform"]["os.features"]);
    assert_eq!(features.collect::<Vec<_>>(), [&Value::Null, &json!(["nix-snapshotter"])]);
    let layers = alone["layers"].as_array().expect("layers");
    assert!(layers[0]["annotations"][CLOSURE].is_string(), "{alone}");
    // A few hundred bytes, and the same image in both places.
    assert!(layers[0]["size"].as_u64() < Some(1000), "{alone}");
    let digest = printed.lines().last().and_then(|line| line.split('@').nth(1));
    assert_eq!(entries[1]["digest"].as_str(), digest);
}

#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn rules_are_those_of_their_layers() {
    let nix = nix_in_sandbox();
    // What one layer leaves out, another may have.
    let more = "{ copyToRoot = null; config = { }; snapshotter = \"legacy\"; layers = let text = builtins.toFile \"text\" \"\"; in \
                [ (n2c.buildLayer { deps = [ app text ]; ignore = text; }) (n2c.buildLayer { deps = [ text ]; }) ]; }";
    let (_, built) = image(&nix, more);
    assert!(built["layers"][0]["annotations"].to_string().contains("-text\""), "{built}");
    let excluded = |more: &str| {
        let arguments = format!(
            "{{ copyToRoot = greeting; excludes = [ \"/link$\" ]; config = {{ }}; {more} }}"
        );
        let (_, built) = image(&nix, &arguments);
        built["layers"][0]["paths"].to_string().matches("/link$").count()
    };
    assert_eq!(excluded("snapshotter = \"legacy\"; layers = [ ];"), 1);
    // The layer below has it, as without nix-snapshotter.
    let below = "snapshotter = \"legacy\"; layers = [ { copyToRoot = greeting; } ];";
    let arguments = format!("{{ excludes = [ \"/link$\" ]; config = {{ }}; {below} }}");
    let (_, built) = image(&nix, &arguments);
    let paths = built["layers"][0]["paths"].as_array().expect("paths").clone();
    let kept = paths.iter().filter(|path| path["options"]["excludes"].is_null());
    assert_eq!(kept.count(), 1, "{built}");
    // Its directories belong to whom the image says.
    let (_, built) = image(&nix, "{ uid = 1000; snapshotter = \"legacy\"; }");
    assert!(built["layers"][0]["paths"].to_string().contains("\"uid\":1000"), "{built}");
    // Layers of links and of mount points are never equal.
    let (_, links) = image(&nix, "{ includeStorePaths = false; }");
    let (_, legacy) = image(&nix, "{ snapshotter = \"legacy\"; }");
    assert_ne!(links["layers"][0]["digest"], legacy["layers"][0]["digest"]);
    // An image for a node can be the base of another one.
    let base = "{ name = \"above\"; fromImage = n2c.buildImage (arguments // { resolvedByNix = true; }); }";
    let path = build(&nix, &with_arguments(&nix, &format!("n2c.buildImage {base}")));
    assert_eq!(read(&nix.file(&path))["layers"].as_array().map(Vec::len), Some(1));
}

#[test]
#[ignore = "needs nix-bin and root; run `tests/run`"]
fn mistakes_in_lists_of_images_are_named() {
    let nix = nix_in_sandbox();
    for (arguments, expected) in [
        ("{ images = { }; }", "must be a set or a list of images"),
        ("{ images = [ app ]; }", "something that buildImage didn't make"),
        ("{ images = [ [ ] ]; }", "something that buildImage didn't make"),
        ("{ images = [ image image ]; }", "two images of copyImages go to `docker://acme/app:1`"),
        ("{ images = [ image ]; destination = _: 5; }", "`destination` of copyImages must give"),
        ("{ images = [ image ]; name = \"--help\"; }", "`name` of copyImages"),
        ("{ images = [ image ]; name = \"a b\"; }", "`name` of copyImages"),
    ] {
        let expression = format!(
            "let image = n2c.buildImage arguments; in (n2c.copyImages {arguments}).drvPath"
        );
        let error = eval_error(&nix, &with_arguments(&nix, &expression));
        assert!(error.contains(expected), "{arguments}: {error}");
    }
    for (more, expected) in [
        ("snapshotter = \"new\";", "`snapshotter` must be"),
        ("resolvedByNix = true; snapshotter = null;", "must be for a `snapshotter`"),
        ("snapshotter = \"legacy\"; initializeNixDatabase = true;", "can't have `initializeNix"),
        ("uid = -1;", "must be numbers from 0"),
        ("uid = 4294967295;", "must be numbers from 0"),
    ] {
        let expression = format!("(n2c.buildImage (arguments // {{ {more} }})).drvPath");
        let error = eval_error(&nix, &with_arguments(&nix, &expression));
        assert!(error.contains(expected), "{more}: {error}");
    }
}
