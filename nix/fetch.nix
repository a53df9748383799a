# Fixed-output derivations whose builder is n2c: no shell, no curl, no stdenv.
{ n2c, system }:
let
  lib = import ./lib.nix;

  # What a fetch may read of its surroundings: nixpkgs' proxyImpureEnvVars, the
  # CA bundle that Nix was given, and n2c's mirrors.
  impureEnvVars = [
    "http_proxy"
    "https_proxy"
    "ftp_proxy"
    "all_proxy"
    "no_proxy"
    "HTTP_PROXY"
    "HTTPS_PROXY"
    "FTP_PROXY"
    "ALL_PROXY"
    "NO_PROXY"
    "NIX_SSL_CERT_FILE"
    "N2C_MIRRORS"
  ];

  fetchDigest =
    options:
    {
      repository,
      digest,
      size ? null,
      # Where else it is, where the registry has it not: `urls` of a descriptor.
      urls ? [ ],
      tlsVerify ? null,
    }:
    let
      inherit (lib.parseDigest digest) algorithm hash;
      checked = lib.checkRepository "repository" repository;
    in
    derivation {
      # The path depends on name and hash alone; upstream's has this name too,
      # so what a binary cache has of it is found.
      name = hash;
      inherit system impureEnvVars;
      builder = "${n2c}/bin/n2c";
      args = [
        "blob"
        checked
        digest
        "--output=${placeholder "out"}"
      ]
      ++ map (url: "--url=${url}") urls
      ++ options
      ++ (if size == null then [ ] else [ "--size=${toString size}" ])
      ++ (
        if tlsVerify == null then
          [ ]
        else
          [ "--tls-verify=${if tlsVerify then "true" else "false"}" ]
      );
      outputHashMode = "flat";
      outputHashAlgo = algorithm;
      outputHash = hash;
      preferLocalBuild = true;
    };
in
{
  inherit impureEnvVars;

  # fetchBlob { repository, digest, size ? null, urls ? [ ], tlsVerify ? null }: one
  # blob of a registry as a file. `repository` is such as "docker.io/library/alpine";
  # `size` in bytes refuses what is longer before it is all here; `urls` are asked
  # where the registry has it not; `tlsVerify` unset verifies certificates, and
  # speaks plain HTTP on loopback.
  fetchBlob = fetchDigest [ ];

  # The same of a manifest or an index.
  fetchManifest = fetchDigest [ "--manifest" ];
}
