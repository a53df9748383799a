{
  description = "An image on a base image locked by n2c";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    # This looks up n2c in your flake registry. To add it there:
    # nix registry add n2c <where you got n2c from>
    n2c.url = "flake:n2c";
    n2c.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    { nixpkgs, n2c, ... }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      perSystem =
        make:
        builtins.listToAttrs (
          map (system: {
            name = system;
            value = make system;
          }) systems
        );
    in
    {
      packages = perSystem (
        system:
        let
          pkgs = nixpkgs.legacyPackages.${system};
          functions = n2c.legacyPackages.${system};
          # nix run n2c -- lock alpine:3.19 --platform x86_64-linux \
          #   --platform aarch64-linux -o lockfiles/alpine.json
          fromImage = functions.fromLock ./lockfiles/alpine.json;
        in
        {
          inherit fromImage;
          # nix run .#default.copyToPodman, or
          # nix run .#default.copyTo -- docker://registry.example/acme/hello:1
          default = functions.buildImage {
            name = "hello";
            inherit fromImage;
            # The base's PATH and other variables.
            inheritConfig = "env";
            config.Entrypoint = [ "${pkgs.hello}/bin/hello" ];
            # What the layers compress to is recorded, so that copying an unchanged image
            # to a registry sends nothing, on any machine.
            compress = "gzip";
          };
        }
      );
    };
}
