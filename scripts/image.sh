#!/bin/sh
# Builds the Dockerfile where there is neither a container engine nor a registry to pull from: as root on Debian or Ubuntu, with
# buildah and debootstrap, on base images of its own making that bear the names the Dockerfile asks for. To see that the
# Dockerfile works; for images to be given to others use `docker build`.
#
#   scripts/image.sh [DIRECTORY]     everything is kept below DIRECTORY, by default a new one in /tmp
set -eu

die() {
    printf 'image: %s\n' "$*" >&2
    exit 1
}

[ "$(id -u)" -eq 0 ] || die "debootstrap needs root"
for tool in buildah debootstrap cargo rustc; do
    command -v "$tool" >/dev/null || die "$tool is not installed; apt-get install buildah debootstrap, and a Rust toolchain"
done
directory=${1:-$(mktemp -d)}
mirror=${MIRROR:-http://deb.debian.org/debian}
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

in_store() { buildah --root "$directory/store" --runroot "$directory/run" "$@"; }

if ! [ -e "$directory/base.done" ]; then
    debootstrap --variant=minbase bookworm "$directory/base" "$mirror"

    container=$(in_store from scratch)
    in_store copy --quiet "$container" "$directory/base" /
    in_store config --env "PATH=$path" "$container"
    in_store commit --quiet --rm "$container" docker.io/library/debian:bookworm-slim

    # The other base is that one with a C linker and the toolchain of this machine.
    container=$(in_store from --pull-never docker.io/library/debian:bookworm-slim)
    in_store run "$container" -- sh -c \
        'apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends gcc libc6-dev ca-certificates'
    toolchain=$(rustc --print sysroot)
    in_store copy --quiet "$container" "$toolchain/bin" /usr/local/rust/bin
    in_store copy --quiet "$container" "$toolchain/lib" /usr/local/rust/lib
    in_store config --env "PATH=/usr/local/rust/bin:$path" --env CARGO_HOME=/usr/local/cargo "$container"
    in_store commit --quiet --rm "$container" docker.io/library/rust:1-slim-bookworm
    touch "$directory/base.done"
fi

# Crates that this machine has already are not fetched again.
mkdir -p "${CARGO_HOME:-$HOME/.cargo}/registry"
in_store build --pull-never --network host --format docker \
    --volume "${CARGO_HOME:-$HOME/.cargo}/registry:/usr/local/cargo/registry" --tag halfopen .

# That it starts as its own user, with the one right it was given.
container=$(in_store from --pull-never localhost/halfopen)
in_store run --cap-add CAP_NET_RAW "$container" -- halfopen --version
in_store rm "$container" >/dev/null
printf 'image: built and started; it is below %s\n' "$directory"
