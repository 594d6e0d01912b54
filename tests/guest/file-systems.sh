#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The file systems that the tests make their files on. To be sourced, by a script
# that runs as root in a guest and has set results, a directory of the host. They are
# below NOSIGBUS_FS, each under its name (nosigbus_test.h). take_down undoes it all,
# at the latest when the script ends.

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

needs_module() { # MODULE...: those that the kernel has as modules, and are not there yet
	local module
	for module; do
		modprobe -q "$module" || true
	done
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
	dmsetup remove nosigbus 2>/dev/null || true
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
needs_module loop xfs btrfs overlay

mounted_at tmpfs -t tmpfs tmpfs
# noswap: truncating to the middle of a huge page that has been swapped out never ends
# if there is no memory to read it in (seen in 7.2.12; shmem_undo_range()).
mounted_at tmpfs-huge -t tmpfs -o huge=always,noswap tmpfs
image ext4.img 64M mkfs.ext4 -q -F
mounted_at ext4 -o loop "$images/ext4.img"
image xfs.img 300M mkfs.xfs -q -f
mounted_at xfs -o loop,usrquota "$images/xfs.img"
image btrfs.img 128M mkfs.btrfs -q -f
mounted_at btrfs -o loop "$images/btrfs.img"

layers=$NOSIGBUS_FS/ext4/overlay
mkdir "$layers" "$layers"/{lower,upper,work}
chmod 1777 "$layers"/{lower,upper}
mounted_at overlay -t overlay \
	-o "lowerdir=$layers/lower,upperdir=$layers/upper,workdir=$layers/work" overlay

chmod 1777 "$p9"
mkdir "$NOSIGBUS_FS/9p"
must mount --bind "$p9" "$NOSIGBUS_FS/9p"
mounted=("$NOSIGBUS_FS/9p" "${mounted[@]}")
