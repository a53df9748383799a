# A base image from a registry that requires a password, in one of three ways.
#
#   nix-build examples/private-registry.nix --arg n2c <n2c> --arg lock ./app.json
#
# 1. Prefetch it before the build, with your own login and credential helpers:
#
#      n2c prefetch app.json
#
# 2. Fetch it in the build, for all users of this machine. As root, run
#
#      n2c auth export registry.example/team/app -o /etc/nix/skopeo/auth.json
#      chgrp nixbld /etc/nix/skopeo/auth.json && chmod 0640 /etc/nix/skopeo/auth.json
#
#    and add to /etc/nix/nix.conf
#
#      extra-sandbox-paths = /etc/skopeo/auth.json=/etc/nix/skopeo/auth.json
#
#    `n2c doctor registry.example/team/app:1` tells you what is still missing.
#
# 3. Fetch it from a mirror that the build can access: set `registry` below.
{
  n2c,
  lock,
  # For example "mirror.example/team-images"; null for the registry in the lockfile.
  registry ? null,
  system ? builtins.currentSystem,
}:
(import ../nix { inherit n2c system; }).fromLock { inherit lock registry; }
