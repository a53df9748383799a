{
  description = "Pin container images in lockfiles and fetch them into the Nix store";

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

      # Only the files that the build may need, so that changes elsewhere, such
      # as in docs/ or nix/, don't cause a rebuild.
      source = builtins.path {
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
            "benches"
            "examples"
            "lockfiles"
            "src"
            "tests"
          ];
      };

      manifest = builtins.fromTOML (builtins.readFile ./Cargo.toml);

      # A build of this crate, with `changes` to its arguments.
      build =
        pkgs: changes:
        pkgs.rustPlatform.buildRustPackage (
          {
            pname = "n2c";
            inherit (manifest.package) version;
            src = source;
            cargoLock.lockFile = ./Cargo.lock;
            # The tests that need no other programs.
            cargoTestFlags = [ "--lib" ];
            meta = {
              inherit (manifest.package) description;
              mainProgram = "n2c";
            };
          }
          // changes
        );

      package =
        pkgs:
        build pkgs {
          nativeBuildInputs = [ pkgs.installShellFiles ];
          # What was built for another machine can't be asked for its completions.
          postInstall =
            if pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
              ''
                for shell in bash fish zsh; do
                  $out/bin/n2c completions $shell > n2c.$shell
                done
                installShellCompletion n2c.bash n2c.fish --name _n2c n2c.zsh
                $out/bin/n2c man > n2c.1
                installManPage n2c.1
              ''
            else
              "";
        };

      # A derivation that builds if nothing of `failed` is in the list.
      evaluated =
        pkgs: name: failed:
        if failed == [ ] then
          pkgs.runCommand name { } "touch $out"
        else
          throw "${name}: ${builtins.concatStringsSep "; " failed}";

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
          # The functions under the name that nix2container's flake gives them, on a
          # derivation: anything else in here would not be a package.
          nix2container = self.packages.${system}.n2c // {
            inherit (functions system pkgs)
              buildImage
              buildLayer
              pullImage
              pullImageFromManifest
              ;
          };
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
        description = "An image on a base image locked by n2c";
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
        system: pkgs: {
          inherit (self.packages.${system}) n2c;
          # The Nix functions, as far as evaluation tells.
          functions = evaluated pkgs "n2c-functions" (import ./nix/tests.nix);
          formatting = pkgs.runCommand "n2c-formatting" {
            nativeBuildInputs = [
              pkgs.cargo
              pkgs.rustfmt
            ];
          } "cd ${source} && cargo fmt --check && touch $out";
          clippy = build pkgs {
            pname = "n2c-clippy";
            nativeBuildInputs = [ pkgs.clippy ];
            buildPhase = "cargo clippy --offline --all-targets -- -D warnings";
            doCheck = false;
            installPhase = "touch $out";
          };
        }
      );
    };
}
