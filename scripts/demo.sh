#!/bin/sh
# A small shop is attacked and a real sensor watches: make demo. As root, two network namespaces with a link between them: the shop
# with the sensor on its end, and everybody else. Else, or where none may be made, a generated trace at real speed.
#
#   scripts/demo.sh [ADDRESS:PORT]     where the page is, by default 127.0.0.1:10793
#
# Nothing leaves the namespaces; forged sources are from 198.18.0.0/15 only. Five minutes, six times over; then, or with Ctrl-C, all of
# it goes away. HALFOPEN_DEMO_QUIET: seconds before the first attack.
set -eu
cd "$(dirname "$0")/.."

page=${1:-127.0.0.1:10793}
built=${HALFOPEN_DEMO_BUILT:-target/debug}
demo=$built/examples/demo
world=halfopen-demo-$$-world
shop=halfopen-demo-$$-shop
directory=
children=

play() {
    echo "demo: $1; playing a generated trace instead" >&2
    trap - EXIT INT TERM HUP
    exec "$demo" "$page"
}

clean() {
    trap '' INT TERM HUP
    for child in $children; do kill "$child" 2>/dev/null || :; done
    wait 2>/dev/null || :
    for namespace in "$world" "$shop"; do ip netns delete "$namespace" 2>/dev/null || :; done
    if [ -n "$directory" ]; then rm -rf "$directory"; fi
}

# NAMESPACE COMMAND...: in the background, ended with this script. 'ip' becomes the command, so its number is the command's.
begin() {
    ip netns exec "$@" &
    children="$children $!"
}

# Waits so that a signal does not have to.
pause() {
    sleep "$1" &
    children="$children $!"
    wait $! || :
}

attack() {
    begin "$@"
    wait $! || :
}

set_in() { ip netns exec "$1" sh -c "echo $3 >/proc/sys/net/$2"; }

[ "$(id -u)" -eq 0 ] || play "namespaces need root"
command -v ip >/dev/null || play "iproute2 is not installed"
# What a run left behind that was killed outright.
for left in $(ip netns list 2>/dev/null | sed -n 's/^\(halfopen-demo-[0-9]*-[a-z]*\).*/\1/p'); do
    owner=${left#halfopen-demo-}
    if ! [ -e "/proc/${owner%-*}" ]; then
        for process in $(ip netns pids "$left"); do kill "$process" 2>/dev/null || :; done
        ip netns delete "$left" || :
    fi
done
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
ip netns add "$world" 2>/dev/null || play "no network namespace can be made here"
ip netns add "$shop"
directory=$(mktemp -d)

for namespace in "$world" "$shop"; do
    set_in "$namespace" ipv6/conf/all/disable_ipv6 1 2>/dev/null || :
    set_in "$namespace" ipv4/ip_forward 0
    ip -n "$namespace" link set lo up
done
for setting in ipv4/tcp_syncookies=1 ipv4/tcp_max_syn_backlog=4096 core/somaxconn=4096; do
    set_in "$shop" "${setting%=*}" "${setting#*=}"
done
ip -n "$world" link add demo0 address 02:00:00:00:00:0a type veth peer name demo1 address 02:00:00:00:00:0b netns "$shop"
ip -n "$world" address add 10.199.0.1/30 dev demo0
ip -n "$shop" address add 10.199.0.2/30 dev demo1
for address in 192.0.2.10 192.0.2.20 192.0.2.25; do ip -n "$shop" address add "$address/32" dev demo1; done
ip -n "$world" link set demo0 up
ip -n "$shop" link set demo1 up
ip -n "$world" neighbour replace 10.199.0.2 lladdr 02:00:00:00:00:0b dev demo0 nud permanent
ip -n "$shop" neighbour replace 10.199.0.1 lladdr 02:00:00:00:00:0a dev demo1 nud permanent
# Every client's address is this end's own; forged ones are nobody's, and what is sent to them is dropped without a word.
ip -n "$world" route add local 203.0.113.0/24 dev lo
ip -n "$world" route add 192.0.2.0/24 via 10.199.0.2
ip -n "$shop" route add 203.0.113.0/24 via 10.199.0.1
ip -n "$shop" route add 198.18.0.0/15 via 10.199.0.1

begin "$shop" "$demo" serve 192.0.2.10:443/511 192.0.2.20:80/511 192.0.2.25:25/100
begin "$shop" "$built/halfopen" run -i demo1 --config.file examples/demo-sensor.toml --log.level error
begin "$shop" "$demo" door "$directory/page" 127.0.0.1:10793
begin "$world" "$demo" clients 192.0.2.10:443/60 192.0.2.20:80/25 192.0.2.25:25/8
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ -S "$directory/page" ] || pause 0.2
done
"$demo" door "$page" "$directory/page" &
door=$!
children="$children $door"
pause 0.5
# It has said why.
kill -0 "$door" 2>/dev/null || exit 1
echo "a small shop with real clients, in network namespaces: a forged flood on its web server, a port scan, a mail server that falls silent"
quiet=${HALFOPEN_DEMO_QUIET:-60}
echo "the flood begins in $quiet seconds; all of it takes five minutes; Ctrl-C ends it"

for round in 1 2 3 4 5 6; do
    pause "$quiet"
    attack "$world" "$demo" flood demo0 75
    pause 40
    attack "$world" "$demo" scan 192.0.2.20 30
    pause 25
    ip -n "$shop" address delete 192.0.2.25/32 dev demo1
    pause 30
    ip -n "$shop" address add 192.0.2.25/32 dev demo1
    pause 40
    quiet=60
done
echo "demo: over after $round rounds"
