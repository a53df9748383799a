# pullImage: a replacement for nix2container's function of the same name, with the
# same arguments. The whole image is one fixed-output derivation, byte for byte in
# skopeo's `dir:` layout, so the hashes in existing calls stay valid.
{
  n2c,
  system,
  lib,
  platforms,
  impureEnvVars,
  imageFromDir,
}:
let
  pullImage =
    args@{
      # A reference without a tag: "alpine", "quay.io/acme/base".
      imageName,
      # The digest of the image, or of an index that contains it.
      imageDigest,
      # The NAR hash of the directory, in any format that Nix accepts.
      sha256,
      # The platform to choose from an index, by default Linux on this system's
      # architecture. An image without an index is used as it is, unless `os` or `arch`
      # asks for something else.
      os ? null,
      arch ? null,
      tlsVerify ? true,
      name ? builtins.replaceStrings [ "/" ":" ] [ "-" "-" ] "docker-image-${imageName}",
      # As for fromLock.
      inheritConfig ? "none",
      meta ? { },
    }:
    let
      repository = builtins.match "(docker://)?(.*)" imageName;
      # A valid name begins with the same characters as in n2c's own parser, so it can't
      # be taken for an option.
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
        # nix2container's `true` becomes n2c's default, which also allows plain HTTP on
        # loopback.
        ++ (if tlsVerify then [ ] else [ "--tls-verify=false" ]);
        outputHashMode = "recursive";
        outputHashAlgo = "sha256";
        outputHash = sha256;
        preferLocalBuild = true;
      };
    in
    if !isName then
      throw "n2c: invalid `imageName` `${lib.show imageName}`: expected a reference without a tag, such as `quay.io/acme/base`."
    else
      imageFromDir (lib.sanitizeName "nix2container-${imageName}.json") inheritConfig directory
      // {
        inherit imageName meta;
        # The image, as a directory in skopeo's layout.
        src = directory;
        # The same image with another `inheritConfig`.
        inheriting = inheritConfig: pullImage (args // { inherit inheritConfig; });
      };
in
pullImage
