# A base image from a lockfile: n2c lock alpine:3.19 > alpine.json
#
#   nix-build examples/from-lock.nix --arg n2c <n2c> --arg lock ./alpine.json
#
# builds the image.json for nix2container.buildImage { fromImage = …; }.
{
  n2c,
  lock,
  system ? builtins.currentSystem,
}:
(import ../nix { inherit n2c system; }).fromLock {
  inherit lock;
  inheritConfig = "env";
}
