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
# DevStack's own functions. What would reach beyond the scratch directory is
# written down instead: pip, packages, systemctl. sudo runs what it is given.

set +u
TOP_DIR=$DEVSTACK_DIR
# shellcheck source=/dev/null
source "$DEVSTACK_DIR/functions-common"
# shellcheck source=/dev/null
source "$DEVSTACK_DIR/inc/ini-config"
# shellcheck source=/dev/null
source "$DEVSTACK_DIR/inc/python"
# shellcheck source=/dev/null
source "$DEVSTACK_DIR/lib/rpc_backend"

record() { echo "$*" >> "$RECORD"; }
echo_summary() { :; }
time_start() { :; }
time_stop() { :; }
install_bindep() { record install_bindep "$@"; }
pip_install() { record pip_install "$@"; }
timeout() { record timeout "$@"; }
systemctl() {
    record systemctl "$@"
    [[ $1 != is-enabled ]] || [[ -e $SYSTEMD_DIR/$2 ]]
}
sudo() { record sudo "$@"; "$@"; }
