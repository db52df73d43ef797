# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
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
