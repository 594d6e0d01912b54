#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Process 1 of the guest (see boot.sh): mounts what a Debian system has, loads
# the module, runs the command and switches the machine off. /run/boot, a directory
# of the host, has its instructions:
#
#   shares    mount tag, mount options and directory of each share
#   settings  shell assignments: MODULE, KMEMLEAK, CONSOLE, HOSTNAME
#   command   the bash script to run
#
# The script writes to the same directory: "mounted" early on, and at the end "status" (the
# command's exit status) or "error". If the file "may-give-up" exists, it may write "bad-start" instead:
# kernel messages from a start that went wrong.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8

# Reboots, because switching off needs ACPI. QEMU (-no-reboot) exits at a reboot.
off() {
	sync
	busybox reboot -f
}

fail() {
	printf '%s\n' "$*" | tee /run/boot/error >/dev/kmsg
	off
}

must() {
	local message
	message=$("$@" 2>&1) || fail "guest: $*: $message"
}

share() { # TAG OPTIONS DIRECTORY
	must mkdir -p "$3"
	must mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000,$2" "$1" "$3"
}

# kmemleak ignores objects younger than five seconds. It reports an object only if
# it looks the same in two scans.
kmemleak() {
	local file=/sys/kernel/debug/kmemleak
	# When out of memory, kmemleak gives up for good and reports no leaks.
	echo scan >$file || printf '<4>WARNING: kmemleak has given up\n' >/dev/kmsg
	sleep 5.5
	echo scan >$file
	while IFS= read -r line; do
		printf '<4>kmemleak: %s\n' "$line" >/dev/kmsg
	done <$file
}

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t debugfs debug /sys/kernel/debug
mount -t cgroup2 cgroup /sys/fs/cgroup
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
ip link set lo up

share boot cache=none /run/boot
# A busy host may stop the machine for a moment early on. The kernel then gives up its timer, or
# gets an interrupt too early. The results of such a start would mean nothing.
if [[ -e /run/boot/may-give-up ]] && dmesg | grep -E 'APIC timer disabled|BUG: |WARNING: ' >/run/boot/bad-start; then
	off
fi
: >/run/boot/mounted
while read -r tag options directory; do
	share "$tag" "$options" "$directory"
done </run/boot/shares
# shellcheck source=/dev/null
. /run/boot/settings
printf '%s\n' "$HOSTNAME" >/proc/sys/kernel/hostname
printf '127.0.0.1 localhost %s\n' "$HOSTNAME" >/etc/hosts

# From here on every message counts.
dmesg -n 8
if [[ -w /sys/kernel/debug/kmemleak ]]; then
	# Once at the end is enough: each scan takes a CPU for a minute.
	echo scan=off >/sys/kernel/debug/kmemleak
	echo clear >/sys/kernel/debug/kmemleak
fi
if [[ -n $MODULE ]]; then
	must insmod "$MODULE"
fi
read -r up _ </proc/uptime
echo "nosigbus-boot: ready after $up s" >/dev/kmsg

if [[ -n $CONSOLE ]]; then
	setsid -c -w bash /run/boot/command <>"/dev/$CONSOLE" >&0 2>&1
	status=$?
else
	for port in /sys/class/virtio-ports/*; do
		if [[ $(cat "$port/name" 2>/dev/null) == output ]]; then
			port=/dev/${port##*/}
			break
		fi
	done
	# The port can be opened only once, and programs expect a pipe.
	mkfifo /run/output
	cat /run/output >"$port" &
	setsid -w bash /run/boot/command </dev/null >/run/output 2>&1
	status=$?
	# Processes that the command left behind may hold the pipe.
	for ((i = 0; i < 20; i++)); do
		kill -0 $! 2>/dev/null || break
		sleep 0.05
	done
fi
if [[ -n $KMEMLEAK && -w /sys/kernel/debug/kmemleak ]]; then
	kmemleak
fi
echo "$status" >/run/boot/status
off
