# A locked base image for nix-snapshotter, which reads docker archives.
#
#   nix-build examples/nix-snapshotter.nix --arg n2c <n2c> --arg lock ./alpine.json
#
# `pkgs` is nixpkgs with nix-snapshotter's overlay.
{
  n2c,
  lock,
  pkgs,
  system ? builtins.currentSystem,
}:
let
  functions = import ../nix { inherit n2c system; };
in
pkgs.nix-snapshotter.buildImage {
  name = "hello";
  fromImage = functions.toDockerArchive lock;
  config.entrypoint = [ "${pkgs.hello}/bin/hello" ];
}
