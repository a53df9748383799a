//! Proving a lockfile from itself: the digest of the manifest that it pins is that
//! of bytes which the registry served, and most registries serve one of a few
//! forms of the same JSON.

use serde::Serialize as _;
use serde_json::{Map, Value};

use super::Entry;
use crate::oci::digest::Digest;

/// How manifests are indented: by buildkit, by docker, by others.
const INDENTS: [&str; 3] = ["  ", "   ", "\t"];

impl Entry {
    /// Whether the manifest in here is, to the byte, the one whose digest is
    /// pinned. A lockfile has it in a form of its own; this tries those that
    /// builders serve. `false` proves nothing.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        let Some(pin) = &self.pin else { return false };
        let digest_first = self.manifest.object().clone();
        let size_first = with_size_first(digest_first.clone());
        let is = |text: Vec<u8>| Digest::sha256(&text) == pin.manifest;
        [digest_first, size_first].into_iter().map(Value::Object).any(|object| {
            let indented = INDENTS.iter().any(|indent| is(indented(&object, indent)));
            indented || is(object.to_string().into_bytes())
        })
    }
}

/// The same manifest with `size` before `digest` in its descriptors, as docker
/// writes them.
fn with_size_first(mut object: Map<String, Value>) -> Map<String, Value> {
    let swap = |descriptor: &mut Value| {
        if let Some(descriptor) = descriptor.as_object_mut()
            && let Some(digest) = descriptor.shift_remove("digest")
        {
            let size = descriptor.keys().position(|key| key == "size");
            let behind = size.map_or(descriptor.len(), |index| index + 1);
            descriptor.shift_insert(behind, "digest".to_owned(), digest);
        }
    };
    object.get_mut("config").into_iter().for_each(swap);
    object.get_mut("layers").and_then(Value::as_array_mut).into_iter().flatten().for_each(swap);
    object
}

fn indented(object: &Value, indent: &str) -> Vec<u8> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    // Values serialise into memory.
    let _ = object.serialize(&mut serializer);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::lockfile::Lockfile;

    // A manifest of Docker Hub, with its digest.
    const NGINX: &str = include_str!("../../../lockfiles/nginx-1.23.1-manifest.json");
    const DIGEST: &str = "sha256:f26fbadb0acab4a21ecb4e337a326907e61fbec36c9a9b52e725669d99ed1261";

    /// The entry of a lockfile that pins `digest`, and has `manifest`.
    fn entry(manifest: &str, digest: &str) -> Entry {
        let mut object: Value = serde_json::from_str(manifest).expect("JSON");
        let layers = object["layers"].as_array().map_or(0, Vec::len);
        object["n2c"] = serde_json::json!({
            "version": 1, "ref": format!("h.io/a:1@{digest}"), "platform": "linux/amd64",
            "manifest": digest, "diffIds": vec![digest; layers], "image": {},
        });
        let lockfile = Lockfile::parse("test", object.to_string().as_bytes()).expect("a lockfile");
        // As it is after having been written.
        let text = lockfile.to_text();
        let lockfile = Lockfile::parse("test", text.as_bytes()).expect("a lockfile");
        lockfile.entries()[0].clone()
    }

    #[test]
    fn the_forms_that_are_served_are_proved() {
        assert!(entry(NGINX, DIGEST).is_proved(), "docker's form");
        let object: Value = serde_json::from_str(NGINX).expect("JSON");
        for text in [object.to_string(), format!("{object:#}")] {
            let digest = Digest::sha256(text.as_bytes()).to_string();
            assert!(entry(&text, &digest).is_proved(), "{text}");
        }
    }

    #[test]
    fn an_edit_is_not() {
        for (from, to) in [("31366757", "31366758"), ("1efc276f", "1efc2760")] {
            assert!(!entry(&NGINX.replace(from, to), DIGEST).is_proved(), "{to}");
        }
    }
}
