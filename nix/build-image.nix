# buildImage: nix2container's function of the same name. The result is an image.json, built
# by n2c itself.
{
  n2c,
  n2cDerivation,
  system,
  lib,
  platforms,
  layering,
  mountPoints,
  copyScripts,
  nixDatabase,
}:
{
  # The image's name, such as "acme/hello" or "registry.example/acme/hello".
  name,
  # Its tag; by default, the hash of the image.
  tag ? null,
  # What `docker run` does with it: { Entrypoint, Cmd, Env, … }. Store paths in it join
  # the image.
  config ? { },
  # Results of buildLayer, or sets of its arguments.
  layers ? [ ],
  # Store paths whose files go to the root of the image, with their closures.
  copyToRoot ? null,
  # An older name of copyToRoot.
  contents ? null,
  # The image to build upon: a result of fromLock, pullImage, buildImage…
  fromImage ? "",
  # How much of that image's config to start with: "none", "env" or "all".
  inheritConfig ? "none",
  # The architecture, as Go names it.
  arch ? platforms.architecture system,
  # Changes of permissions, in the layer that holds `copyToRoot`.
  perms ? [ ],
  # Files to leave out of what is in no other layer: see buildLayer.
  excludes ? [ ],
  # The owner of all files in the layers of this image: see buildLayer. Layers from sets of
  # arguments follow it, too.
  uid ? 0,
  gid ? 0,
  uname ? "",
  gname ? "",
  # Directories of the image, with their owners: see buildLayer.
  ensureDirs ? [ ],
  # How many layers to make of what is in no other layer.
  maxLayers ? 1,
  # Whether the image gets a database of its Nix store, so that Nix can be used in it.
  initializeNixDatabase ? false,
  # The owner of that store.
  nixUid ? 0,
  nixGid ? 0,
  # The mode of its directories and files.
  nixMode ? "0755",
  # "gzip" or "zstd": see buildLayer. Layers from sets of arguments follow it too.
  compress ? null,
  # "legacy" or "closure": make an image for nodes with nix-snapshotter, which take the store
  # paths from a Nix store of their own. "legacy" names each path in the image, for all versions
  # of nix-snapshotter, and "closure" one that lists them, for versions from 0.3 on.
  snapshotter ? if resolvedByNix then "legacy" else null,
  # Whether the result is an archive that such a node finds in its store, without a registry,
  # under the name in the attribute `image`.
  resolvedByNix ? false,
  # Whether the image has the store paths. Without them, it has only links to them,
  # and with a `snapshotter` the places where they are mounted.
  includeStorePaths ? true,
  # When the image was made, or "now": the time at which it is built.
  created ? "0001-01-01T00:00:00Z",
  meta ? { },
  # Further attributes of the result.
  passthru ? { },
}:
let
  # Text with references to store paths, as a file.
  configFile = n2cDerivation {
    name = "config.json";
    n2c = {
      kind = "text";
      text = builtins.toJSON config;
    };
  };
  # What sets of arguments in `layers` have from the image.
  common = {
    inherit
      compress
      uid
      gid
      uname
      gname
      ;
  };
  given = layering.foldLayers "buildImage" (
    if builtins.isList layers then
      map (
        layer: if builtins.isAttrs layer && !(layer ? drvPath || layer ? fromTar) then common // layer else layer
      ) layers
    else
      layers
  );
  root = layering.rootOf "buildImage" copyToRoot contents;
  database = nixDatabase {
    roots = [ configFile ] ++ root;
    layers = layering.uniqueLayers (builtins.concatMap (layer: layer.nestedLayers) given ++ given);
  };
  # What is in no other layer, and what the config refers to.
  custom = layering.buildLayer (
    common // {
    copyToRoot = root ++ (if initializeNixDatabase then [ database ] else [ ]);
    deps = [ configFile ];
    ignore = configFile;
    layers = given;
    # As nix2container does it, also for the database itself.
    perms =
      if initializeNixDatabase then
        perms
        ++ [
          {
            path = database;
            regex = ".*";
            mode = nixMode;
            uid = nixUid;
            gid = nixGid;
          }
        ]
      else
        perms;
    inherit maxLayers ensureDirs excludes;
  });
  built = custom.nestedLayers ++ [ custom ];
  hasMountPoints = snapshotter != null || !includeStorePaths;
  # Layers that are given as archives stay as they are.
  all =
    if hasMountPoints then
      builtins.filter (layer: !(layer ? storePaths)) built
      ++ [
        (mountPoints {
          layers = builtins.filter (layer: layer ? storePaths) built;
          inherit snapshotter;
        })
      ]
    else
      built;
  # The base's image.json has as much of its config as is inherited, if it can say.
  base =
    if fromImage == "" || fromImage == null then
      null
    else if inheritConfig != "none" && builtins.isAttrs fromImage && fromImage ? inheriting then
      fromImage.inheriting inheritConfig
    else
      fromImage.imageJson or fromImage;
  imageName = lib.toLower name;
  imageTag =
    if tag == null then
      builtins.head (lib.splitOnce "-" (builtins.unsafeDiscardStringContext (baseNameOf image.outPath)))
    else
      tag;
  imageJson = derivation {
    name = lib.sanitizeName "image-${baseNameOf name}.json";
    inherit system;
    builder = "${n2c}/bin/n2c";
    args = [
      "image"
      (placeholder "out")
      "${configFile}"
    ]
    ++ map (layer: "${layer}/layers.json") all
    ++ (if base == null then [ ] else [ "--from-image=${base}" ])
    ++ [
      "--arch=${arch}"
      "--created=${created}"
      "--inherit=${inheritConfig}"
    ];
    preferLocalBuild = true;
    # Another machine's layers may have other bytes.
    allowSubstitutes = false;
  };
  # What nix-snapshotter looks for in its node's store.
  archive = derivation {
    name = lib.sanitizeName "nix-image-${baseNameOf name}.tar";
    inherit system;
    builder = "${n2c}/bin/n2c";
    args = [
      "copy"
      "nix:${imageJson}"
      "oci-archive:${placeholder "out"}:nix:0${placeholder "out"}:latest"
      "--dest-compress-format=gzip"
    ];
    preferLocalBuild = true;
  };
  image = if resolvedByNix then archive else imageJson;
  # "registry.example/acme/hello" or "acme/hello".
  names = lib.splitOnce "/" imageName;
  isName =
    lib.isPath imageName
    || builtins.elemAt names 1 != null
      && lib.isHost (builtins.head names)
      && lib.isPath (builtins.elemAt names 1);
in
if !builtins.isString name || name == "" then
  throw "n2c: `name` of buildImage must be the image's name, such as \"acme/hello\"."
else if !isName then
  throw "n2c: invalid `name` `${lib.show name}` of buildImage: expected the path of a repository, such as `acme/hello`."
else if tag != null && !(builtins.isString tag && lib.isTag tag) then
  throw "n2c: invalid `tag` `${lib.show tag}` of buildImage: a tag is 1 to 128 letters, digits, `_`, `.` and `-`."
else if !builtins.elem inheritConfig [ "none" "env" "all" ] then
  throw "n2c: `inheritConfig` must be \"none\", \"env\" or \"all\", not `${lib.show inheritConfig}`."
else if !builtins.isInt nixUid || !builtins.isInt nixGid then
  throw "n2c: `nixUid` and `nixGid` of buildImage must be numbers."
else if !builtins.elem snapshotter [ null "legacy" "closure" ] then
  throw "n2c: `snapshotter` must be \"legacy\", \"closure\" or null, not `${lib.show snapshotter}`."
else if resolvedByNix && snapshotter == null then
  throw "n2c: an image that is `resolvedByNix` must be for a `snapshotter`."
else if hasMountPoints && initializeNixDatabase then
  throw "n2c: an image without store paths can't have `initializeNixDatabase`."
else if !builtins.isAttrs config then
  throw "n2c: `config` of buildImage must be a set, not ${builtins.typeOf config}."
else
  image
  // copyScripts {
    image = imageJson;
    inherit imageName imageTag;
  }
  // {
    inherit
      imageName
      imageTag
      # What `n2c copy` reads, also if the image is an archive.
      imageJson
      fromImage
      meta
      ;
    # What a Pod of Kubernetes calls it.
    image = if resolvedByNix then "nix:0${archive}" else "${imageName}:${imageTag}";
    imageRefUnsafe = builtins.unsafeDiscardStringContext "${imageName}:${imageTag}";
    # The layers, from the bottom to the top, without those of `fromImage`.
    layers = all;
  }
  // passthru
