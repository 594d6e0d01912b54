#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs trinity against /dev/nosigbus and the memory calls around it, in a guest
# (tests/boot.sh) that need not survive it, as an unprivileged user in a memory
# cgroup.
#
# usage: run.sh TRINITY.SO RESULTDIR CALLS SEED
#
# Prints TAP. What each run came to is RESULTDIR/runs, a line each with its seed:
# the first has SEED, each that follows, until there are CALLS calls, the next.

set -euo pipefail

library=$1 results=$(realpath "$2") calls=$3 seed=$4
children=4 per_run=50000

# What acts on mappings and on the files in them. Nothing that ends processes,
# changes the user, or waits.
syscalls=(
	mmap munmap mremap mprotect pkey_mprotect madvise process_madvise msync mincore
	mlock munlock mlock2 mlockall munlockall remap_file_pages mbind move_pages
	migrate_pages get_mempolicy set_mempolicy process_vm_readv process_vm_writev
	userfaultfd memfd_create memfd_secret membarrier ioctl ftruncate fallocate
	read write pread64 pwrite64 readv writev preadv pwritev preadv2 pwritev2
	sendfile splice vmsplice copy_file_range fadvise64 readahead sync_file_range
	fsync fdatasync
)

# The order in struct counts of trinity.c.
names=(
	calls steered mapped resized touched
	asked_query asked_enable asked_disable asked_status
	answered_query answered_enable answered_disable answered_status
	unknown undocumented last_undocumented
)
declare -A count

read_counts() {
	local i numbers
	mapfile -t numbers < <(od -An -v -t u8 -w8 -N $((8 * ${#names[@]})) "$work/counts" | tr -d ' ')
	for i in "${!names[@]}"; do
		count[${names[i]}]=${numbers[i]}
	done
}

tests=0 failed=0
check() { # TEXT MINIMUM MAXIMUM NAME...: whether these counts are in between
	local ok=ok name
	for name in "${@:4}"; do
		((count[$name] >= $2 && count[$name] <= $3)) || ok='not ok' failed=1
	done
	tests=$((tests + 1))
	echo "$ok $tests $1"
}

work=$(mktemp -d)
chmod 755 "$work"
mkdir "$work"/{cwd,tmpfs,ext4}
truncate -s 4096 "$work/counts"
mount -t tmpfs -o size=64M tmpfs "$work/tmpfs"
truncate -s 64M "$work/ext4.img"
modprobe -q loop || true
mkfs.ext4 -q -F "$work/ext4.img"
mount -o loop "$work/ext4.img" "$work/ext4"
chmod 1777 "$work"/{cwd,tmpfs,ext4}
chmod 666 "$work/counts"
install -m 755 "$library" "$work/trinity.so"
# trinity maps and fills whatever it can get.
group=/sys/fs/cgroup/fuzz
mkdir "$group"
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
echo 1G >"$group/memory.max"
options=()
for syscall in "${syscalls[@]}"; do
	options+=(-c "$syscall")
done

echo 'TAP version 13'
start=$SECONDS
: >"$results/runs"
while read_counts; before=${count[calls]}; ((before < calls)); do
	status=0
	(
		echo "$BASHPID" >"$group/cgroup.procs"
		cd "$work/cwd"
		export NOSIGBUS_FUZZ_COUNTS=$work/counts
		export NOSIGBUS_FUZZ_FILES=$work/tmpfs/file:$work/ext4/file
		left=$((calls - before))
		# At the same addresses each time, so that the seed says it all.
		exec timeout -k 5 900 setpriv --reuid=nobody --regid=nogroup --clear-groups \
			setarch -R env "LD_PRELOAD=$work/trinity.so" trinity -q -l off -a 64 \
			-C "$children" -N $((left < per_run ? left : per_run)) -s "$seed" \
			--enable-fds=testfile,memfd "${options[@]}"
	) >"$results/trinity.log" 2>&1 || status=$?
	read_counts
	echo "seed $seed: $((count[calls] - before)) calls (status $status)" >>"$results/runs"
	((count[calls] > before)) || break
	seed=$((seed + 1))
done
for name in "${names[@]}"; do
	echo "# $name: ${count[$name]}"
done
echo "# $(wc -l <"$results/runs") runs, $((SECONDS - start)) s"
check "trinity made $calls calls" "$calls" $((calls + per_run)) calls
check "a fiftieth of them were each of the requests that change something" \
	$((calls / 50)) "$calls" asked_enable asked_disable asked_status
check "each request was granted now and then" \
	$((calls / 1000)) "$calls" answered_query answered_enable answered_disable answered_status
check "every answer is documented" 0 0 undocumented
echo "1..$tests"
exit "$failed"
