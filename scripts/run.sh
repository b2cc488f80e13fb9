#!/bin/sh
# Starts the sensor that `cargo build --release` made, with the right to capture. Its log says where its page is; Ctrl-C stops it.
# Arguments are passed on to `halfopen run`.
set -eu

say() { printf 'run: %s\n' "$*"; }

binary=${CARGO_TARGET_DIR:-target}/release/halfopen
if ! [ -x "$binary" ]; then
    printf "run: '%s' is not there; run: make build\n" "$binary" >&2
    exit 1
fi
PATH="$PATH:/usr/sbin:/sbin"

# Root may capture anyway. A binary that was built anew has lost the right that the one before it had.
if [ "$(id -u)" -ne 0 ] && [ "$(uname)" = Linux ] && ! getcap "$binary" 2>/dev/null | grep -q cap_net_raw; then
    if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
        say "giving the binary the right to capture: sudo setcap cap_net_raw+ep $binary"
        sudo setcap cap_net_raw+ep "$binary" ||
            say "setcap failed, as it does in some containers and on file systems without capabilities; run as root instead"
    else
        say "no right to capture, and no sudo to give it; have an administrator run: setcap cap_net_raw+ep $binary"
    fi
fi

exec "$binary" run "$@"
