//! Proving that a lockfile's manifest is the pinned one, without the registry. The pinned
//! digest is that of the bytes that the registry served, and most manifests are served
//! in one of a few JSON formats, so the bytes can be reconstructed.

use serde::Serialize as _;
use serde_json::{Map, Value};

use super::Entry;
use crate::oci::digest::Digest;

/// The indentations of manifests: by buildkit, by docker, and by others.
const INDENTS: [&str; 3] = ["  ", "   ", "\t"];

impl Entry {
    /// Whether the manifest in this entry is, byte for byte, the one whose digest is pinned.
    /// A lockfile has the manifest in its own format, so this tries the formats that
    /// builders write. `false` proves nothing.
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

/// Returns the same manifest with `size` before `digest` in its descriptors, as docker
/// writes it.
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
    // Serialising a value to memory can't fail.
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

    /// Returns the entry of a lockfile that pins `digest` and contains `manifest`.
    fn entry(manifest: &str, digest: &str) -> Entry {
        let mut object: Value = serde_json::from_str(manifest).expect("JSON");
        let layers = object["layers"].as_array().map_or(0, Vec::len);
        object["n2c"] = serde_json::json!({
            "version": 1, "ref": format!("h.io/a:1@{digest}"), "platform": "linux/amd64",
            "manifest": digest, "diffIds": vec![digest; layers], "image": {},
        });
        let lockfile = Lockfile::parse("test", object.to_string().as_bytes()).expect("a lockfile");
        // Write it and read it again, which brings it into canonical form.
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
