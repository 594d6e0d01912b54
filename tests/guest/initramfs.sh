#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# /init of the guest's initramfs (see boot.sh), run by busybox: loads the few
# modules that it takes, mounts the toolchain root read-only with a writable
# tmpfs over it, and goes on with guest-init.sh in there.

set -e
export PATH=/bin
trap 'echo "nosigbus-boot: the initramfs failed" >/dev/kmsg' EXIT

busybox mount -t devtmpfs dev /dev
# shellcheck disable=SC2013 # names without blanks
for module in $(busybox cat /modules/order); do
	busybox insmod "/modules/$module"
done
busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose root /lower
busybox mount -t tmpfs -o mode=755 upper /upper
busybox mkdir -m 755 /upper/upper /upper/work
busybox mount -t overlay -o lowerdir=/lower,upperdir=/upper/upper,workdir=/upper/work root /root
busybox mount -t tmpfs -o mode=755 run /root/run
busybox cp /guest-init.sh /root/run/init
busybox umount /dev
exec busybox switch_root /root /bin/bash /run/init
