# Platforms: Nix's names for them, and which entry fits which platform. The rules are
# those of `src/oci/platform.rs`; `tests/platforms.json` tests both.
{ lib }:
rec {
  # "aarch64-linux" and "aarch64-darwin" → "linux/arm64", since images are for Linux.
  fromSystem = system: format { os = "linux"; architecture = builtins.head (lib.splitOnce "-" system); };

  # "aarch64-linux" → "arm64": nix2container's default for `arch`.
  architecture = system: builtins.elemAt (builtins.split "/" (fromSystem system)) 2;

  # Whether text can be an os, an architecture or a variant.
  isPart = text: builtins.match "[A-Za-z0-9._-]{1,64}" text != null;

  # Normalises a platform from the user or a lockfile: a Nix system, or
  # `os/arch[/variant]`. `what` says in the error where it comes from.
  normalise =
    what: text:
    let
      parts = builtins.filter builtins.isString (builtins.split "/" text);
      count = builtins.length parts;
      at = index: if count > index then builtins.elemAt parts index else "";
    in
    if !builtins.isString text || count > 3 || !builtins.all isPart parts then
      throw "n2c: invalid platform `${lib.show text}` in ${what}: expected `os/arch[/variant]`, such as `linux/arm64`, or a Nix system."
    else if count == 1 then
      fromSystem text
    else
      format {
        os = at 0;
        architecture = at 1;
        variant = at 2;
      };

  # { os, architecture, variant } → "linux/arm64", in the normalised spelling.
  format =
    {
      os ? "",
      architecture ? "",
      variant ? "",
      ...
    }:
    let
      lower = lib.toLower;
      # Other names of architectures; some of them imply a variant.
      spelling = {
        "x86_64" = "amd64/";
        "x86-64" = "amd64/";
        "aarch64" = "arm64/";
        "armhf" = "arm/v7";
        "armv7l" = "arm/v7";
        "armv7a" = "arm/v7";
        "armel" = "arm/v6";
        "armv6l" = "arm/v6";
        "armv5tel" = "arm/v5";
        "i386" = "386/";
        "i486" = "386/";
        "i586" = "386/";
        "i686" = "386/";
        "powerpc64le" = "ppc64le/";
        "loongarch64" = "loong64/";
      };
      given = lower architecture;
      known = lib.splitOnce "/" (spelling.${given} or "${given}/");
      arch = builtins.head known;
      asked = lower variant;
      plain = {
        "amd64/v1" = "";
        "arm64/v8" = "";
        "arm64/8" = "";
        "arm64/v8.0" = "";
        "arm64/9" = "v9";
        "arm64/9.0" = "v9";
        "arm64/v9.0" = "v9";
        "arm/" = "v7";
        "arm/8" = "v8";
        "arm/7" = "v7";
        "arm/6" = "v6";
        "arm/5" = "v5";
      };
      v =
        if builtins.elemAt known 1 != "" then
          builtins.elemAt known 1
        else if arch == "386" then
          ""
        else
          plain."${arch}/${asked}" or asked;
      system = if lower os == "macos" then "darwin" else lower os;
    in
    "${system}/${arch}${if v == "" then "" else "/${v}"}";

  # The platforms whose images run on `platform`, best first: itself and lower
  # variants, never another architecture. `platform` must be normalised.
  goingDown =
    platform:
    let
      parts = builtins.filter builtins.isString (builtins.split "/" platform);
      base = "${builtins.head parts}/${builtins.elemAt parts 1}";
      arch = builtins.elemAt parts 1;
      variant = if builtins.length parts > 2 then builtins.elemAt parts 2 else "";
      # The number after `prefix` in the variant, such as the 3 in "v8.3" for "v8[.]",
      # at most 16; null if there is none.
      number =
        prefix:
        let
          matched = builtins.match "${prefix}([0-9]{1,9})" variant;
          value = if matched == null then null else lib.toInt (builtins.head matched);
        in
        if value != null && value > 16 then 16 else value;
      # The numbers from `top` - 1 down to `low`.
      below = top: low: builtins.genList (index: top - 1 - index) (if top > low then top - low else 0);
      named = prefix: map (level: "/${prefix}${toString level}");
      top = fallback: value: if value == null then fallback else value;
      v = number "v";
      eight = number "v8[.]";
      nine = if variant == "v9" then 0 else number "v9[.]";
      minor = if nine != null then nine + 6 else eight;
      down =
        {
          amd64 = named "v" (below (top 1 v) 2) ++ (if top 1 v > 1 then [ "" ] else [ ]);
          arm = named "v" (below (top 5 v) 5);
          arm64 =
            (if nine == null then [ ] else named "v9." (below nine 1) ++ (if nine > 0 then [ "/v9" ] else [ ]))
            ++ (if minor == null then [ ] else named "v8." (below minor 1) ++ [ "" ]);
        }
        .${arch} or [ ];
    in
    [ platform ] ++ map (suffix: "${base}${suffix}") down;

  # How far `offered` is from `wanted`, both normalised: 0 is an exact match, null
  # means that it doesn't fit.
  distance =
    wanted: offered:
    let
      all = goingDown wanted;
      matching = builtins.filter (index: builtins.elemAt all index == offered) (
        builtins.genList (index: index) (builtins.length all)
      );
    in
    if matching == [ ] then null else builtins.head matching;

  # The first of the names in `available` that fits `wanted` best, or an error that
  # lists the available platforms. `what` names their source in errors.
  choose =
    what: wanted: available:
    let
      normal = name: {
        inherit name;
        value = normalise what name;
      };
      names = map normal available;
      fitting = builtins.concatMap (
        platform: builtins.filter (one: one.value == platform) names
      ) (goingDown wanted);
    in
    if fitting == [ ] then
      throw "n2c: no image for `${wanted}` in ${what}; it has: ${builtins.concatStringsSep ", " (map (one: one.value) names)}"
    else
      (builtins.head fitting).name;
}
