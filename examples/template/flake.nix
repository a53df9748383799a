{
  description = "A nix2container image on a base image locked by n2c";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    nix2container.url = "github:nlewo/nix2container";
    nix2container.inputs.nixpkgs.follows = "nixpkgs";
    # This looks up n2c in your flake registry. To add it there:
    # nix registry add n2c <where you got n2c from>
    n2c.url = "flake:n2c";
    n2c.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    {
      nixpkgs,
      nix2container,
      n2c,
      ...
    }:
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
          # nix run n2c -- lock alpine:3.19 --platform x86_64-linux \
          #   --platform aarch64-linux -o lockfiles/alpine.json
          fromImage = n2c.legacyPackages.${system}.fromLock ./lockfiles/alpine.json;
        in
        {
          inherit fromImage;
          default = nix2container.packages.${system}.nix2container.buildImage {
            name = "hello";
            inherit fromImage;
            config = {
              entrypoint = [ "${pkgs.hello}/bin/hello" ];
              env = fromImage.config.Env or [ ];
            };
          };
        }
      );
    };
}
