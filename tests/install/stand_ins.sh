# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
#
# What DevStack gives a plugin, as little as the plugin takes of it. Each call
# is a line in $RECORD; iniset really writes.

record() { echo "$*" >> "$RECORD"; }

define_plugin() { record define_plugin "$@"; }
enable_service() { record enable_service "$@"; }
is_service_enabled() { [[ ,$ENABLED_SERVICES, == *,$1,* ]]; }
echo_summary() { :; }
setup_develop() { record setup_develop "$@"; }
get_python_exec_prefix() { echo "$DEVSTACK_VENV/bin"; }
get_notification_url() { echo "rabbit://$RABBIT_USERID:$RABBIT_PASSWORD@mq/"; }
run_process() { record run_process "$@"; }
stop_process() { record stop_process "$@"; }
test_with_retry() { record test_with_retry "$@"; }
systemctl() { record systemctl "$@"; }
sudo() { record sudo "$@"; "$@"; }

iniset() {
    local line="$2 $3 = $4"
    grep -qxF "$line" "$1" && return
    sed -i "\\|^$2 $3 = |d" "$1"
    echo "$line" >> "$1"
}

iniget() { sed -n "s|^$2 $3 = ||p" "$1"; }

iniset_rpc_backend() {
    iniset "$2" DEFAULT transport_url \
        "rabbit://$RABBIT_USERID:$RABBIT_PASSWORD@mq/"
}
