# pullImageFromManifest: nix2container's function of that name, with its
# arguments and its store paths. The manifest may be upstream's or a lockfile.
{
  system,
  script,
  lib,
  platforms,
  image,
}:
{
  # The path of the image on its registry: "library/alpine".
  imageName,
  # A manifest, or a lockfile.
  imageManifest ? null,
  # These three are for `getManifest` alone; the manifest says what is pulled.
  imageTag ? "latest",
  os ? "linux",
  arch ? platforms.architecture system,
  tlsVerify ? true,
  registryUrl ? "registry.hub.docker.com",
  # As fromLock's.
  inheritConfig ? "none",
  meta ? { },
}:
let
  # Docker Hub by its other names is Docker Hub: credentials and mirrors too.
  isHub = builtins.elem registryUrl [
    "registry.hub.docker.com"
    "registry-1.docker.io"
    "index.docker.io"
  ];
  registry = if isHub then "docker.io" else registryUrl;
  repository = "${registry}/${imageName}";
  verify = if tlsVerify then "" else " --tls-verify=false";

  getManifest = script "get-manifest" "lock --os ${os} --arch ${arch}${verify} \"$@\" ${repository}:${imageTag}";
in
if imageManifest == null then
  {
    inherit getManifest imageName imageTag;
  }
else
  image {
    inherit imageName imageTag repository inheritConfig meta;
    # Upstream's `true` is n2c's default, which also knows loopback.
    tlsVerify = if tlsVerify then null else false;
    file = imageManifest;
    manifest = builtins.fromJSON (builtins.readFile imageManifest);
    passthru = {
      inherit getManifest;
    };
  }
