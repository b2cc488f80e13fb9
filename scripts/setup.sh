#!/bin/sh
# Installs what building halfopen needs and is missing: a C compiler and libpcap's headers.
# With --tests also what the tests hold it against: tcpdump, tshark, Prometheus with Alertmanager and node_exporter, iproute2,
# Chromium for the page, tmux for the terminal's view.
# With --packages what packages and their tests are made with: debootstrap, buildah, cargo-deb, typesetters of manual pages, other shells.
# With --supply what looks at the dependencies: cargo-deny, cargo-cyclonedx. With --fuzz cargo-fuzz and a C++ compiler for libFuzzer.
# Says what it installs before it does; does nothing where nothing is missing. The one thing assumed is a Rust toolchain.
# Where the right to install is wanting it says what to run instead; tests whose tool is missing then say that they are skipped.
set -eu

say() { printf 'setup: %s\n' "$*"; }
die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

tests=false packaging=false cargo_tools=
for argument in "$@"; do
    case $argument in
        --tests) tests=true ;;
        --packages) packaging=true cargo_tools="$cargo_tools cargo-deb" ;;
        --supply) cargo_tools="$cargo_tools cargo-deny cargo-cyclonedx" ;;
        --fuzz) cargo_tools="$cargo_tools cargo-fuzz" ;;
        -h | --help)
            sed -n '2,8s/^# //p' "$0"
            exit 0
            ;;
        *) die "unknown argument '$argument'; there are --tests, --packages, --supply and --fuzz" ;;
    esac
done

# The administration directories are not on every user's path.
PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin"

command -v cargo >/dev/null || die "cargo is not installed; install a Rust toolchain from https://rustup.rs, then run this again"

manager=none
for candidate in apt-get dnf apk brew; do
    if command -v "$candidate" >/dev/null; then
        manager=$candidate
        break
    fi
done

# package WHAT: its packages in this system's package manager; nothing where there are none.
package() {
    case $manager:$1 in
        none:*) ;;
        apt-get:cc) echo gcc libc6-dev ;;
        dnf:cc) echo gcc glibc-devel ;;
        apk:cc) echo gcc musl-dev ;;
        apt-get:c++) echo g++ ;;
        dnf:c++) echo gcc-c++ ;;
        apk:c++) echo g++ ;;
        dnf:pcap) echo libpcap-devel ;;
        brew:pcap) echo libpcap ;;
        *:pcap) echo libpcap-dev ;;
        apt-get:setcap) echo libcap2-bin ;;
        dnf:setcap) echo libcap ;;
        apk:setcap) echo libcap-setcap ;;
        dnf:tshark) echo wireshark-cli ;;
        brew:tshark) echo wireshark ;;
        dnf:ip) echo iproute ;;
        *:ip) echo iproute2 ;;
        # Ubuntu's is a snap, which a package manager cannot bring into a container.
        apt-get:chromium) grep -q '^ID=ubuntu' /etc/os-release 2>/dev/null || echo chromium ;;
        # Apple's compiler is not Homebrew's, and Fedora packages no Prometheus of this name; these two names are Debian's.
        brew:cc | brew:c++ | brew:chromium | dnf:prometheus | dnf:prometheus-* | apk:prometheus-* | brew:prometheus-*) ;;
        *) echo "$1" ;;
    esac
}

has_pcap() {
    # The linker's own answer: only the library is linked, and its directory differs between systems.
    printf 'int main(void){return 0;}\n' | "${CC:-cc}" -x c - -lpcap -o /dev/null 2>/dev/null
}

needed=
command -v "${CC:-cc}" >/dev/null || needed="$needed cc"
has_pcap || needed="$needed pcap"
wanted=
linux=false
[ "$(uname)" != Linux ] || linux=true
if $linux && ! command -v setcap >/dev/null; then
    wanted="$wanted setcap"
fi
if $tests; then
    tools="tcpdump tshark prometheus prometheus-alertmanager prometheus-node-exporter chromium tmux"
    ! $linux || tools="$tools ip"
    for tool in $tools; do
        command -v "$tool" >/dev/null || wanted="$wanted $tool"
    done
fi

if $packaging && $linux; then
    for tool in debootstrap buildah mandoc groff zsh fish; do
        command -v "$tool" >/dev/null || wanted="$wanted $tool"
    done
fi
case $cargo_tools in
    *fuzz*) command -v "${CXX:-c++}" >/dev/null || wanted="$wanted c++" ;;
esac

packages=
for what in $needed; do
    names=$(package "$what")
    [ -n "$names" ] || die "$what is missing and this script cannot install it here; install a C compiler and libpcap's headers by hand"
    packages="$packages $names"
done
for what in $wanted; do
    names=$(package "$what")
    [ -n "$names" ] || say "$what is not among this system's packages; what needs it will be skipped"
    packages="$packages $names"
done
# shellcheck disable=SC2086 # words, to be joined by one space each
set -- $packages
packages=$*
# cargo's own subcommands, from the registry that the dependencies come from.
for tool in $cargo_tools; do
    command -v "$tool" >/dev/null && continue
    say "installing: cargo install --locked $tool"
    cargo install --quiet --locked "$tool"
done
if [ -z "$packages" ]; then
    say "nothing to install"
    exit 0
fi

case $manager in
    apk) install="apk add" ;;
    *) install="$manager install" ;;
esac
as_root=
if [ "$(id -u)" -ne 0 ] && [ "$manager" != brew ]; then
    if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
        as_root=sudo
    else
        advice="no right to install packages; have an administrator run: $install $packages"
        [ -z "$needed" ] || die "$advice"
        say "$advice"
        exit 0
    fi
fi

say "installing: ${as_root:+$as_root }$install $packages"
# The variables below hold several words each.
# shellcheck disable=SC2086
case $manager in
    apt-get)
        case " $packages " in
            *" tshark "*)
                # Whether ordinary users may capture with Wireshark's own helper is not ours to allow.
                ! command -v debconf-set-selections >/dev/null ||
                    echo 'wireshark-common wireshark-common/install-setuid boolean false' | $as_root debconf-set-selections
                ;;
        esac
        case " $packages " in
            *" prometheus "*) say "the package starts Prometheus as a service; 'systemctl disable --now prometheus' undoes that" ;;
        esac
        # env, not an export: sudo drops the environment.
        quietly="$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends"
        # Lists that are there are used; the network is asked for new ones where there are none or they have gone stale.
        ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1 || $as_root apt-get update -q
        if ! $quietly $packages; then
            say "once more, with new package lists"
            $as_root apt-get update -q
            $quietly $packages
        fi
        ;;
    dnf) $as_root dnf install -y $packages ;;
    apk) $as_root apk add $packages ;;
    brew) brew install $packages ;;
esac
say "done"
