//! The media types that n2c knows, and the OCI types of Docker's layers.
//!
//! OCI image-spec media-types.md; Docker's image manifest v2 schema 2.

/// An OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI image config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// A layer without compression.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// The same in Docker's manifests.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// A Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// A Docker image manifest, version 2 schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// A Docker image config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// The media types that every manifest request accepts. It always lists all four: if the
/// stored type is not among them, some registries answer 404 or with a converted manifest.
pub const ACCEPTED_MANIFESTS: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

/// Whether this is the media type of an index or a manifest list.
#[must_use]
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_LIST)
}

/// Whether this is the media type of an image manifest (which may turn out to be an
/// artifact's).
#[must_use]
pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}

/// Whether this is the media type of the config of an image that can be run.
#[must_use]
pub fn is_image_config(media_type: &str) -> bool {
    matches!(media_type, OCI_CONFIG | DOCKER_CONFIG)
}

/// Converts a layer's media type to the OCI one, which image.json uses. Returns `None` if
/// it is not a layer type. The mapping is that of nix2container's `nix/image.go`, plus the
/// non-distributable types, which containers/image converts in the same way.
#[must_use]
pub fn oci_layer(media_type: &str) -> Option<&'static str> {
    Some(match media_type {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => {
            "application/vnd.oci.image.layer.v1.tar"
        }
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip" => {
            "application/vnd.oci.image.layer.v1.tar+gzip"
        }
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => {
            "application/vnd.oci.image.layer.v1.tar+zstd"
        }
        "application/vnd.oci.image.layer.nondistributable.v1.tar"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar" => {
            "application/vnd.oci.image.layer.nondistributable.v1.tar"
        }
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => {
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        }
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd" => {
            "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
        }
        _ => return None,
    })
}

/// Whether this is the media type of a layer without compression that registries store.
#[must_use]
pub fn is_plain_layer(media_type: &str) -> bool {
    matches!(media_type, OCI_LAYER | DOCKER_LAYER)
}

/// Returns the media type of a plain layer once it is compressed with `algorithm`, which is
/// `gzip` or `zstd`.
#[must_use]
pub fn compressed(plain: &str, algorithm: &str) -> String {
    let separator = if plain == DOCKER_LAYER { '.' } else { '+' };
    format!("{plain}{separator}{algorithm}")
}

/// Converts a layer's media type to Docker's. Returns `None` if Docker's manifests can't hold
/// such a layer, as those that are compressed with zstd.
#[must_use]
pub fn docker_layer(media_type: &str) -> Option<&'static str> {
    Some(match oci_layer(media_type)? {
        OCI_LAYER => DOCKER_LAYER,
        "application/vnd.oci.image.layer.v1.tar+gzip" => {
            "application/vnd.docker.image.rootfs.diff.tar.gzip"
        }
        "application/vnd.oci.image.layer.nondistributable.v1.tar" => {
            "application/vnd.docker.image.rootfs.foreign.diff.tar"
        }
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip" => {
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        }
        _ => return None,
    })
}

/// Returns a `Content-Type` header without its parameters, in lower case.
#[must_use]
pub fn without_parameters(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_62_docker_layer_types_become_oci() {
        assert_eq!(
            oci_layer("application/vnd.docker.image.rootfs.diff.tar.gzip"),
            Some("application/vnd.oci.image.layer.v1.tar+gzip")
        );
        assert_eq!(oci_layer("application/vnd.oci.image.config.v1+json"), None);
        assert_eq!(oci_layer("text/plain"), None);
    }

    #[test]
    fn a_compressed_layer_has_a_type_that_is_known() {
        for (plain, algorithm) in [(OCI_LAYER, "gzip"), (OCI_LAYER, "zstd"), (DOCKER_LAYER, "gzip")]
        {
            let compressed = compressed(plain, algorithm);
            assert!(is_plain_layer(plain) && !is_plain_layer(&compressed));
            let oci = oci_layer(&compressed).expect("a layer");
            assert!(oci.ends_with(algorithm));
            assert_eq!(docker_layer(oci).is_some(), algorithm == "gzip");
        }
    }

    #[test]
    fn parameters_are_dropped() {
        assert_eq!(
            without_parameters("Application/vnd.oci.image.index.v1+json; charset=utf-8"),
            OCI_INDEX
        );
    }
}
