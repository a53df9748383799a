# A locked base image for nixpkgs' dockerTools.
#
#   nix-build examples/docker-tools.nix --arg n2c <n2c> --arg lock ./alpine.json
#
# dockerTools needs an archive. It is built here from the derivations of the layers,
# so if one layer changes, only that layer is fetched again.
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
