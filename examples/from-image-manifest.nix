# nix2container's example of the same name, with n2c's pull function.
{
  n2c,
  pkgs ? null,
  system ? builtins.currentSystem,
}:
(import ../nix { inherit n2c system pkgs; }).pullImageFromManifest {
  imageName = "library/alpine";
  imageManifest = ../lockfiles/alpine-manifest.json;
}
