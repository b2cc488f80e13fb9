#!/bin/sh
# Looks for inputs that break something: libFuzzer through cargo-fuzz, one target after the other, at the lowest priority.
#
#   scripts/fuzz.sh [TARGET]...     by default every target; HALFOPEN_FUZZ_SECONDS (1800) each
#
# What is found lies in fuzz/artifacts; what was learned in fuzz/corpus, beside the committed inputs, and is not committed. A nightly
# toolchain is not needed: the counters that guide the fuzzer are stable, and its AddressSanitizer, which is not, has nothing to look at
# in a program without unsafe code.
set -eu
cd "$(dirname "$0")/.."

seconds=${HALFOPEN_FUZZ_SECONDS:-1800}
# glibc keeps what an execution gave back: to clear the pages of each sensor's tables anew would take a third of the time.
export MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_MMAP_THRESHOLD_=1073741824
[ $# -gt 0 ] || set -- decode pipeline config web_config state journal rotation
cd fuzz
nice -n 19 "${CARGO:-cargo}" fuzz build --sanitizer none
for target in "$@"; do
    mkdir -p "corpus/$target" "artifacts/$target"
    printf 'fuzz: %s for %s s\n' "$target" "$seconds"
    log=artifacts/$target.log
    # cargo-fuzz would build once more, and show every line that libFuzzer writes.
    if ! nice -n 19 "target/$(rustc -vV | sed -n 's/^host: //p')/release/$target" "corpus/$target" \
        -max_total_time="$seconds" -max_len=4096 -timeout=20 -rss_limit_mb=3000 -print_final_stats=1 \
        -artifact_prefix="artifacts/$target/" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        printf 'fuzz: %s found something: fuzz/artifacts/%s; make it a file of fuzz/corpus and a test\n' "$target" "$target" >&2
        exit 1
    fi
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    coverage=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    printf 'fuzz: %s: %s executions, %s counters reached, nothing found\n' "$target" "$executions" "$coverage"
done
