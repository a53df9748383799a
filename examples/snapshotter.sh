#!/bin/sh
# Runs the images of examples/snapshotter.nix on a node with nix-snapshotter: by their archive,
# from a registry, and beside the one with real layers.
#
#   sudo examples/snapshotter.sh <n2c> <busybox> <registry/repository>
#
# Needs nix, containerd with nix-snapshotter (https://github.com/pdtpartners/nix-snapshotter,
# which has a virtual machine with all of this), and a registry to which you may push. No test
# runs this, because Debian has no nix-snapshotter.
set -eu
if [ $# != 3 ]; then
  echo "usage: $0 N2C BUSYBOX REGISTRY/REPOSITORY" >&2
  exit 2
fi
n2c=$1 programs=$2 repository=$3
example=$(dirname "$0")/snapshotter.nix
export CONTAINERD_SNAPSHOTTER=nix

build() {
  nix-build --no-out-link "$example" -A "$1" --arg n2c "$n2c" --arg programs "$programs"
}

for format in legacy closure; do
  image=$(build "$format")
  echo "== $format, from the node's own containerd"
  "$n2c/bin/n2c" copy "nix:$image" "containerd:$format/docker.io/library/hello:1"
  ctr --namespace "$format" run --rm docker.io/library/hello:1 hello

  echo "== $format, from the registry"
  "$n2c/bin/n2c" copy "nix:$image" "docker://$repository:$format"
  ctr --namespace "$format" images pull "$repository:$format" >/dev/null
  ctr --namespace "$format" run --rm "$repository:$format" hello-again
done

echo "== resolved by Nix"
archive=$(build resolved)
ctr --namespace resolved images import "$archive" >/dev/null
ctr --namespace resolved run --rm "nix:0$archive:latest" hello

echo "== for any node"
"$n2c/bin/n2c" copy "nix:$(build everywhere)" "nix:$(build closure)" "docker://$repository:any"
ctr --namespace any images pull --snapshotter overlayfs "$repository:any" >/dev/null
ctr --namespace any run --rm --snapshotter overlayfs "$repository:any" hello
