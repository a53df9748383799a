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
  # For `getManifest` alone; the manifest says what is pulled.
  imageTag ? "latest",
  # For `getManifest`, and to pick from a lockfile of several platforms.
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
  repository = lib.checkRepository "`registryUrl` and `imageName`" "${registry}/${imageName}";
  wanted = platforms.normalise "`os` and `arch`" "${os}/${arch}";

  getManifest = script "get-manifest" {
    arguments = [
      "lock"
      "--platform=${wanted}"
    ]
    ++ (if tlsVerify then [ ] else [ "--tls-verify=false" ]);
    more = "\"$@\"";
    operand = "${repository}:${lib.checkTag "`imageTag`" imageTag}";
  };

  what = "manifest `${toString imageManifest}`";
  content = lib.readDocument what imageManifest;
  several = (content.n2c or { }).platforms or null;
  chosen = if several == null then null else platforms.choose what wanted (builtins.attrNames several);
  entry = lib.checkManifest what (if several == null then content else several.${chosen});
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
    manifest = builtins.removeAttrs entry [ "n2c" ];
    platform = chosen;
    passthru = {
      inherit getManifest;
    };
  }
