#!/usr/bin/env bash
# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
#
# Runs all tests: those that need no kernel, or boot one themselves, and at the
# same time the others in the lab, which keeps to one processor. A skipped test
# counts as a failure.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: tools/test.sh                 all tests
       tools/test.sh kernel [ARG...] those in the lab; ARGs are for pytest

LAB_TIMEOUT is for how many seconds a guest may run (default: 2700).
Run tools/setup.sh before.
USAGE
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PYTHONDONTWRITEBYTECODE=1 ATTACHWORKER_NO_SKIPS=1
export ATTACHWORKER_SCHEDULES=2000 ATTACHWORKER_READS=12
python=.venv/bin/python
# A kernel in software is slow.
lab_timeout=${LAB_TIMEOUT:-2700}
test_timeout=300

in_lab() {
    local targets=("$@")
    [ $# -gt 0 ] || targets=(tests/kernel)
    "$python" -m tests.kernel.lab run --timeout "$lab_timeout" \
        --results "$results/${targets[0]##*/}" -- \
        env ATTACHWORKER_BED=kernel python -m pytest -p no:cacheprovider \
        --timeout "$test_timeout" "${targets[@]}"
}

results=$(mktemp -d)
labs=
trap stop EXIT

stop() {
    local status=$?
    if [ -n "$labs" ]; then
        kill -- "-$labs" 2> /dev/null || true
        wait "$labs" || true
    fi
    if [ "$status" -eq 0 ]; then
        rm -rf "$results"
    else
        echo "The logs of the labs are in $results." >&2
    fi
}

case ${1-} in
    '') ;;
    kernel) shift; in_lab "$@"; exit ;;
    *) usage >&2; exit 2 ;;
esac

all_labs() {
    local failed=0
    # A guest each: what one set of tests breaks is not there for the next.
    for targets in tests/kernel tests/contract tests/parity; do
        in_lab "$targets" || failed=1
    done
    # A guest whose first process is systemd
    LAB_INIT=systemd in_lab tests/systemd || failed=1
    # User-Mode Linux lacks the modules that these test.
    LAB_KERNEL=qemu in_lab tests/kernel_qemu tests/contract/test_nvmeof.py \
        tests/contract/test_every_connector.py tests/parity/test_results.py \
        -k 'iser or nvmeof' || failed=1
    return "$failed"
}

status=0
"$python" -m tools.lint || status=1
set -m # a process group of its own, to stop all of it
all_labs > "$results/labs" 2>&1 &
labs=$!
set +m
"$python" -m pytest --timeout "$test_timeout" \
    tests/unit tests/contract tests/crash tests/properties tests/functional \
    tests/install tests/lab tests/power || status=1
wait "$labs" || status=1
labs=
echo '=== in the lab, on a real kernel ==='
cat "$results/labs"
if [ "$status" -ne 0 ]; then
    for log in "$results"/*/*.log; do
        echo "=== ${log#"$results"/}, last lines ==="
        tail -n 40 "$log"
    done
fi
exit "$status"
