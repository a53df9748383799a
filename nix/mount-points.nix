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
  paths = map (layer: layer.storePaths) layers;
  exportReferencesGraph.graph = builtins.concatMap (one: one.roots) paths;
  named = map (
    one:
    one
    // {
      roots = map (path: "${path}") one.roots;
      ignore = map (path: "${path}") one.ignore;
    }
  ) paths;
  closureInfo = n2cDerivation {
    name = "closure-info";
    inherit exportReferencesGraph;
    n2c = {
      kind = "closureInfo";
      layers = named;
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
    layers = named;
    metadata.created_by = "n2c";
  };
  allowSubstitutes = false;
}
// {
  inherit closureInfo;
}
