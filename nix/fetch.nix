# Fixed-output derivations whose builder is n2c: no shell, no curl, no stdenv.
{ n2c, system }:
let
  lib = import ./lib.nix;

  # The environment variables that a fetch may read: nixpkgs' proxyImpureEnvVars,
  # the CA bundle that Nix uses, and n2c's mirrors.
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
      # Where else to look if the registry doesn't have it: a descriptor's `urls`.
      urls ? [ ],
      tlsVerify ? null,
    }:
    let
      inherit (lib.parseDigest digest) algorithm hash;
      checked = lib.checkRepository "repository" repository;
    in
    derivation {
      # The store path depends only on name and hash. nix2container uses the same
      # name, so blobs in existing binary caches are found.
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

  # fetchBlob { repository, digest, size ? null, urls ? [ ], tlsVerify ? null }: a
  # blob from a registry, as a file. `repository` looks like
  # "docker.io/library/alpine". With `size`, in bytes, a blob that is too long is
  # refused before the download ends. `urls` are tried if the registry doesn't have
  # the blob. If `tlsVerify` is null, certificates are verified, and registries
  # on loopback may use plain HTTP.
  fetchBlob = fetchDigest [ ];

  # The same for a manifest or an index.
  fetchManifest = fetchDigest [ "--manifest" ];
}
