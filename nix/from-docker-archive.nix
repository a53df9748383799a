# fromDockerArchive ./image.tar, or with { archive, imageName ? null, imageTag ? "latest",
# inheritConfig ? "none", meta ? { } }: an image in an archive as `docker save`, skopeo and
# nixpkgs' dockerTools write it, compressed or not, as `fromImage` of buildImage. `imageName`
# and `imageTag` choose one of several images.
{
  n2c,
  system,
  lib,
  imageFromDir,
}:
let
  fromDockerArchive =
    argument:
    let
      options =
        if builtins.isAttrs argument && argument ? archive then argument else { archive = argument; };
      imageName = options.imageName or null;
      imageTag = options.imageTag or "latest";
      inheritConfig = options.inheritConfig or "none";
      isName =
        builtins.isString imageName
        && (lib.isPath imageName || (builtins.tryEval (lib.checkRepository "name" imageName)).success);
      name = if imageName == null then "" else ":${imageName}:${lib.checkTag "`imageTag`" imageTag}";
      # An archive can't be read in pieces if it is compressed.
      directory = derivation {
        name = "docker-archive";
        inherit system;
        builder = "${n2c}/bin/n2c";
        args = [
          "copy"
          "docker-archive:${options.archive}${name}"
          "dir:${placeholder "out"}"
        ];
        preferLocalBuild = true;
      };
    in
    if imageName == null && options ? imageTag then
      throw "n2c: `imageTag` of fromDockerArchive needs `imageName`."
    else if imageName != null && !isName then
      throw "n2c: invalid `imageName` `${lib.show imageName}` of fromDockerArchive."
    else
      imageFromDir "image.json" inheritConfig directory
      // {
        meta = options.meta or { };
        # The image, as a directory in skopeo's layout.
        src = directory;
        # The same image with another `inheritConfig`.
        inheriting = inheritConfig: fromDockerArchive (options // { inherit inheritConfig; });
      };
in
fromDockerArchive
