# A base image from a reference with a digest: no lockfile, no other hash. An
# update bot edits tag and digest, and all is done.
#
#   nix-build examples/from-ref.nix --arg n2c <n2c> --argstr ref docker.io/library/alpine:3.19@sha256:…
{
  n2c,
  ref,
  system ? builtins.currentSystem,
}:
(import ../nix { inherit n2c system; }).fromRef ref
