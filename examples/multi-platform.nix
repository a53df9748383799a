# One lockfile for several platforms: n2c lock --all-platforms IMAGE > all.json
#
# Returns an image.json for each platform in it, whatever platform this machine is.
{
  n2c,
  lock,
  system ? builtins.currentSystem,
}:
let
  functions = import ../nix { inherit n2c system; };
  platforms = builtins.attrNames (builtins.fromJSON (builtins.readFile lock)).n2c.platforms;
in
builtins.listToAttrs (
  map (platform: {
    name = platform;
    value = functions.fromLock { inherit lock platform; };
  }) platforms
)
