#!/bin/sh
# Builds the container image and sees that it works: it starts as its own user with the one right it needs, finds the flood in a
# trace, captures, and answers its health check.
#
#   scripts/image.sh [DIRECTORY]
#
# With docker or podman where one answers. Else as root on Debian or Ubuntu with buildah, in a chroot, from the registry; and where
# that cannot be reached, on base images made by debootstrap that bear the names the Dockerfile asks for. What buildah needs is kept
# below DIRECTORY, by default a new one in /tmp.
set -eu
cd "$(dirname "$0")/.."

say() { printf 'image: %s\n' "$*"; }
die() {
    printf 'image: %s\n' "$*" >&2
    exit 1
}

# What is asked of the image, whoever built it. `started ARGUMENTS` runs it, with /traces from $traces.
traces=$(mktemp -d)
trap 'rm -rf "$traces"' EXIT INT TERM
try_it() {
    "${CARGO:-cargo}" run --quiet --locked --example generate -- mix --seconds 30 --handshakes 20 --flood 200 "$traces/mix.pcap" >/dev/null
    chmod -R a+rX "$traces"
    say "$(started halfopen --version)"
    status=0
    started halfopen replay --json --exit-code /traces/mix.pcap >"$traces/summary.json" || status=$?
    [ "$status" -eq 3 ] || die "a replay of a flood ended with status $status, not 3"
    grep -q '"spoofed_flood"' "$traces/summary.json" || die "the replay found no spoofed_flood"
    say "replay: the flood found, status 3"
    # As its own user, with no right but the one that the file gives, and started by a shell that may not have another either; its own
    # health check says when it is well.
    # shellcheck disable=SC2016 # for the shell inside
    started bash -c '
        halfopen run -i lo 2>/tmp/log &
        sensor=$!
        for _ in $(seq 50); do
            sleep 0.2
            if ( '"$(health)"' ) 2>/dev/null; then
                rights() { sed -n "s/^\($1\):[^0-9a-f]*0*/\1 /p" "/proc/$2/status" | tr "\n" " "; }
                echo "healthy; user $(id -u), $(rights "Cap[EPB][fnr][fmd]" $sensor)$(rights NoNewPrivs $sensor)(started with $(rights CapBnd $$))"
                kill -TERM $sensor
                wait $sensor
                exit
            fi
        done
        cat /tmp/log
        exit 1' >"$traces/said" || die "not healthy: $(cat "$traces/said")"
    say "run: $(cat "$traces/said")"
    grep -q 'user 10793' "$traces/said" || die "it does not run as its own user"
    # CAP_NET_RAW is 13: bit 2000.
    grep -q 'started with CapBnd 2000 ' "$traces/said" || die "it was started with more than it needs"
}
# The health check of the Dockerfile, as a shell's words.
health() {
    sed -n 's/^HEALTHCHECK .* CMD //p' Dockerfile
}

for engine in docker podman; do
    command -v "$engine" >/dev/null && "$engine" info >/dev/null 2>&1 || continue
    "$engine" build -t halfopen .
    started() {
        "$engine" run --rm --network host --cap-drop ALL --cap-add NET_RAW -v "$traces:/traces:ro" --entrypoint "" halfopen "$@"
    }
    try_it
    say "built by $engine: $("$engine" image inspect --format '{{.Size}}' halfopen) bytes"
    exit 0
done

[ "$(id -u)" -eq 0 ] || die "no container engine answers, and debootstrap needs root"
for tool in buildah debootstrap cargo rustc; do
    command -v "$tool" >/dev/null || die "$tool is not installed; run: scripts/setup.sh --packages"
done
directory=${1:-$(mktemp -d)}
export BUILDAH_ISOLATION=chroot
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
small=docker.io/library/debian:bookworm-slim
large=docker.io/library/rust:1-slim-bookworm

in_store() { buildah --storage-driver "${STORAGE_DRIVER:-vfs}" --root "$directory/store" --runroot "$directory/run" "$@"; }

if timeout 30 buildah --storage-driver "${STORAGE_DRIVER:-vfs}" --root "$directory/store" --runroot "$directory/run" pull --quiet "$small" >/dev/null 2>&1; then
    in_store pull --quiet "$large" >/dev/null
    say "bases: from the registry"
elif ! [ -e "$directory/base.done" ]; then
    say "bases: the registry cannot be reached; made by debootstrap"
    [ -d "$directory/base" ] || debootstrap --variant=minbase bookworm "$directory/base" ${MIRROR:+"$MIRROR"} >/dev/null
    rm -rf "$directory/base/var/cache/apt/archives/"*.deb "$directory/base/var/lib/apt/lists/"*

    container=$(in_store from scratch)
    in_store copy --quiet "$container" "$directory/base" / >/dev/null
    in_store config --env "PATH=$path" "$container"
    in_store commit --quiet --rm "$container" "$small" >/dev/null

    # The other base is that one with a C linker and the toolchain of this machine.
    container=$(in_store from --pull-never "$small")
    in_store run "$container" -- sh -c \
        'apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends gcc libc6-dev ca-certificates' >/dev/null
    toolchain=$(rustc --print sysroot)
    in_store copy --quiet "$container" "$toolchain/bin" /usr/local/rust/bin >/dev/null
    in_store copy --quiet "$container" "$toolchain/lib" /usr/local/rust/lib >/dev/null
    in_store config --env "PATH=/usr/local/rust/bin:$path" --env CARGO_HOME=/usr/local/cargo "$container"
    in_store commit --quiet --rm "$container" "$large" >/dev/null
    touch "$directory/base.done"
fi

# Crates that this machine has already are not fetched again, nor are those compiled again that an earlier image was made of.
crates=${CARGO_HOME:-$HOME/.cargo}
mkdir -p "$crates/registry" "$directory/target"
cargo_settings=
[ ! -e "$crates/config.toml" ] || cargo_settings="--volume $crates/config.toml:/usr/local/cargo/config.toml:ro"
# shellcheck disable=SC2086 # two words or none
in_store build --pull-never --network host --format docker $cargo_settings \
    --volume "$crates/registry:/usr/local/cargo/registry" --volume "$directory/target:/build/target" --tag halfopen .

# What `docker run --cap-drop ALL --cap-add NET_RAW` does, and chroot isolation cannot: the image's files as the root, a network and
# processes of its own, the image's user and environment, and a bounding set of this one capability, which nothing that is executed
# gets beyond (capabilities(7)).
container=$(in_store from --pull-never localhost/halfopen)
root=$(in_store mount "$container")
of_image() { in_store inspect --format "$1" "$container"; }
user=$(of_image '{{.OCIv1.Config.User}}')
environment=$(of_image '{{range .OCIv1.Config.Env}}{{.}} {{end}}')
mkdir -p "$root/traces"
within() {
    rights=$1
    shift
    # shellcheck disable=SC2016 # for the shell inside
    unshare --mount --pid --fork --net sh -ec '
        root=$1 traces=$2 user=$3 rights=$4 environment=$5
        shift 5
        mount --bind "$traces" "$root/traces"
        mount --rbind /dev "$root/dev"
        mount -t proc proc "$root/proc"
        ip link set lo up
        exec chroot "$root" env -i $environment setpriv --bounding-set="$rights" --inh-caps=-all \
            --reuid="$user" --regid="$user" --clear-groups -- "$@"' sh "$root" "$traces" "$user" "$rights" "$environment" "$@"
}
started() { within -all,+net_raw "$@"; }
try_it
# As the Dockerfile says of a container with every capability dropped.
! within -all halfopen --version >"$traces/said" 2>&1 || die "the kernel starts it without CAP_NET_RAW; the Dockerfile says otherwise"
say "without CAP_NET_RAW: $(tail -n 1 "$traces/said")"
say "built by buildah: the image is $(du -sm "$root" | cut -f1) MB, of that the binary $(du -sm "$root/usr/local/bin/halfopen" | cut -f1) MB; it is below $directory"
in_store umount "$container" >/dev/null
in_store rm "$container" >/dev/null
