# n2c for Nix: base images from lockfiles, each layer its own derivation.
#
#   n2c = import ./nix { n2c = <package or store path that holds bin/n2c>; };
#   fromImage = n2c.fromLock ./lockfiles/alpine.json;
#
# Nothing on the way to an image needs nixpkgs: `pkgs` serves only `getManifest`,
# which is a script.
{
  n2c,
  system ? builtins.currentSystem,
  pkgs ? null,
}:
let
  lib = import ./lib.nix;

  # A program `name` that runs n2c with these arguments, then with `more`, which
  # is shell, and then with `operand`, which is never taken for an option.
  script =
    name:
    {
      arguments,
      more,
      operand,
    }:
    if pkgs == null then
      throw "n2c: `${name}` is a script, for which `import ./nix` needs `pkgs`."
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
    inherit n2c system lib platforms;
    inherit (fetch) impureEnvVars;
  };
  inherit (fetch) fetchBlob;
  inherit (archives) toDockerArchive toOciArchive;
in
{
  inherit
    fetchBlob
    fromLock
    fromRef
    pullImage
    pullImageFromManifest
    toDockerArchive
    toOciArchive
    ;

  # replacePulls upstream: the set `nix2container` of nix2container, with its
  # pull functions replaced by n2c's. The arguments stay the same.
  replacePulls = upstream: upstream // { inherit pullImage pullImageFromManifest; };
}
