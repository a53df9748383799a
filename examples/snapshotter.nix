# One program as an image for any node, and as images for nodes with nix-snapshotter, which take
# the store paths from a Nix store of their own.
#
#   nix-build examples/snapshotter.nix -A closure --arg n2c <n2c> --arg programs <busybox>
#
# `name` is the image's, with the registry that it is copied to: `--argstr name
# registry.example/acme/hello`. `programs` is a package with a static busybox in `bin`, such as nixpkgs'
# `pkgsStatic.busybox`. examples/snapshotter.sh runs the images on a real node.
{
  n2c,
  programs,
  name ? "hello",
  system ? builtins.currentSystem,
}:
let
  inherit (import ../nix { inherit n2c system; }) buildImage copyImages;
  arguments = {
    inherit name;
    tag = "1";
    config.Entrypoint = [
      "${programs}/bin/busybox"
      "echo"
      "Hello from the node's store"
    ];
  };
in
rec {
  # With the store paths in it: runs everywhere.
  everywhere = buildImage arguments;

  # A few kilobytes that name each store path, for all versions of nix-snapshotter.
  legacy = buildImage (arguments // { snapshotter = "legacy"; });

  # The same with one name for all of them, for versions from 0.3 on. Nodes get the closure in one
  # step, from a binary cache that also has this list.
  closure = buildImage (arguments // { snapshotter = "closure"; });

  # Copies the images under two tags: `1` is an index with the one for all nodes and, behind it,
  # the one for nodes with nix-snapshotter, and `1-nix` is the latter alone.
  copyBoth = copyImages {
    images = [
      [
        everywhere
        closure
      ]
      (buildImage (
        arguments
        // {
          tag = "1-nix";
          snapshotter = "closure";
        }
      ))
    ];
  };

  # An image that a node finds in its own store, or in a binary cache: no registry has it.
  resolved = buildImage (arguments // { resolvedByNix = true; });

  # A Pod of Kubernetes with that image, which is built with it.
  pod = derivation {
    name = "pod.json";
    inherit system;
    builder = "${programs}/bin/busybox";
    args = [
      "sh"
      "-c"
      "printf '%s' \"$text\" > $out"
    ];
    text = builtins.toJSON {
      apiVersion = "v1";
      kind = "Pod";
      metadata.name = "hello";
      spec.containers = [
        {
          name = "hello";
          inherit (resolved) image;
        }
      ];
    };
  };
}
