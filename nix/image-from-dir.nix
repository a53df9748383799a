# imageFromDir name inheritConfig directory: the image.json of an image in skopeo's `dir:` layout.
{
  n2c,
  system,
  lib,
}:
name: inheritConfig: directory:
if
  !builtins.elem inheritConfig [
    "none"
    "env"
    "all"
  ]
then
  throw "n2c: `inheritConfig` must be \"none\", \"env\" or \"all\", not `${lib.show inheritConfig}`."
else
  derivation {
    inherit name system;
    builder = "${n2c}/bin/n2c";
    args = [
      "image-from-dir"
      (placeholder "out")
      "${directory}"
      "--inherit=${inheritConfig}"
    ];
    preferLocalBuild = true;
  }
