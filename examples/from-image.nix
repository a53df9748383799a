# nix2container's example of that name, with n2c's pullImage. Digest and hash are
# those that its users have already: `skopeo copy … dir:DIR` and `nix-hash` of it
# give the hash, and so do `n2c pull … dir:DIR` and `nix-hash`.
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
