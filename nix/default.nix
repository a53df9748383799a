# n2c for Nix: base images from lockfiles, with one derivation per layer.
#
#   n2c = import ./nix { n2c = <package or store path that holds bin/n2c>; };
#   fromImage = n2c.fromLock ./lockfiles/alpine.json;
#
# Building an image doesn't need nixpkgs: `pkgs` is used only for the scripts
# `getManifest` and `update`.
{
  n2c,
  system ? builtins.currentSystem,
  pkgs ? null,
}:
let
  lib = import ./lib.nix;

  # A script `name` that runs n2c with `arguments`, then `more`, which is shell
  # code, and then `operand`, which is never parsed as an option.
  script =
    name:
    {
      arguments,
      more,
      operand,
    }:
    if pkgs == null then
      throw "n2c: `${name}` is a script; to use it, pass `pkgs` to `import ./nix`."
    else
      pkgs.writeShellScriptBin name ''
        exec ${n2c}/bin/n2c ${toString (map lib.quote arguments)} ${more} -- ${lib.quote operand}
      '';
  platforms = import ./platforms.nix { inherit lib; };
  fetch = import ./fetch.nix { inherit n2c system; };
  image = import ./image.nix {
    inherit n2c system lib platforms fetch;
  };
  fromLock = import ./from-lock.nix {
    inherit
      system
      script
      lib
      platforms
      fetch
      image
      ;
  };
  archives = import ./archive.nix {
    inherit
      n2c
      system
      lib
      fromLock
      ;
  };
  imageFromDir = import ./image-from-dir.nix { inherit n2c system lib; };
  fromDockerArchive = import ./from-docker-archive.nix { inherit n2c system lib imageFromDir; };
  fromRef = import ./from-ref.nix {
    inherit system lib platforms fetch image;
  };
  pullImageFromManifest = import ./pull-image-from-manifest.nix {
    inherit
      system
      script
      lib
      platforms
      image
      ;
  };
  pullImage = import ./pull-image.nix {
    inherit n2c system lib platforms imageFromDir;
    inherit (fetch) impureEnvVars;
  };
  n2cDerivation = import ./derivation.nix { inherit n2c system; };
  layering = import ./build-layer.nix { inherit n2cDerivation lib; };
  nixDatabase = import ./nix-database.nix { inherit n2cDerivation; };
  mountPoints = import ./mount-points.nix { inherit n2cDerivation; };
  program = import ./program.nix { inherit n2cDerivation; };
  copyScripts = import ./copy-scripts.nix { inherit n2c program lib; };
  copyImages = import ./copy-images.nix { inherit n2c n2cDerivation program lib; };
  buildImage = import ./build-image.nix {
    inherit
      n2c
      n2cDerivation
      system
      lib
      platforms
      layering
      mountPoints
      copyScripts
      nixDatabase
      ;
  };
  inherit (layering) buildLayer;
  inherit (fetch) fetchBlob;
  inherit (archives) toDockerArchive toOciArchive;
  replacePulls = upstream: upstream // { inherit pullImage pullImageFromManifest; };
in
{
  inherit
    buildImage
    buildLayer
    copyImages
    fetchBlob
    fromDockerArchive
    fromLock
    fromRef
    pullImage
    pullImageFromManifest
    # replacePulls upstream: nix2container's attribute set `nix2container`, with its
    # pull functions replaced by n2c's, which take the same arguments.
    replacePulls
    toDockerArchive
    toOciArchive
    ;

  # replaceAll upstream: the same, with its functions that build replaced too.
  replaceAll = upstream: replacePulls upstream // { inherit buildImage buildLayer; };
}
