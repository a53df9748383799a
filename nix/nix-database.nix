# The database of the Nix store in an image, as a store path whose files go to its root.
{ n2cDerivation }:
{
  # What the image has beside its layers: store paths that are not in its store, because their
  # files go to the root, or because only what they refer to is in it.
  roots,
  # The layers.
  layers,
}:
n2cDerivation {
  name = "nix-database";
  # All of it, with hashes and sizes; and what is in none of the layers.
  exportReferencesGraph.graph = roots ++ layers;
  exportReferencesGraph.own = roots;
  n2c = {
    kind = "database";
    roots = map (path: "${path}") roots;
    layers = map (layer: "${layer}/layers.json") layers;
  };
  allowSubstitutes = false;
}
