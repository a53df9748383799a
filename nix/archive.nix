# toDockerArchive ./alpine.json, toOciArchive ./alpine.json, or with
# { lock, platform ? …, imageName ? …, imageTag ? …, registry ? null, tlsVerify ? null, meta ? { } }:
# a locked image in one file, for tools that do not read image.json.
#
# - toDockerArchive: what `docker load` reads, byte for byte as skopeo writes it:
#   `fromImage` of nixpkgs' dockerTools, and of nix-snapshotter
# - toOciArchive: an OCI layout in a tar archive, with the manifest as the registry
#   serves it: for `podman load`, `ctr images import`, and to keep a digest
# - imageName, imageTag: the image's name in the archive; by default those of the
#   lockfile
# - the others: as fromLock's
#
# Built without a network, from the fixed-output derivations of the blobs; of the
# manifest too where the archive holds it.
{
  n2c,
  system,
  lib,
  fromLock,
}:
let
  make =
    transport: argument:
    let
      options = lib.lockOptions argument;
      image = fromLock (
        builtins.removeAttrs options [
          "imageName"
          "imageTag"
        ]
      );
      imageName = options.imageName or image.imageName;
      imageTag = options.imageTag or (if image.imageTag == null then "latest" else image.imageTag);
      reference = if transport == "oci-archive" then imageTag else "${imageName}:${imageTag}";
    in
    derivation {
      name = lib.sanitizeName "${transport}-${imageName}-${imageTag}.tar";
      inherit system;
      builder = "${n2c}/bin/n2c";
      args = [
        "pull"
        "lock:${options.lock}"
        "${transport}:${placeholder "out"}:${reference}"
        "--platform=${image.platform}"
      ];
      blobs =
        builtins.attrValues image.blobs
        ++ (if transport == "oci-archive" then [ image.servedManifest ] else [ ]);
      preferLocalBuild = true;
    }
    // {
      inherit imageName imageTag;
      inherit (image) config;
      meta = options.meta or { };
    };
in
{
  toDockerArchive = make "docker-archive";
  toOciArchive = make "oci-archive";
}
