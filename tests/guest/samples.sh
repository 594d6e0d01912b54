#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs nosigbus-writer in a guest (tests/boot.sh), as root, on file systems with and
# without space for its files.
#
# usage: samples.sh BINDIR RESULTDIR
#
# BINDIR has it built. The result (TAP) goes to RESULTDIR/samples.tap;
# tests/report.py reads it. Fails itself if a file system could not be set up or
# taken down.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=tap.sh
. "$(dirname "${BASH_SOURCE[0]}")/tap.sh"

mkdir -p "$2"
tap=$2/samples.tap
work=$(mktemp -d)
# Not over 9p each time that it is run.
writer=$work/nosigbus-writer
cp "$1/nosigbus-writer" "$writer"
dir=$work/fs
out=$dir/out
mkdir "$dir"
ulimit -c 0

PAGE=$(getconf PAGE_SIZE)
BUS=$((128 + 7))
# What the writer writes, and one of the client's two buffers, in bytes.
SIZE=$((4 << 20))
BUFFER=$((640 * 480 * 4))
# File systems that have space for one buffer and part of the other, and for all.
SMALL=2M
LARGE=24M

fail() {
	echo "samples.sh: $*" >&2
	exit 1
}

must() {
	local output
	output=$("$@" 2>&1) || fail "cannot set up the file systems: $*: $output"
}

# fresh SIZE: an empty file system of the kind that is tested, at $dir.
fresh() {
	take_down
	if [[ $fs == tmpfs ]]; then
		must mount -t tmpfs -o "size=$1,huge=never" tmpfs "$dir"
	else
		rm -f "$work/image"
		must truncate -s "$1" "$work/image"
		# One block is one page, and none is reserved for root.
		must mkfs.ext4 -q -F -m 0 -b "$PAGE" -O ^has_journal "$work/image"
		must mount -o loop "$work/image" "$dir"
		must rmdir "$dir/lost+found"
	fi
}

take_down() {
	! mountpoint -q "$dir" || must umount "$dir"
}

free_pages() {
	stat -f -c %f "$dir"
}

# says_where: the reported error has to be ENOSPC. Sets $offset to its position in the file.
says_where() {
	local perhaps=''
	# The file system may not have said which error it was; tmpfs does.
	[[ $fs == tmpfs ]] || perhaps='(, or perhaps another error)?'
	says "ENOSPC: No space left on device \(os error 28\)$perhaps, at byte ([0-9]+) of the file"
	offset=${found:-0}
	expect "byte $offset is no start of a page" test $((offset % PAGE)) = 0
}

# older_output: makes an older file of the same name. untouched: that file has not changed.
older_output() {
	echo older >"$out"
	older=$(stat -c '%i %s %y %z' "$out")
	before=$(free_pages)
}

untouched() {
	[[ $(<"$out") == older && $(stat -c '%i %s %y %z' "$out") == "$older" ]] ||
		complain "the older output is not as it was"
}

# files PATTERN...: one file for each, and no others, in the order of ls.
files() {
	local there patterns
	there=$(ls -A "$dir")
	patterns=$(printf '%s\n' "$@")
	# shellcheck disable=SC2053 # a pattern is meant
	[[ $there == $patterns ]] || complain "these files are there: $there"
}

nothing_left() {
	files out
	expect "$(free_pages) pages are free, not $before" test "$(free_pages)" = "$before"
}

# The cases. Each begins with an empty file system.

full_write_fails() {
	fresh $SMALL
	older_output
	run 1 "$writer" --how write "$out"
	says 'No space left on device'
	untouched
	nothing_left
}

full_plain_is_killed() {
	fresh $SMALL
	older_output
	run $BUS "$writer" --how plain "$out"
	untouched
	files out 'out.*.part'
}

full_recorded_says_so() {
	fresh $SMALL
	older_output
	run 1 "$writer" --how recorded "$out"
	says_where
	untouched
	nothing_left
}

# Compares the writer's message with its partial output, which strace keeps it from removing.
full_recorded_tells_the_truth() {
	local partial missing free
	fresh $LARGE
	run 0 "$writer" --how write "$out"
	mv "$out" "$work/complete"

	fresh $SMALL
	free=$(free_pages)
	run 1 strace -qq -o "$work/strace" -e trace=unlink,unlinkat \
		-e inject=unlink,unlinkat:retval=0 "$writer" --how recorded "$out"
	says_where
	says "([0-9]+) of $((SIZE / PAGE)) pages are missing"
	missing=${found:-0}
	partial=$(echo "$dir"/out.*.part)
	run 0 python3 - "$work/complete" "$partial" "$PAGE" "$offset" <<-'END'
		import sys

		complete, partial = (open(name, "rb").read() for name in sys.argv[1:3])
		page, offset = map(int, sys.argv[3:])
		assert len(complete) == len(partial), "of different sizes"
		differ = [start for start in range(0, len(complete), page)
		          if complete[start:start + page] != partial[start:start + page]]
		assert offset in differ, "the page of the error is in the file"
		assert not any(any(partial[start:start + page]) for start in differ), "not zeros"
		print(len(differ))
	END
	expect "$missing pages said to be missing, $output are" test "$missing" = "$output"
	expect "$missing missing where $free were free" test "$missing" -ge $((SIZE / PAGE - free))
	if [[ $fs == tmpfs ]]; then
		expect "$missing missing where $free were free" test "$missing" = $((SIZE / PAGE - free))
	fi
}

with_space_all_write_the_same() {
	local how
	fresh $LARGE
	for how in write plain recorded; do
		echo older >"$dir/$how"
		run 0 "$writer" --how "$how" --seed 7 "$dir/$how"
	done
	run 0 "$writer" --how write --seed 8 "$dir/other"
	# What is on the disk, not what is in memory.
	echo 1 >/proc/sys/vm/drop_caches
	expect "not of that size" test "$(stat -c %s "$dir/write")" = "$SIZE"
	expect "plain differs" cmp "$dir/write" "$dir/plain"
	expect "recorded differs" cmp "$dir/write" "$dir/recorded"
	expect "another seed does not differ" test "$(cmp -s "$dir/write" "$dir/other" || echo $?)" = 1
	files other plain recorded write
}

# Recorded mode works with sizes that do not end at the end of a page, too.
with_space_any_size() {
	local size
	fresh $LARGE
	for size in 33 "$PAGE" $((SIZE / 2 + 1)); do
		run 0 "$writer" --size "$size" --how write "$dir/write"
		run 0 "$writer" --size "$size" --how recorded "$dir/recorded"
		expect "recorded differs" cmp "$dir/write" "$dir/recorded"
		expect "not of that size" test "$(stat -c %s "$dir/recorded")" = "$size"
	done
}

full_client_is_killed() {
	fresh $SMALL
	run $BUS "$writer" client "$dir"
	files
}

full_client_says_so() {
	local free
	fresh $SMALL
	free=$(free_pages)
	run 1 "$writer" client --recorded "$dir"
	says 'frame 0: drawn and shown'
	says 'frame 1 is not handed over: the eventfd is signalled: ENOSPC'
	says_where
	# It draws from the start of the file to its end.
	expect "byte $offset where $free pages were free" test "$offset" -le $((free * PAGE))
	expect "byte $offset is in the first buffer" test "$offset" -ge "$BUFFER"
	if [[ $fs == tmpfs ]]; then
		expect "byte $offset where $free pages were free" test "$offset" = $((free * PAGE))
	fi
	files
	expect "$(free_pages) pages are free, not $free" test "$(free_pages)" = "$free"
}

with_space_client_shows_all() {
	local mode
	fresh $LARGE
	for mode in '' --recorded; do
		run 0 "$writer" client $mode --frames 3 "$dir"
		expect "not all frames: $output" test "$(grep -c 'drawn and shown' <<<"$output")" = 3
	done
}

# There are stand-ins but no error: strace keeps ftruncate from making the file longer.
a_file_cut_off_is_noticed() {
	local cut=(strace -qq -o "$work/strace" -e 'trace=ftruncate' -e 'inject=ftruncate:retval=0')
	fresh $LARGE
	older_output
	run 1 "${cut[@]}" "$writer" --how recorded "$out"
	says "somebody has cut the file off; $((SIZE / PAGE)) of $((SIZE / PAGE)) pages are missing"
	untouched
	nothing_left
	run 1 "${cut[@]}" "$writer" client --recorded "$dir"
	says 'frame 0 is not handed over: the eventfd is signalled: somebody has cut the file off'
}

without_the_device_says_so() {
	local args
	fresh $LARGE
	for args in "--how recorded $out" "client --recorded $dir"; do
		# shellcheck disable=SC2016,SC2086 # for the shell inside; several words
		run 1 unshare -m bash -c 'mount -t tmpfs tmpfs /dev && exec "$@"' hidden "$writer" $args
		says '/dev/nosigbus: No such file or directory .*the nosigbus module is not loaded: insmod'
		files
	done
}

cases=(
	full_write_fails full_plain_is_killed full_recorded_says_so
	full_recorded_tells_the_truth with_space_all_write_the_same with_space_any_size
	full_client_is_killed full_client_says_so with_space_client_shows_all
	a_file_cut_off_is_noticed without_the_device_says_so
)

modprobe -q loop || true
{
	printf 'TAP version 13\n1..%d\n' $((2 * ${#cases[@]}))
	for fs in tmpfs ext4; do
		for name in "${cases[@]}"; do
			tap_case "$fs $name" "$name"
		done
	done
} >"$tap"
tap_summary samples

take_down
rm -rf "$work"
[[ -z $(losetup -l -n) ]] || fail "loop devices are left"
