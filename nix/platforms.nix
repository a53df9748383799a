# Platforms: Nix's names for them, and which entry serves which. The rules are
# those of `n2c lock`, for the platforms that Nix systems have.
{ lib }:
rec {
  # "aarch64-linux" and "aarch64-darwin" → "linux/arm64": images are for Linux.
  fromSystem =
    system:
    let
      architecture = builtins.head (lib.splitOnce "-" system);
      known = {
        x86_64 = "linux/amd64";
        aarch64 = "linux/arm64";
        i686 = "linux/386";
        armv5tel = "linux/arm/v5";
        armv6l = "linux/arm/v6";
        armv7l = "linux/arm/v7";
        powerpc64le = "linux/ppc64le";
        riscv64 = "linux/riscv64";
        s390x = "linux/s390x";
        loongarch64 = "linux/loong64";
      };
    in
    known.${architecture} or "linux/${architecture}";

  # "aarch64-linux" → "arm64": upstream's default for `arch`.
  architecture = system: builtins.elemAt (builtins.split "/" (fromSystem system)) 2;

  # A platform as the user writes it: a Nix system, or `os/arch[/variant]`.
  normalise =
    text:
    let
      parts = builtins.filter builtins.isString (builtins.split "/" text);
      at = index: if builtins.length parts > index then builtins.elemAt parts index else "";
    in
    if builtins.length parts == 1 then
      fromSystem text
    else
      format {
        os = at 0;
        architecture = at 1;
        variant = at 2;
      };

  # { os, architecture, variant } → "linux/arm64", in one spelling.
  format =
    {
      os,
      architecture,
      variant ? "",
      ...
    }:
    let
      spelling = {
        "x86_64" = "amd64";
        "x86-64" = "amd64";
        "aarch64" = "arm64";
        "i386" = "386";
        "i686" = "386";
      };
      arch = spelling.${architecture} or architecture;
      plain = {
        "amd64/v1" = "";
        "arm64/v8" = "";
        "arm64/8" = "";
        "arm/" = "v7";
        "arm/7" = "v7";
        "arm/6" = "v6";
        "arm/5" = "v5";
      };
      v = plain."${arch}/${variant}" or variant;
    in
    "${os}/${arch}${if v == "" then "" else "/${v}"}";

  # What runs where `platform` runs, best first: never another architecture.
  goingDown =
    platform:
    let
      arm = [
        "linux/arm/v8"
        "linux/arm/v7"
        "linux/arm/v6"
        "linux/arm/v5"
      ];
      amd64 = [
        "linux/amd64/v4"
        "linux/amd64/v3"
        "linux/amd64/v2"
        "linux/amd64"
      ];
      from =
        list:
        if list == [ ] then
          [ platform ]
        else if builtins.head list == platform then
          list
        else
          from (builtins.tail list);
    in
    from (if builtins.elem platform arm then arm else if builtins.elem platform amd64 then amd64 else [ ]);

  # The first of `available` (a list of names) that serves `wanted`, or an error
  # that names what there is. `what` says of what.
  choose =
    what: wanted: available:
    let
      fitting = builtins.filter (name: builtins.elem name available) (goingDown wanted);
    in
    if fitting == [ ] then
      throw "n2c: no image for `${wanted}` in ${what}; it has: ${builtins.concatStringsSep ", " available}"
    else
      builtins.head fitting;
}
