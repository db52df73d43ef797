#!/usr/bin/env bash
#
# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.
#
# Runs all tests: those that need no kernel first, then the others in the lab.
# Not side by side: a kernel in software takes all of a small machine, and then
# what was to take a moment takes minutes. A skipped test counts as a failure.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: tools/test.sh                 all tests
       tools/test.sh kernel [ARG...] those in the lab; ARGs are for pytest

Run tools/setup.sh before.
USAGE
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PYTHONDONTWRITEBYTECODE=1 ATTACHWORKER_NO_SKIPS=1
python=.venv/bin/python
# A kernel in software is slow.
lab_timeout=2700
test_timeout=300

in_lab() {
    local targets=("$@")
    [ $# -gt 0 ] || targets=(tests/kernel)
    "$python" -m tests.kernel.lab run --timeout "$lab_timeout" \
        --results "$results" -- \
        env ATTACHWORKER_BED=kernel python -m pytest -p no:cacheprovider \
        --timeout "$test_timeout" "${targets[@]}"
}

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

case ${1-} in
    '') ;;
    kernel) shift; in_lab "$@"; exit ;;
    *) usage >&2; exit 2 ;;
esac

status=0
"$python" -m tools.lint || status=1
"$python" -m pytest --timeout "$test_timeout" \
    tests/unit tests/contract tests/crash tests/functional || status=1
echo '=== in the lab, on a real kernel ==='
# A guest each: their beds use the same addresses.
in_lab tests/kernel || status=1
in_lab tests/contract || status=1
in_lab tests/parity || status=1
if [ "$status" -ne 0 ]; then
    for log in "$results"/*.log; do
        echo "=== ${log##*/}, last lines ==="
        tail -n 40 "$log"
    done
fi
exit "$status"
