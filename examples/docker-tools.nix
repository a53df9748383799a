# A locked base image for nixpkgs' dockerTools.
#
#   nix-build examples/docker-tools.nix --arg n2c <n2c> --arg lock ./alpine.json
#
# dockerTools wants an archive, which is built here from the layers' own
# derivations: a new layer is fetched alone, not with the whole image.
{
  n2c,
  lock,
  pkgs ? import <nixpkgs> { },
  system ? builtins.currentSystem,
}:
let
  functions = import ../nix { inherit n2c system; };
in
pkgs.dockerTools.buildImage {
  name = "hello";
  fromImage = functions.toDockerArchive lock;
  config.Cmd = [ "${pkgs.hello}/bin/hello" ];
}
