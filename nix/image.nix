# image.json, which nix2container builds upon, from a manifest and its blobs.
{
  n2c,
  system,
  lib,
  platforms,
  fetch,
}:
{
  # The image's name for people and for store paths: "library/alpine".
  imageName,
  imageTag ? null,
  # Where its blobs are fetched from: "docker.io/library/alpine".
  repository,
  # A lockfile or manifest, as a path, and as Nix data the entry that is used.
  file,
  manifest,
  # Which entry of a file with several platforms; null where there is one.
  platform ? null,
  inheritConfig ? "none",
  tlsVerify ? null,
  meta ? { },
  # Further attributes of the result.
  passthru ? { },
}:
let
  blob =
    descriptor:
    fetch.fetchBlob {
      inherit repository tlsVerify;
      inherit (descriptor) digest;
      size = descriptor.size or null;
      urls = descriptor.urls or [ ];
    };
  config = blob manifest.config;
  layers = map blob manifest.layers;
  isName = builtins.isString imageName && lib.isPath imageName;
  named = drv: {
    inherit (drv) name;
    value = drv;
  };
  blobs = builtins.listToAttrs (map named ([ config ] ++ layers));
in
if !builtins.elem inheritConfig [ "none" "env" "all" ] then
  throw "n2c: `inheritConfig` is to be \"none\", \"env\" or \"all\", not `${toString inheritConfig}`."
else if !isName then
  throw "n2c: invalid image name `${lib.show imageName}`: it is the path of a repository, such as `library/alpine`."
else
  derivation {
    name = lib.sanitizeName "nix2container-${imageName}.json";
    inherit system;
    builder = "${n2c}/bin/n2c";
    # n2c knows where the blobs are; that they are there is this derivation's
    # doing, by naming them.
    args = [
      "image-from-manifest"
      (placeholder "out")
      "${file}"
      "--inherit=${inheritConfig}"
    ]
    ++ (if platform == null then [ ] else [ "--platform=${platform}" ]);
    blobs = builtins.attrValues blobs;
    preferLocalBuild = true;
  }
  // {
    inherit
      imageName
      imageTag
      manifest
      blobs
      layers
      meta
      ;
  }
  // passthru
