#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs trinity against /dev/nosigbus and the memory calls around it, in a guest
# (tests/boot.sh) that need not survive it, as an unprivileged user in a memory
# cgroup.
#
# usage: fuzz.sh TRINITY.SO RESULTDIR CALLS SEED
#
# Prints TAP. Runs trinity again and again, until it has made CALLS calls. The first run has SEED.
# Each process of a run takes the next seed, so the next run starts after the seeds of this run's
# processes. RESULTDIR/runs has the result of each run, RESULTDIR/answers the requests and their
# answers.

set -euo pipefail

library=$1 results=$(realpath "$2") calls=$3 seed=$4
children=4 per_run=20000
MODULE=/sys/module/nosigbus

# Calls that act on mappings and on the files in them. None of them ends processes,
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
	calls steered mapped resized
	touched touched_opted_in zero_pages private_pages shadow_pages lost
	told_given_back told_errors unknown undocumented last_undocumented
)
requests=(query enable disable status)
errnos=134 numbers=512
declare -A count

read_counts() {
	local i n asked request all
	mapfile -t all < <(od -An -v -t u8 -w8 "$work/counts" | tr -d ' ')
	for i in "${!names[@]}"; do
		count[${names[i]}]=${all[i]}
	done
	i=${#names[@]}
	for request in "${requests[@]}"; do
		count[granted_$request]=${all[i]} asked=0
		for ((n = 0; n < errnos; n++, i++)); do
			count[$request,$n]=${all[i]}
			asked=$((asked + all[i]))
		done
		count[asked_$request]=$asked
	done
	for ((n = 0; n < numbers; n++, i++)); do
		count[made,$n]=${all[i]} count[succeeded,$n]=${all[i + numbers]}
	done
}

# From "#define EFAULT 14" and "#define __NR_mmap 9".
show_answers() {
	local request name number
	for request in "${requests[@]}"; do
		printf '%s: %d asked, %d granted' "$request" "${count[asked_$request]}" "${count[granted_$request]}"
		while read -r name number; do
			((count[$request,$number] == 0)) || printf ', %d %s' "${count[$request,$number]}" "$name"
		done < <(awk '/^#define[[:space:]]+E[A-Z0-9]+[[:space:]]+[0-9]/ { print $2, $3 }' /usr/include/asm-generic/errno{-base,}.h)
		printf '\n'
	done
	while read -r name number; do
		((count[made,$number] == 0)) ||
			printf '%s: %d made, %d succeeded\n' "$name" "${count[made,$number]}" "${count[succeeded,$number]}"
	done < <(sed -n 's/^#define __NR_//p' /usr/include/x86_64-linux-gnu/asm/unistd_64.h)
}

tests=0 failed=0
check() { # TEXT COMMAND...
	local ok=ok
	"${@:2}" || ok='not ok' failed=1
	tests=$((tests + 1))
	echo "$ok $tests $1"
}

# shellcheck disable=SC2317 # for check
between() { # MINIMUM MAXIMUM NAME...: whether these counts are
	local name
	for name in "${@:3}"; do
		((count[$name] >= $1 && count[$name] <= $2)) || return
	done
}

# A killed process drops its references a moment later.
# shellcheck disable=SC2317 # for check
nothing_is_left() {
	local i
	for ((i = 0; i < 100; i++)); do
		[[ -n $(<"$group/cgroup.procs") || $(<"$MODULE/refcnt") != 0 ]] || return 0
		sleep 0.1
	done
	return 1
}

work=$(mktemp -d)
chmod 755 "$work"
mkdir "$work"/{cwd,full,tmpfs,ext4}
truncate -s 16384 "$work/counts"
# A fifth of the size that the file on it may reach.
mount -t tmpfs -o size=48K tmpfs "$work/full"
mount -t tmpfs -o size=64M tmpfs "$work/tmpfs"
truncate -s 64M "$work/ext4.img"
modprobe -q loop || true
mkfs.ext4 -q -F "$work/ext4.img"
mount -o loop "$work/ext4.img" "$work/ext4"
chmod 1777 "$work"/{cwd,full,tmpfs,ext4}
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
echo 1..9
start=$SECONDS ended_badly=()
: >"$results/runs"
while read_counts; before=${count[calls]}; ((before < calls)); do
	status=0
	(
		# set -e does not hold here.
		echo "$BASHPID" >"$group/cgroup.procs" && cd "$work/cwd" || exit
		export NOSIGBUS_FUZZ_COUNTS=$work/counts
		export NOSIGBUS_FUZZ_FILES=$work/full/file:$work/tmpfs/file:$work/ext4/file
		left=$((calls - before))
		# trinity keeps memfds open in its main process. If they were large, killing its
		# other processes would free no memory in the cgroup.
		trap '' XFSZ
		ulimit -f 1024
		# The same addresses each time, so that the seed determines each process's calls.
		timeout -k 5 1800 setpriv --reuid=nobody --regid=nogroup --clear-groups \
			setarch -R env "LD_PRELOAD=$work/trinity.so" trinity -q -l off -a 64 \
			-C "$children" -N $((left < per_run ? left : per_run)) -s "$seed" \
			--enable-fds=testfile,memfd "${options[@]}"
	) >"$results/trinity-$seed.log" 2>&1 || status=$?
	read_counts
	echo "seed $seed: $((count[calls] - before)) calls (status $status)" >>"$results/runs"
	((status == 0)) || ended_badly+=("$seed")
	show_answers >"$results/answers"
	((count[calls] > before)) || break
	seed=$((seed + children))
done
for name in "${names[@]}"; do
	echo "# $name: ${count[$name]}"
done
sed 's/^/# /' "$results/answers"
echo "# $(wc -l <"$results/runs") runs, $((SECONDS - start)) s"
check "trinity made $calls calls" between "$calls" $((calls + per_run)) calls
check "trinity came to its end each time" test ${#ended_badly[@]} = 0
check "each request was granted for every thousandth of them" \
	between $((calls / 1000)) "$calls" granted_query granted_enable granted_disable granted_status
check "there were as many stand-ins of each kind" \
	between $((calls / 1000)) "$calls" zero_pages private_pages shadow_pages
check "pages were given back and errors recorded" \
	between $((calls / 10000)) "$calls" told_given_back told_errors
check "every answer is documented" between 0 0 undocumented
check "every access to an opted-in mapping went through" between 0 0 lost
check "no process and no reference on the module is left" nothing_is_left
check "the module can be unloaded" rmmod nosigbus
exit "$failed"
