#!/bin/sh
# Makes what goes into packages, below target/package, and with --deb the Debian package, target/debian/halfopen_*.deb, from the binary
# that scripts/release.sh built.
#
#   scripts/package.sh            the manual pages and completions, the unit for a package
#   scripts/package.sh --deb      these and the package
set -eu
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
binary=$target/release/halfopen
package=target/package
if ! [ -x "$binary" ]; then
    printf "package: '%s' is not there; run: scripts/release.sh\n" "$binary" >&2
    exit 1
fi
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || echo 0)}"
export SOURCE_DATE_EPOCH

rm -rf "$package"
mkdir -p "$package/man" "$package/completions" "$package/systemd"
# The names of functions stay, for a profile; lines and files go.
strip --strip-debug -o "$package/halfopen" "$binary"

"$binary" man >"$package/man/halfopen.1"
for command in run replay top healthcheck check interfaces completions; do
    "$binary" man "$command" >"$package/man/halfopen-$command.1"
done
"$binary" completions bash >"$package/completions/halfopen"
"$binary" completions zsh >"$package/completions/_halfopen"
"$binary" completions fish >"$package/completions/halfopen.fish"

# One unit for all: a package has its own place for binaries, and a user that stays.
sed -e 's|/usr/local/bin/|/usr/bin/|' \
    -e 's|^# systemd unit\..*|# The unit of the package.|' -e '/^#   systemctl daemon-reload/d' \
    -e 's|^# No user of its own to be made;|# A user of its own;|' \
    -e 's|^DynamicUser=yes|User=halfopen\nGroup=halfopen\nRemoveIPC=yes|' \
    deploy/halfopen.service >"$package/systemd/halfopen.service"
for expected in 'ExecStart=/usr/bin/halfopen' 'User=halfopen'; do
    grep -q "^$expected" "$package/systemd/halfopen.service" ||
        { printf 'package: deploy/halfopen.service no longer gives %s\n' "$expected" >&2; exit 1; }
done
printf 'package: manual pages, completions and unit are in %s\n' "$package"

[ "${1:-}" = --deb ] || exit 0
"${CARGO:-cargo}" deb --no-build --no-strip --output target/debian/
