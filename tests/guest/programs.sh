#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Tests the command nosigbus in a guest (tests/boot.sh), as root. Runs its preload library with
# programs that are hard on it, and with programs from Debian whose files shrink while they run.
# Unloads the module and loads it again.
#
# usage: programs.sh [--losses] BINDIR PROGRAMDIR RESULTDIR
#
# --losses: only programs from Debian that write to a full file system or read a truncated file.
# They must not end with 0 and a wrong result. Without it, all other tests.
#
# BINDIR has the samples, PROGRAMDIR the programs of tests/programs. The result (TAP) goes to
# RESULTDIR/programs.tap, or losses.tap; tests/report.py reads it.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=tap.sh
. "$(dirname "${BASH_SOURCE[0]}")/tap.sh"

name=programs
if [[ $1 == --losses ]]; then
	name=losses
	shift
fi
bin=$1 programs_bin=$2
mkdir -p "$3"
tap=$(realpath "$3")/$name.tap
repo=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
ko=${NOSIGBUS_KO:-$repo/build/stock/nosigbus.ko}
work=$(mktemp -d)
# Copied, so that it is not read over 9p each time. The layout is that of an installed package.
mkdir "$work/bin" "$work/lib"
cp "$bin/nosigbus" "$programs_bin"/* "$work/bin"
cp "$bin/libnosigbus_preload.so" "$work/lib"
chmod 755 "$work"
nosigbus=$work/bin/nosigbus
preload=$work/bin/preload
dir=$work/fs tracing=$work/tracing
mkdir "$dir" "$tracing"
! grep -qw tracefs /proc/filesystems || mount -t tracefs tracefs "$tracing"
mount -t tmpfs -o size=4M tmpfs "$dir"
cd "$dir"
ulimit -c 0
export HOME=$work

BUS=$((128 + 7))
PAGE=$(getconf PAGE_SIZE)

# protected STATUS [OPTION...] CASE [ARGUMENT]: runs a case of the program preload under nosigbus
# run, without its notices.
protected() {
	local status=$1 options=(--quiet --keep-status)
	shift
	while [[ $1 == --* ]]; do
		options+=("$1")
		shift
	done
	run "$status" "$nosigbus" run "${options[@]}" "$preload" "$@"
}

# calls_of "CALL..." CONDITION STATUS COMMAND...: as run. $calls is how many of these system calls meet
# the condition meanwhile, of all processes. The kernel counts them, because to stop at each for
# strace takes many times as long as the call. Where it cannot, skips the case and fails.
calls_of() {
	local name events=() event trigger="hist:keys=common_pid if $2"
	if [[ ! -e $tracing/events/syscalls/sys_enter_ioctl/hist ]]; then
		skip "no FTRACE_SYSCALLS or HIST_TRIGGERS in this kernel"
		return 1
	fi
	for name in $1; do
		event=$tracing/events/syscalls/sys_enter_$name
		[[ ! -e $event ]] || events+=("$event")
	done
	for event in "${events[@]}"; do
		echo "$trigger" >"$event/trigger" || complain "no count: $trigger"
	done
	run "${@:3}"
	calls=$(awk '/Hits:/ { sum += $2 } END { print sum + 0 }' "${events[@]/%//hist}")
	for event in "${events[@]}"; do
		echo "!$trigger" >"$event/trigger" || complain "still counted: $event"
	done
	return 0
}

# Natively, SIGBUS kills the case. Under nosigbus run, it succeeds.
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
	protected 0 --record-errors own_handler plain
	protected 0 --record-errors --force own_handler recorded
	protected 0 handler_kept replaced
	protected 0 --record-errors handler_kept replaced
	protected 0 --handlers=replace handler_kept replaced
	protected 0 --handlers=keep handler_kept kept
	protected 0 --handlers=keep handler_kept signal
	protected 0 --handlers=keep --force handler_kept replaced
}

# Mappings that already leave errors to the handler are not opted out and in again.
handlers_are_changed_often() {
	local calls
	# NOSIGBUS_DISABLE has the size of its structure in its number.
	calls_of ioctl 'cmd >= 0x40200000 && cmd <= 0x4020ffff' 0 \
		"$nosigbus" run --record-errors "$preload" changes_its_handler || return 0
	expect "$calls of 10 mappings are opted out" test "$calls" = 10
}

shared_mappings_can_be_left() {
	protected 0 --shared=read-only shared_read_only
	protected 1 --shared=all shared_read_only
}

# Removes the process ids from what the library says in $output. To start sed for that, as often as
# this is called, takes seconds.
without_ids() {
	local lines line
	mapfile -t lines <<<"$output"
	output=
	for line in "${lines[@]}"; do
		[[ ! $line =~ ^'nosigbus: '[0-9]+' '(.*) ]] || line="nosigbus: ${BASH_REMATCH[1]}"
		output+=${output:+$'\n'}$line
	done
}

# loud STATUS CASE [ARGUMENT]: runs a case with the notices. $output has them, without process ids.
loud() {
	local status=$1
	shift
	run "$status" "$nosigbus" run "${options[@]}" "$preload" "$@"
	without_ids
}

CUT_OFF="accessed behind its end (cut off?); zeros were found there"
WRITTEN="accessed behind its end (cut off?); what is written there is lost, and no other mapping has it"

ends_are_announced() {
	local options=() how text
	for how in return exit _exit _Exit quick_exit closed; do
		[[ $how =~ ^(return|closed)$ ]] && text=ended || text=
		loud 65 ends_well "r:$how"
		announces "$text" "$CUT_OFF"
		loud 74 ends_well "w:$how"
		announces "$text" "$WRITTEN"
	done
	loud 65 ends_well r:thread
	announces '' "$CUT_OFF"
	# The child's own.
	loud 0 ends_well r:fork
	announces '' "$CUT_OFF"
	for how in execv execve execvp execvpe fexecve; do
		loud 74 ends_well "w:$how"
		announces ended "$WRITTEN"
	done
	# Any other status stays.
	loud 3 stats_at_end exit
	options=(--keep-status)
	loud 0 ends_well r:return
	announces ended "$CUT_OFF"
	loud 0 ends_well w:_exit
	options=(--quiet)
	loud 65 ends_well r:exit
	expect "it says: $output" test -z "$output"
}

# named WHAT COMMAND...: runs the command until $output has the notice WHAT, for a minute at most. On
# a busy machine the search for other processes can take longer than its limit.
named() {
	local what=$1 end=$((SECONDS + 60))
	shift
	until
		"$@"
		[[ $output == *": $what" ]] || ((SECONDS >= end))
	do :; done
	announces '' "$what"
}

# The notice names the processes that may have cut the file off: those that have it open, and those
# that map it. It does so for a limited number of files.
holders_are_named() {
	local options=() opener mapper mapped
	: >"$dir/lost"
	sleep 1000 9<"$dir/lost" &
	opener=$!
	exec {mapped}< <(exec "$preload" holds_a_mapping "$dir/lost")
	mapper=$!
	read -r <&"$mapped"
	named "$CUT_OFF; $opener (sleep), $mapper (preload) have it too" loud 65 ends_well r:exit
	kill "$opener"
	wait "$opener" || true
	named "$WRITTEN; $mapper (preload) has it too" loud 74 ends_well w:exit
	kill "$mapper"
	wait "$mapper" || true
	exec {mapped}<&-
	loud 65 ends_well r:exit
	announces '' "$CUT_OFF"
}

# has_locked_map PROCESS: whether its memory map is locked.
has_locked_map() {
	local status=0
	timeout 1 cat "/proc/$1/maps" || status=$?
	((status == 124))
}

# told [ARGUMENT]: runs is_told_in_time with the notices, for a minute at most.
told() {
	run 65 timeout -s KILL 60 "$nosigbus" run "$preload" is_told_in_time "$@"
	without_ids
}

# The search for those processes ends in time, although one of them has locked its memory map. Those
# that were found until then are named.
locked_holders_stop_nobody() {
	local PATIENCE=60 server opener holder to_it
	mkdir -p "$work/silent"
	modprobe -q fuse || true
	python3 "$repo/tests/guest/silent-fuse.py" --direct-io "$work/silent" >"$work/served" &
	server=$!
	expect "there is no file system" await grep -q serving "$work/served"
	: >"$dir/lost"
	sleep 1000 9<"$dir/lost" &
	opener=$!
	rm -f to
	mkfifo to
	"$preload" locks_its_map "$work/silent/file" <to &
	holder=$!
	exec {to_it}>to
	# FUSE_READ
	expect "nothing is read" await grep -q 'unanswered: 15' "$work/served"
	exec {to_it}>&-
	expect "the memory map is not locked" await has_locked_map "$holder"
	# On a busy machine not each search gets as far as that process.
	for _ in {1..5}; do
		[[ -n $bad ]] || told
	done
	named "$CUT_OFF; $opener (sleep) has it too" told
	expect "the memory map was not locked" has_locked_map "$holder"

	# All that wait for the server wait no more.
	kill -9 "$server" "$opener"
	wait "$server" "$opener" "$holder" || true
	umount -l "$work/silent"
}

# Where there can be no search, nobody is named.
searches_are_left_out() {
	local opener how
	: >"$dir/lost"
	sleep 1000 9<"$dir/lost" &
	opener=$!
	named "$CUT_OFF; $opener (sleep) has it too" told
	for how in filter namespace; do
		told $how
		announces '' "$CUT_OFF"
	done
	kill "$opener"
	wait "$opener" || true
}

# Another thread closes the file descriptors that tell of the end of a process. The search needs none.
searches_lose_their_descriptor() {
	local options=()
	loud 65 closes_while_searching
	announces '' "$CUT_OFF"
}

# announces TEXT WHAT: $output has to be TEXT, which the program prints, and the notice WHAT about
# the file.
announces() {
	has_lines ${1:+"$1"} "nosigbus: (preload): $dir/lost: $2"
}

# has_lines LINE...: $output has to be these lines, in any order.
has_lines() {
	local expected said=$output
	printf -v expected '%s\n' "$@"
	expected=${expected%$'\n'}
	if [[ $said != "$expected" && $said == *$'\n'* ]]; then
		said=$(sort <<<"$said") expected=$(sort <<<"$expected")
	fi
	[[ $said == "$expected" ]] || complain "it says: $said"$'\n'"expected: $expected"
}

files_are_announced_when_there_are_descriptors() {
	local options=()
	loud 0 runs_out_of_descriptors
	announces '' "$CUT_OFF"
}

each_file_is_announced_once() {
	local options=()
	loud 65 loses_and_unmaps
	lines "(preload): $dir/lost-0: $CUT_OFF" "(preload): $dir/lost-1: $CUT_OFF" \
		"(preload): $dir/lost-2: $CUT_OFF"
}

# To find the path of a file takes a look at each mapping, and clients choose how many of both there are.
many_files_cost_little() {
	local calls count
	calls_of ioctl 'cmd != 0' 0 "$nosigbus" run "$preload" loses_many_files || return 0
	count=$(grep -cF "$CUT_OFF" <<<"$output") || true
	expect "$count of 64 files are announced" test "$count" = 64
	expect "$calls ioctls" test "$calls" -gt 2000 -a "$calls" -le 20000
}

full_disks_are_announced() {
	local options=(--record-errors)
	loud 74 fills
	says "^nosigbus: \\(preload\\): $dir/full: cannot be written at byte [1-9][0-9]* \\(ENOSPC\\); what is written there is lost, and no other mapping has it$"
	rm full
}

announced_at_once_in_a_log() {
	local waiting to_it
	waiting waits_after_a_call "$nosigbus" run --log log
	expect "it says: $(<log)" grep -q "^nosigbus: $waiting (preload): $dir/lost: accessed behind its end" log
	kill -9 "$waiting"
	wait "$waiting" || true
	exec {to_it}>&-
	run 125 "$nosigbus" run --log no/such/log true
	says 'no/such/log: No such file'
	rm log
}

locked_mappings_are_plain() {
	local how options=()
	for how in mlock mlockall; do
		loud 0 locks $how
		lines "(preload): some mappings of files are not protected: the program locks them in memory, or advises the kernel so"
	done
	loud 0 locks madvise
}

without_proc_it_becomes_writable() {
	protected 0 becomes_writable_without_proc
}

too_many_mappings_are_plain() {
	local how options=() before limit
	before=$(sysctl -n vm.max_map_count)
	for how in maps_page_by_page maps_every_other_page protects_page_by_page maps_apart; do
		# The library compares half of it with the number of its mappings, which it learns once
		# per 1024. Once with so many that the kernel lists 4096 of them and counts the others.
		limit=3072
		[[ $how != maps_page_by_page ]] || limit=8192
		sysctl -q vm.max_map_count=$limit
		loud 0 $how $limit
		if [[ $how == maps_apart ]]; then
			expect "it says: $output" test -z "$output"
		else
			lines "(preload): some mappings of files are not protected: there are too many (vm.max_map_count)"
		fi
	done
	sysctl -q vm.max_map_count="$before"
}

what_filters_forbid_is_said() {
	local options=()
	loud 0 is_filtered
	lines "(preload): files that are mapped from here on are not protected: /dev/nosigbus cannot be used (errno 1)"
	protected 0 mremap_fails
}

# A program of another libc does not start with the library. AddressSanitizer insists on being the
# first library of a program.
other_runtimes_run() {
	local musl=$work/bin/five-musl
	if [[ ! -e $musl ]]; then
		skip "the compilers for this machine have no other runtimes"
		return
	fi
	run 125 "$nosigbus" run "$musl"
	says '/five-musl: it is linked with musl, not with glibc'
	run 5 "$nosigbus" run --if-available "$musl"
	# shellcheck disable=SC2016 # for the shell inside
	run 5 "$nosigbus" run sh -c '"$1"; exit $?' sh "$musl"
	says '\(sh\): [^ ]*/five-musl: not protected: it is linked with musl'
	run 5 "$nosigbus" run python3 -c 'import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))' "$musl"
	says '\(python3\): [^ ]*/five-musl: not protected: it is linked with musl'
	run 5 env ASAN_OPTIONS=verify_asan_link_order=0 "$nosigbus" run "$work/bin/five-asan"
}

sandboxes_are_said() {
	local script='import mmap; f = open("/etc/passwd"); print(mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[:4])'
	run 0 "$nosigbus" run bwrap --ro-bind / / --proc /proc --dev /dev python3 -c "$script"
	says 'files that are mapped from here on are not protected: /dev/nosigbus cannot be used'
	run 0 "$nosigbus" run bwrap --ro-bind / / --proc /proc --dev /dev \
		--dev-bind /dev/nosigbus /dev/nosigbus python3 -c "$script"
	expect "it says: $output" test "$output" = "b'root'"
}

programs_not_reached_are_named() {
	run 0 "$nosigbus" run sh -c 'busybox true; true'
	says '\(sh\): [^ ]*/busybox: not protected: it is statically linked'
	run 0 "$nosigbus" run env -i /bin/true
	says '\(env\): /bin/true: not protected: its environment is without LD_PRELOAD'
	run 0 "$nosigbus" run python3 -c 'import os; os.posix_spawnp("busybox", ["busybox", "true"], os.environ)'
	says '\(python3\): [^ ]*/busybox: not protected: it is statically linked'
	run 0 "$nosigbus" run sh -c 'env true; true'
	expect "it says: $output" test -z "$output"
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

# The library adds at most one system call for each anonymous mapping, to check whether there is
# anything to announce. With --quiet it adds none.
anonymous_costs_little() {
	local counts
	# shellcheck disable=SC2016 # for the shell inside
	run 0 strace -qq -f -o "$work/strace" sh -c '"$1" maps_anonymous &&
		"$2" run --quiet --keep-status "$1" maps_anonymous &&
		"$2" run "$1" maps_anonymous' anonymous "$preload" "$nosigbus"
	mapfile -t counts < <(awk '/sched_yield\(/ { if (counts) print n; counts = !counts; n = -1 } { n++ }' \
		"$work/strace")
	expect "${counts[*]} system calls for 30 mappings, plain, protected and quiet, protected" \
		test "${#counts[@]}" = 3 -a "${counts[0]}" = 90 -a "${counts[1]}" = 90 -a "${counts[2]}" -le 120
}

# stats STATUS CASE [ARGUMENT]: $output is what --stats says, without process ids.
stats() {
	local status=$1
	shift
	protected "$status" --stats "$@"
	without_ids
}

# lines TEXT...: $output has to be these lines, after "nosigbus: ", in any order.
lines() {
	has_lines "${@/#/nosigbus: }"
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

# unmaps_many HOW OPTION...: runs that case. $calls is how often the library has opened the kernel's
# list of mappings. Its device has the same number in each program.
unmaps_many() {
	local device
	run 0 "$nosigbus" run "$preload" prints_its_device
	device=$output
	# Architectures that are not old have openat alone.
	calls_of "open openat" "filename.ustring ~ \"*/fdinfo/$device\"" 65 \
		timeout -s KILL 300 "$nosigbus" run "${@:2}" "$preload" unmaps_many "$1" || return 1
	says "device $device("$'\n'"|\$)"
}

# A client chooses how long that list is, and it is not read for each mapping of 1024 that goes. What
# is not looked at for that reason is counted. Neither is it read once there is no space to keep more.
many_unmapped_cost_little() {
	local calls
	unmaps_many at_once --stats || return 0
	expect "$calls reads of a long list" test "$calls" -gt 0 -a "$calls" -le 128
	expect "it does not say: $CUT_OFF" grep -qF "(preload): $dir/lost: $CUT_OFF" <<<"$output"
	says 'other files may have been cut off, or have failed: they cannot be told apart'
	says 'up to ([0-9]+) more, which are not mapped any more'
	expect "$found and those that are told of are not 1024" test \
		$((found + $(grep -c "/lost ($PAGE bytes mapped): 1 zero page" <<<"$output"))) = 1024
	says 'mappings of files: 1024 opted in, up to 1024 had lost pages'

	unmaps_many one_after_the_other --quiet --stats || return 0
	expect "$calls reads of a short list" test "$calls" -ge 2048 -a "$calls" -le 2064
	says 'up to 32 more, which are not mapped any more'
}

children_end_with_their_own_status() {
	run 65 "$nosigbus" run --quiet "$preload" child_unmaps
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

# The reader of the pipe is gone.
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
	protected 0 --record-errors --force --stats own_handler recorded
	says "[1-9][0-9]* shadow pages; ([0-9]+) for errors, the first ENOSPC \(28\) at byte [0-9]+"
	expect "no errors counted" test "${found:-0}" -gt 0
	# Without --record-errors, no errors are counted.
	protected 0 --stats own_handler plain
	[[ $output != *errors* ]] || complain "it says: $output"
}

nothing_is_said_unasked() {
	protected 0 stats_of_each_kind
	[[ -z $output ]] || complain "it says: $output"
}

# waiting CASE COMMAND...: starts a program that maps a truncated file and waits. Sets $waiting to
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
	waiting waits "$nosigbus" run --quiet --keep-status
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

# File names that are not text, control the terminal, contain line breaks, or imitate the kernel's
# output.
status_is_not_fooled_by_names() {
	local waiting to_it row
	row="shared-read 1 0 0 0 /memfd:\\377\\u{1b}[31m\\npid=1 range=0-1 (deleted)"
	waiting waits_with_hostile_names "$nosigbus" run --quiet --keep-status
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
	waiting waits "$nosigbus" run --quiet --keep-status
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
	# Ignored and blocked signals have to stay as they were.
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

# Programs without the dynamic linker, and programs for which it would not load the library.
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

# An administrator may have it loaded into all programs. One that gains privileges must not do what
# the environment of an unprivileged user says.
privileged_programs_open_no_log() {
	local -a nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	cp /usr/bin/true privileged
	mkdir -m 777 logs
	echo "$work/lib/libnosigbus_preload.so" >/etc/ld.so.preload
	run 0 "${nobody[@]}" env NOSIGBUS_RUN=quiet "NOSIGBUS_LOG=$dir/logs/plain" ./privileged
	chmod 4755 privileged
	run 0 "${nobody[@]}" env NOSIGBUS_RUN=quiet "NOSIGBUS_LOG=$dir/logs/setuid" ./privileged
	# Nor must what it executes do so, for which nobody can tell any more.
	cp "$preload" privileged
	chmod 4755 privileged
	run 0 "${nobody[@]}" env NOSIGBUS_RUN=quiet "NOSIGBUS_LOG=$dir/logs/child" ./privileged becomes_root
	rm /etc/ld.so.preload
	expect "it opens a log if it is not privileged" test -e logs/plain
	expect "it opens no log if it is" test ! -e logs/setuid
	expect "a program that it executes opens none either" test ! -e logs/child
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
	says '/dev/nosigbus: No such file .*the nosigbus module is not loaded; as root: modprobe nosigbus'
	run 0 "$nosigbus" run --if-available echo plain
	says 'not protected: .*'$'\n''plain$'
	run $BUS "$nosigbus" run --if-available "$preload" reads_past_eof
	run 0 insmod "$ko"
	protected 0 reads_past_eof
}

# shrunk PROGRAM: SIGBUS kills a program from Debian, but not under nosigbus run.
shrunk() {
	rm -rf "$work/case"
	mkdir "$work/case"
	cd "$work/case"
	run 0 python3 "$repo/tests/programs/shrink.py" "$1" "$nosigbus" run --stats --
	cd "$dir"
}

# lossy CASE [OPTION...]: natively, SIGBUS kills a program from Debian, or the program reports an
# error itself. Under nosigbus run, the program must not end with 0 and a wrong result.
lossy() {
	local case=$1 how status verdict
	shift
	for how in '' "$nosigbus run $*"; do
		umount "$work/small" 2>/dev/null || true
		mkdir -p "$work/small"
		mount -t tmpfs -o size=4M tmpfs "$work/small"
		cd "$work/small"
		# shellcheck disable=SC2086 # several words
		run 0 python3 "$repo/tests/programs/losses.py" "$case" $how
		read -r status verdict <<<"$output" || true
		printf '# %s, %s: status %s, %s: %s\n' "$case" "${how:+protected ${*:-as it is}}" "$status" \
			"$verdict" "$(sed -n 's/^\(nosigbus: \).*\(): \)/\1/p' <<<"$output" | head -1)"
		if [[ -z $how ]]; then
			expect "natively it ends with 0 and is $verdict: it proves nothing" test "$status" != 0
		elif [[ $verdict == wrong ]]; then
			expect "it ends with $status, and is wrong" test "$status" != 0 -a "$status" != $BUS
			[[ $status != 65 && $status != 74 ]] || says 'nosigbus: [0-9]+ '
		else
			expect "it ends with $status, and is right" test "$status" = 0
		fi
		cd "$dir"
	done
	umount "$work/small"
}

losses=(
	"numpy --record-errors" "numpy_no_flush --record-errors" "shared_memory --record-errors"
	"java --record-errors" "java --record-errors --force" "lld --record-errors --force"
	"rrdtool --record-errors" lrzip vips lmdb
)
programs=(rg ag b3sum sqlite3 git)
lives=(reads_past_eof maps_in_all_ways "library_maps $work/bin/library.so" maps_early)
keeps=(keeps_errno threads_and_signals threads_map_neighbours thread_outlives_main maps_huge_pages forks closes_all few_descriptors grows becomes_writable threads_make_writable allocator_maps)
cases=(
	own_handler_is_called handlers_are_changed_often shared_mappings_can_be_left ends_are_announced
	files_are_announced_when_there_are_descriptors each_file_is_announced_once holders_are_named
	locked_holders_stop_nobody searches_are_left_out searches_lose_their_descriptor
	many_files_cost_little full_disks_are_announced announced_at_once_in_a_log locked_mappings_are_plain
	without_proc_it_becomes_writable too_many_mappings_are_plain what_filters_forbid_is_said
	programs_not_reached_are_named other_runtimes_run sandboxes_are_said
	syncs_tell_of_errors without_device_all_is_plain anonymous_costs_little
	stats_tell_kinds stats_tell_of_what_was_unmapped stats_of_children_are_their_own
	stats_of_threads_are_complete stats_of_one_file_count_each_mapping
	stats_of_many_at_once_are_complete many_unmapped_cost_little children_end_with_their_own_status
	stats_have_the_path_of_the_time stats_are_not_fooled_by_names stats_come_with_each_end stats_hit_no_file_of_the_program
	stats_to_a_closed_pipe_kill_nobody stats_tell_of_errors nothing_is_said_unasked
	status_shows_mappings status_lists_all_processes status_is_not_fooled_by_names
	status_says_what_is_wrong
	exit_statuses_are_the_programs exec_failures_are_those_of_a_shell usage_errors_say_so
	unreachable_programs_are_told privileged_programs_open_no_log preload_is_added_to_others without_module_says_so
)

all_programs() {
	local case
	printf 'TAP version 13\n1..%d\n' \
		$((${#lives[@]} + ${#keeps[@]} + ${#cases[@]} + ${#programs[@]}))
	# shellcheck disable=SC2086 # several words
	for case in "${lives[@]}"; do
		tap_case "${case%% *}" only_protected_lives $case
	done
	for case in "${keeps[@]}"; do
		tap_case "$case" with_and_without_stats "$case"
	done
	for case in "${cases[@]}"; do
		tap_case "$case" "$case"
	done
	for case in "${programs[@]}"; do
		tap_case "shrunk: $case" shrunk "$case"
	done
}

all_losses() {
	local case
	printf 'TAP version 13\n1..%d\n' ${#losses[@]}
	for case in "${losses[@]}"; do
		# shellcheck disable=SC2086 # several words
		tap_case "$case" lossy $case
	done
}

"all_$name" >"$tap"
tap_summary "$name"

cd /
umount "$dir"
! mountpoint -q "$tracing" || umount "$tracing"
rm -rf "$work"
