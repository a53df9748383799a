# fromRef "docker.io/library/alpine:3.19@sha256:…", or
# fromRef { ref, platform ? …, inheritConfig ? "none", tlsVerify ? null, meta ? { } }:
# the image.json of an image that a reference pins; no lockfile, no other hash.
#
# A manifest's digest is its hash, so index and manifest are fixed-output
# derivations, and what they say is known once they are there: this imports from
# derivations. Whoever does not want that has `fromLock`.
{
  system,
  lib,
  platforms,
  fetch,
  image,
}:
argument:
let
  options = if builtins.isString argument then { ref = argument; } else argument;
  make =
    {
      ref,
      platform ? null,
      inheritConfig ? "none",
      tlsVerify ? null,
      meta ? { },
    }:
    let
      reference = lib.parseReference ref;
      inherit (reference) repository;
      wanted = platforms.normalise (if platform == null then system else platform);
      fetched =
        digest: size:
        fetch.fetchManifest {
          inherit repository digest size tlsVerify;
        };
      read = drv: builtins.fromJSON (builtins.readFile drv);

      # [ { name, file } ]: the image manifests below a document, attestations
      # left out, nested indexes followed.
      manifestsBelow =
        depth: document:
        if depth > 4 then
          throw "n2c: the indexes of `${ref}` are nested deeper than 4 levels."
        else
          builtins.concatMap (
            entry:
            let
              file = fetched entry.digest entry.size;
              isIndex = builtins.elem (entry.mediaType or "") [
                "application/vnd.oci.image.index.v1+json"
                "application/vnd.docker.distribution.manifest.list.v2+json"
              ];
            in
            if (entry.annotations or { }) ? "vnd.docker.reference.type" then
              [ ]
            else if entry ? platform && entry.platform.os or "" != "unknown" then
              [
                {
                  name = platforms.format entry.platform;
                  inherit file;
                }
              ]
            else if isIndex then
              manifestsBelow (depth + 1) (read file)
            else
              [ ]
          ) document.manifests;

      rootFile = fetched reference.digest null;
      root = read rootFile;
      found = manifestsBelow 1 root;
      chosen = platforms.choose "`${ref}`" wanted (map (one: one.name) found);
      file =
        if root ? manifests then
          (builtins.head (builtins.filter (one: one.name == chosen) found)).file
        else
          rootFile;
    in
    image {
      imageName = reference.name;
      imageTag = reference.tag;
      inherit repository file inheritConfig tlsVerify meta;
      manifest = read file;
      passthru = {
        inherit ref;
      };
    };
in
make options
