# Tests of the functions that need nothing but evaluation. The result is the list of those
# that fail, so [ ] is success: `nix-instantiate --eval --strict nix/tests.nix`.
let
  lib = import ./lib.nix;
  platforms = import ./platforms.nix { inherit lib; };
  functions = import ./. {
    n2c = "/n2c";
    system = "x86_64-linux";
  };
  alpine = functions.pullImageFromManifest {
    imageName = "library/alpine";
    imageManifest = ../lockfiles/alpine-manifest.json;
  };

  fails = value: !(builtins.tryEval (builtins.deepSeq value value)).success;
  zeros = builtins.concatStringsSep "" (builtins.genList (_: "0") 64);
  cases = builtins.fromJSON (builtins.readFile ../tests/platforms.json);
  # The entry that is chosen, or null: as the program chooses, see tests/platforms.json.
  chosen =
    case:
    let
      named = platforms.normalise "the table";
      attempt = builtins.tryEval (
        platforms.choose "the table" (named case.wanted) (map named case.available)
      );
    in
    if attempt.success then attempt.value else null;
  expected = case: if case.chosen == null then null else platforms.normalise "the table" case.chosen;

  tests = {
    "strings are split once" =
      lib.splitOnce ":" "a:b:c" == [
        "a"
        "b:c"
      ]
      &&
        lib.splitOnce ":" "a" == [
          "a"
          null
        ];
    "names are valid in store paths" =
      lib.sanitizeName "library/alpine" == "library-alpine"
      && lib.sanitizeName "..a" == "a"
      && lib.sanitizeName "" == "unknown";
    "words are quoted for the shell" = lib.quote "a'b $c" == "'a'\\''b $c'";
    "digests have an algorithm and a length" =
      (lib.parseDigest "sha256:${zeros}").hash == zeros
      && fails (lib.parseDigest "sha256:0")
      && fails (lib.parseDigest "md5:${zeros}");
    "hosts are checked" =
      lib.isHost "ghcr.io"
      && lib.isHost "localhost:5000"
      && lib.isHost "[::1]:5000"
      && !lib.isHost "-x"
      && !lib.isHost "a b";
    "systems are platforms" =
      platforms.fromSystem "aarch64-darwin" == "linux/arm64"
      && platforms.architecture "x86_64-linux" == "amd64"
      && platforms.normalise "here" "linux/ARM/v7" == "linux/arm/v7"
      && fails (platforms.normalise "here" "linux//");
    "platforms are chosen as the program does" = builtins.all (case: chosen case == expected case) cases;
    "an image without a lockfile to build from can still get one" =
      builtins.isString alpine.name && alpine ? getManifest;
    "a derivation for each layer" = builtins.match "/.*\\.drv" alpine.drvPath != null;
    "scripts need nixpkgs" = fails alpine.getManifest;
    "upstream's set keeps what is not replaced" =
      (functions.replacePulls { buildImage = 1; }).buildImage == 1
      && (functions.replaceAll { other = 1; }).other == 1;
    "upstream's functions are all replaced" =
      let
        set = functions.replaceAll {
          buildImage = 1;
          buildLayer = 1;
          pullImage = 1;
          pullImageFromManifest = 1;
        };
      in
      builtins.all (name: builtins.isFunction set.${name}) (builtins.attrNames set);
  };
in
builtins.filter (name: !tests.${name}) (builtins.attrNames tests)
