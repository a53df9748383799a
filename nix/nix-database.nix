# The database of the Nix store in an image, as a store path whose files go to its root.
{ n2c, system }:
{
  # What the image has beside its layers: store paths that are not in its store, because their
  # files go to the root, or because only what they refer to is in it.
  roots,
  # The layers.
  layers,
}:
derivation {
  name = "nix-database";
  inherit system;
  builder = "${n2c}/bin/n2c";
  args = [ "derivation" ];
  __structuredAttrs = true;
  # All of it, with hashes and sizes; and what is in none of the layers.
  exportReferencesGraph.graph = roots ++ layers;
  exportReferencesGraph.own = roots;
  n2c = {
    kind = "database";
    roots = map (path: "${path}") roots;
    layers = map (layer: "${layer}/layers.json") layers;
  };
  preferLocalBuild = true;
  allowSubstitutes = false;
}
