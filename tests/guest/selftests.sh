#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs the selftests in a guest (tests/boot.sh), as root.
#
# usage: selftests.sh BINDIR RESULTDIR [PROGRAM[,nobody][,32][,few|,some|,rest]]...
#
# The programs are those of tests/selftests. BINDIR has the built programs, BINDIR32 the 32-bit
# ones. NOSIGBUS_KO is the module. Without PROGRAM, the script runs all programs.
#
# By default a program runs as root, on all file systems of the kernel. "nobody" runs it as an
# unprivileged user, "32" as a 32-bit program. "few" runs it on memfds only, "some" on memfds, ext4
# and overlayfs, "rest" on all but memfds. For programs whose tests are not per file system, see
# below.
#
# The output of a program (TAP) goes to RESULTDIR/PROGRAM[-nobody][-32].tap. The script adds the
# seconds that the program took to RESULTDIR/seconds. tests/report.py reads these files; a program
# that could not run has failed. Tests that need something that this kernel or machine lacks are
# skipped with that reason; the last line lists all reasons. The script itself fails if it cannot
# set up or take down a file system.
set -euo pipefail

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

# Two pages and a byte.
if has_disk_fs erofs erofs; then
	mkdir "$images/erofs"
	head -c 8193 /dev/zero | tr '\0' a >"$images/erofs/file"
	must mkfs.erofs "$images/erofs.img" "$images/erofs"
	mounted_at erofs -o loop,ro "$images/erofs.img"
fi

# File systems for real errors, see broken_file_systems.h: full ones, and ones with quotas. They
# have no reserved blocks, because root could use these.
mounted_at tmpfs-small -t tmpfs -o size=1M tmpfs
if has_disk_fs ext4-small ext4; then
	image ext4-small.img 4M mkfs.ext4 -q -F -m 0 -b 1024 -O ^has_journal
	mounted_at ext4-small -o loop "$images/ext4-small.img"
fi
lacks xfs-quota || must xfs_quota -x -c "limit -u bhard=1m nobody" "$NOSIGBUS_FS/xfs"
load quota_v2
if has tmpfs-quota "quotas for tmpfs" has_function shmem_acquire_dquot; then
	mounted_at tmpfs-quota -t tmpfs -o usrquota,usrquota_block_hardlimit=1M tmpfs
fi
# A disk that can be told to fail.
knows_target() {
	local targets
	load dm-mod "dm-$1"
	grep -qw device-mapper /proc/misc || return 1
	targets=$(dmsetup targets) || fail "dmsetup targets"
	[[ $'\n'$targets == *$'\n'"$1 "* ]]
}
# flaky NAME TYPE MKFS...: a file system of that type on such a disk, /dev/mapper/nosigbus-NAME,
# which is made of $NOSIGBUS_FS/disks/NAME.
flaky() {
	local name=$1 type=$2
	if ! has_disk_fs "$name" "$type" ||
		! has "$name" "disks that can be told to fail (dm-flakey)" knows_target flakey; then
		return
	fi
	image "$name.img" 32M true
	ln -s "$(losetup -f --show "$images/$name.img")" "$NOSIGBUS_FS/disks/$name"
	must dmsetup create "nosigbus-$name" --table "0 65536 linear $NOSIGBUS_FS/disks/$name 0"
	must dmsetup mknodes "nosigbus-$name"
	must "${@:3}" "/dev/mapper/nosigbus-$name"
	mounted_at "$name" -t "$type" "/dev/mapper/nosigbus-$name"
}
mkdir "$NOSIGBUS_FS/disks"
flaky ext4-dm ext4 mkfs.ext4 -q -F -O ^has_journal
# The faults of gfs2 take its own locks.
flaky gfs2-dm gfs2 mkfs.gfs2 -q -O -p lock_nolock -j 1 -J 8

# For files that are not ordinary, see ioctl_errors.c.
if has hugetlbfs hugetlbfs knows_fs hugetlbfs; then
	mounted_at hugetlbfs -t hugetlbfs hugetlbfs
fi
# boot.sh can make persistent memory on x86 only (memmap=).
knows_pmem() {
	load nd_e820 nd_pmem
	[[ $(uname -m) == x86_64 && -d /sys/bus/nd/drivers/nd_pmem ]]
}
if has_disk_fs dax ext4 && has dax "persistent memory (nd_pmem)" knows_pmem &&
	has dax DAX has_function dax_iomap_fault; then
	[[ -b /dev/pmem0 ]] || fail "no /dev/pmem0: boot.sh has the kernel make one (memmap=)"
	must mkfs.ext4 -q -F -b 4096 /dev/pmem0
	mounted_at dax -o dax=always /dev/pmem0
fi

# Other things that the tests need. The path exists if the kernel has the feature.
while IFS=: read -r name what path; do
	has "$name" "$what" test -e "$path" || true
done <<-END
	aio:Linux AIO:/proc/sys/fs/aio-nr
	hwpoison:handling of broken memory (MEMORY_FAILURE):/proc/sys/vm/memory_failure_recovery
	io_uring:io_uring:/proc/sys/kernel/io_uring_disabled
	ksm:KSM:/sys/kernel/mm/ksm
	mem:/dev/mem:/dev/mem
	perf:perf events:/proc/sys/kernel/perf_event_paranoid
	secretmem:secretmem:/sys/module/secretmem/parameters/enable
	sysvipc:System V IPC:/proc/sys/kernel/shmmni
	userfaultfd:userfaultfd:/proc/sys/vm/unprivileged_userfaultfd
END
has memcg "memory cgroups" grep -qsw memory /sys/fs/cgroup/cgroup.controllers || true
knows_kvm() {
	# One of the two, or none, fits the CPU.
	modprobe -qa kvm kvm_amd kvm_intel || true
	[[ -d /sys/module/kvm ]]
}
if has kvm KVM knows_kvm; then
	if ! grep -qE '^flags.* (svm|vmx)( |$)' /proc/cpuinfo; then
		lack "this machine's CPU cannot virtualize" kvm
	elif [[ $(uname -v) == *PREEMPT_RT* ]] && ! grep -qw constant_tsc /proc/cpuinfo; then
		lack "this machine's CPU has no constant TSC, which KVM takes in a PREEMPT_RT kernel" kvm
	fi
fi
# A program that the kernel cannot run at all is one test that is skipped.
if [[ "$*" == *,32* ]]; then
	has 32-bit "32-bit programs (IA32_EMULATION)" has_function do_int80_emulation || true
fi

# A killed program would leave these settings changed: see fault_around.c and others_wait.c.
declare -A settings=()
for setting in /sys/kernel/debug/fault_around_bytes /sys/kernel/rcu_normal \
	/sys/module/rcutree/parameters/jiffies_till_first_fqs; do
	[[ ! -w $setting ]] || settings[$setting]=$(cat "$setting")
done

# run NAME COMMAND...: one program, its output in NAME.tap.
run() {
	local name=$1 status=0 start=$SECONDS setting
	shift
	"$@" >"$results/$name.tap" 2>&1 || status=$?
	# The program may fail after all its tests have passed.
	((status == 0)) || grep -q '^not ok' "$results/$name.tap" ||
		echo "Bail out! exit status $status" >>"$results/$name.tap"
	for setting in "${!settings[@]}"; do
		echo "${settings[$setting]}" >"$setting"
	done
	echo "$((SECONDS - start)) $name" >>"$results/seconds"
	echo "  $name: $(sed -n 's/^# Totals: //p' "$results/$name.tap")" \
		"(exit $status, $((SECONDS - start)) s)"
}

# variants FILE-SYSTEM...: the harness's options for all classes of mappings on these.
variants() {
	local fs class
	for fs; do
		for class in '' _private _shared_read _shared_write; do
			printf '%s\n' -v "$fs$class"
		done
	done
}

# without VARIANT...: the harness's options for all others.
without() {
	printf -- '-V\n%s\n' "$@"
}
# shellcheck disable=SC2034 # used by their names
mapfile -t few < <(variants memfd)
# shellcheck disable=SC2034
mapfile -t rest < <(without memfd{,_private,_shared_read,_shared_write})
# shellcheck disable=SC2034
mapfile -t some < <(variants memfd ext4 overlay)
# shellcheck disable=SC2034
mapfile -t not_ext4 < <(without ext4_private ext4_shared_read ext4_shared_write)
mapfile -t not_edquot < <(without edquot_{tmpfs{,_private,_shared_read,_shared_write},xfs{,_shared_write}})
# shellcheck disable=SC2034
mapfile -t not_tmpfs < <(without enospc_tmpfs{,_private,_shared_read,_shared_write})

for run; do
	IFS=, read -ra words <<<"$run"
	program=${words[0]} name=${words[0]} bits='' options=() user=()
	for word in "${words[@]:1}"; do
		case $word in
		few | some | rest)
			declare -n variants=$word
			case $program in
			growth)
				options=("${variants[@]}")
				[[ $word == rest ]] || options+=(-f global)
				;;
			disable | eventfd | mapping | race | shadow | status | untouched) options=("${variants[@]}") ;;
			concurrency) [[ $word == some ]] && options=(-V private) || options=(-v shared_write) ;;
			fault_around | syscalls | vma) [[ $word != few ]] || options=("${not_ext4[@]}") ;;
			io_errors_recorded)
				options=("${not_edquot[@]}")
				[[ $word != few ]] || options+=("${not_tmpfs[@]}")
				;;
			abi) [[ $run == *,32* ]] || options=(-v shared_write) ;;
			# It takes 16,384 mappings.
			events) options=(-T overflow) ;;
			# It takes 100,000 mappings.
			others_wait) [[ $word != some ]] || options=(-T for_a_walk_of_all_mappings) ;;
			ioctl_errors) [[ $run != *,nobody* ]] || options=(-F privileged) ;;
			fdinfo_debugfs) [[ $run != *,nobody* ]] || options=(-F debugfs) ;;
			esac
			;;
		nobody) user=(setpriv --reuid=nobody --regid=nogroup --clear-groups) name+=-nobody ;;
		32) bits=32 name+=-32 ;;
		*) fail "$run: what is \"$word\"?" ;;
		esac
	done
	if [[ -n $bits ]] && lacks 32-bit; then
		printf 'TAP version 13\n1..1\nok 1 %s # SKIP %s\n' "$name" \
			"$(<"$NOSIGBUS_FS/lacks/32-bit")" >"$results/$name.tap"
	else
		run "$name" "${user[@]}" "$bin$bits/$program" "${options[@]}"
	fi
done

trap - EXIT
take_down || fail "file systems are left"
[[ -z $(losetup -l -n) ]] || fail "loop devices are left"
lacking=$(find "$NOSIGBUS_FS/lacks" -type f -exec cat {} + | sort -u | paste -sd ';')
[[ -z $lacking ]] || echo "  skipped: ${lacking//;/; }"
