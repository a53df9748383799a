# nix2container's example of the same name, with n2c's pullImage. Existing digests and
# hashes can be kept. For a new image, `n2c hash` prints both; `nix-hash` of the
# directory that `skopeo copy … dir:DIR` or `n2c pull … dir:DIR` writes gives the
# same hash.
{
  n2c,
  imageName,
  imageDigest,
  sha256,
  system ? builtins.currentSystem,
}:
(import ../nix { inherit n2c system; }).pullImage {
  inherit imageName imageDigest sha256;
}
