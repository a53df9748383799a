# pullImageFromManifest: a replacement for nix2container's function of the same name,
# with the same arguments and store paths. It takes a plain manifest, as nix2container
# uses it, or a lockfile.
{
  system,
  script,
  lib,
  platforms,
  image,
}:
{
  # The path of the image on the registry: "library/alpine".
  imageName,
  # A manifest, or a lockfile.
  imageManifest ? null,
  # Only for `getManifest`; the manifest determines what is pulled.
  imageTag ? "latest",
  # For `getManifest`, and to select an entry of a lockfile for several platforms.
  os ? "linux",
  arch ? platforms.architecture system,
  tlsVerify ? true,
  registryUrl ? "registry.hub.docker.com",
  # As for fromLock.
  inheritConfig ? "none",
  meta ? { },
}:
let
  # Docker Hub's other names mean the same registry, also for credentials and mirrors.
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
    # nix2container's `true` becomes n2c's default, which also allows plain HTTP on
    # loopback.
    tlsVerify = if tlsVerify then null else false;
    file = imageManifest;
    manifest = builtins.removeAttrs entry [ "n2c" ];
    platform = chosen;
    passthru = {
      inherit getManifest;
    };
  }
