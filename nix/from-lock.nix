# fromLock ./alpine.json, or
# fromLock { lock, platform ? …, inheritConfig ? "none", registry ? null, tlsVerify ? null, meta ? { } }:
# the image.json of a locked image, for nix2container's `fromImage`.
#
# - lock: the lockfile, written by `n2c lock`
# - platform: such as `linux/arm64`, or a Nix system; by default this system. It
#   selects an entry of a lockfile for several platforms. If it is given for a
#   lockfile with a single platform, it must fit that platform.
# - inheritConfig: how much of the base image's config the new image starts with:
#   "none", "env" or "all"
# - registry: fetch from this registry instead of the one in the lockfile
# - tlsVerify: as for fetchBlob
#
# Besides the usual attributes of a derivation, the result has `manifest`, `config`
# (the base image's, as Nix data, for merging), `blobs`, `layers`, `imageName`,
# `imageTag` and `servedManifest`, and two programs, for which `import ./nix` needs
# `pkgs`: `getManifest` locks what the tag points to now and prints the lockfile, and
# `update FILE` writes it to a file. Evaluating this function reads the lockfile, but
# builds nothing and starts no process.
{
  system,
  script,
  lib,
  platforms,
  fetch,
  image,
}:
argument:
let
  make =
    {
      lock,
      platform ? null,
      inheritConfig ? "none",
      registry ? null,
      tlsVerify ? null,
      meta ? { },
    }:
    let
      what = "lockfile `${toString lock}`";
      content = lib.readDocument what lock;
      section =
        content.n2c or (throw "n2c: ${what} isn't an n2c lockfile; create one with `n2c lock`, or use `pullImageFromManifest`.");
      version = member "version";
      wanted = platforms.normalise "`fromLock`" (if platform == null then system else platform);
      several = section ? platforms;
      named = if several then builtins.attrNames section.platforms else [ (member "platform") ];
      # A required member of the object `n2c`.
      member = name: section.${name} or (throw "n2c: ${what} has no `n2c.${name}`; recreate it with `n2c lock`.");
      chosen =
        if several || platform != null then
          platforms.choose what wanted named
        else
          # Nobody asked for a platform, but the lockfile's must still be valid.
          platforms.choose what (platforms.normalise what (builtins.head named)) named;
      entry = lib.checkManifest what (if several then section.platforms.${chosen} else content);
      ref = member "ref";
      reference = lib.parseReference what ref;
      lockNow =
        name: more:
        if reference.tag == null then
          throw "n2c: ${what} pins `${ref}`, which has no tag to follow."
        else
          script name {
            arguments = [ "lock" ] ++ map (one: "--platform=${platforms.normalise what one}") named;
            inherit more;
            operand = "${reference.repository}:${reference.tag}";
          };
      repository =
        if registry == null then
          reference.repository
        else
          lib.checkRepository "`registry`" "${registry}/${reference.name}";
    in
    if version != 1 then
      throw "n2c: ${what} has version ${builtins.toJSON version}; this n2c reads up to 1. Upgrade n2c."
    else
      builtins.seq chosen (
      image {
        imageName = reference.name;
        imageTag = reference.tag;
        inherit repository inheritConfig tlsVerify meta;
        file = lock;
        manifest = builtins.removeAttrs entry [ "n2c" ];
        platform = if several then chosen else null;
        passthru = {
          architecture = entry.n2c.image.architecture or (builtins.elemAt (builtins.split "/" chosen) 2);
          # As stated in the lockfile. A build, and `n2c refresh --check`, compare it
          # with the actual config.
          config = entry.n2c.image.config or { };
          platform = chosen;
          ref = builtins.seq reference ref;
          # The manifest, byte for byte as the registry serves it.
          servedManifest = fetch.fetchManifest {
            inherit repository tlsVerify;
            digest = entry.n2c.manifest or (throw "n2c: ${what} has no `n2c.manifest`; recreate it with `n2c lock`.");
          };
          getManifest = lockNow "get-manifest" "\"$@\"";
          update = lockNow "update" "--output=\"\${1:?usage: update FILE}\"";
        };
      });
in
make (lib.lockOptions argument)
