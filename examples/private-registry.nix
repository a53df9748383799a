# A base image in a registry that wants a password, in three ways.
#
#   nix-build examples/private-registry.nix --arg n2c <n2c> --arg lock ./app.json
#
# 1. Before the build, as you, with your own login and its helpers:
#
#      n2c prefetch app.json
#
# 2. In the build, for everybody on this machine: as root,
#
#      n2c auth export registry.example/team/app -o /etc/nix/skopeo/auth.json
#      chgrp nixbld /etc/nix/skopeo/auth.json && chmod 0640 /etc/nix/skopeo/auth.json
#
#    and in /etc/nix/nix.conf
#
#      extra-sandbox-paths = /etc/skopeo/auth.json=/etc/nix/skopeo/auth.json
#
#    `n2c doctor registry.example/team/app:1` says what is still missing.
#
# 3. From a mirror that lets the build in: `registry` below.
{
  n2c,
  lock,
  # Such as "mirror.example/team-images"; null for the registry in the lockfile.
  registry ? null,
  system ? builtins.currentSystem,
}:
(import ../nix { inherit n2c system; }).fromLock { inherit lock registry; }
