# pullImage: nix2container's function of that name, with its arguments. The whole
# image is one fixed-output derivation in skopeo's `dir:` layout, byte for byte,
# so the hashes in existing calls stay valid.
{
  n2c,
  system,
  lib,
  platforms,
  impureEnvVars,
}:
{
  # A reference without tag: "alpine", "quay.io/acme/base".
  imageName,
  # The digest of the image, or of an index that holds it.
  imageDigest,
  # The NAR hash of the directory, in any of Nix's spellings.
  sha256,
  os ? "linux",
  arch ? platforms.architecture system,
  tlsVerify ? true,
  name ? builtins.replaceStrings [ "/" ":" ] [ "-" "-" ] "docker-image-${imageName}",
  # As fromLock's.
  inheritConfig ? "none",
  meta ? { },
}:
let
  directory = derivation {
    name = lib.sanitizeName name;
    inherit system impureEnvVars;
    builder = "${n2c}/bin/n2c";
    args = [
      "pull"
      "${imageName}@${imageDigest}"
      "dir:${placeholder "out"}"
      "--os=${os}"
      "--arch=${arch}"
    ]
    # Upstream's `true` is n2c's default, which also knows loopback.
    ++ (if tlsVerify then [ ] else [ "--tls-verify=false" ]);
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
    outputHash = sha256;
    preferLocalBuild = true;
  };
in
derivation {
  name = lib.sanitizeName "nix2container-${imageName}.json";
  inherit system;
  builder = "${n2c}/bin/n2c";
  args = [
    "image-from-dir"
    (placeholder "out")
    "${directory}"
    "--inherit=${inheritConfig}"
  ];
  preferLocalBuild = true;
}
// {
  inherit imageName meta;
  # The image in skopeo's layout.
  src = directory;
}
