#!/bin/sh
# Holds the dependencies against deny.toml: licences, bans and sources, and known flaws where their database can be fetched.
set -eu
cd "$(dirname "$0")/.."

"${CARGO:-cargo}" deny --locked --all-features check bans licenses sources
if "${CARGO:-cargo}" deny --locked fetch db >/dev/null 2>&1; then
    "${CARGO:-cargo}" deny --locked --all-features check advisories
else
    echo "deny: the database of known flaws cannot be fetched from here; they were not looked for"
fi
