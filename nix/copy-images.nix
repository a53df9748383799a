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
  isImage = value: builtins.isAttrs value && value ? imageJson;
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
        sources = map (image: "nix:${image.imageJson}") several;
        destinations = [ (checked (destination (builtins.head several))) ];
      };
  checked =
    text:
    if builtins.isString text then
      text
    else
      throw "n2c: `destination` of copyImages must give a text, not ${builtins.typeOf text}.";
  copies = map copy all;
  # Two images that are named alike are often meant to be one, as a list in the list.
  twice =
    (builtins.foldl'
      (
        state: one:
        let
          name = builtins.unsafeDiscardStringContext (builtins.head one.destinations);
        in
        if state.seen ? ${name} then state // { inherit name; } else state // { seen = state.seen // { ${name} = null; }; }
      )
      {
        seen = { };
        name = null;
      }
      copies
    ).name;
  batch = n2cDerivation {
    name = "copies.json";
    n2c = {
      kind = "text";
      text = builtins.toJSON copies;
    };
    # Another machine's layers may have other bytes.
    allowSubstitutes = false;
  };
in
if !builtins.isString name || builtins.match "[A-Za-z0-9][A-Za-z0-9+._-]*" name == null then
  throw "n2c: `name` of copyImages must be that of a program, such as \"copy-images\"."
else if !builtins.isFunction destination then
  throw "n2c: `destination` of copyImages must be a function from an image to a text."
else if !builtins.isList all || all == [ ] then
  throw "n2c: `images` of copyImages must be a set or a list of images."
else if twice != null then
  throw "n2c: two images of copyImages go to `${lib.show twice}`; images for different platforms are a list in the list."
else
  program name ''exec ${n2c}/bin/n2c copy --batch ${batch} "$@"''
  // {
    inherit batch;
  }
