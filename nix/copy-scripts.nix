# The scripts that copy an image: `nix run .#image.copyToRegistry -- --dest-creds …`. What
# follows `--` is passed on to `n2c copy` as it is, and printed nowhere.
{
  n2c,
  program,
  lib,
}:
{
  image,
  imageName,
  imageTag,
}:
let
  copy = "exec ${n2c}/bin/n2c copy nix:${image}";
  # A copy to a place with the image's name and tag.
  copyTo =
    name: transport: program name ''${copy} ${lib.quote "${transport}${imageName}:${imageTag}"} "$@"'';
in
{
  # To the destination behind `--`, in skopeo's syntax.
  copyTo = program "copy-to" ''${copy} "$@"'';
  copyToRegistry = copyTo "copy-to-registry" "docker://";
  copyToDockerDaemon = copyTo "copy-to-docker-daemon" "docker-daemon:";
  copyToPodman = copyTo "copy-to-podman" "containers-storage:";
  # To the namespace in $CONTAINERD_NAMESPACE.
  copyToContainerd = copyTo "copy-to-containerd" "containerd:";
  # To the file behind `--`.
  copyToOciArchive = program "copy-to-oci-archive" ''
    file=''${1:?name the archive to write}
    shift
    ${copy} "oci-archive:$file":${lib.quote "${imageName}:${imageTag}"} "$@"'';
}
