# The few functions that builtins lack.
rec {
  # "a:b" → [ "a" "b" ]; without the separator, [ "a" null ].
  splitOnce =
    separator: text:
    let
      parts = builtins.split separator text;
    in
    if builtins.length parts == 1 then
      [ text null ]
    else
      [
        (builtins.head parts)
        (builtins.substring (builtins.stringLength (builtins.head parts) + 1) (-1) text)
      ];

  # A name that a store path can hold: as nixpkgs' sanitizeDerivationName.
  sanitizeName =
    text:
    let
      parts = builtins.filter builtins.isString (builtins.split "[^[:alnum:]+._?=-]+" text);
      joined = builtins.concatStringsSep "-" parts;
      undotted = builtins.head (builtins.match "\\.*(.*)" joined);
      length = builtins.stringLength undotted;
    in
    if undotted == "" then
      "unknown"
    else if length > 207 then
      builtins.substring (length - 207) 207 undotted
    else
      undotted;

  # What functions of lockfiles take: a path, or a set that has it as `lock`.
  lockOptions =
    argument: if builtins.isAttrs argument && argument ? lock then argument else { lock = argument; };

  # "sha256:<hex>" → { algorithm = "sha256"; hash = "<hex>"; }, or a clear error.
  parseDigest =
    digest:
    let
      sha256 = builtins.match "sha256:([0-9a-f]{64})" digest;
      sha512 = builtins.match "sha512:([0-9a-f]{128})" digest;
    in
    if sha256 != null then
      {
        algorithm = "sha256";
        hash = builtins.head sha256;
      }
    else if sha512 != null then
      {
        algorithm = "sha512";
        hash = builtins.head sha512;
      }
    else
      throw "n2c: `${digest}` is no digest that Nix can verify; it is to be `sha256:` and 64 hex digits. Make the lockfile anew with `n2c lock`.";

  # "docker.io/library/alpine:3.19@sha256:…" →
  # { repository = "docker.io/library/alpine"; name = "library/alpine"; tag = "3.19"; digest = "sha256:…"; }
  parseReference =
    text:
    let
      parts = builtins.match "([^@]+)@(.+)" text;
      name = builtins.head parts;
      # A colon behind the last slash starts a tag.
      tagged = builtins.match "(.+):([A-Za-z0-9_][A-Za-z0-9_.-]*)" name;
      repository = if tagged == null then name else builtins.head tagged;
    in
    if parts == null then
      throw "n2c: `${text}` has no digest; write `name:tag@sha256:…`, as `n2c lock` puts it into `n2c.ref`."
    else if builtins.match "[^/]+/.+" repository == null || builtins.match "[^/]*[.:][^/]*/.+|localhost/.+" repository == null then
      throw "n2c: `${text}` does not name its registry; write it in full, such as `docker.io/library/alpine:3.19@sha256:…`."
    else
      {
        inherit repository;
        name = builtins.elemAt (splitOnce "/" repository) 1;
        tag = if tagged == null then null else builtins.elemAt tagged 1;
        digest = builtins.elemAt parts 1;
      };
}
