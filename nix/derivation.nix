# A derivation that `n2c derivation` builds: what it makes is in the attribute `n2c`, as a set
# whose `kind` says the rest. Other attributes are the derivation's own, such as `name` and
# `exportReferencesGraph`.
{ n2c, system }:
attributes:
derivation (
  {
    inherit system;
    builder = "${n2c}/bin/n2c";
    args = [ "derivation" ];
    __structuredAttrs = true;
    preferLocalBuild = true;
  }
  // attributes
)
