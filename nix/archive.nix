# toDockerArchive ./alpine.json, toOciArchive ./alpine.json, or with
# { lock, platform ? …, imageName ? …, imageTag ? …, registry ? null, tlsVerify ? null, meta ? { } },
# or with a result of buildImage: an image in a single file, for tools that don't read image.json.
#
# - toDockerArchive: an archive for `docker load`, byte for byte as skopeo writes it;
#   for `fromImage` of nixpkgs' dockerTools and of nix-snapshotter
# - toOciArchive: an OCI layout in a tar archive, with the manifest as the registry
#   serves it; for `podman load` and `ctr images import`, and to keep the digest
# - imageName, imageTag: the name of a locked image in the archive; by default as in the
#   lockfile
# - the other arguments are those of fromLock
#
# The archive is built without network access from the fixed-output derivations of
# the blobs, and of the manifest if the archive contains it.
{
  n2c,
  system,
  lib,
  fromLock,
}:
let
  ofLock =
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
  ofImage =
    transport: image:
    derivation {
      name = lib.sanitizeName "${transport}-${image.imageName}-${image.imageTag}.tar";
      inherit system;
      builder = "${n2c}/bin/n2c";
      args = [
        "copy"
        "nix:${image.imageJson}"
        "${transport}:${placeholder "out"}:${image.imageName}:${image.imageTag}"
      ];
      preferLocalBuild = true;
      # Another machine's layers may have other bytes.
      allowSubstitutes = false;
    }
    // {
      inherit (image) imageName imageTag meta;
    };
  make =
    transport: argument:
    if builtins.isAttrs argument && argument ? imageJson then
      ofImage transport argument
    else
      ofLock transport argument;
in
{
  toDockerArchive = make "docker-archive";
  toOciArchive = make "oci-archive";
}
