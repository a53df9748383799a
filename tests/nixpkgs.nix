# The part of nixpkgs that this project's flake uses, for tests without a network.
# Each package is a program that is already built: the test copies this file, as
# flake.nix, into a folder with `n2c` and a static `busybox`.
{
  outputs =
    { self }:
    let
      package =
        system: name: text: script:
        derivation {
          inherit name system text script;
          builder = "${./.}/busybox";
          args = [
            "sh"
            "-c"
            "eval \"$script\""
          ];
          PATH = "${./.}";
        }
        // {
          inherit name;
          meta.mainProgram = name;
        };
      perSystem =
        system:
        let
          make = name: package system name "";
          put = file: "busybox mkdir -p $out/bin; busybox cp ${file} $out/bin/${baseNameOf file}";
        in
        {
          rustPlatform.buildRustPackage = arguments: make arguments.pname (put ./n2c);
          writeShellScriptBin =
            name: text:
            package system name text ''
              busybox mkdir -p $out/bin
              busybox printf '#!/bin/sh\n%s' "$text" > $out/bin/${name}
              busybox chmod +x $out/bin/${name}
            '';
          runCommand =
            name: _environment: _script:
            make name (put ./busybox);
          mkShell = _: make "shell" (put ./busybox);
          nixfmt-tree = make "nixfmt-tree" (put ./busybox);
          stdenv.buildPlatform.canExecute = _: true;
          stdenv.hostPlatform = {
            inherit system;
          };
        }
        // builtins.listToAttrs (
          map
            (name: {
              inherit name;
              value = make name (put ./busybox);
            })
            [
              "cargo"
              "clippy"
              "hello"
              "installShellFiles"
              "rustc"
              "rustfmt"
              "skopeo"
              "umoci"
            ]
        );
    in
    {
      legacyPackages = builtins.listToAttrs (
        map
          (name: {
            inherit name;
            value = perSystem name;
          })
          [
            "x86_64-linux"
            "aarch64-linux"
            "x86_64-darwin"
            "aarch64-darwin"
          ]
      );
    };
}
