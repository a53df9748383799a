# The image.json that nix2container builds on, from a manifest and its blobs.
{
  n2c,
  system,
  lib,
  platforms,
  fetch,
}:
let
  image =
    args@{
      # The image's name, as shown and as used in store paths: "library/alpine".
      imageName,
      imageTag ? null,
      # Where the blobs are fetched from: "docker.io/library/alpine".
      repository,
      # The path of a lockfile or manifest, and the entry to use from it, as Nix data.
      file,
      manifest,
      # The entry to use from a file for several platforms; null if there is only one.
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
      throw "n2c: `inheritConfig` must be \"none\", \"env\" or \"all\", not `${toString inheritConfig}`."
    else if !isName then
      throw "n2c: invalid image name `${lib.show imageName}`: expected the path of a repository, such as `library/alpine`."
    else
      derivation {
        name = lib.sanitizeName "nix2container-${imageName}.json";
        inherit system;
        builder = "${n2c}/bin/n2c";
        # n2c computes the blobs' store paths itself. Listing the blobs below makes Nix
        # fetch them first.
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
        # The same image, with more of its config in the image.json.
        inheriting = inheritConfig: image (args // { inherit inheritConfig; });
      }
      // passthru;
in
image
