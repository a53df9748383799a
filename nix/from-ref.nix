# fromRef "docker.io/library/alpine:3.19@sha256:…", or
# fromRef { ref, platform ? …, inheritConfig ? "none", tlsVerify ? null, meta ? { } }:
# the image.json of an image that a reference pins, without a lockfile or any other
# hash.
#
# A manifest's digest is its hash, so the index and the manifest can be fixed-output
# derivations. Their content is needed during evaluation, so this uses import from
# derivation. To avoid that, use `fromLock`.
#
# An image is chosen from an index by the same rules as in `n2c lock`
# (`src/resolve/`).
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
      what = "`${lib.show ref}`";
      reference = lib.parseReference "`fromRef`" ref;
      inherit (reference) repository;
      wanted = platforms.normalise "`fromRef`" (if platform == null then system else platform);
      fetchedManifest =
        descriptor:
        fetch.fetchManifest {
          inherit repository tlsVerify;
          inherit (descriptor) digest;
          size = descriptor.size or null;
        };
      read = drv: builtins.fromJSON (builtins.readFile drv);

      isIndexType =
        type:
        builtins.elem type [
          "application/vnd.oci.image.index.v1+json"
          "application/vnd.docker.distribution.manifest.list.v2+json"
        ];
      isManifestType =
        type:
        builtins.elem type [
          "application/vnd.oci.image.manifest.v1+json"
          "application/vnd.docker.distribution.manifest.v2+json"
        ];
      isConfigType =
        type:
        builtins.elem type [
          "application/vnd.oci.image.config.v1+json"
          "application/vnd.docker.container.image.v1+json"
        ];
      typeOf = entry: entry.mediaType or "application/vnd.oci.image.manifest.v1+json";

      # The platform in an index entry or a config; null if it isn't one that a user
      # could ask for.
      served =
        value:
        let
          part = name: if builtins.isString (value.${name} or null) then value.${name} else "";
          inherit (platforms) isPart;
          variant = part "variant";
        in
        if builtins.isAttrs value && isPart (part "os") && isPart (part "architecture") && (variant == "" || isPart variant) then
          platforms.format {
            os = part "os";
            architecture = part "architecture";
            inherit variant;
          }
        else
          null;

      isArtifact =
        entry:
        (entry.annotations or { }) ? "vnd.docker.reference.type"
        || served (entry.platform or null) == "unknown/unknown"
        || (entry.artifactType or "") != "" && !isConfigType entry.artifactType
        || !isManifestType (typeOf entry) && !isIndexType (typeOf entry);

      # The images whose platform the index states, as
      # { platform, features, hidden, descriptor }.
      listed =
        document:
        builtins.concatMap (
          entry:
          let
            named = served (entry.platform or null);
          in
          if isArtifact entry || named == null || !isManifestType (typeOf entry) then
            [ ]
          else
            [
              {
                platform = named;
                features = (entry.platform."os.features" or [ ]) != [ ];
                hidden = false;
                descriptor = entry;
              }
            ]
        ) document.manifests;

      # All images: those above, those that state their platform only in their
      # config, and those in nested indexes.
      found =
        depth: document:
        if depth > 4 then
          throw "n2c: the indexes of ${what} are nested deeper than 4 levels."
        else
          builtins.concatMap (
            entry:
            let
              content = read (fetchedManifest entry);
              named = listed { manifests = [ entry ]; };
            in
            if isArtifact entry then
              [ ]
            else if named != [ ] then
              named
            else if content ? manifests then
              found (depth + 1) content
            else if !isConfigType (content.config.mediaType or "") then
              [ ]
            else
              [
                {
                  platform = platformOf content;
                  features = false;
                  hidden = true;
                  descriptor = entry;
                }
              ]
          ) document.manifests;

      platformOf =
        manifest:
        served (
          read (
            fetch.fetchBlob {
              inherit repository tlsVerify;
              inherit (manifest.config) digest size;
            }
          )
        );

      # The first of the best candidates. OS features that nobody asked for count
      # most against a candidate, then a lower variant, then a platform that the index
      # doesn't state.
      best =
        candidates:
        let
          rank =
            candidate:
            let
              far = if candidate.platform == null then null else platforms.distance wanted candidate.platform;
            in
            if far == null then
              null
            else
              (if candidate.features then 1000 else 0) + 2 * far + (if candidate.hidden then 1 else 0);
          fitting = builtins.filter (candidate: rank candidate != null) candidates;
          better = one: other: if rank other < rank one then other else one;
        in
        if fitting == [ ] then null else builtins.foldl' better (builtins.head fitting) fitting;

      rootFile = fetchedManifest { inherit (reference) digest; };
      root = read rootFile;

      chosen =
        let
          exact = builtins.filter (one: one.platform == wanted && !one.features) (listed root);
          all = found 1 root;
          unnamed = builtins.filter (one: one.platform == null) all;
          names = map (one: one.platform) (builtins.filter (one: one.platform != null) all);
        in
        if exact != [ ] then
          builtins.head exact
        else if best all != null then
          best all
        else if builtins.length all == 1 && unnamed != [ ] then
          builtins.head all
        else
          throw "n2c: no image for `${wanted}` in ${what}; it has: ${
            if names == [ ] then "none" else builtins.concatStringsSep ", " names
          }";

      # A single manifest is used as it is, unless a platform was asked for.
      built = platformOf root;
      fits = platform == null || built == null || platforms.distance wanted built != null;
      file =
        if root ? manifests then
          fetchedManifest chosen.descriptor
        else if fits then
          rootFile
        else
          throw "n2c: no image for `${wanted}` in ${what}; it is for ${built}";
    in
    image {
      imageName = reference.name;
      imageTag = reference.tag;
      inherit repository file inheritConfig tlsVerify meta;
      manifest = lib.checkManifest what (read file);
      passthru = {
        inherit ref;
      };
    };
in
make options
