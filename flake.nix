{
  description = "Lock and fetch container images that Nix did not build, and hand them to Nix";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "x86_64-darwin"
        "aarch64-darwin"
      ];
      perSystem =
        make:
        builtins.listToAttrs (
          map (system: {
            name = system;
            value = make system nixpkgs.legacyPackages.${system};
          }) systems
        );

      package =
        pkgs:
        let
          manifest = builtins.fromTOML (builtins.readFile ./Cargo.toml);
        in
        pkgs.rustPlatform.buildRustPackage {
          pname = "n2c";
          inherit (manifest.package) version;
          # Only the files that the build may need, so that changes elsewhere, such
          # as in docs/ or nix/, don't cause a rebuild.
          src = builtins.path {
            name = "n2c-source";
            path = ./.;
            filter =
              path: _type:
              let
                relative = builtins.substring (builtins.stringLength (toString ./. + "/")) (-1) path;
                top = builtins.head (builtins.filter builtins.isString (builtins.split "/" relative));
              in
              builtins.elem top [
                "Cargo.toml"
                "Cargo.lock"
                "README.md"
                "src"
                "benches"
                "examples"
                "lockfiles"
                "tests"
              ];
          };
          cargoLock.lockFile = ./Cargo.lock;
          # The tests that need no other programs.
          cargoTestFlags = [ "--lib" ];
          meta = {
            inherit (manifest.package) description;
            mainProgram = "n2c";
          };
        };

      functions =
        system: pkgs:
        import ./nix {
          n2c = self.packages.${system}.n2c;
          inherit system pkgs;
        };

      # The base image of nix2container's example of the same name.
      fromImage =
        system: pkgs:
        (functions system pkgs).pullImageFromManifest {
          imageName = "library/alpine";
          imageManifest = ./lockfiles/alpine-manifest.json;
        };
    in
    {
      packages = perSystem (
        system: pkgs: {
          default = self.packages.${system}.n2c;
          n2c = package pkgs;
          fromImage = fromImage system pkgs;
        }
      );

      # The functions: n2c.legacyPackages.<system>.fromLock ./alpine.json
      legacyPackages = perSystem functions;

      overlays.default = final: prev: {
        n2c = package final;
        n2cLib = import ./nix {
          inherit (final) n2c;
          inherit (final.stdenv.hostPlatform) system;
          pkgs = final;
        };
      };

      templates.default = {
        path = ./examples/template;
        description = "A nix2container image on a base image locked by n2c";
      };

      apps = perSystem (
        system: _pkgs: {
          default = {
            type = "app";
            program = "${self.packages.${system}.n2c}/bin/n2c";
          };
        }
      );

      devShells = perSystem (
        _system: pkgs: {
          default = pkgs.mkShell {
            packages = [
              pkgs.cargo
              pkgs.clippy
              pkgs.rustc
              pkgs.rustfmt
              pkgs.skopeo
              pkgs.umoci
            ];
          };
        }
      );

      formatter = perSystem (_system: pkgs: pkgs.nixfmt-tree or pkgs.nixfmt-rfc-style);

      checks = perSystem (
        system: _pkgs: {
          inherit (self.packages.${system}) n2c;
        }
      );
    };
}
