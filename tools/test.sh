#!/usr/bin/env bash
# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
#
# Runs suites of tests, several at a time, and says at the end which tests of
# each were the slowest, and how long each took.

set -euo pipefail

# What Python and pytest have compiled is kept, whatever the caller's does.
unset PYTHONDONTWRITEBYTECODE

usage() {
    cat <<'USAGE'
Usage: tools/test.sh                  all suites; a skipped test is a failure
       tools/test.sh check            those that need no root and no packages
       tools/test.sh suite NAME...    these; the names are in this file
       tools/test.sh kernel [ARG...]  pytest with ARGs, in the lab

TEST_JOBS is how many suites run at a time (default: one more than there are
processors, for they wait, too), LAB_TIMEOUT for how many seconds a guest may
run (default: 2700).
Run tools/setup.sh before.
USAGE
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=.venv/bin/python
# A kernel in software is slow.
lab_timeout=${LAB_TIMEOUT:-2700}
slowest=20

# The longest come first, so that the last ones end at about the same time.
check=(properties unit contract sequences style)
all=(
    lab-qemu host-debian functional crash "${check[@]}" crash-kill-attach
    lab-kernel crash-kill host-image lab-systemd lab-parity host-ubuntu
    host-no-multipathd host-rhel lab power install
)

suite() {
    local kill=tests/crash/test_kill.py
    local sequences=tests/contract/test_sequences.py
    case $1 in
        style) style ;;
        unit | install) native "tests/$1" ;;
        # They wait for brokers most of the time; each has a broker of its own.
        functional)
            native tests/functional --numprocesses 2 --dist loadfile
            ;;
        # They wait for each other's threads most of the time.
        properties) native tests/properties --numprocesses 4 ;;
        contract) native tests/contract --ignore "$sequences" ;;
        sequences) native "$sequences" ;;
        crash) native tests/crash --ignore "$kill" ;;
        crash-kill) native "$kill" -k 'not attach' ;;
        crash-kill-attach) native "$kill" -k attach ;;
        # These boot guests themselves.
        power | lab) run_pytest "tests/$1" ;;
        # A guest each: what one set of tests breaks is not there for the next.
        lab-kernel | lab-parity) in_lab "tests/${1#lab-}" ;;
        # The contract tests, on hosts as people have them
        host-*)
            local arguments
            mapfile -t arguments \
                < <("$python" -m tests.kernel.set_ups "${1#host-}")
            case $1 in
                # The large ones on whatever is quicker, the others on the
                # kernel of this machine's release.
                host-debian | host-image) ;;
                *) export LAB_KERNEL=uml ;;
            esac
            ATTACHWORKER_SET_UP=${1#host-} in_lab "${arguments[@]}"
            ;;
        # A guest whose first process is systemd
        lab-systemd) LAB_INIT=systemd in_lab tests/systemd ;;
        # User-Mode Linux lacks the modules that these test.
        lab-qemu)
            # Of Fibre Channel what a port and its loss are on a real kernel;
            # the rest is the same as of iSCSI, and emulation is slow.
            local few='right_data or two_ports or first_port or by_now'
            LAB_KERNEL=qemu in_lab tests/kernel_qemu \
                tests/contract/test_nvmeof.py \
                tests/contract/test_nvmeof_hosts.py \
                tests/contract/test_every_connector.py \
                tests/contract/test_fibre_channel.py \
                tests/parity/test_results.py \
                -k "iser or nvmeof or fibre and ($few)"
            ;;
        *) echo "There is no suite $1." >&2; return 2 ;;
    esac
}

style() {
    local status=0
    "$python" -m ruff check . || status=1
    "$python" -m ruff format --check . || status=1
    "$python" -m tools.lint || status=1
    "$python" -m mypy || status=1
    return "$status"
}

pytest_options=(--timeout 300 --durations "$slowest")

run_pytest() { "$python" -m pytest "${pytest_options[@]}" "$@"; }

native() { TMPDIR=$scratch run_pytest "$@"; }

in_lab() {
    "$python" -m tests.kernel.lab run --timeout "$lab_timeout" \
        --results "$results/lab-${name:-kernel}" -- \
        env ATTACHWORKER_BED=kernel python -m pytest -p no:cacheprovider \
        "${pytest_options[@]}" "$@"
}

# Runs one suite, in a process that the pool has started.
run() {
    local name=$1 output=$results/$1.output status=0 result processor
    echo "$name begins"
    suite "$name" > "$output" 2>&1 || status=1
    # What pytest counted
    result=$(sed -n 's/^=* *\([0-9]\+ [a-z].*\) in [0-9.]*s.*/\1/p' "$output")
    [ "$status" -eq 0 ] || result="FAILED ${result}"
    # Not in a subshell, which has none of the suite's
    times > "$results/$name.processor"
    processor=$(awk 'NR == 2 {
        gsub(/[ms]/, " "); printf "%d", ($1 + $3) * 60 + $2 + $4
    }' "$results/$name.processor")
    printf '%-18s %5d s  %5d s of processor  %s\n' \
        "$name" "$SECONDS" "$processor" "$result" | tee -a "$results/times"
    # Why a guest did not boot, and the suite took longer on another machine
    sed -En 's/^lab: ((User-Mode Linux|QEMU)[^:]*: [^;]*).*/    \1/p' "$output" |
        tee -a "$results/times"
    return "$status"
}

run_pool() {
    local status=0
    # Once, not in each process that imports it
    "$python" -m compileall -q attachworker tests
    # What pytest makes of the tests is kept, too, but not by a guest, whose
    # files go with it.
    if [[ " $*" =~ \ (lab|host|power) ]]; then
        "$python" -m pytest --collect-only -q tests > "$results/collected" ||
            { cat "$results/collected"; return 1; }
    fi
    set -m # a process group of its own, to stop all of it
    # LAB_SLOT: no two that run at the same time have the same number.
    printf '%s\n' "$@" > "$results/suites"
    TEST_RESULTS=$results TEST_SCRATCH=$scratch xargs -a "$results/suites" \
        -P "${TEST_JOBS:-$(($(nproc) + 1))}" -I {} --process-slot-var LAB_SLOT \
        tools/test.sh run {} &
    pool=$!
    set +m
    wait "$pool" || status=1
    pool=
    report "$@"
    return "$status"
}

report() {
    local name
    for name in "$@"; do
        sed -n "/^=* slowest/,/^(\|^=* short/{/^[0-9]/p}
            s/^=* slowest.*/=== the $slowest slowest of $name ===/p" \
            "$results/$name.output"
    done
    sed -n 's/ .* FAILED.*//p' "$results/times" | while read -r name; do
        echo "=== $name failed ==="
        cat "$results/$name.output"
    done
    echo '=== how long each took ==='
    cat "$results/times"
    echo "all together $SECONDS s"
}

pool=
results=${TEST_RESULTS:-$(mktemp -d)}
# For what tests write
scratch=${TEST_SCRATCH:-$(mktemp -d)}

stop() {
    local status=$?
    if [ -n "$pool" ]; then
        kill -INT -- "-$pool" 2> /dev/null || true
        # Brokers, guests and simulators end with the suites.
        while kill -0 -- "-$pool" 2> /dev/null; do sleep 0.1; done
    fi
    [ -z "${TEST_RESULTS-}" ] || return 0 # they are the pool's
    rm -rf "$scratch"
    if [ "$status" -eq 0 ]; then
        rm -rf "$results"
    else
        echo "What the suites said, and the labs' logs, are in $results." >&2
    fi
}
trap stop EXIT
trap 'exit 1' HUP INT TERM

case ${1-} in
    '')
        export ATTACHWORKER_NO_SKIPS=1 ATTACHWORKER_SCHEDULES=2000
        run_pool "${all[@]}"
        ;;
    # They wait more than they work: all at once.
    check) TEST_JOBS=${TEST_JOBS:-${#check[@]}} run_pool "${check[@]}" ;;
    suite) shift; run_pool "$@" ;;
    run) run "$2" ;;
    kernel)
        shift
        [ $# -gt 0 ] || set -- tests/kernel
        export ATTACHWORKER_NO_SKIPS=1
        in_lab "$@"
        ;;
    *) usage >&2; exit 2 ;;
esac
