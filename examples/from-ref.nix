# A base image from a reference with a digest, without a lockfile or any other hash.
# To update it, a bot only has to edit the tag and the digest; `bots/renovate.json`
# configures Renovate for this.
#
#   nix-build examples/from-ref.nix --arg n2c <n2c>
{
  n2c,
  ref ? "docker.io/library/nginx:1.23.1@sha256:790711e34858c9b0741edffef6ed3d8199d8faa33f2870dea5db70f16384df79",
  system ? builtins.currentSystem,
}:
(import ../nix { inherit n2c system; }).fromRef ref
