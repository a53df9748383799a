# A layer with mount points for store paths, and with links to the files that go to the root,
# in place of their content: for nodes that mount the paths from a Nix store of their own.
{ n2cDerivation }:
{
  # Results of buildLayer that hold store paths.
  layers,
  # How the layer names the paths: "legacy" or "closure", as nix-snapshotter calls the
  # formats; null if it doesn't.
  snapshotter,
}:
let
  concat = name: builtins.concatMap (layer: layer.storePaths.${name}) layers;
  # Left out if nothing else refers to them.
  ignore = map (path: "${path}") (concat "ignore");
  exportReferencesGraph.graph = concat "roots";
  closureInfo = n2cDerivation {
    name = "closure-info";
    inherit exportReferencesGraph;
    n2c = {
      kind = "closureInfo";
      inherit ignore;
    };
  };
in
n2cDerivation {
  name = "layers.json";
  inherit exportReferencesGraph;
  n2c = {
    kind = "mountPoints";
    inherit snapshotter;
    closureInfo = "${closureInfo}";
    inherit ignore;
    perms = concat "perms";
    rewrites = concat "rewrites";
    excludes = concat "excludes";
    metadata.created_by = "n2c";
  };
  allowSubstitutes = false;
}
// {
  inherit closureInfo;
}
