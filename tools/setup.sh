#!/usr/bin/env bash
# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
#
# Prepares a Debian machine for work on attachworker: the packages of
# bindep.txt, a virtual environment in .venv, one with os-brick in
# .venv-os-brick, for the tests that compare, and one with Nova and Cinder in
# .venv-callers, for the tests that have them call. Starts no service. Does
# nothing, quickly, when everything is there already.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: tools/setup.sh [--demo] [--no-packages]

  --demo         only what the demo needs
  --no-packages  only the project's environment (.venv): enough for the unit
                 tests and the simulated demo, needs no root

PYTHON names the interpreter to use (default: python3, at least 3.11).
Exit: 0 ready, 1 an installation failed, 2 this machine lacks something
that you have to provide.
USAGE
}

say() { echo "setup: $*" >&2; }
lacking() { say "$@"; exit 2; }

profile='test'
packages=yes
for argument in "$@"; do
    case $argument in
        --demo) profile=demo ;;
        --no-packages) packages= ;;
        -h|--help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# One at a time: two runs would build the same environment.
exec 9<tools/setup.sh
flock 9

# --- the steps that take their time ---

logs=$(mktemp -d -t attachworker-setup-XXXXXX)

# Runs a command. Its output goes to a log; people see one line: what it does,
# a dot a second, and how long it took.
step() {
    local log=$logs/$1.log took=$logs/$1.took what=$2
    local began=$SECONDS status=0 dots
    shift 2
    printf 'setup: %s ' "$what" >&2
    # It ends with this script, even if that is killed.
    # What the shell says when it is ended in the middle is nobody's business.
    while sleep 1 && kill -0 $$; do printf . >&3; done 3>&2 2>/dev/null 9<&- &
    dots=$!
    "$@" >>"$log" 2>&1 </dev/null 9<&- || status=$?
    kill "$dots"
    wait "$dots" 2>/dev/null || true
    if [[ $status -eq 0 ]]; then
        # What was begun earlier may have ended earlier and says so itself.
        [[ -e $took ]] || echo $((SECONDS - began)) >"$took"
        printf ' %d s\n' "$(<"$took")" >&2
        return
    fi
    printf ' failed:\n' >&2
    tail -n 20 "$log" >&2
    say "that failed; all of its output is in $log"
    logs=
    exit 1
}

# --- packages ---

# Names of the packages of bindep.txt that have no profile, or this one.
listed() {
    awk -v profile="$1" '
        /^[^#]/ && match($0, /\[platform:dpkg[^]]*\]/) {
            selectors = substr($0, RSTART + 1, RLENGTH - 2)
            sub(/^platform:dpkg */, "", selectors)
            if (selectors == "" || index(" " selectors " ", " " profile " "))
                print $1
        }' bindep.txt
}

# Which of the given packages are not installed.
missing() {
    local package
    for package in "$@"; do
        [[ " $installed " == *" $package "* ]] || echo "$package"
    done
}

read_installed() {
    # dpkg-query fails when it knows one of the names not at all.
    # shellcheck disable=SC2016
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" \
        2>/dev/null | sed -n 's/^installed //p' | tr '\n' ' ' || true)
}

policy=/usr/sbin/policy-rc.d
made_policy=
remove_policy() { [[ -z $made_policy ]] || rm -f "$policy"; made_policy=; }
# The job that makes the environment while packages are installed
environment=
clean_up() {
    # A child that is sent a signal right after its start runs this as well.
    [[ $BASHPID -eq $$ ]] || return 0
    [[ -z $environment ]] || kill -- "-$environment" 2>/dev/null || true
    remove_policy
    [[ -z $logs ]] || rm -rf "$logs"
}
trap clean_up EXIT
# A signal ends the script by way of the trap above.
trap 'exit 1' HUP INT TERM

# Installing open-iscsi, multipath-tools or rabbitmq-server would start
# them, on the disks and ports of the owner of this machine.
forbid_services() {
    if [[ -e $policy || -L $policy ]]; then
        # Somebody else's: it stays. It is only good enough if it says no.
        local status=0
        "$policy" multipathd start >/dev/null 2>&1 || status=$?
        if [[ $status -ne 101 ]]; then
            lacking "$policy exists and allows services to be started;" \
                "move it away for this run."
        fi
        return
    fi
    made_policy=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

# Sets absent to the packages that are to be installed.
find_absent() {
    local wanted
    mapfile -t wanted < <(listed "$profile")
    read_installed "${wanted[@]}"
    mapfile -t absent < <(missing "${wanted[@]}")
    if [[ ${#absent[@]} -gt 0 && $(id -u) -ne 0 ]]; then
        say "these packages are missing: ${absent[*]}"
        [[ $profile != demo ]] || lacking "run 'sudo make demo', or 'make" \
            "demo HOST=simulated', which needs none of them."
        lacking "run 'sudo tools/setup.sh', or 'tools/setup.sh" \
            "--no-packages' to do without the kernel and bus tests."
    fi
}

install_absent() {
    forbid_services
    export DEBIAN_FRONTEND=noninteractive
    step lists "reading Debian's lists of packages" apt-get update
    step packages "installing ${absent[*]}" \
        apt-get install -y --no-install-recommends "${absent[@]}"
    remove_policy
}

# --- the virtual environment ---

python=${PYTHON:-python3}
case $profile in
    demo)
        stamp=.venv/setup-demo.stamp
        requirements=(-r requirements.txt -r tools/demo/requirements.txt)
        # Not all that is in constraints.txt: its versions, without hashes
        constraints=$logs/versions.txt
        sed -n 's/ \\$//p' constraints.txt >"$constraints"
        requirements+=(-c "$constraints")
        ;;
    test)
        stamp=.venv/setup.stamp
        requirements=(--require-hashes -r constraints.txt)
        ;;
esac
state=$(pwd && sha256sum constraints.txt requirements.txt \
    test-requirements.txt tools/demo/requirements.txt setup.cfg setup.py pyproject.toml)

is_made() {
    # What is there for the tests is enough for the demo.
    [[ $(cat "$stamp" 2>/dev/null) == "$state" ||
        $(cat .venv/setup.stamp 2>/dev/null) == "$state" ]]
}

# An environment that works is kept, whatever python3 is today.
has_pip() { .venv/bin/python -c 'import pip' 2>/dev/null; }

# What keeps this machine from making one, if anything does.
obstacle() {
    if has_pip; then
        return
    elif ! command -v "$python" >/dev/null; then
        echo "there is no '$python'."
    elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'
    then
        echo "'$python' is older than Python 3.11; set PYTHON to a newer one."
    elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "'$python' cannot make virtual environments (no ensurepip);" \
            "install the python3-venv package."
    fi
}

pip_install() {
    "$1/bin/python" -m pip install --disable-pip-version-check \
        --progress-bar off "${@:2}"
}

make_environment() {
    local began=$SECONDS
    has_pip || "$python" -m venv --clear .venv
    pip_install .venv "${requirements[@]}"
    # Its requirements are there, and so is what builds it.
    pip_install .venv --no-deps --no-build-isolation --editable .
    printf '%s\n' "$state" >"$stamp"
    echo $((SECONDS - began)) >"$logs/environment.took"
}

start_environment() {
    set -m # a process group of its own, to end all of it
    make_environment >"$logs/environment.log" 2>&1 </dev/null 9<&- &
    set +m
    environment=$!
}

# --- the environments of what the tests compare with, or have call ---

make_other() {
    .venv/bin/python -m venv --clear "$1" && pip_install "$@"
}

ensure_other() {
    local directory=$1 state=$2
    shift 2
    [[ $(cat "$directory/setup.stamp" 2>/dev/null) != "$state" ]] || return 0
    step "${directory#.}" "making $directory" make_other "$directory" "$@"
    printf '%s\n' "$state" >"$directory/setup.stamp"
}

# --- all of it ---

absent=()
if [[ -n $packages ]]; then
    command -v apt-get >/dev/null || lacking \
        "this script knows Debian's packages only; bindep.txt lists what" \
        "to install, then run 'tools/setup.sh --no-packages'."
    find_absent
fi
if ! is_made && [[ -z $(obstacle) ]]; then
    start_environment # at the same time as the packages
fi
if [[ ${#absent[@]} -gt 0 ]]; then
    install_absent
fi
if [[ -z $environment ]] && ! is_made; then
    obstacle=$(obstacle)
    [[ -z $obstacle ]] || lacking "$obstacle"
    start_environment
fi
if [[ -n $environment ]]; then
    step environment "making .venv, with the project and its requirements" \
        wait "$environment"
    environment=
fi
if [[ -n $packages && $profile == test ]]; then
    needs=tests/peer/requirements.txt
    if [[ ! -d .newer/user-mode-linux ]]; then
        step newer "unpacking a newer User-Mode Linux" \
            .venv/bin/python -m tests.newer
        # The lab can do without.
        [[ -d .newer/user-mode-linux ]] || say "$(<"$logs/newer.log")"
    fi
    ensure_other .venv-os-brick "$(pwd && sha256sum "$needs")" -r "$needs"
    needs=tests/callers/requirements.txt
    ensure_other .venv-callers \
        "$(pwd && sha256sum "$needs" requirements.txt setup.cfg)" \
        -r "$needs" --editable .
fi

say "ready: $PWD/.venv"
