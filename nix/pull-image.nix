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
  # Which image of an index. An image without one is taken as it is, unless one
  # of these asks for something else. By default Linux, on this system's
  # architecture.
  os ? null,
  arch ? null,
  tlsVerify ? true,
  name ? builtins.replaceStrings [ "/" ":" ] [ "-" "-" ] "docker-image-${imageName}",
  # As fromLock's.
  inheritConfig ? "none",
  meta ? { },
}:
let
  repository = builtins.match "(docker://)?(.*)" imageName;
  # As n2c's own parser has it, so that nothing becomes an option.
  isName = builtins.match "[A-Za-z0-9[].*" (builtins.elemAt repository 1) != null;
  inherit (lib.parseDigest imageDigest) hash;
  platform = platforms.normalise "`os` and `arch`" "${if os == null then "linux" else os}/${
    if arch == null then platforms.architecture system else arch
  }";
  directory = derivation {
    name = lib.sanitizeName name;
    inherit system impureEnvVars;
    builder = "${n2c}/bin/n2c";
    args = [
      "pull"
      (builtins.seq hash "${imageName}@${imageDigest}")
      "dir:${placeholder "out"}"
    ]
    ++ (if os == null && arch == null then [ ] else [ "--platform=${platform}" ])
    # Upstream's `true` is n2c's default, which also knows loopback.
    ++ (if tlsVerify then [ ] else [ "--tls-verify=false" ]);
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
    outputHash = sha256;
    preferLocalBuild = true;
  };
in
if !isName then
  throw "n2c: invalid `imageName` `${lib.show imageName}`: it is a reference without tag, such as `quay.io/acme/base`."
else
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
