#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# usage: bench.sh BINDIR PROGRAM...
#
# Runs benchmarks of tests/bench in a guest (tests/boot.sh), as root. BINDIR has the built programs.
# Their output goes to stdout. For tests/profile.sh, the script leaves the kernel's symbols in
# BINDIR.
set -euo pipefail

bin=$1
shift
work=$(mktemp -d)
trap 'umount "$work/ext4" && losetup -D' EXIT
truncate -s 128M "$work/ext4.img"
modprobe -q loop || true
mkfs.ext4 -q -F "$work/ext4.img"
mkdir "$work/ext4"
mount -o loop "$work/ext4.img" "$work/ext4"
export BENCH_EXT4=$work/ext4

BENCH_CGROUP=/sys/fs/cgroup/bench
export BENCH_CGROUP
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
mkdir "$BENCH_CGROUP"

for program; do
	read -r before _ </proc/uptime
	(
		echo 0 >"$BENCH_CGROUP/cgroup.procs"
		exec "$bin/$program"
	)
	read -r after _ </proc/uptime
	echo "$program: from $before s to $after s" >&2
done
if [[ -n ${BENCH_PROFILE-} ]]; then
	cat /proc/kallsyms >"$bin/kallsyms"
fi
