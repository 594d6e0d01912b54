#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Tests the command nosigbus in a guest (tests/boot.sh), as root: its preload
# library with programs that are hard on it, and programs from Debian that have
# their files shrunk under them. Unloads the module and loads it again.
#
# usage: programs.sh RESULTDIR
#
# build/samples/release and build/programs have what it needs. The result (TAP)
# goes to RESULTDIR/programs.tap; tests/report.py reads it.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=tap.sh
. "$(dirname "${BASH_SOURCE[0]}")/tap.sh"

mkdir -p "$1"
tap=$(realpath "$1")/programs.tap
repo=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
ko=${NOSIGBUS_KO:-$repo/build/stock/nosigbus.ko}
work=$(mktemp -d)
# Not over 9p each time that it is run. As a package would install it.
mkdir "$work/bin" "$work/lib"
cp "$repo"/build/samples/release/nosigbus "$repo"/build/programs/{preload,library.so} "$work/bin"
cp "$repo/build/samples/release/libnosigbus_preload.so" "$work/lib"
chmod 755 "$work"
nosigbus=$work/bin/nosigbus
preload=$work/bin/preload
dir=$work/fs
mkdir "$dir"
mount -t tmpfs -o size=4M tmpfs "$dir"
cd "$dir"
ulimit -c 0
export HOME=$work

BUS=$((128 + 7))
PAGE=$(getconf PAGE_SIZE)

# protected STATUS [OPTION...] CASE [ARGUMENT]: a case of the program preload, run by nosigbus.
protected() {
	local status=$1 options=()
	shift
	while [[ $1 == --* ]]; do
		options+=("$1")
		shift
	done
	run "$status" "$nosigbus" run "${options[@]}" "$preload" "$@"
}

# The same as it is for a plain program, which SIGBUS kills.
only_protected_lives() {
	run $BUS "$preload" "$@"
	protected 0 "$@"
}

with_and_without_stats() {
	protected 0 "$@"
	protected 0 --stats "$@"
}

own_handler_is_called() {
	protected 0 own_handler plain
	protected 0 --record-errors own_handler recorded
}

syncs_tell_of_errors() {
	protected 0 --record-errors syncs
	[[ -z $output ]] || complain "it says: $output"
}

without_device_all_is_plain() {
	# shellcheck disable=SC2016 # for the shell inside
	run 0 unshare -m bash -c 'mount -t tmpfs tmpfs /dev && LD_PRELOAD=$1 "$2" plain_without_device' \
		hidden "$work/lib/libnosigbus_preload.so" "$preload"
	[[ -z $output ]] || complain "it says: $output"
}

# As many system calls for each anonymous mapping as there are without the library.
anonymous_costs_nothing() {
	local how count counts=()
	for how in '' "$nosigbus run"; do
		for count in 10 40; do
			# shellcheck disable=SC2086 # several words
			run 0 strace -qq -f -o "$work/strace" $how "$preload" maps_anonymous $count
			counts+=("$(wc -l <"$work/strace")")
		done
	done
	expect "${counts[*]} system calls for 10 and 40, plain and protected" \
		test $((counts[1] - counts[0])) = 90 -a $((counts[3] - counts[2])) = 90
}

# stats STATUS CASE [ARGUMENT]: $output is what --stats says, without process ids, in order.
stats() {
	local status=$1
	shift
	protected "$status" --stats "$@"
	output=$(sed -E 's/^nosigbus: [0-9]+ /nosigbus: /' <<<"$output" | sort)
}

# lines TEXT...: $output has to be these lines, after "nosigbus: ".
lines() {
	local expected
	expected=$(printf 'nosigbus: %s\n' "$@" | sort)
	[[ $output == "$expected" ]] || complain "it says: $output"$'\n'"expected: $expected"
}

stats_tell_kinds() {
	stats 0 stats_of_each_kind
	lines "(preload): $dir/private ($((2 * PAGE)) bytes mapped): 1 zero page, 1 private page" \
		"(preload): $dir/read ($((4 * PAGE)) bytes mapped): 3 zero pages" \
		"(preload): $dir/written ($((2 * PAGE)) bytes mapped): 1 shadow page" \
		"(preload): mappings of files: 4 opted in, 3 had lost pages"
}

stats_tell_of_what_was_unmapped() {
	stats 0 stats_of_unmapped
	lines "(preload): $dir/exchanged ($PAGE bytes mapped): 1 zero page" \
		"(preload): $dir/remapped ($PAGE bytes mapped): 1 zero page" \
		"(preload): $dir/replaced ($PAGE bytes mapped): 1 zero page" \
		"(preload): $dir/unmapped ($((4 * PAGE)) bytes mapped): 2 zero pages" \
		"(preload): mappings of files: 4 opted in, 4 had lost pages"
}

stats_of_children_are_their_own() {
	stats 0 stats_of_children
	lines "(preload): $dir/child ($PAGE bytes mapped): 1 zero page" \
		"(preload): $dir/inherited ($PAGE bytes mapped): 1 zero page" \
		"(preload): $dir/parent ($PAGE bytes mapped): 1 zero page" \
		"(preload): mappings of files: 1 opted in, 1 had lost pages" \
		"(preload): mappings of files: 2 opted in, 2 had lost pages"
}

stats_of_threads_are_complete() {
	local told
	stats 0 stats_of_threads
	says 'mappings of files: 160 opted in, 160 had lost pages'
	told=$(grep -c "/thread-[0-9]* ($PAGE bytes mapped): 1 zero page" <<<"$output") || true
	expect "$told of 160 are told of" test "$told" = 160
}

stats_of_one_file_count_each_mapping() {
	local told
	stats 0 stats_of_one_file
	says 'mappings of files: 80 opted in, 80 had lost pages'
	told=$(grep -c "/one ([0-9]* bytes mapped): 1 zero page" <<<"$output") || true
	expect "$told of 80 are told of" test "$told" = 80
}

stats_of_many_at_once_are_complete() {
	local told
	stats 0 stats_of_many_at_once
	says 'mappings of files: 40 opted in, 40 had lost pages'
	for told in even odd; do
		found=$(grep -c "$dir/$told ($PAGE bytes mapped): 1 zero page" <<<"$output") || true
		expect "$found of 20 are told of" test "$found" = 20
	done
}

stats_have_the_path_of_the_time() {
	stats 0 stats_of_renamed
	lines "(preload): $dir/first ($PAGE bytes mapped): 1 zero page" \
		"(preload): $dir/second ($((2 * PAGE)) bytes mapped): 1 zero page" \
		"(preload): $dir/third ($((3 * PAGE)) bytes mapped): 1 zero page" \
		"(preload): mappings of files: 3 opted in, 3 had lost pages"
}

stats_are_not_fooled_by_names() {
	stats 0 stats_of_hostile_name
	lines "(preload): $dir/new\\nline\\u{1b}[2J ($PAGE bytes mapped): 1 zero page" \
		"(preload): mappings of files: 1 opted in, 1 had lost pages"
}

stats_come_with_each_end() {
	local how
	for how in exit _exit _Exit quick_exit closed; do
		stats 3 stats_at_end $how
		lines "(preload): $dir/end ($PAGE bytes mapped): 1 zero page" \
			"(preload): mappings of files: 1 opted in, 1 had lost pages"
	done
	stats 0 stats_at_end thread
	says "/end .*: 1 opted in, 1 had lost pages"
	for how in execv execve execvp execvpe fexecve; do
		stats 0 stats_at_end $how
		says "\(preload\): $dir/end \($PAGE bytes mapped\): 1 zero page"
		says '\([0-9a-z]+\): mappings of files: 0 opted in, 0 had lost pages'
	done
}

# What reads it is gone.
stats_to_a_closed_pipe_kill_nobody() {
	rm -f gone
	mkfifo gone
	exec {both}<>gone
	exec {closed}>gone
	exec {both}<&-
	# shellcheck disable=SC2016 # for the shell inside
	run 3 bash -c 'fd=$1; shift; exec "$@" 2>&"$fd"' closed "$closed" \
		"$nosigbus" run --stats "$preload" stats_at_end exit
	exec {closed}>&-
}

stats_hit_no_file_of_the_program() {
	ulimit -n 1024
	stats 3 stats_at_end close_all
	says "/later \($PAGE bytes mapped\): 1 zero page"
	expect "something was written to a file of the program" test ! -s victim
}

stats_tell_of_errors() {
	protected 0 --record-errors --stats own_handler recorded
	says "[1-9][0-9]* shadow pages; ([0-9]+) for errors, the first ENOSPC \(28\) at byte [0-9]+"
	expect "no errors counted" test "${found:-0}" -gt 0
	# Otherwise there are none.
	protected 0 --stats own_handler plain
	[[ $output != *errors* ]] || complain "it says: $output"
}

nothing_is_said_unasked() {
	protected 0 stats_of_each_kind
	[[ -z $output ]] || complain "it says: $output"
}

# waiting CASE COMMAND...: starts a program that maps a lost file and waits; sets $waiting to
# its process.
waiting() {
	local case=$1
	shift
	rm -f to from
	mkfifo to from
	"$@" "$preload" "$case" <to >from &
	waiting=$!
	exec {to_it}>to
	read -rt 60 <from || complain "it does not start"
}

let_go() {
	exec {to_it}>&-
	wait "$waiting" || complain "the program ended with $?"
}

status_shows_mappings() {
	local waiting to_it as
	waiting waits "$nosigbus" run
	for as in '' "setpriv --reuid 65534 --regid 65534 --clear-groups"; do
		# shellcheck disable=SC2086 # several words
		run $([[ -z $as ]] && echo 0 || echo 1) $as "$nosigbus" status "$waiting"
		if [[ -z $as ]]; then
			says "^RANGE +BYTES +CLASS +ZERO +PRIVATE +SHADOW +ERRORS +FILE"
			says $'\n'"[0-9a-f]+-[0-9a-f]+ +$((4 * PAGE)) +shared-write +0 +0 +2 +0 +$dir/shown"
		else
			says "process $waiting is another user's, or protects itself: ask as root"
		fi
	done
	# A user asks about a process of the same user: without debugfs.
	umount /sys/kernel/debug
	run 0 "$nosigbus" status "$waiting"
	says "$((4 * PAGE)) +shared-write +0 +0 +2 +0 +$dir/shown"
	mount -t debugfs debugfs /sys/kernel/debug
	let_go
}

# shows TEXT: $output has that, with one space where it has several.
shows() {
	[[ $(tr -s ' ' <<<"$output") == *"$1"* ]] || complain "not there ($1): $output"
}

# Names that are no text, would do something to a terminal, have lines of their own, or look like
# what the kernel says.
status_is_not_fooled_by_names() {
	local waiting to_it row
	row="shared-read 1 0 0 0 /memfd:\\377\\u{1b}[31m\\npid=1 range=0-1 (deleted)"
	waiting waits_with_hostile_names "$nosigbus" run
	run 0 "$nosigbus" status "$waiting"
	shows " $PAGE $row"
	run 0 "$nosigbus" status
	shows "PID COMMAND RANGE BYTES"
	shows "$waiting x pid=1 \"\\\\ "
	shows " $PAGE $row"
	run 0 "$nosigbus" status --json "$waiting"
	shows "\"pid\": $waiting,"
	shows '"command": "x pid=1 \"\\\\",'
	shows '"zero_pages": 1'
	[[ $output != *$'\e'* ]] || complain "there is an escape sequence"
	let_go
}

status_lists_all_processes() {
	local waiting to_it
	waiting waits "$nosigbus" run
	run 0 "$nosigbus" status
	says $'\n'"$waiting +preload +[0-9a-f]+-[0-9a-f]+ +$((4 * PAGE)) +shared-write +0 +0 +2 +0 +$dir/shown"
	run 0 setpriv --reuid 65534 --regid 65534 --clear-groups "$nosigbus" status
	says "[0-9]+ processes are other users'"
	[[ $output != *shown* ]] || complain "it says: $output"
	let_go
	run 0 "$nosigbus" status --json
	expect "it says: $output" test "$output" = '[]'
}

status_says_what_is_wrong() {
	run 1 "$nosigbus" status $$
	says "process $$ has no mappings opted in"
	run 1 "$nosigbus" status 4194304
	says 'there is no process 4194304'
	run 125 "$nosigbus" status 1 2
	run 125 "$nosigbus" status me
	says 'cannot parse argument "me"'
}

exit_statuses_are_the_programs() {
	local expected
	for expected in 0 7; do
		run $expected "$nosigbus" run sh -c "exit $expected"
	done
	# shellcheck disable=SC2016 # for the shell inside
	run 143 "$nosigbus" run sh -c 'kill $$'
	# shellcheck disable=SC2016 # for the shell inside
	run 0 bash -c '"$1" run sh -c "echo \$\$" & wait $!; echo $!' pid "$nosigbus"
	expect "another process: $output" test "$(sort -u <<<"$output" | wc -l)" = 1
	# What else is to be as it was.
	run 0 bash -c 'trap "" PIPE; grep -E "^Sig(Ign|Blk)" /proc/self/status'
	found=$output
	# shellcheck disable=SC2016 # for the shell inside
	run 0 bash -c 'trap "" PIPE; "$1" run grep -E "^Sig(Ign|Blk)" /proc/self/status' signals "$nosigbus"
	expect "signals: $output, not $found" test "$output" = "$found"
}

exec_failures_are_those_of_a_shell() {
	run 127 "$nosigbus" run nonsuch
	says 'nonsuch: not found in PATH'
	run 127 "$nosigbus" run ./nonsuch
	says './nonsuch: No such file or directory'
	: >plain
	run 126 "$nosigbus" run ./plain
	run 126 env PATH="$dir" "$nosigbus" run plain
	says 'plain: not executable'
	run 126 "$nosigbus" run "$dir"
}

usage_errors_say_so() {
	run 125 "$nosigbus"
	says 'a command is missing.*usage: nosigbus run'
	run 125 "$nosigbus" run
	says 'a PROGRAM is missing'
	run 125 "$nosigbus" run --nonsuch true
	says "invalid option '--nonsuch'"
	run 125 "$nosigbus" nonsuch
	run 0 "$nosigbus" --help
	says 'usage: nosigbus run'
	run 0 "$nosigbus" --version
	says '^nosigbus [0-9]+\.[0-9]+\.[0-9]+$'
	# What follows the program is the program's.
	run 0 "$nosigbus" run echo --stats -- x
	says '^--stats -- x$'
	run 0 "$nosigbus" run -- echo x
}

# What the dynamic linker does not see, and what it would not load the library for.
unreachable_programs_are_told() {
	run 125 "$nosigbus" run busybox true
	says '/busybox: it is statically linked.*--if-available'
	run 0 "$nosigbus" run --if-available busybox echo plain
	says 'not protected: .*/busybox: it is statically linked.*'$'\n''plain'
	printf '#!/bin/busybox sh\nexit 4\n' >script
	chmod 755 script
	run 125 "$nosigbus" run ./script
	says '/busybox: it is statically linked'
	printf '#!/bin/sh\nexit 4\n' >script
	run 4 "$nosigbus" run ./script

	cp "$preload" owned
	chown 65534 owned
	chmod u+s owned
	run 125 "$nosigbus" run ./owned reads_past_eof
	says './owned: it is a setuid program'
	chmod u-s,g+s owned
	chgrp 65534 owned
	chmod 2755 owned
	run 125 "$nosigbus" run ./owned reads_past_eof
	says './owned: it is a setgid program'
}

preload_is_added_to_others() {
	local library=$work/lib/libnosigbus_preload.so
	# shellcheck disable=SC2016 # for the shell inside
	run 0 env LD_PRELOAD="$work/bin/library.so" "$nosigbus" run sh -c 'echo "$LD_PRELOAD"'
	expect "it is: $output" test "$output" = "$work/bin/library.so:$library"
	# shellcheck disable=SC2016 # for the shell inside
	run 0 "$nosigbus" run "$nosigbus" run sh -c 'echo "$LD_PRELOAD"'
	[[ $output != *:* ]] || complain "it is there twice: $output"

	mkdir -p "$work/alone/bin" "$work/a b"
	cp "$nosigbus" "$work/alone/bin"
	run 125 "$work/alone/bin/nosigbus" run true
	says "libnosigbus_preload.so is not in $work/alone/bin, nor in $work/alone/bin/../lib"
	cp "$nosigbus" "$library" "$work/a b"
	run 125 "$work/a b/nosigbus" run true
	says 'LD_PRELOAD cannot have a path with a space'
}

without_module_says_so() {
	run 0 rmmod nosigbus
	run 125 "$nosigbus" run true
	says '/dev/nosigbus: No such file .*the nosigbus module is not loaded; as root: insmod nosigbus.ko'
	run 0 "$nosigbus" run --if-available echo plain
	says 'not protected: .*'$'\n''plain$'
	run $BUS "$nosigbus" run --if-available "$preload" reads_past_eof
	run 0 insmod "$ko"
	protected 0 reads_past_eof
}

# shrunk PROGRAM: one from Debian is killed, and with nosigbus run it is not.
shrunk() {
	local how
	for how in '' "$nosigbus run --stats --"; do
		rm -rf "$work/case"
		mkdir "$work/case"
		cd "$work/case"
		# shellcheck disable=SC2046,SC2086 # several words
		run $([[ -n $how ]] && echo 0 || echo $BUS) \
			python3 "$repo/tests/programs/shrink.py" "$1" $how
		cd "$dir"
	done
}

programs=(rg ag b3sum sqlite3 git)
lives=(reads_past_eof maps_in_all_ways "library_maps $work/bin/library.so" maps_early)
keeps=(keeps_errno threads_and_signals threads_map_neighbours thread_outlives_main maps_huge_pages forks closes_all few_descriptors grows becomes_writable threads_make_writable allocator_maps)
cases=(
	own_handler_is_called syncs_tell_of_errors without_device_all_is_plain anonymous_costs_nothing
	stats_tell_kinds stats_tell_of_what_was_unmapped stats_of_children_are_their_own
	stats_of_threads_are_complete stats_of_one_file_count_each_mapping
	stats_of_many_at_once_are_complete stats_have_the_path_of_the_time stats_are_not_fooled_by_names stats_come_with_each_end stats_hit_no_file_of_the_program
	stats_to_a_closed_pipe_kill_nobody stats_tell_of_errors nothing_is_said_unasked
	status_shows_mappings status_lists_all_processes status_is_not_fooled_by_names
	status_says_what_is_wrong
	exit_statuses_are_the_programs exec_failures_are_those_of_a_shell usage_errors_say_so
	unreachable_programs_are_told preload_is_added_to_others without_module_says_so
)

{
	printf 'TAP version 13\n1..%d\n' \
		$((${#lives[@]} + ${#keeps[@]} + ${#cases[@]} + ${#programs[@]}))
	# shellcheck disable=SC2086 # several words
	for name in "${lives[@]}"; do
		tap_case "${name%% *}" only_protected_lives $name
	done
	for name in "${keeps[@]}"; do
		tap_case "$name" with_and_without_stats "$name"
	done
	for name in "${cases[@]}"; do
		tap_case "$name" "$name"
	done
	for name in "${programs[@]}"; do
		tap_case "shrunk: $name" shrunk "$name"
	done
} >"$tap"
tap_summary programs

cd /
umount "$dir"
rm -rf "$work"
