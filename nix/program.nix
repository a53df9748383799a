# program name text: a package with the program `name`, which is a shell script.
{ n2cDerivation }:
name: text:
n2cDerivation {
  inherit name;
  n2c = {
    kind = "script";
    inherit name;
    text = ''
      #!/bin/sh
      ${text}
    '';
  };
  # It names images, of which another machine's may have other bytes.
  allowSubstitutes = false;
}
// {
  meta.mainProgram = name;
}
