# copyImages { images, name ? "copy-images", destination ? … }: a script that copies several
# images in one run of n2c, so that what they share is sent once. What follows `--` is passed on
# to `n2c copy`.
#
# - images: results of buildImage, as a list or as the values of a set; in the place of one, a
#   list of images for different platforms, which become one
# - destination: from an image to where it goes, in skopeo's syntax; by default, to the registry
#   in its name
{
  n2c,
  n2cDerivation,
  program,
  lib,
}:
{
  images,
  name ? "copy-images",
  destination ? image: "docker://${image.imageName}:${image.imageTag}",
}:
let
  isImage = value: builtins.isAttrs value && value ? imageName && value ? imageTag;
  all = if builtins.isAttrs images && !isImage images then builtins.attrValues images else images;
  copy =
    value:
    let
      several = if builtins.isList value then value else [ value ];
    in
    if several == [ ] || !builtins.all isImage several then
      throw "n2c: `images` of copyImages holds something that buildImage didn't make."
    else
      {
        sources = map (image: "nix:${image.imageJson or image}") several;
        destinations = [ (destination (builtins.head several)) ];
      };
  batch = n2cDerivation {
    name = "copies.json";
    n2c = {
      kind = "text";
      text = builtins.toJSON (map copy all);
    };
    # Another machine's layers may have other bytes.
    allowSubstitutes = false;
  };
in
if !builtins.isString name || lib.sanitizeName name != name then
  throw "n2c: `name` of copyImages must be that of a program, such as \"copy-images\"."
else if !builtins.isList all || all == [ ] then
  throw "n2c: `images` of copyImages must be a set or a list of images."
else
  program name ''exec ${n2c}/bin/n2c copy --batch ${batch} "$@"''
  // {
    inherit batch;
  }
