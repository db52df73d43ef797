#!/usr/bin/env bash
# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
#
# DevStack sources this in each phase: plugin.sh <mode> [phase].

function install_attachworker {
    # bindep.txt has the tools that the worker calls.
    setup_develop -bindep "$ATTACHWORKER_DIR"
}

function configure_attachworker {
    local directory
    sudo install -d -m 0755 -o "$STACK_USER" "$ATTACHWORKER_CONF_DIR"
    for directory in "$ATTACHWORKER_STATE_PATH" "$ATTACHWORKER_RUNTIME_PATH"
    do
        sudo install -d -m 0700 -o "$STACK_USER" "$directory"
    done

    # The password of the broker is in it.
    touch "$ATTACHWORKER_CONF"
    chmod 0600 "$ATTACHWORKER_CONF"
    iniset "$ATTACHWORKER_CONF" DEFAULT debug "$ENABLE_DEBUG_LOG_LEVEL"
    iniset "$ATTACHWORKER_CONF" DEFAULT user "$STACK_USER"
    iniset "$ATTACHWORKER_CONF" DEFAULT my_ip "$HOST_IP"
    iniset "$ATTACHWORKER_CONF" DEFAULT portal_networks \
        "$ATTACHWORKER_PORTAL_NETWORKS"
    iniset "$ATTACHWORKER_CONF" DEFAULT state_path "$ATTACHWORKER_STATE_PATH"
    iniset "$ATTACHWORKER_CONF" DEFAULT runtime_path \
        "$ATTACHWORKER_RUNTIME_PATH"
    iniset_rpc_backend attachworker "$ATTACHWORKER_CONF"
    iniset "$ATTACHWORKER_CONF" oslo_messaging_notifications transport_url \
        "$(get_notification_url)"
}

function start_attachworker {
    # As root, for the privileged helper; it becomes option user.
    run_process attachworker \
        "$(get_python_exec_prefix)/attachworker --config-file $ATTACHWORKER_CONF" \
        "" root
}

function check_attachworker {
    local ask
    ask="$(get_python_exec_prefix)/attachctl --config-file $ATTACHWORKER_CONF"
    test_with_retry "$ask ping" "attachworker does not answer" 60 1
}

# For the scenarios of attachworker-tempest-plugin
function configure_tempest_for_attachworker {
    iniset "$TEMPEST_CONFIG" service_available attachworker True
    iniset "$TEMPEST_CONFIG" attachworker transport_url \
        "$(iniget "$ATTACHWORKER_CONF" DEFAULT transport_url)"
    iniset "$TEMPEST_CONFIG" attachworker host "$(hostname)"
}

function cleanup_attachworker {
    sudo rm -rf "$ATTACHWORKER_CONF_DIR" "$ATTACHWORKER_STATE_PATH" \
        "$ATTACHWORKER_RUNTIME_PATH" \
        "$SYSTEMD_DIR/devstack@attachworker.service"
    $SYSTEMCTL daemon-reload
}

if is_service_enabled attachworker; then
    case "$1 ${2-}" in
        'stack install')
            echo_summary "Installing attachworker"
            install_attachworker
            ;;
        'stack post-config')
            echo_summary "Configuring attachworker"
            configure_attachworker
            ;;
        'stack extra')
            echo_summary "Starting attachworker"
            start_attachworker
            ;;
        'stack test-config')
            check_attachworker
            if is_service_enabled tempest; then
                configure_tempest_for_attachworker
            fi
            ;;
        unstack*)
            stop_process attachworker
            ;;
        clean*)
            cleanup_attachworker
            ;;
    esac
fi
