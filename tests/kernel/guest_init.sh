#!/bin/sh
# SPDX-FileCopyrightText: The attachworker contributors
# SPDX-License-Identifier: Apache-2.0
#
# The first process of the guest, in two stages. The kernel starts it with
# LAB_CONTROL in its environment: a directory of the host that lab.py made, and
# User-Mode Linux with LAB_MODULES: the directory of its kernel's modules.
#   environment    shell assignments: LAB_* and what the command is to see
#   command        what to run, for the shell to read
#   output         what the command prints
#   booted         there after the first boot
#   exit_code      the answer, written last
# Stage one makes the machine's root file system, which is mounted read-only,
# writable by a layer in memory. Stage two starts what a host runs and then
# the command.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

writable_root() {
    release=$(uname -r)
    insmod "$LAB_MODULES/kernel/fs/overlayfs/overlay.ko"
    # Any directory that every machine has will do to put the layers in.
    mount -t tmpfs -o mode=755 tmpfs /mnt
    mkdir /mnt/upper /mnt/work /mnt/root
    mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work \
        overlay /mnt/root
    # File systems that this machine has mounted below / are seen too:
    # hostfs shows all of them as one.
    cd /mnt/root || exit 1
    mkdir -p lib/modules
    [ -e "lib/modules/$release" ] ||
        ln -s "$LAB_MODULES" "lib/modules/$release"
    pivot_root . mnt
    exec chroot . /bin/sh "$LAB_CONTROL/init" system
}

# One mount command for all: a process costs 50 ms here. /run comes first,
# because mount takes its notes there.
mount_filesystems() {
    cat >/etc/fstab <<FSTAB
tmpfs /run tmpfs mode=755
proc /proc proc defaults
sysfs /sys sysfs defaults
devtmpfs /dev devtmpfs defaults
devpts /dev/pts devpts gid=5,mode=620,ptmxmode=666,X-mount.mkdir
tmpfs /dev/shm tmpfs mode=1777,X-mount.mkdir
none /run/lab/control hostfs $LAB_CONTROL,X-mount.mkdir
none $LAB_RESULTS hostfs $LAB_RESULTS_ON_HOST,X-mount.mkdir
FSTAB
    mount -a
    umount -l /mnt
    [ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
}

prepare_host() {
    # The machine's own attachments are none of the guest's.
    rm -rf /etc/iscsi/nodes /etc/iscsi/send_targets /etc/multipath \
        /etc/multipath.conf /var/lib/attachworker
    mkdir -p /etc/iscsi/nodes /etc/iscsi/send_targets /etc/multipath \
        /etc/target /var/lib/iscsi /run/lock
    echo InitiatorName=iqn.1993-08.org.debian:01:attachworkerlab \
        >/etc/iscsi/initiatorname.iscsi
    # It comes with the lab's Ceph, no host has it because of volumes, and it
    # takes a quarter of the time that udev needs for a new disk.
    mkdir -p /etc/udev/rules.d
    ln -sf /dev/null /etc/udev/rules.d/85-hdparm.rules
    echo lab >/proc/sys/kernel/hostname
    printf '127.0.0.1 localhost lab\n::1 localhost\n' >/etc/hosts

    modprobe -a configfs iscsi_target_mod target_core_file \
        target_core_iblock iscsi_tcp sd_mod sg dm_multipath dm_round_robin \
        loop rbd
    # User-Mode Linux has none of these: tests/contract/bed.py, ELSEWHERE.
    modprobe -qa nvmet nvmet_tcp nvme_tcp || true
    [ -d /sys/kernel/config/target ] ||
        mount -t configfs configfs /sys/kernel/config
    ip link set lo up
}

listening() {
    [ -S /run/udev/control ] || return 1
    found=0
    while read -r line; do
        case $line in
            *ISCSIADM_ABSTRACT_NAMESPACE* | *storage/multipathd*)
                found=$((found + 1))
                ;;
        esac
    done </proc/net/unix
    [ "$found" -ge 2 ]
}

start_daemons() {
    # virtme-ng has started one.
    [ -S /run/udev/control ] ||
        /lib/systemd/systemd-udevd >"$LAB_RESULTS/udevd.log" 2>&1 &
    iscsid -f >"$LAB_RESULTS/iscsid.log" 2>&1 &
    echo $! >/run/lab/iscsid.pid
    cat >/etc/multipath.conf <<'CONF'
defaults {
    find_multipaths yes
    user_friendly_names no
    polling_interval 1
}
overrides {
    no_path_retry fail
}
CONF
    multipathd -d -s >"$LAB_RESULTS/multipathd.log" 2>&1 &
    echo $! >/run/lab/multipathd.pid
    # The command finds them ready.
    tries=100
    until listening || [ "$tries" = 0 ]; do
        tries=$((tries - 1))
        sleep 0.05
    done
}

# What the machine starts at boot is none of the guest's: the target needs
# nothing but the command, which starts what it wants.
become_systemd() {
    rm -rf /etc/systemd/system/*.wants /etc/machine-id
    : >/etc/fstab
    echo 0123456789abcdef0123456789abcdef >/etc/machine-id
    cat >/etc/systemd/system/lab.service <<UNIT
[Unit]
DefaultDependencies=no
After=systemd-udevd.service
Wants=systemd-udevd.service
[Service]
Environment=LAB_CONTROL=$LAB_CONTROL
ExecStart=/bin/sh $LAB_CONTROL/init inside
UNIT
    # They look through all of the machine's files, or change its clock.
    for unit in systemd-tmpfiles-setup systemd-tmpfiles-setup-dev \
        systemd-update-utmp systemd-random-seed systemd-journal-flush \
        systemd-sysctl systemd-timesyncd; do
        ln -sf /dev/null "/etc/systemd/system/$unit.service"
    done
    cat >/etc/systemd/system/lab.target <<UNIT
[Unit]
Requires=lab.service dbus.socket
AllowIsolate=yes
UNIT
    # virtme-ng is the first process itself; a namespace has one of its own.
    set --
    [ $$ = 1 ] || set -- unshare --pid --fork --mount-proc
    exec "$@" /lib/systemd/systemd --unit=lab.target
}

run_command() {
    read -r uptime _ </proc/uptime
    echo "The guest was ready after $uptime s." >"$LAB_RESULTS/boot.log"
    (
        cd "$LAB_CHECKOUT" || exit 126
        export PATH="$LAB_VENV/bin:$PATH" HOME=/root LAB_INSIDE=1
        # shellcheck disable=SC1091
        . "$LAB_CONTROL/command"
    ) </dev/null
}

power_off() {
    echo o >/proc/sysrq-trigger
    sleep 60
}

if [ "$1" = '' ]; then
    writable_root
fi
set -a
# shellcheck disable=SC1091
. "$LAB_CONTROL/environment"
set +a
case $1 in
    system)
        mount_filesystems
        ;;
    virtual)
        # virtme-ng has mounted everything else.
        mkdir -p /run/lab/control "$LAB_RESULTS"
        mount --bind "$LAB_CONTROL" /run/lab/control
        mount --bind "$LAB_RESULTS_ON_HOST" "$LAB_RESULTS"
        ;;
esac
LAB_CONTROL=/run/lab/control

if [ "$1" != inside ]; then
    # After a panic or reboot: the command is not run a second time.
    [ ! -e "$LAB_CONTROL/booted" ] || power_off
    : >"$LAB_CONTROL/booted"
    prepare_host
    if [ "${LAB_INIT-}" = systemd ]; then
        become_systemd
    fi
    start_daemons
fi
# Not to a console: those of User-Mode Linux lose output.
run_command >>"$LAB_CONTROL/output" 2>&1
status=$?
dmesg >"$LAB_RESULTS/dmesg.log"
echo "$status" >"$LAB_CONTROL/exit_code"
[ "$1" = virtual ] || power_off
