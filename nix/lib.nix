# Helper functions that builtins lack, and validation of untrusted text.
rec {
  # "a:b" → [ "a" "b" ]; without the separator, "a" → [ "a" null ].
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

  # Converts ASCII letters to lower case.
  toLower =
    let
      letters = text: builtins.filter (letter: builtins.isString letter && letter != "") (builtins.split "" text);
    in
    builtins.replaceStrings (letters "ABCDEFGHIJKLMNOPQRSTUVWXYZ") (letters "abcdefghijklmnopqrstuvwxyz");

  # "08" → 8. fromJSON doesn't accept leading zeros.
  toInt = digits: builtins.fromJSON (builtins.head (builtins.match "0*([0-9]+)" digits));

  # A name that is valid in a store path, as nixpkgs' sanitizeDerivationName makes it.
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

  # The argument of functions that take a lockfile, as a set: it is either a path, or
  # a set with the path as `lock`.
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
      throw "n2c: `${show digest}` isn't a digest that Nix can verify; expected `sha256:` and 64 hex digits, or `sha512:` and 128. Recreate the lockfile with `n2c lock`.";

  # Quotes text as a single shell word.
  quote = text: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] text}'";

  # The grammar of distribution/reference, as in `src/oci/reference.rs`. Text from a
  # lockfile becomes an argument of n2c, so nothing else may pass. The length is
  # checked first, because Nix's regular expressions can't cope with long text.
  isHost =
    text:
    builtins.stringLength text <= 255
    && (
      builtins.match "[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*(:[0-9]{1,5})?" text != null
      || builtins.match "\\[[0-9A-Fa-f:]+](:[0-9]{1,5})?" text != null
    );
  isPath =
    text:
    builtins.stringLength text <= 255
    && builtins.match "[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*)*" text != null;
  isTag = text: builtins.match "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}" text != null;

  # Returns `text` if it is a valid tag. `what` names it in the error.
  checkTag =
    what: text:
    if builtins.isString text && isTag text then
      text
    else
      throw "n2c: invalid ${what} `${show text}`: a tag is 1 to 128 letters, digits, `_`, `.` and `-`.";

  # Returns `text` if it is a registry and a repository on it, such as
  # "docker.io/library/alpine". `what` names it in the error.
  checkRepository =
    what: text:
    let
      parts = splitOnce "/" text;
    in
    if
      builtins.isString text
      && builtins.elemAt parts 1 != null
      && isHost (builtins.head parts)
      && isPath (builtins.elemAt parts 1)
    then
      text
    else
      throw "n2c: invalid ${what} `${show text}`: a repository looks like `docker.io/library/alpine`.";

  # Formats any value for an error message.
  show =
    value:
    let
      text = builtins.substring 0 200 (if builtins.isString value then value else builtins.toJSON value);
    in
    # A password before a host, by mistake.
    if builtins.match ".*:.*@.*" text != null && builtins.match ".*@sha(256|512):.*" text == null then
      "text with a user or a password"
    # Other characters could control the terminal.
    else if builtins.match "[ -~]*" text == null then "text with control or non-ASCII characters" else text;

  # "docker.io/library/alpine:3.19@sha256:…" →
  # { repository = "docker.io/library/alpine"; name = "library/alpine"; tag = "3.19"; digest = "sha256:…"; }
  # `what` says in errors where the text comes from.
  parseReference =
    what: text:
    let
      parts = splitOnce "@" text;
      name = builtins.head parts;
      digest = builtins.elemAt parts 1;
      # A colon after the last slash starts a tag.
      tagged = builtins.match "(.+):([^/:]*)" name;
      repository = if tagged == null then name else builtins.head tagged;
      names = splitOnce "/" repository;
    in
    if !builtins.isString text || builtins.stringLength text > 1024 then
      throw "n2c: invalid reference in ${what}: it is too long or isn't text."
    else if digest == null then
      throw "n2c: `${show text}` in ${what} has no digest; write `name:tag@sha256:…`, as in the `n2c.ref` of a lockfile."
    else if builtins.elemAt names 1 == null || builtins.match "[^/]*[.:A-Z][^/]*|localhost" (builtins.head names) == null then
      throw "n2c: `${show text}` in ${what} does not name its registry; write it in full, such as `docker.io/library/alpine:3.19@sha256:…`."
    else
      # Everything is checked before anything is used.
      let
        parsed = {
          repository = checkRepository "repository in ${what}" repository;
          name = builtins.elemAt names 1;
          tag = if tagged == null then null else checkTag "tag in ${what}" (builtins.elemAt tagged 1);
          digest = builtins.seq (parseDigest digest).hash digest;
        };
      in
      builtins.deepSeq parsed parsed;

  # The JSON in a lockfile or manifest, as Nix data. `what` names the file.
  readDocument =
    what: file:
    let
      text = builtins.readFile file;
      content = builtins.addErrorContext "while reading ${what}" (builtins.fromJSON text);
    in
    # Nix's own errors for these cases would not name the file.
    if builtins.match "[[:space:]]*" (builtins.substring 0 1024 text) != null then
      throw "n2c: ${what} is empty; create it with `n2c lock`."
    else if builtins.match "[[:space:]]*[{].*" (builtins.substring 0 64 text) == null then
      throw "n2c: ${what} isn't a JSON object; recreate it with `n2c lock`."
    else if hasConflict text then
      throw "n2c: ${what} contains an unfinished merge; choose one side, or recreate it with `n2c lock`."
    else if !builtins.isAttrs content then
      throw "n2c: ${what} isn't a JSON object; recreate it with `n2c lock`."
    else
      content;

  hasConflict =
    text:
    let
      without = builtins.replaceStrings [ "\n<<<<<<< " "\n>>>>>>> " ] [ "" "" ] text;
    in
    without != text;

  # `set.${name}`, or an error that names the file.
  field =
    what: name: set:
    set.${name} or (throw "n2c: ${what} has no `${name}`; recreate it with `n2c lock`.");

  # Returns a manifest, or an entry of a lockfile, if it has what an image needs.
  checkManifest =
    what: content:
    let
      config = field what "config" content;
      layers = field what "layers" content;
      isDescriptor = one: builtins.isAttrs one && one ? digest && builtins.isInt (one.size or 0);
    in
    if content ? manifests then
      throw "n2c: ${what} is an index of several images; lock one of them with `n2c lock`."
    else if !isDescriptor config || !builtins.isList layers || !builtins.all isDescriptor layers then
      throw "n2c: ${what} isn't an image manifest; recreate it with `n2c lock`."
    else
      content;
}
