//! Parsers of untrusted input: they neither panic nor run forever, and what they accept is
//! written back unchanged.

use std::path::Path;

use n2c::formats::lockfile::Lockfile;
use n2c::oci::digest::{Digest, Verified};
use n2c::oci::image::ImageConfig;
use n2c::oci::location::Location;
use n2c::oci::manifest::Document;
use n2c::oci::platform::Platform;
use n2c::oci::reference::Reference;
use n2c::registry::Challenge;
use n2c::registry::credentials::AuthFile;
use proptest::prelude::*;
use serde_json::Value;

/// Text made of the parts and characters of references.
fn reference_like() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9./:@_\\[\\]-]{0,60}",
        "([a-z0-9-]{1,8}\\.)?[a-z0-9-]{1,8}(:[0-9]{1,5})?(/[a-z0-9._-]{1,8}){0,3}(:[a-zA-Z0-9._-]{1,8})?(@sha256:[0-9a-f]{64})?",
        "\\PC{0,40}",
    ]
}

/// JSON of any shape, with the keys that manifests, configs and auth files have.
fn json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        Just("schemaVersion"),
        Just("mediaType"),
        Just("config"),
        Just("layers"),
        Just("manifests"),
        Just("digest"),
        Just("size"),
        Just("platform"),
        Just("os"),
        Just("architecture"),
        Just("variant"),
        Just("rootfs"),
        Just("diff_ids"),
        Just("history"),
        Just("annotations"),
        Just("artifactType"),
        Just("n2c"),
        Just("version"),
        Just("ref"),
        Just("platforms"),
        Just("diffIds"),
        Just("image"),
        Just("auths"),
        Just("auth"),
        Just("credHelpers"),
        Just("credsStore"),
        Just("h.io"),
    ];
    let text = prop_oneof![
        Just("application/vnd.oci.image.index.v1+json".to_owned()),
        Just("application/vnd.oci.image.manifest.v1+json".to_owned()),
        Just("application/vnd.oci.image.config.v1+json".to_owned()),
        Just("application/vnd.oci.image.layer.v1.tar".to_owned()),
        Just(Digest::sha256(b"").to_string()),
        Just("linux".to_owned()),
        Just("linux/arm64".to_owned()),
        "\\PC{0,12}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..3_i64).prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..8).prop_map(|entries| entries
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    })
}

proptest! {
    #[test]
    fn references_round_trip(text in reference_like()) {
        if let Ok(reference) = text.parse::<Reference>() {
            let shown = reference.to_string();
            prop_assert_eq!(shown.parse::<Reference>().expect("its own text"), reference.clone());
            // These may become part of a URL or of a Nix expression.
            let path = reference.repository().path();
            prop_assert!(!path.contains("..") && !path.starts_with('/') && !path.contains("//"), "{}", path);
            prop_assert!(shown.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./:@_[]-".contains(&byte)), "{}", shown);
        }
        if let Ok(location) = text.parse::<Location>() {
            prop_assert_eq!(location.to_string().parse::<Location>().expect("its own text"), location);
        }
    }

    #[test]
    fn digests_round_trip(text in "(sha256|sha512|md5)?:?[0-9a-fA-F./]{0,130}") {
        if let Ok(digest) = text.parse::<Digest>() {
            prop_assert_eq!(digest.to_string(), text);
        }
    }

    #[test]
    fn platforms_round_trip(text in "[a-zA-Z0-9_./ -]{0,30}") {
        if let Ok(platform) = text.parse::<Platform>() {
            prop_assert_eq!(platform.to_string().parse::<Platform>().expect("its own text"), platform.clone());
            prop_assert_eq!(platform.distance(&platform), Some(0));
        }
    }

    // A platform that a server names can, once normalised, be requested.
    #[test]
    fn served_platforms_can_be_requested(os in "\\PC{0,8}", architecture in "\\PC{0,8}", variant in "\\PC{0,4}") {
        if let Some(platform) = Platform::served(&os, &architecture, &variant) {
            prop_assert_eq!(platform.to_string().parse::<Platform>().expect("its own text"), platform);
        }
    }

    #[test]
    fn parsing_challenges_ends(lines in prop::collection::vec("[ -~\u{e9}\t]{0,80}", 0..3)) {
        let challenges = Challenge::parse_all(lines.iter().map(String::as_str));
        let length: usize = lines.iter().map(String::len).sum();
        prop_assert!(challenges.len() <= length);
    }

    #[test]
    fn a_challenge_is_read_as_it_was_written(
        scheme in "[A-Za-z]{1,8}",
        values in prop::collection::vec("[ -~]{0,20}", 1..4),
    ) {
        let written: Vec<String> = values
            .iter()
            .enumerate()
            .map(|(number, value)| format!("p{number}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
            .collect();
        let line = format!("{scheme} {}", written.join(", "));
        let challenges = Challenge::parse_all([line.as_str()]);
        prop_assert_eq!(challenges.len(), 1, "{}", line);
        for (number, value) in values.iter().enumerate() {
            let expected = Some(value.as_str()).filter(|value| !value.is_empty());
            prop_assert_eq!(challenges[0].parameter(&format!("p{number}")), expected, "{}", line);
        }
    }

    #[test]
    fn documents_and_lockfiles_do_not_panic(value in json(), cut in any::<prop::sample::Index>()) {
        let text = value.to_string();
        for text in [text.as_str(), text.get(..cut.index(text.len() + 1)).unwrap_or_default()] {
            let raw = Verified::as_found(text.as_bytes().to_vec());
            let _ = Document::parse("`test`", raw.clone(), Some("application/json"));
            let _ = ImageConfig::parse("`test`", &raw);
            let _ = AuthFile::parse(Path::new("test"), text.as_bytes());
            if let Ok(lockfile) = Lockfile::parse("test", text.as_bytes()) {
                let written = lockfile.to_text();
                let again = Lockfile::parse("test", written.as_bytes()).expect("its own text");
                prop_assert_eq!(again.to_text(), written);
            }
        }
    }
}
