#!/bin/sh
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
# The first process of the guest, in two stages. The kernel starts it with
# LAB_CONTROL in its environment: a directory of the host that lab.py made.
#   environment    shell assignments: LAB_* and what the command is to see
#   command        the command, quoted for the shell
#   output         what the command prints
#   booted         there after the first boot
#   exit_code      the answer, written last
# Stage one makes the machine's root file system, which is mounted read-only,
# writable by a layer in memory. Stage two starts what a host runs and then
# the command.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

mount_kernel_filesystems() {
    # /run first: mount keeps its notes there, and memory is quicker.
    mount -t tmpfs -o mode=755 tmpfs /run
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    mount -t devtmpfs devtmpfs /dev
    mkdir -p /dev/pts /dev/shm /run/lock /run/lab/control
    mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
    mount -t tmpfs -o mode=1777 tmpfs /dev/shm
    [ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
}

writable_root() {
    release=$(uname -r)
    insmod "/usr/lib/uml/modules/$release/kernel/fs/overlayfs/overlay.ko"
    # Any directory that every machine has will do to put the layers in.
    mount -t tmpfs -o mode=755 tmpfs /mnt
    mkdir /mnt/upper /mnt/work /mnt/root
    mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work \
        overlay /mnt/root
    # The project and its environment have been named by their real paths,
    # which may lie on file systems of the host mounted below /: User-Mode
    # Linux shows all of them as one.
    cd /mnt/root || exit 1
    mkdir -p lib/modules
    [ -e "lib/modules/$release" ] ||
        ln -s "/usr/lib/uml/modules/$release" "lib/modules/$release"
    pivot_root . mnt
    exec chroot . /bin/sh "$LAB_CONTROL/init" system
}

prepare_host() {
    # The machine's own attachments are none of the guest's.
    rm -rf /etc/iscsi/nodes /etc/iscsi/send_targets /etc/multipath \
        /etc/multipath.conf /var/lib/attachworker
    mkdir -p /etc/iscsi/nodes /etc/iscsi/send_targets /etc/multipath \
        /etc/target /var/lib/iscsi
    [ -s /etc/iscsi/initiatorname.iscsi ] &&
        grep -q '^InitiatorName=iqn' /etc/iscsi/initiatorname.iscsi ||
        echo "InitiatorName=iqn.1993-08.org.debian:01:attachworkerlab" \
            >/etc/iscsi/initiatorname.iscsi
    echo lab >/proc/sys/kernel/hostname
    printf '127.0.0.1 localhost lab\n::1 localhost\n' >/etc/hosts

    modprobe -a configfs
    mountpoint -q /sys/kernel/config ||
        mount -t configfs configfs /sys/kernel/config
    modprobe -a iscsi_target_mod target_core_file target_core_iblock \
        iscsi_tcp sd_mod sg dm_multipath dm_round_robin loop
    ip link set lo up
}

start_daemons() {
    # Without an empty stamp udevd would believe that it still has to wait.
    /lib/systemd/systemd-udevd >"$LAB_RESULTS/udevd.log" 2>&1 &
    iscsid -f >"$LAB_RESULTS/iscsid.log" 2>&1 &
    echo $! >/run/lab/iscsid.pid
    if [ "${LAB_MULTIPATHD:-0}" = 1 ]; then
        cat >/etc/multipath.conf <<'CONF'
defaults {
    find_multipaths yes
    user_friendly_names no
}
CONF
        multipathd -d -s >"$LAB_RESULTS/multipathd.log" 2>&1 &
        echo $! >/run/lab/multipathd.pid
    fi
    # Nobody connects before they listen.
    for _ in $(seq 100); do
        if [ -S /run/udev/control ] && grep -q ISCSIADM /proc/net/unix; then
            break
        fi
        sleep 0.02
    done
}

run_command() {
    echo "lab: the guest was ready after $(cut -d' ' -f1 /proc/uptime) s" \
        >"$LAB_RESULTS/boot.log"
    (
        cd "$LAB_CHECKOUT" || exit 126
        export PATH="$LAB_VENV/bin:$PATH" HOME=/root LAB_INSIDE=1
        eval "exec $(cat "$LAB_CONTROL/command")"
    ) </dev/null
    echo $? >"$LAB_CONTROL/exit_code.new"
}

finish() {
    dmesg >"$LAB_RESULTS/dmesg.log"
    mv "$LAB_CONTROL/exit_code.new" "$LAB_CONTROL/exit_code"
    sync
}

power_off() {
    echo o >/proc/sysrq-trigger
    sleep 60
}

case $1 in
    '')
        mount -t proc proc /proc
        writable_root
        ;;
    system)
        mount_kernel_filesystems
        umount -l /mnt
        mount -t hostfs -o "$LAB_CONTROL" none /run/lab/control
        ;;
    virtual)
        # virtme-ng has mounted everything.
        mkdir -p /run/lab/control
        mount --bind "$LAB_CONTROL" /run/lab/control
        ;;
esac

LAB_CONTROL=/run/lab/control
# After a panic or reboot: the command is not run a second time.
[ ! -e "$LAB_CONTROL/booted" ] || power_off
touch "$LAB_CONTROL/booted"
set -a
# shellcheck disable=SC1091
. "$LAB_CONTROL/environment"
set +a
mkdir -p "$LAB_RESULTS"
case $1 in
    system) mount -t hostfs -o "$LAB_RESULTS_ON_HOST" none "$LAB_RESULTS" ;;
    virtual) mount --bind "$LAB_RESULTS_ON_HOST" "$LAB_RESULTS" ;;
esac
prepare_host
start_daemons
# Not to a console: those of User-Mode Linux lose output.
run_command >>"$LAB_CONTROL/output" 2>&1
finish
[ "$1" = virtual ] || power_off
