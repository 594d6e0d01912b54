#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs the tests of the crate nosigbus in a guest (tests/boot.sh), as root, each in a
# process of its own, and the crate's examples and the C samples.
#
# usage: crate.sh BINDIR RESULTDIR
#
# BINDIR is what tests/build-crate.sh leaves. The result (TAP) goes to
# RESULTDIR/crate.tap; tests/report.py reads it. Fails itself if there is nothing to
# run, or a file system could not be set up.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=tap.sh
. "$(dirname "${BASH_SOURCE[0]}")/tap.sh"

mkdir -p "$2"
tap=$2/crate.tap
work=$(mktemp -d)
chmod 755 "$work"
# Copied, so that they are not read over 9p each time.
cp "$1"/{module,compositor,existing,linker,protect,shm-server,shm-client} "$work"
small=$work/small
mkdir "$small"
ulimit -c 0

PAGE=$(getconf PAGE_SIZE)
BUS=$((128 + 7))
TERMINATED=$((128 + 15))

fail() {
	echo "crate.sh: $*" >&2
	exit 1
}

small_tmpfs() {
	! mountpoint -q "$small" || umount "$small"
	mount -t tmpfs -o "size=$((16 * PAGE)),huge=never" tmpfs "$small"
}

# without_device COMMAND...: as if the module were not loaded.
without_device() {
	# shellcheck disable=SC2016 # for the shell inside
	unshare -m bash -c 'mount -t tmpfs tmpfs /dev && exec "$@"' hidden "$@"
}

# One test of libtest's.
of_module() {
	run 0 env "SMALL_TMPFS=$small" RUST_BACKTRACE=1 "$work/module" --exact "$1"
	says 'test result: ok\. 1 passed; 0 failed'
}

# The examples.

compositor_reads_to_the_end() {
	local frame=$((640 * 480 * 4))
	run 0 "$work/compositor"
	expect "it says: $output" test "$output" = "file: $((2 * frame)) bytes; frame: $frame bytes drawn
file: $((frame + frame / 2)) bytes; frame: $((frame / 2)) bytes drawn
the client has cut its pool off
file: 0 bytes; frame: 0 bytes drawn
the client has cut its pool off
file: $((2 * frame)) bytes; frame: 0 bytes drawn"
}

# Without the device, or without permission to open it, the compositor says so and goes on.
compositor_does_without() {
	local frame=$((640 * 480 * 4)) plain
	plain='clients can end it by shrinking a file'"
file: $((2 * frame)) bytes; frame: $frame bytes drawn
file: $((2 * frame)) bytes; frame: $frame bytes drawn"
	run 0 without_device "$work/compositor"
	expect "it says: $output" test "$output" = \
		"compositor: /dev/nosigbus: No such file or directory (os error 2): $plain"
	chmod 600 /dev/nosigbus
	run 0 setpriv --reuid 65534 --clear-groups "$work/compositor"
	chmod 666 /dev/nosigbus
	expect "it says: $output" test "$output" = \
		"compositor: /dev/nosigbus: Permission denied (os error 13): $plain"
}

linker_writes_all() {
	run 0 "$work/linker" "$work/output" 10000
	run 0 cmp "$work/output" <(head -c 10000 /dev/zero | tr '\0' x)
}

linker_says_that_the_disk_is_full() {
	small_tmpfs
	run 1 "$work/linker" "$small/output" $((17 * PAGE))
	says "linker: ENOSPC: No space left on device \(os error 28\), at byte $((16 * PAGE)) of the file"
}

existing_counts_lines() {
	seq 2000 >"$work/lines"
	run 0 "$work/existing" "$work/lines"
	expect "it says: $output" test "$output" = '2000 lines'
	: >"$work/lines"
	run 0 "$work/existing" "$work/lines"
	expect "it says: $output" test "$output" = '0 lines'
}

# The C sample.

c_reads_to_the_end() {
	head -c $((3 * PAGE)) /dev/zero | tr '\0' x >"$work/file"
	run 0 "$work/protect" "$work/file" 100
	expect "it says: $output" test "$output" = "$((3 * PAGE)) bytes read, 100 of them not zero
the zero page has stood in 2 times"
	expect "the file is not as long" test "$(stat -c %s "$work/file")" = 100
}

# If opting in does nothing, SIGBUS kills the sample.
c_without_opting_in_is_killed() {
	head -c $((3 * PAGE)) /dev/zero >"$work/file"
	run $BUS strace -qq -o "$work/strace" -e trace=ioctl -e inject=ioctl:retval=0 \
		"$work/protect" "$work/file" 100
}

c_says_what_is_wrong() {
	run 1 "$work/protect"
	says 'usage: protect FILE BYTES'
	run 1 "$work/protect" "$work/file" many
	says 'usage: protect FILE BYTES'
	run 1 "$work/protect" "$work/no-such-file" 0
	says 'no-such-file: No such file'
	run 1 without_device "$work/protect" "$work/file" 0
	says 'the nosigbus module is not loaded: insmod nosigbus.ko'
}

# The C sample of a compositor, by libwayland, and a client.

export XDG_RUNTIME_DIR=$work WAYLAND_DISPLAY=shm-test
DRAWN='640 x 480 pixels, 307200 of them drawn'
server=''

serve() { # [COMMAND...]: runs the server by it.
	rm -f "$work/$WAYLAND_DISPLAY"*
	"$@" "$work/shm-server" "$WAYLAND_DISPLAY" &>"$work/server.log" &
	server=$!
	for _ in {1..600}; do
		[[ ! -S $work/$WAYLAND_DISPLAY ]] || return 0
		sleep 0.1
	done
	complain "no socket: $(<"$work/server.log")"
}

# server_ends STATUS: the server has to end with STATUS, by itself or by SIGTERM.
server_ends() {
	local status=0
	(($1 != TERMINATED)) || kill "$server" || true
	wait "$server" 2>/dev/null || status=$?
	((status == $1)) || complain "the server: status $status, not $1: $(<"$work/server.log")"
}

server_says() { # LINE...
	local expected
	expected=$(printf '%s\n' "$@")
	[[ $(uniq "$work/server.log") == "$expected" ]] || complain "it says: $(uniq "$work/server.log")"
}

shm_server_serves() {
	serve env
	for mode in draw grow; do
		run 0 "$work/shm-client" "$mode"
		says 'nothing was told'
	done
	server_says "$DRAWN"
	server_ends $TERMINATED
}

shm_server_sends_liars_away() {
	serve env
	for mode in shrink empty; do
		run 0 "$work/shm-client" "$mode"
		says 'told: wl_shm, error 2'
	done
	run 0 "$work/shm-client" file /dev/zero
	says 'told: wl_shm, error 2'
	run 0 "$work/shm-client" grow
	says 'nothing was told'
	expect 'not sent away' test "$(grep -c 'a client is sent away' "$work/server.log")" = 2
	expect 'not shown at last' test "$(tail -n 1 "$work/server.log")" = "$DRAWN"
	server_ends $TERMINATED
}

# Without the device the server uses plain mappings, and the first client that lies kills it.
shm_server_does_without() {
	serve without_device
	for mode in draw grow; do
		run 0 "$work/shm-client" "$mode"
		says 'nothing was told'
	done
	server_says "shm-server: /dev/nosigbus: No such file or directory: clients can end it by shrinking a file" \
		"$DRAWN"
	run 1 "$work/shm-client" shrink
	server_ends $BUS
}

# The crate says what has failed, and nothing else.
without_the_module_it_says_so() {
	run 1 without_device "$work/existing" "$work/lines"
	expect "it says: $output" test "$output" = \
		'existing: /dev/nosigbus: No such file or directory (os error 2)'
}

mapfile -t tests < <("$work/module" --list --format terse | sed -n 's/: test$//p')
((${#tests[@]} > 0)) || fail "there are no tests in $1/module"
cases=(
	compositor_reads_to_the_end compositor_does_without linker_writes_all linker_says_that_the_disk_is_full
	existing_counts_lines c_reads_to_the_end c_without_opting_in_is_killed
	c_says_what_is_wrong shm_server_serves shm_server_sends_liars_away shm_server_does_without
	without_the_module_it_says_so
)

small_tmpfs
{
	printf 'TAP version 13\n1..%d\n' $((${#tests[@]} + ${#cases[@]}))
	for name in "${tests[@]}"; do
		tap_case "$name" of_module "$name"
	done
	for name in "${cases[@]}"; do
		tap_case "$name" "$name"
	done
} >"$tap"
tap_summary crate

umount "$small"
rm -rf "$work"
