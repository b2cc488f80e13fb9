#!/bin/sh
# Installs the Debian package in a clean root, tries it there, removes and purges it. As root, on Debian or Ubuntu with debootstrap;
# nothing outside of the root is touched, and it is deleted at the end.
#
#   scripts/deb-test.sh [PACKAGE [BASE]]     the package, by default the one in target/debian; a root made by debootstrap to be copied
set -eu
cd "$(dirname "$0")/.."

die() {
    printf 'deb-test: %s\n' "$*" >&2
    exit 1
}
shown() { printf 'deb-test: %s\n' "$*"; }

[ "$(id -u)" -eq 0 ] || die "debootstrap and chroot need root"
command -v debootstrap >/dev/null || die "debootstrap is not installed; run: scripts/setup.sh --packages"
package=${1:-$(ls target/debian/halfopen_*.deb 2>/dev/null | tail -n 1)}
[ -f "$package" ] || die "there is no package; run: make deb"

root=$(mktemp -d)
# It becomes the root directory of everybody in there.
chmod 755 "$root"
trap 'rm -rf "$root"' EXIT INT TERM
if [ -n "${2:-}" ]; then
    cp -a "$2/." "$root/"
else
    # The suite that this machine runs: the package depends on its libraries.
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    debootstrap --variant=minbase "$suite" "$root" ${MIRROR:+"$MIRROR"} >"$root.log" || die "debootstrap failed: $(tail -n 3 "$root.log")"
    rm -f "$root.log"
fi
cp /etc/resolv.conf "$root/etc/resolv.conf"
cp "$package" "$root/tmp/halfopen.deb"
"${CARGO:-cargo}" run --quiet --locked --example generate -- mix --seconds 30 --handshakes 20 --flood 200 "$root/tmp/mix.pcap" >/dev/null

# A network of its own, with nothing in it but loopback; apt is asked before it is entered.
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
must() {
    what=$1
    shift
    inside "$@" >"$root/tmp/said" 2>&1 || die "$what failed: $(cat "$root/tmp/said")"
    shown "$what: ok"
}
absent() {
    for path in "$@"; do
        ! [ -e "$root$path" ] || die "$path is still there"
    done
}

inside apt-get update -q >/dev/null || die "apt-get update failed in the root"
must "installed, and what it depends on" apt-get install -y -q --no-install-recommends /tmp/halfopen.deb
[ ! -e "$root/usr/bin/systemctl" ] || die "the root has systemd, which this test wants absent"
must "every file is as it was packed" dpkg --verify halfopen
must "halfopen --version" halfopen --version
must "halfopen check of the packaged configuration" halfopen check /etc/halfopen/halfopen.toml
must "halfopen interfaces" halfopen interfaces

# What it found in a flood, as its own user.
inside setpriv --reuid=halfopen --regid=halfopen --clear-groups halfopen replay --json --exit-code /tmp/mix.pcap >"$root/tmp/said" 2>&1 &&
    die "a replay of a flood raised no incident" || [ $? -eq 3 ] || die "replay failed: $(cat "$root/tmp/said")"
grep -q '"kind": *"spoofed_flood"' "$root/tmp/said" || die "the replay found no spoofed_flood: $(cat "$root/tmp/said")"
shown "halfopen replay, as the user halfopen: the flood found, status 3"

for path in /usr/share/man/man1/halfopen.1.gz /usr/share/man/man1/halfopen-run.1.gz /usr/share/bash-completion/completions/halfopen \
    /usr/share/zsh/vendor-completions/_halfopen /usr/share/fish/vendor_completions.d/halfopen.fish \
    /lib/systemd/system/halfopen.service /usr/share/doc/halfopen/copyright \
    /usr/share/halfopen/rules/halfopen-alerts.yml /usr/share/halfopen/dashboards/halfopen-overview.json; do
    inside test -s "$path" || inside test -s "/usr$path" || die "$path is not in the package"
done
shown "manual pages, completions, unit, user, rules, dashboards: there"
[ "$(inside stat -c '%U:%G %a' /var/lib/halfopen)" = "halfopen:halfopen 700" ] || die "/var/lib/halfopen is not the user's own"
[ "$(inside getent passwd halfopen | cut -d: -f7)" = /usr/sbin/nologin ] || die "the user may log in"
shown "the user and its directory: ok"

# The sensor itself, on loopback in a network of its own, until it says that it is healthy.
cat >"$root/tmp/live" <<'LIVE'
set -eu
ip link set lo up 2>/dev/null || ifconfig lo up 2>/dev/null || true
halfopen run -i lo --user halfopen >/tmp/log 2>&1 &
sensor=$!
for _ in $(seq 100); do
    if exec 3<>/dev/tcp/127.0.0.1/10793; then
        printf 'GET /-/healthy HTTP/1.0\r\n\r\n' >&3
        read -r -t 3 line <&3
        [[ $line == *' 200 '* ]] && healthy=yes && break
    fi 2>/dev/null
    sleep 0.1
done
kill -TERM "$sensor"
wait "$sensor"
[ "${healthy:-}" = yes ]
LIVE
unshare --net sh -c 'ip link set lo up && exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin bash /tmp/live' sh "$root" ||
    die "the sensor did not get healthy: $(cat "$root/tmp/log")"
shown "the sensor started on loopback, was healthy, and stopped with status 0"

# Removed: the administrator's file and what was learned stay. Purged: they go.
echo '# changed by hand' >>"$root/etc/halfopen/halfopen.toml"
echo '{}' >"$root/var/lib/halfopen/state.json"
must "removed" apt-get remove -y -q halfopen
absent /usr/bin/halfopen /lib/systemd/system/halfopen.service /usr/lib/systemd/system/halfopen.service \
    /usr/share/man/man1/halfopen.1.gz /usr/share/bash-completion/completions/halfopen
grep -q 'changed by hand' "$root/etc/halfopen/halfopen.toml" || die "removal took the configuration along"
[ -e "$root/var/lib/halfopen/state.json" ] || die "removal took the state along"
must "installed again over what was left" apt-get install -y -q --no-install-recommends /tmp/halfopen.deb
grep -q 'changed by hand' "$root/etc/halfopen/halfopen.toml" || die "installing again took the configuration along"
must "purged" apt-get purge -y -q halfopen
absent /usr/bin/halfopen /etc/halfopen /var/lib/halfopen /var/log/halfopen /usr/share/halfopen /usr/share/doc/halfopen
shown "nothing is left but the user"
