#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs the stress test in a guest (tests/boot.sh), as root: with the file systems of
# the selftests, and in a memory cgroup with little memory and some swap.
#
# usage: stress.sh PROGRAM RESULTDIR
#
# The output (TAP) also goes to RESULTDIR/stress.tap. The script fails if a test fails, or if it
# cannot set up or take down something. STRESS_MEMORY: the memory of the cgroup (64M).
set -euo pipefail

program=$1
results=$2
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$results"
# shellcheck source-path=SCRIPTDIR source=file-systems.sh
. "$here/file-systems.sh"

# All of it allocated, so that swapping takes no more memory.
fallocate -l 256M "$images/swap"
must mkswap -q "$images/swap"
swap=$(losetup -f --show "$images/swap")
must swapon "$swap"

cgroup=/sys/fs/cgroup/nosigbus-stress
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
mkdir "$cgroup"
echo "${STRESS_MEMORY:-64M}" >"$cgroup/memory.max"
# Little swap, so that the OOM killer acts soon.
echo 16M >"$cgroup/memory.swap.max"

status=0
"$program" "$cgroup" 2>&1 | tee "$results/stress.tap" || status=$?
grep -hE '^(pswp|pgsteal|pgscan|workingset_refault|pgmajfault)' "$cgroup/memory.stat" |
	sed 's/^/# memory.stat: /' | tee -a "$results/stress.tap"

# Empty: all processes are gone.
rmdir "$cgroup"
swapoff "$swap"
trap - EXIT
take_down || fail "file systems are left"
[[ -z $(losetup -l -n) ]] || fail "loop devices are left"
exit $status
