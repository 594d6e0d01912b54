#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The file systems that the tests make their files on. To be sourced, by a script
# that runs as root in a guest and has set results, a directory of the host. They are
# below NOSIGBUS_FS, each under its name (nosigbus_test.h). take_down undoes it all,
# at the latest when the script ends.
#
# It is no failure if this kernel or this machine lacks something: NOSIGBUS_FS/lacks/NAME says why,
# and the tests that need it are skipped with that reason. Everything that is there must work.

# shellcheck disable=SC2154 # results

# Also for an unprivileged user.
NOSIGBUS_FS=$(mktemp -d)
export NOSIGBUS_FS
images=$NOSIGBUS_FS/images
# A directory of the host, over 9p. A guest that has died leaves it behind.
p9=$results/9p
rm -rf "$p9"
mkdir "$p9"
mounted=()

fail() {
	echo "${0##*/}: $*" >&2
	exit 1
}

must() {
	local output
	output=$("$@" 2>&1) || fail "cannot set up the file systems: $*: $output"
}

# lack REASON NAME...: records that these are missing, and why.
lack() {
	local name
	for name in "${@:2}"; do
		printf '%s\n' "$1" >"$NOSIGBUS_FS/lacks/$name"
	done
}

lacks() { # NAME
	[[ -e $NOSIGBUS_FS/lacks/$1 ]]
}

# as_for NAME OTHER...: if NAME is missing, records that the others are missing for the same reason.
as_for() {
	! lacks "$1" || lack "$(<"$NOSIGBUS_FS/lacks/$1")" "${@:2}"
}

# has NAME WHAT CHECK...: whether the kernel has it, according to CHECK. If not, records that NAME
# is missing: "this kernel has no WHAT".
has() {
	"${@:3}" || {
		lack "this kernel has no $2" "$1"
		return 1
	}
}

# has_disk_fs NAME TYPE: the same for a file system in a file, $images/NAME.
has_disk_fs() {
	as_for loop "$1"
	! lacks "$1" && has "$1" "$2" knows_fs "$2"
}

load() { # MODULE...: those that the kernel has as modules, and are not there yet
	local module
	for module; do
		! modprobe -nq "$module" || must modprobe "$module"
	done
}

# The checks ask the kernel what it has, not whether something works. A module counts.
knows_fs() {
	load "$1"
	grep -qE "[[:blank:]]$1\$" /proc/filesystems
}

knows_devices() { # NAME, as in /proc/devices
	load "$1"
	grep -qw "$1" /proc/devices
}

has_function() {
	[[ -e /proc/kallsyms ]] || fail "the kernel does not say what functions it has (KALLSYMS)"
	grep -qw "$1" /proc/kallsyms
}

# mounted_at NAME MOUNT-ARGUMENT...: a file system that everybody may write to.
mounted_at() {
	local dir=$NOSIGBUS_FS/$1
	shift
	mkdir -p "$dir"
	must mount "$@" "$dir"
	mounted=("$dir" "${mounted[@]}")
	chmod 1777 "$dir" 2>/dev/null || true
}

# image NAME SIZE MKFS...: a file system in a file, $images/NAME.
image() {
	truncate -s "$2" "$images/$1"
	must "${@:3}" "$images/$1"
}

take_down() {
	local dir busy=0
	for dir in "${mounted[@]}"; do
		unmount "$dir" || busy=1
	done
	for dir in "$NOSIGBUS_FS"/disks/*; do
		[[ ! -L $dir ]] || dmsetup remove "nosigbus-${dir##*/}" || busy=1
	done
	losetup -D
	rm -rf "$p9"
	return $busy
}

# Some of the kernel's threads close files a little after the process has ended (io_uring).
unmount() {
	for _ in {1..20}; do
		if umount "$1"; then
			return
		fi
		sleep 0.5
	done
	echo "${0##*/}: cannot unmount $1" >&2
	return 1
}
trap take_down EXIT

chmod 755 "$NOSIGBUS_FS"
mkdir "$images"
mkdir "$NOSIGBUS_FS/lacks"
has loop "loop devices" knows_devices loop || true
has thp "transparent huge pages" test -d /sys/kernel/mm/transparent_hugepage || true

mounted_at tmpfs -t tmpfs tmpfs
# noswap: truncating to the middle of a huge page that has been swapped out never ends
# if there is no memory to read it in (seen in 7.2.12; shmem_undo_range()).
as_for thp tmpfs-huge
lacks thp || mounted_at tmpfs-huge -t tmpfs -o huge=always,noswap tmpfs
if has_disk_fs ext4 ext4; then
	image ext4.img 64M mkfs.ext4 -q -F
	mounted_at ext4 -o loop "$images/ext4.img"
fi
if has_disk_fs xfs xfs; then
	quotas=,usrquota
	has xfs-quota "quotas for xfs" has_function xfs_qm_newmount || quotas=
	image xfs.img 300M mkfs.xfs -q -f
	mounted_at xfs -o "loop$quotas" "$images/xfs.img"
fi
as_for xfs xfs-quota
if has_disk_fs btrfs btrfs; then
	image btrfs.img 128M mkfs.btrfs -q -f
	mounted_at btrfs -o loop "$images/btrfs.img"
fi

as_for ext4 overlay
if ! lacks overlay && has overlay overlay knows_fs overlay; then
	layers=$NOSIGBUS_FS/ext4/overlay
	mkdir "$layers" "$layers"/{lower,upper,work}
	chmod 1777 "$layers"/{lower,upper}
	mounted_at overlay -t overlay \
		-o "lowerdir=$layers/lower,upperdir=$layers/upper,workdir=$layers/work" overlay
fi

chmod 1777 "$p9"
mkdir "$NOSIGBUS_FS/9p"
must mount --bind "$p9" "$NOSIGBUS_FS/9p"
mounted=("$NOSIGBUS_FS/9p" "${mounted[@]}")
