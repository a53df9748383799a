# buildLayer: nix2container's function of the same name. A layer is a derivation with a
# layers.json, built by n2c itself from the closure that Nix exports.
{ n2cDerivation, lib }:
let
  # A path or a list of paths, or nothing.
  toList = value: if value == null then [ ] else if builtins.isList value then value else [ value ];

  # Characters of store paths that mean something else in a regular expression. (A dot
  # matches itself too, and nix2container leaves it as it is.)
  escape = builtins.replaceStrings [ "+" "?" ] [ "\\+" "\\?" ];

  # Each layer once: with nested layers of nested layers, the list would double at each step.
  unique =
    layers:
    let
      named = map (layer: {
        name = builtins.unsafeDiscardStringContext layer.drvPath;
        value = layer;
      }) layers;
      add =
        state: one:
        if state.seen ? ${one.name} then
          state
        else
          {
            seen = state.seen // {
              ${one.name} = null;
            };
            list = state.list ++ [ one.value ];
          };
    in
    (builtins.foldl' add {
      seen = { };
      list = [ ];
    } named).list;

  isLayer = value: builtins.isAttrs value && value ? nestedLayers && value ? drvPath;

  # Layers from results of buildLayer and from sets of its arguments. A set's layer leaves
  # out what those before it hold.
  fold =
    what: layers:
    if !builtins.isList layers then
      throw "n2c: `layers` of ${what} must be a list, not ${builtins.typeOf layers}."
    else
      builtins.foldl' (
        before: layer:
        before
        ++ [
          (
            if isLayer layer then
              layer
            else if builtins.isAttrs layer && !(layer ? drvPath) then
              # Above everything before it, also what that is above of.
              buildLayer (
                layer
                // {
                  layers = unique (
                    builtins.concatMap (one: one.nestedLayers) before ++ before
                  ) ++ fold "a set in `layers` of ${what}" (layer.layers or [ ]);
                }
              )
            else
              throw "n2c: `layers` of ${what} holds something that buildLayer didn't make."
          )
        ]
      ) [ ] layers;

  # The value of `copyToRoot`, or of its older name.
  rootOf =
    what: copyToRoot: contents:
    if contents == null then
      toList copyToRoot
    else if copyToRoot == null then
      builtins.trace "warning: n2c: `contents` of ${what} is deprecated; use `copyToRoot`." (toList contents)
    else
      throw "n2c: ${what} has both `copyToRoot` and `contents`; use only `copyToRoot`.";

  buildLayer =
    {
      # Store paths whose closures go into the layer.
      deps ? [ ],
      # Store paths whose files go to the root of the image, with their closures.
      copyToRoot ? null,
      # An older name of copyToRoot.
      contents ? null,
      # Store paths to leave out. Nothing in the layer may refer to them.
      ignore ? null,
      # Layers below this one: what they hold is left out.
      layers ? [ ],
      # Whether the layer can be made again from its store paths when it is copied.
      reproducible ? true,
      # Changes of permissions: [ { path, regex, mode, uid, gid, uname, gname } ].
      perms ? [ ],
      # Regular expressions for files to leave out, by their paths in the store. Only n2c can
      # copy such a layer, unless it is not `reproducible`.
      excludes ? [ ],
      # The owner of all files in it, unless `perms` says another one. Directories above store
      # paths belong to root.
      uid ? 0,
      gid ? 0,
      uname ? "",
      gname ? "",
      # How many layers to make at most.
      maxLayers ? 1,
      # The step of the image's history: { created_by, author, comment, created }.
      metadata ? {
        created_by = "nix2container";
      },
      # Directories that the layer has, with their owners: [ { path, mode, uid, gid, uname,
      # gname } ]. Those above them belong to root.
      ensureDirs ? [ ],
      # A tar archive that is the layer, compressed or not. Nothing else is in it then.
      fromTar ? null,
      # "gzip" or "zstd": record what the layer compresses to, so that copying it to a
      # registry that has it takes a request. Building it takes longer.
      compress ? null,
    }:
    let
      directories = n2cDerivation {
        name = "directories";
        n2c = {
          kind = "directories";
          paths = map (directory: directory.path) ensureDirs;
        };
      };
      isDirectory =
        directory:
        builtins.isAttrs directory
        && builtins.isString (directory.path or null)
        && builtins.match "(/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)+" directory.path != null;
      # Those above them have the mode that directories have elsewhere, not that of the store.
      directoryRules = [
        {
          path = directories;
          regex = ".*";
          mode = "0755";
        }
      ]
      ++ map (
        directory:
        {
          mode = "0755";
        }
        // directory
        // {
          path = directories;
          regex = "^${escape "${directories}${directory.path}"}$";
        }
      ) ensureDirs;
      root =
        rootOf "buildLayer" copyToRoot contents
        ++ (if ensureDirs == [ ] then [ ] else [ directories ]);
      # A number, or text with one.
      layerCount =
        if builtins.isString maxLayers && builtins.match "[0-9]+" maxLayers != null then
          lib.toInt maxLayers
        else
          maxLayers;
      rewrites = map (path: {
        path = "${path}";
        regex = "^${escape "${path}"}";
        repl = "";
      }) root;
      isId = number: builtins.isInt number && number >= 0 && number <= 4294967294;
      owner = {
        inherit
          uid
          gid
          uname
          gname
          ;
      };
      isOwned =
        owner != {
          uid = 0;
          gid = 0;
          uname = "";
          gname = "";
        };
      allPerms = perms ++ (if ensureDirs == [ ] then [ ] else directoryRules);
      below = fold "buildLayer" layers;
      holdsPaths = toList deps != [ ] || root != [ ] || perms != [ ] || ignore != null;
      nestedLayers = unique (builtins.concatMap (layer: layer.nestedLayers) below ++ below);
    in
    if !builtins.isList perms || !builtins.all builtins.isAttrs perms then
      throw "n2c: `perms` must be a list of sets, such as [ { path = …; regex = \".*\"; mode = \"0755\"; } ]."
    else if !builtins.isList ensureDirs || !builtins.all isDirectory ensureDirs then
      throw "n2c: `ensureDirs` must be a list of sets, such as [ { path = \"/nix/store\"; uid = 1000; } ]."
    else if !builtins.isList excludes || !builtins.all builtins.isString excludes then
      throw "n2c: `excludes` must be a list of regular expressions, such as [ \"/share/doc/\" ]."
    else if !isId uid || !isId gid || !builtins.isString uname || !builtins.isString gname then
      throw "n2c: `uid` and `gid` must be numbers from 0 to 4294967294, and `uname` and `gname` names."
    else if !builtins.isBool reproducible then
      throw "n2c: `reproducible` of buildLayer must be true or false."
    else if !builtins.elem compress [ null "gzip" "zstd" ] then
      throw "n2c: `compress` must be \"gzip\", \"zstd\" or null, not `${lib.show compress}`."
    else if !builtins.isInt layerCount then
      throw "n2c: `maxLayers` must be a number, not `${lib.show maxLayers}`."
    else if fromTar != null && holdsPaths then
      throw "n2c: buildLayer has `fromTar`, so it can't have `deps`, `copyToRoot`, `perms` or `ignore`."
    else if fromTar != null then
      n2cDerivation {
        name = "layers.json";
        n2c = {
          kind = "tar";
          path = "${fromTar}";
          inherit metadata;
        };
        allowSubstitutes = false;
      }
      // {
        inherit nestedLayers;
      }
    else
    n2cDerivation {
      name = "layers.json";
      exportReferencesGraph.graph = root ++ toList deps;
      n2c = {
        kind = "layer";
        maxLayers = layerCount;
        perms = allPerms;
        inherit
          rewrites
          metadata
          reproducible
          compress
          excludes
          ;
        ignore = map (path: "${path}") (toList ignore);
        # As nix2container does it: those that are named, and not what they are above of.
        parents = map (layer: "${layer}/layers.json") below;
      }
      // (if isOwned then { inherit owner; } else { });
      # Another machine's store paths may have other bytes under the same name.
      allowSubstitutes = false;
    }
    // {
      inherit nestedLayers;
      # What is in it, for a layer that only has mount points for it.
      storePaths = {
        roots = root ++ toList deps;
        ignore = toList ignore;
        # Of what goes to the root, only directories can belong to somebody else.
        perms =
          (
            if isOwned then
              map (
                path:
                owner
                // {
                  path = "${path}";
                  regex = ".*";
                  mode = "";
                }
              ) root
            else
              [ ]
          )
          ++ allPerms;
        inherit rewrites excludes;
      };
    };
in
{
  inherit buildLayer rootOf;
  foldLayers = fold;
  uniqueLayers = unique;
}
