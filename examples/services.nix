# The images of several services in one file, each described by the options of
# nix-container-images, and one script that copies them all:
#
#   nix-build examples/services.nix -A images.web --arg n2c <n2c> --arg programs <busybox>
#   $(nix-build examples/services.nix -A copyAll …)/bin/copy-images
#
# `programs` is a package with a static busybox in `bin`, such as nixpkgs'
# `pkgsStatic.busybox`; `registry` is where the images go.
{
  n2c,
  programs,
  registry ? "registry.example/acme",
  system ? builtins.currentSystem,
}:
let
  functions = import ../nix { inherit n2c system; };
  busybox = "${programs}/bin/busybox";

  # A store path that a script makes.
  make =
    name: variables: script:
    derivation (
      {
        inherit name system;
        builder = busybox;
        args = [
          "sh"
          "-euc"
          "busybox mkdir -p $out; cd $out; ${script}"
        ];
        PATH = "${programs}/bin";
      }
      // variables
    );
  attrValues = builtins.attrValues;
  mapToList = make: set: attrValues (builtins.mapAttrs make set);
  lines = builtins.concatStringsSep "\n";

  # nix-container-images' options, in the arguments of buildImage.
  makeImage =
    {
      image,
      environment ? { },
      users ? { },
    }:
    let
      accounts = users.users or { };
      files = environment.etc or { };
      # users.users.<name>: accounts, and their homes.
      passwd =
        name: account:
        "${name}:x:${toString account.uid}:${toString account.uid}::${account.home or "/var/empty"}:${account.shell or "/bin/sh"}";
      group = name: account: "${name}:x:${toString account.uid}:";
      etc = make "etc" {
        passwd = lines ([ "root:x:0:0::/root:/bin/sh" ] ++ mapToList passwd accounts);
        group = lines ([ "root:x:0:" ] ++ mapToList group accounts);
      } ''
        busybox mkdir etc; echo "$passwd" > etc/passwd; echo "$group" > etc/group
      '';
      # environment.etc.<name>: a text or the path of a file, with a mode and an owner.
      etcFile = name: file: make "etc-file" {
        file = "etc/${name}";
        text = file.text or "";
        source = file.source or "";
      } ''
        busybox mkdir -p "$(busybox dirname "$file")"
        if [ -n "$source" ]; then busybox cp "$source" "$file"; else printf '%s' "$text" > "$file"; fi
      '';
      etcFiles = builtins.mapAttrs etcFile files;
      # image.interactive: programs for a shell.
      interactive = make "interactive" { } ''
        busybox mkdir bin; for name in $(busybox --list); do busybox ln -s ${busybox} bin/$name; done
      '';
      # image.run: commands that make files at the root.
      made = make "run" { } image.run;
    in
    functions.buildImage {
      inherit (image) name;
      tag = image.tag or null;
      fromImage = image.from or null;
      config = {
        Entrypoint = image.entryPoint or [ ];
        Env = mapToList (name: value: "${name}=${value}") (image.env or { });
        ExposedPorts = image.exposedPorts or { };
      };
      copyToRoot = [
        etc
      ]
      ++ attrValues etcFiles
      ++ (environment.systemPackages or [ ])
      ++ (if image.interactive or false then [ interactive ] else [ ])
      ++ (if image ? run then [ made ] else [ ]);
      perms = attrValues (
        builtins.mapAttrs (name: path: {
          inherit path;
          # Each of these trees has one file, below these directories.
          regex = "^${path}/etc/.*[^/]$";
          mode = files.${name}.mode or "0444";
          uid = files.${name}.uid or 0;
          gid = files.${name}.gid or 0;
        }) etcFiles
      );
      ensureDirs = [
        {
          path = "/tmp";
          mode = "1777";
        }
      ]
      ++ attrValues (
        builtins.mapAttrs (_: account: {
          path = account.home;
          mode = "0700";
          inherit (account) uid;
          gid = account.uid;
        }) (builtins.removeAttrs accounts (builtins.filter (name: !(accounts.${name} ? home)) (builtins.attrNames accounts)))
      );
      # What all services share is a layer of its own, and is sent once.
      layers = [ { deps = [ programs ]; } ];
    };

  services = {
    web = {
      image.entryPoint = [
        busybox
        "cat"
        "/etc/motd"
      ];
      image.exposedPorts."80/tcp" = { };
      environment.etc.motd.text = "the web\n";
    };
    worker = {
      image.interactive = true;
      image.env.GREETING = "hello";
      image.run = "busybox mkdir -p srv; echo made > srv/file";
      image.entryPoint = [
        "/bin/sh"
        "-c"
        "echo $GREETING; cat /srv/file; stat -c '%u %a %n' /home/worker /etc/secret /tmp; tail -n 1 /etc/passwd"
      ];
      environment.etc.secret = {
        text = "sesame";
        mode = "0400";
        uid = 1000;
      };
      users.users.worker = {
        uid = 1000;
        home = "/home/worker";
      };
    };
  };
in
rec {
  images = builtins.mapAttrs (
    name: service:
    makeImage (
      service
      // {
        image = {
          name = "${registry}/${name}";
          tag = "1";
        }
        // service.image;
      }
    )
  ) services;

  # One run for all images.
  copyAll = functions.copyImages { inherit images; };
}
