#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs the selftests in a guest (tests/boot.sh), as root.
#
# usage: selftests.sh [--root] [--few] BINDIR RESULTDIR [PROGRAM...]
#
# The programs, all of them without PROGRAM, are those of tests/selftests;
# BINDIR has them built, NOSIGBUS_KO is the module. What each prints (TAP) goes to
# RESULTDIR/NAME.tap; tests/report.py reads it, and takes a program that could not
# be run for a failed one. Each runs as an unprivileged user as well, on few file
# systems, unless --root says otherwise, or it takes root. --few: as root on few
# of them as well. Fails itself if a file system could not be set up or taken down.
set -euo pipefail

root_only='' few_only=''
while [[ $1 == --* ]]; do
	case $1 in
	--root) root_only=yes ;;
	--few) few_only=yes ;;
	*) echo "selftests.sh: $1: no such option" >&2 && exit 2 ;;
	esac
	shift
done
bin=$1
results=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$results"
if (($# == 0)); then
	for program in "$here"/../selftests/*.c; do
		set -- "$@" "$(basename "$program" .c)"
	done
	rm -f "$results"/*.tap
fi

# shellcheck source-path=SCRIPTDIR source=file-systems.sh
. "$here/file-systems.sh"
needs_module dm-mod dm-flakey erofs nd_e820 nd_pmem quota_v2 kvm_amd kvm_intel

# Two pages and a byte.
mkdir "$images/erofs"
head -c 8193 /dev/zero | tr '\0' a >"$images/erofs/file"
must mkfs.erofs "$images/erofs.img" "$images/erofs"
mounted_at erofs -o loop,ro "$images/erofs.img"

# Those that real errors come from, see failing.h: full and with quotas. Without
# reserved blocks, as root could use them.
mounted_at tmpfs-small -t tmpfs -o size=1M tmpfs
image ext4-small.img 4M mkfs.ext4 -q -F -m 0 -b 1024 -O ^has_journal
mounted_at ext4-small -o loop "$images/ext4-small.img"
must xfs_quota -x -c "limit -u bhard=1m nobody" "$NOSIGBUS_FS/xfs"
# A kernel may lack TMPFS_QUOTA, as Debian's does.
if grep -qw shmem_acquire_dquot /proc/kallsyms; then
	mounted_at tmpfs-quota -t tmpfs -o usrquota,usrquota_block_hardlimit=1M tmpfs
fi
# A disk that can be told to fail.
image dm.img 32M true
dm_disk=$(losetup -f --show "$images/dm.img")
export NOSIGBUS_DISK=$dm_disk
must dmsetup create nosigbus --table "0 65536 linear $dm_disk 0"
must dmsetup mknodes nosigbus
must mkfs.ext4 -q -F -O ^has_journal /dev/mapper/nosigbus
mounted_at ext4-dm /dev/mapper/nosigbus

# What is no ordinary file, see errors.c.
mounted_at hugetlbfs -t hugetlbfs hugetlbfs
[[ -b /dev/pmem0 ]] || fail "no /dev/pmem0: boot.sh has the kernel make one (memmap=)"
must mkfs.ext4 -q -F -b 4096 /dev/pmem0
mounted_at dax -o dax=always /dev/pmem0

# What a program that is killed would leave changed, see around.c.
around=/sys/kernel/debug/fault_around_bytes
around_bytes=''
[[ ! -w $around ]] || around_bytes=$(cat "$around")

# run NAME COMMAND...: one program, its output in NAME.tap.
run() {
	local name=$1 status=0 start=$SECONDS
	shift
	"$@" >"$results/$name.tap" 2>&1 || status=$?
	[[ -z $around_bytes ]] || echo "$around_bytes" >"$around"
	echo "  $name: $(sed -n 's/^# Totals: //p' "$results/$name.tap")" \
		"(exit $status, $((SECONDS - start)) s)"
}

nobody() {
	setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"
}

# What an unprivileged user may do does not depend on the file system, nor does what a
# 32-bit program may.
memfd=()
for class in '' _private _shared_read _shared_write; do
	memfd+=(-v "memfd$class")
done

for program; do
	case $program in
	disable | eventfd | growth | mapping | shadow | status | untouched) few=("${memfd[@]}") ;;
	abi | concurrency) few=(-v shared_write) ;;
	errors) few=(-F privileged) ;;
	race) few=(-v memfd) ;;
	views) few=(-F debugfs) ;;
	*) few=() ;;
	esac
	case $program in
	around | injected | kept | module | overcommit | real_errors | record_errors) run "$program" "$bin/$program" && continue ;; # takes root
	esac
	case ${few_only:+$program} in
	'' | abi | errors | views) run "$program-root" "$bin/$program" ;;
	*) run "$program-root" "$bin/$program" "${few[@]}" ;;
	esac
	[[ -n $root_only ]] || run "$program-nobody" nobody "$bin/$program" "${few[@]}"
done

trap - EXIT
take_down || fail "file systems are left"
[[ -z $(losetup -l -n) ]] || fail "loop devices are left"
