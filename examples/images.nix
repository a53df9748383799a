# nix2container's examples, on n2c alone: one attribute for each.
#
#   nix-build examples/images.nix -A hello --arg n2c <n2c> --arg programs <busybox>
#   $(nix-build examples/images.nix -A hello.copyToPodman …)/bin/copy-to-podman
#
# `programs` is a package with a static busybox in `bin`, such as nixpkgs'
# `pkgsStatic.busybox`: the examples want no other program. `lock` is the lockfile of a base
# image, for the example that has one.
{
  n2c,
  programs,
  lock ? null,
  system ? builtins.currentSystem,
}:
let
  functions = import ../nix { inherit n2c system; };
  inherit (functions) buildImage buildLayer;
  busybox = "${programs}/bin/busybox";

  # A store path that a script makes.
  make =
    name: script:
    derivation {
      inherit name system;
      builder = busybox;
      args = [
        "sh"
        "-euc"
        script
      ];
      PATH = "${programs}/bin";
    };
  # A tree with one file.
  withFile =
    name: path: text:
    make name "busybox mkdir -p $out/$(busybox dirname ${path}); busybox printf '%s' '${text}' > $out/${path}";
  # Programs under the names that scripts know.
  applets = make "applets" ''
    busybox mkdir -p $out/bin
    for name in sh ls cat echo stat; do busybox ln -s ${busybox} $out/bin/$name; done
  '';
in
{
  # A script, which the config names, and what it needs in a layer of its own.
  hello = buildImage {
    name = "hello";
    config.Entrypoint = [
      busybox
      "sh"
      (builtins.toFile "hello.sh" "${busybox} echo 'I am not dying'")
    ];
    layers = [ (buildLayer { deps = [ programs ]; }) ];
  };

  # What the config refers to is in the image.
  basic = buildImage {
    name = "basic";
    config.Entrypoint = [
      busybox
      "echo"
      "Hello, world"
    ];
  };

  # Programs at the root of the image.
  shell = buildImage {
    name = "shell";
    copyToRoot = applets;
    config.Cmd = [
      "/bin/sh"
      "-c"
      "ls /"
    ];
  };

  # A directory that everybody may write to.
  openbar =
    let
      tmp = make "tmp" "busybox mkdir -p $out/tmp";
    in
    buildImage {
      name = "openbar";
      copyToRoot = [
        applets
        tmp
      ];
      config.Cmd = [
        "/bin/stat"
        "-c"
        "%a"
        "/tmp"
      ];
      perms = [
        {
          path = tmp;
          regex = ".*";
          mode = "0777";
        }
      ];
    };

  # On top of a base image that Nix didn't build.
  fromImage = buildImage {
    name = "from-image";
    fromImage = functions.fromLock lock;
    config.Cmd = [
      busybox
      "cat"
      "/hello.txt"
    ];
  };

  # The largest number of layers is an argument.
  layered = buildImage {
    name = "layered";
    maxLayers = 3;
    copyToRoot = applets;
    config.Cmd = [
      "/bin/cat"
      (builtins.toFile "text" "in one of three layers")
    ];
  };

  # A store path whose content may differ the next time it is built: its layer is kept.
  nonReproducible =
    let
      text = make "non-reproducible" "busybox echo 'made once' > $out";
    in
    buildImage {
      name = "non-reproducible";
      layers = [
        (buildLayer {
          deps = [ text ];
          reproducible = false;
        })
      ];
      config.Cmd = [
        busybox
        "cat"
        text
      ];
    };

  # Layers on layers, and one with files at the root.
  nested = buildImage {
    name = "nested";
    layers = [
      (buildLayer {
        deps = [ (withFile "top" "text" "top") ];
        layers = [
          (buildLayer {
            deps = [ programs ];
            layers = [ (buildLayer { copyToRoot = withFile "bottom" "etc/text" "from below"; }) ];
          })
        ];
      })
    ];
    config.Cmd = [
      busybox
      "cat"
      "/etc/text"
    ];
  };

  # The same layer twice is in the image once.
  duplicated =
    let
      layer = buildLayer { deps = [ programs ]; };
    in
    buildImage {
      name = "duplicated";
      layers = [
        (buildLayer {
          deps = [ (builtins.toFile "a" "a") ];
          layers = [ layer ];
        })
        layer
      ];
      config.Cmd = [
        busybox
        "echo"
        "once"
      ];
    };

  # A file that belongs to somebody else.
  ownership =
    let
      text = withFile "owned" "text" "mine";
    in
    buildImage {
      name = "ownership";
      copyToRoot = [
        applets
        text
      ];
      perms = [
        {
          path = text;
          regex = ".*";
          mode = "0744";
          uid = 1001;
          gid = 1001;
          uname = "me";
          gname = "us";
        }
      ];
      config.Cmd = [
        "/bin/stat"
        "-c"
        "%u:%g %a"
        "/text"
      ];
    };

  # Two packages in one tree, and a rule for one file of them.
  merged =
    let
      text = make "texts" "busybox mkdir -p $out/etc; busybox echo 1 > $out/etc/1; busybox echo 2 > $out/etc/2";
    in
    buildImage {
      name = "merged";
      copyToRoot = [
        applets
        text
        (withFile "other" "etc/3" "3")
      ];
      perms = [
        {
          path = text;
          regex = ".*/1$";
          mode = "0600";
        }
      ];
      config.Cmd = [
        "/bin/sh"
        "-c"
        "stat -c '%n %a' /etc/1 /etc/2 /etc/3"
      ];
    };

  # When the image was made.
  created = buildImage {
    name = "created";
    created = "2024-05-13T09:31:10Z";
    config.Cmd = [
      busybox
      "echo"
      "not in 1970"
    ];
  };

  # The history of a layer.
  metadata = buildImage {
    name = "metadata";
    layers = [
      (buildLayer {
        deps = [ programs ];
        metadata = {
          created_by = "somebody";
          author = "somebody else";
          comment = "a comment";
        };
      })
    ];
    config.Cmd = [
      busybox
      "echo"
      "with a history"
    ];
  };

  # An image in which Nix knows what is there, and a user may add to it.
  nixDatabase = buildImage {
    name = "nix-database";
    copyToRoot = applets;
    layers = [ { deps = [ (builtins.toFile "below" "${programs} is needed") ]; } ];
    initializeNixDatabase = true;
    nixUid = 1000;
    nixGid = 1000;
    config.Cmd = [
      "/bin/stat"
      "-c"
      "%u:%g %a %n"
      "/nix/store"
      "/nix/var/nix/db/db.sqlite"
    ];
  };

  # A layer that something else made.
  fromTar =
    let
      archive = make "layer.tar.gz" ''
        busybox mkdir etc
        busybox echo 'from an archive' > etc/text
        busybox tar -c etc | busybox gzip > $out
      '';
    in
    buildImage {
      name = "from-tar";
      layers = [ (buildLayer { fromTar = archive; }) ];
      config.Cmd = [
        busybox
        "cat"
        "/etc/text"
      ];
    };

  # Directories that belong to a user, for a Nix that this user runs.
  directories = buildImage {
    name = "directories";
    copyToRoot = applets;
    ensureDirs = [
      {
        path = "/nix/store";
        mode = "1775";
        uid = 1000;
        gid = 1000;
      }
      {
        path = "/home/me";
        mode = "0700";
        uid = 1000;
      }
    ];
    config.Cmd = [
      "/bin/stat"
      "-c"
      "%u:%g %a %n"
      "/nix"
      "/nix/store"
      "/home/me"
    ];
  };

  # Files that nobody needs in the image.
  excludes = buildImage {
    name = "excludes";
    copyToRoot = [
      applets
      (make "with-docs" "busybox mkdir -p $out/share/doc $out/etc; busybox touch $out/share/doc/1 $out/etc/text")
    ];
    excludes = [ "/share/doc$" ];
    config.Cmd = [
      "/bin/sh"
      "-c"
      "ls /etc /share"
    ];
  };
}
