# An image on a locked base, in layers of its own:
#
#   n2c lock alpine:3.19 -o alpine.json
#   nix-build examples/build-image.nix --arg n2c <n2c> --arg lock ./alpine.json
#
# The result is an image.json. To run it:
#   n2c copy nix:$(readlink result) docker-archive:hello.tar:hello:1 && docker load -i hello.tar
{
  n2c,
  lock,
  system ? builtins.currentSystem,
}:
let
  functions = import ../nix { inherit n2c system; };
  greeting = builtins.toFile "greeting" "Hello from a store path.\n";
  script = builtins.toFile "hello.sh" "cat ${greeting}\n";
in
functions.buildImage {
  name = "hello";
  fromImage = functions.fromLock lock;
  # The base's PATH, so that its programs are found.
  inheritConfig = "env";
  config.Cmd = [
    "/bin/sh"
    script
  ];
  # What rarely changes is a layer of its own. The rest joins by the config.
  layers = [ { deps = [ greeting ]; } ];
}
