#!/bin/sh
# Builds the optimised binary so that the same source and the same toolchain give the same bytes, wherever they lie and whoever builds:
# no path of this machine gets into it, and no time. Arguments are passed on to `cargo build`.
#
#   scripts/release.sh            target/release/halfopen
#   scripts/release.sh --twice    builds copies of what is committed in two directories of its own, and compares
set -eu
cd "$(dirname "$0")/.."

twice() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT INT TERM
    for place in one two/with/a/longer/name; do
        mkdir -p "$work/$place"
        git archive HEAD | tar -x -C "$work/$place"
        # Two directories, two target directories: what they have in common is what was committed.
        CARGO_TARGET_DIR="$work/$place/target" "$work/$place/scripts/release.sh" --bin halfopen
        sha256sum <"$work/$place/target/release/halfopen" | sed "s|-|$place|" | tee -a "$work/sums"
        # Kept where somebody wants to look for the difference.
        [ -z "${KEEP:-}" ] || cp "$work/$place/target/release/halfopen" "$KEEP/halfopen-$(echo "$place" | cut -c1-3)"
        rm -rf "$work/${place:?}"
    done
    if [ "$(cut -d' ' -f1 "$work/sums" | sort -u | wc -l)" -ne 1 ]; then
        echo "release: the two builds differ" >&2
        exit 1
    fi
    echo "release: the two builds are the same"
}

if [ "${1:-}" = --twice ]; then
    twice
    exit
fi

cargo_home=${CARGO_HOME:-$HOME/.cargo}
target=${CARGO_TARGET_DIR:-$PWD/target}
# The last that matches counts: the most particular comes last.
for pair in "$HOME=/home" "$cargo_home=/cargo" "$(rustc --print sysroot)=/rust" "$PWD=/halfopen" "$target=/halfopen/target"; do
    RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$pair"
    CFLAGS="${CFLAGS:-} -ffile-prefix-map=$pair"
done
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || echo 0)}"
export RUSTFLAGS CFLAGS SOURCE_DATE_EPOCH CARGO_INCREMENTAL=0 LC_ALL=C TZ=UTC
exec "${CARGO:-cargo}" build --release --locked "$@"
