#!/usr/bin/env bash
# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
#
# Prepares a Debian machine for work on attachworker: the packages of
# bindep.txt and a virtual environment in .venv, and one with os-brick in
# .venv-os-brick, for the tests that compare, and one with Nova and Cinder in
# .venv-callers, for the tests that have them call. Starts no service. Does nothing, quickly,
# when everything is there already.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: tools/setup.sh [--no-packages]

  --no-packages  only the project's environment (.venv): enough for the unit
                 tests and the simulated demo, needs no root

PYTHON names the interpreter to use (default: python3, at least 3.11).
Exit: 0 ready, 1 an installation failed, 2 this machine lacks something
that you have to provide.
USAGE
}

say() { echo "setup: $*" >&2; }
lacking() { say "$@"; exit 2; }

packages=yes
for argument in "$@"; do
    case $argument in
        --no-packages) packages= ;;
        -h|--help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# One at a time: two runs would build the same environment.
exec 9<tools/setup.sh
flock 9

# Names of the packages of bindep.txt whose profile is $1 ("" = none).
listed() {
    awk -v profile="$1" '
        /^[^#]/ && match($0, /\[platform:dpkg[^]]*\]/) {
            selectors = substr($0, RSTART + 1, RLENGTH - 2)
            sub(/^platform:dpkg */, "", selectors)
            if (selectors == profile) print $1
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
trap remove_policy EXIT
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

ensure_packages() {
    local wanted absent
    mapfile -t wanted < <("$@")
    read_installed "${wanted[@]}"
    mapfile -t absent < <(missing "${wanted[@]}")
    [[ ${#absent[@]} -gt 0 ]] || return 0
    if [[ $(id -u) -ne 0 ]]; then
        say "these packages are missing: ${absent[*]}"
        lacking "run 'sudo tools/setup.sh', or 'tools/setup.sh" \
            "--no-packages' to do without the kernel and bus tests."
    fi
    say "installing ${absent[*]}"
    forbid_services
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends "${absent[@]}" \
        </dev/null 9<&-
    remove_policy
}

always() { listed ''; listed test; }

if [[ -n $packages ]]; then
    command -v apt-get >/dev/null || lacking \
        "this script knows Debian's packages only; bindep.txt lists what" \
        "to install, then run 'tools/setup.sh --no-packages'."
    ensure_packages always
fi

# --- the virtual environment ---

pip_install() {
    .venv/bin/python -m pip install -qq --disable-pip-version-check "$@"
}

# An environment that works is kept, whatever python3 is today.
if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    python=${PYTHON:-python3}
    command -v "$python" >/dev/null || lacking "there is no '$python'."
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        lacking "'$python' is older than Python 3.11; set PYTHON to a newer" \
            "one."
    "$python" -c 'import ensurepip, venv' 2>/dev/null || lacking \
        "'$python' cannot make virtual environments (no ensurepip);" \
        "install the python3-venv package."
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi

stamp=.venv/setup.stamp
state=$(pwd && sha256sum requirements.txt test-requirements.txt setup.cfg \
    setup.py pyproject.toml)
if [[ ! -e $stamp || $(<"$stamp") != "$state" ]]; then
    say "installing requirements.txt, test-requirements.txt and the project"
    pip_install -r requirements.txt -r test-requirements.txt --editable .
    printf '%s\n' "$state" >"$stamp"
fi

# --- os-brick, in an environment of its own ---

peer=.venv-os-brick
peer_needs=tests/peer/requirements.txt
state=$(pwd && sha256sum "$peer_needs")
if [[ -n $packages && $(cat "$peer/setup.stamp" 2>/dev/null) != "$state" ]]
then
    say "installing $peer_needs in $peer"
    .venv/bin/python -m venv --clear "$peer"
    "$peer/bin/python" -m pip install -qq --disable-pip-version-check \
        -r "$peer_needs"
    printf '%s\n' "$state" >"$peer/setup.stamp"
fi

# --- Nova and Cinder, in an environment of its own, with the project in it ---

caller=.venv-callers
caller_needs=tests/callers/requirements.txt
state=$(pwd && sha256sum "$caller_needs" requirements.txt setup.cfg)
if [[ -n $packages && $(cat "$caller/setup.stamp" 2>/dev/null) != "$state" ]]
then
    say "installing $caller_needs in $caller"
    .venv/bin/python -m venv --clear "$caller"
    "$caller/bin/python" -m pip install -qq --disable-pip-version-check \
        -r "$caller_needs" --editable .
    printf '%s\n' "$state" >"$caller/setup.stamp"
fi

say "ready: $PWD/.venv"
