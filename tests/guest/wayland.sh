#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs Wayland compositors in a guest (tests/boot.sh), as root, with well-behaved clients and a
# hostile one. The compositors are nosigbus-compositor, plain and with --protect, and Weston,
# natively and under nosigbus run.
#
# usage: wayland.sh BINDIR RESULTDIR
#
# BINDIR has the samples. The result (TAP) goes to RESULTDIR/wayland.tap;
# tests/report.py reads it. Pictures of what was seen are left in build/pictures.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=tap.sh
. "$(dirname "${BASH_SOURCE[0]}")/tap.sh"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$2"
tap=$2/wayland.tap
pictures=${here%/*/*}/build/pictures
mkdir -p "$pictures"
rm -f "$pictures"/{compositor,weston}-*.png
work=$(mktemp -d)
# Copied, so that they are not read over 9p each time.
cp "$1"/{nosigbus,libnosigbus_preload.so,nosigbus-compositor,nosigbus-hostile} "$work"
PATH=$work:$PATH
ulimit -c 0
export XDG_RUNTIME_DIR=$work/run WAYLAND_DISPLAY=wayland-test
socket=$XDG_RUNTIME_DIR/$WAYLAND_DISPLAY
mkdir -m 700 "$XDG_RUNTIME_DIR"

fail() {
	echo "wayland.sh: $*" >&2
	exit 1
}

must() {
	local output
	output=$("$@" 2>&1) || fail "cannot set up the tests: $*: $output"
}

BUS=$((128 + 7))
TERMINATED=$((128 + 15))
# A time limit in seconds. It is long, because the guest may be slow.
PATIENCE=120
# The windows of the ordinary client, whose pixels are counted, and of the hostile one.
COLOR=22aa44
WIDTH=300 HEIGHT=260
HOSTILE_WIDTH=100 HOSTILE_HEIGHT=80
PIXELS=$((WIDTH * HEIGHT))
# The least number of visible pixels where windows can overlap.
UNCOVERED=$((PIXELS - HOSTILE_WIDTH * HOSTILE_HEIGHT))
# wl_shm's invalid_fd.
TOLD='told: error 2: '
mappings=/sys/kernel/debug/nosigbus/mappings
frames=$work/frames shots=$work/shots
# A file system for files that are not memfds, and one without space for the hostile client's files.
ext4=$work/ext4 full=$work/full
# And a file system whose server does not answer.
silent=$work/silent

set_up() {
	mkdir "$frames" "$shots" "$ext4" "$full" "$silent"
	modprobe -q -a loop fuse || true
	echo 4 >/proc/sys/vm/nr_hugepages
	must truncate -s 16M "$work/image"
	must mkfs.ext4 -q -F "$work/image"
	must mount -o loop "$work/image" "$ext4"
	must mount -t tmpfs -o size=16k tmpfs "$full"
}

take_down() {
	must umount "$ext4" "$full"
	rm -rf "$work"
}

# start NAME COMMAND...: in the background, as process $NAME, which is one of these; it
# writes $work/NAME.log.
# shellcheck disable=SC2034 # used by their names
compositor='' weston='' shm='' paint='' hostile='' server=''
start() {
	local name=$1
	shift
	"$@" &>"$work/$name.log" &
	printf -v "$name" '%d' $!
}

said() { # NAME PATTERN
	grep -q -- "$2" "$work/$1.log"
}

alive() { # NAME
	expect "$1 has ended: $(tail -n 3 "$work/$1.log")" kill -0 "${!1}"
}

has_ended() { # NAME
	! kill -0 "${!1}"
}

# ends NAME STATUS: the process has to end by itself, with STATUS.
ends() {
	local status=0
	if ! await has_ended "$1"; then
		complain "$1 does not end: $(tail -n 3 "$work/$1.log")"
		kill -KILL "${!1}" || true
	fi
	wait "${!1}" || status=$?
	((status == $2)) || complain "$1: status $status, not $2: $(tail -n 3 "$work/$1.log")"
}

# stop NAME STATUS: terminates the process, which has to end with STATUS.
stop() {
	kill "${!1}" 2>/dev/null || true
	ends "$@"
}

# Starts the well-behaved clients: first Weston's own, and then one whose pixels are counted. The
# last one is on top.
start_clients() {
	start shm env WAYLAND_DEBUG=client weston-simple-shm
	await said shm 'wl_buffer.*release' || complain "weston-simple-shm is not shown"
	start paint nosigbus-hostile --color $COLOR --size ${WIDTH}x$HEIGHT paint
	await said paint shown || complain "not shown: $(<"$work/paint.log")"
}

clients_are_alive() {
	alive shm
	alive paint
}

stop_clients() {
	stop shm $TERMINATED
	stop paint $TERMINATED
}

# start_hostile ARGUMENT...
start_hostile() {
	start hostile nosigbus-hostile --size ${HOSTILE_WIDTH}x$HOSTILE_HEIGHT "$@"
}

count() { # FILE...
	nosigbus-hostile --color $COLOR pixels "$@"
}

# has_pixels FILE AT-LEAST: the picture has to show so many pixels of the ordinary client.
has_pixels() {
	local pixels
	pixels=$(count "$1") || pixels=0
	((pixels >= $2 && pixels <= PIXELS)) ||
		complain "$1 has $pixels pixels of the ordinary client, not $2 to $PIXELS"
}

# What the hostile client does, with a name for it.
modes=(
	'shrink: shrink' 'regrow: regrow' 'oversize: oversize' 'destroy: destroy'
	"full: --directory $full sparse"
)
# And with files that are not on a tmpfs, which the compositor of samples/demo/nosigbus-compositor
# takes only if it is told to.
other_modes=("ext4: --directory $ext4 shrink")
# And in the compositor of samples/demo/nosigbus-compositor:
compositor_modes=(
	"${modes[@]}" 'screenshot: while nosigbus-hostile capture /dev/null'
	'capture: capture-shrinking' "capture-full: --directory $full capture /dev/null"
)
# And in Weston:
weston_modes=("${modes[@]}" "${other_modes[@]}" 'screenshot: while weston-screenshooter')

# each_mode WHAT FUNCTION MODE...: a test for each mode, $picture being its name.
each_mode() {
	local what=$1 function=$2 mode arguments
	shift 2
	for mode; do
		picture=${mode%%: *}
		read -ra arguments <<<"${mode#*: }"
		tap_case "$what, $picture" "$function" "${arguments[@]}"
	done
}

# The compositor of samples/demo/nosigbus-compositor.

# start_compositor ARGUMENT...
start_compositor() {
	rm -f "$socket" "$frames"/*
	start compositor nosigbus-compositor --socket "$WAYLAND_DISPLAY" --pictures "$frames" "$@"
	await test -S "$socket" || complain "no socket: $(<"$work/compositor.log")"
}

frames_there() { # HOW-MANY
	local files=("$frames"/*.png)
	((${#files[@]} > $1))
}

# keep_last_frame NAME: as a picture.
keep_last_frame() {
	local files=("$frames"/*.png)
	cp "${files[-1]}" "$pictures/$1.png"
}

last_frame_is_right() {
	local files=("$frames"/*.png)
	(($(count "${files[-1]}") == PIXELS))
}

# Each mode kills the plain compositor.
is_killed() { # ARGUMENT...
	local any=()
	[[ $picture != ext4 ]] || any=(--any-file-system)
	start_compositor "${any[@]}"
	start paint nosigbus-hostile --color $COLOR --size ${WIDTH}x$HEIGHT paint
	await said paint shown || complain "not shown: $(<"$work/paint.log")"
	# Not every frame is written as a picture.
	await last_frame_is_right || complain "no picture of the ordinary client"
	start_hostile --hold 10 "$@"
	# bash prints a message about it, too.
	ends compositor $BUS 2>/dev/null
	# The ordinary client has lost its windows with it.
	ends paint 1
	wait "$hostile" || true
	keep_last_frame "compositor-plain-$picture"
	# The last picture was right.
	has_pixels "$pictures/compositor-plain-$picture.png" $PIXELS
}

# The protected compositor sends the hostile client an error. All frames show the other clients
# unchanged.
lives() { # ARGUMENT...
	local seen pixels wrong
	# Those written from now on have the ordinary client's window.
	rm -f "$frames"/*.png
	start_hostile "$@"
	await has_ended hostile || complain "the hostile client goes on"
	wait "$hostile" || true
	said hostile "$TOLD" || complain "not told: $(<"$work/hostile.log")"
	seen=("$frames"/*.png)
	await frames_there $((${#seen[@]} + 1)) || complain "no more frames"
	alive compositor
	clients_are_alive
	seen=("$frames"/*.png)
	pixels=$(count "${seen[@]}") || complain "not all frames can be read"
	wrong=$(grep -vx $PIXELS <<<"$pixels") || true
	[[ -z $wrong ]] || complain "pixels of the ordinary client in some frames: $wrong"
	(($(wc -l <<<"$pixels") == ${#seen[@]})) || complain "not all frames were counted"
	keep_last_frame "compositor-protected-$picture"
}

protected_starts() { # ARGUMENT...
	start_compositor --protect "$@"
	start_clients
	resources=$(resources)
}

protected_ends() {
	stop_clients
	stop compositor $TERMINATED
}

# The compositor has only the mappings and descriptors of the ordinary clients.
nothing_is_left() {
	await is_as_before ||
		complain "mappings and descriptors were $resources, and are $(resources)"
}

is_as_before() {
	[[ $(resources) == "$resources" ]]
}

resources() {
	grep -c /memfd: "/proc/$compositor/maps"
	find "/proc/$compositor/fd" -type l | wc -l
}

captures_are_right() { # ARGUMENT...
	run 0 nosigbus-hostile "$@" capture "$pictures/compositor-capture.png"
	has_pixels "$pictures/compositor-capture.png" $PIXELS
}

# What a client may have at a time is limited, and the ordinary ones have enough.
floods_are_stopped() {
	local what
	for what in pools bytes resized buffers callbacks objects; do
		run 0 nosigbus-hostile flood "$what"
		says 'told: error 2: more than [0-9]+ '
		alive compositor
		clients_are_alive
	done
}

# The compositor also answers frame callbacks of a client that is not visible.
callbacks_are_answered() {
	run 0 timeout $PATIENCE nosigbus-hostile --frames 20 bystander
}

# What the compositor has allocated, in KiB.
allocated() {
	awk '/^RssAnon:/ { print $2 }' "/proc/$compositor/status"
}

destroyed_pools_take_no_memory() {
	local before after
	before=$(allocated)
	run 0 nosigbus-hostile churn
	after=$(allocated)
	((after - before < 1536)) || complain "$before KiB were allocated, and are $after"
}

# A page that a client's file lacks costs the compositor no memory.
pools_are_read_only() {
	expect "no mappings" grep "^pid=$compositor .*class=shared-read" $mappings
	! grep "^pid=$compositor .*class=shared-write" $mappings || complain "writable mappings"
}

# Mounts a FUSE file system whose server opens its file and answers nothing else.
serve_silently() {
	start server python3 "$here/silent-fuse.py" "$silent"
	await said server serving || complain "not mounted: $(<"$work/server.log")"
}

end_silent_server() {
	kill -KILL "$server"
	wait "$server" 2>/dev/null || true
	must umount -l "$silent"
}

more_frames() {
	local seen=("$frames"/*.png)
	await frames_there $((${#seen[@]} + 1))
}

a_silent_file_is_refused() {
	serve_silently
	start_hostile file "$silent/file"
	await said compositor "disconnected: the file is neither a memfd nor on a tmpfs" ||
		complain "not refused: $(tail -n 3 "$work/compositor.log")"
	# Closing the file asks the server, too. The client has to wait for that.
	await said server 'unanswered: 25' || complain "the file is not closed: $(<"$work/server.log")"
	more_frames || complain "no more frames"
	alive compositor
	clients_are_alive
	end_silent_server
	ends hostile 0
	said hostile "${TOLD}the file is neither" || complain "not told: $(<"$work/hostile.log")"
}

# This is why the compositor refuses such files: otherwise it waits until the server is gone.
a_silent_file_stops_it() {
	local seen later
	serve_silently
	start_hostile file "$silent/file"
	await said server 'unanswered: ' || complain "the file is not asked for: $(<"$work/server.log")"
	sleep 2
	seen=("$frames"/*.png)
	sleep 5
	later=("$frames"/*.png)
	((${#seen[@]} == ${#later[@]})) || complain "it goes on, though it has to wait"
	end_silent_server
	more_frames || complain "no more frames"
	ends hostile 0
	said hostile "$TOLD" || complain "not told: $(<"$work/hostile.log")"
	clients_are_alive
}

invalid_is_refused() {
	local case code cases
	cases=$(nosigbus-hostile invalid list)
	for case in $cases; do
		case $case in
		format) code=0 ;;
		file* | resize-*) code=2 ;;
		*) code=1 ;;
		esac
		run 0 nosigbus-hostile invalid "$case"
		says "told: error $code: "
	done
	alive compositor
	clients_are_alive
}

without_the_device_says_so() {
	# shellcheck disable=SC2016 # for the shell inside
	run 1 unshare -m bash -c 'mount -t tmpfs tmpfs /dev && exec "$@"' hidden \
		nosigbus-compositor --socket no-device --protect
	says '/dev/nosigbus: No such file or directory .*insmod'
}

# Weston reads buffers and writes captures through libwayland, which has a SIGBUS handler.
# start_weston COMMAND...: starts Weston with COMMAND.
start_weston() {
	rm -f "$socket"
	start weston "$@" weston --backend=headless --renderer=pixman --width=640 --height=480 \
		--shell=desktop --config="$here/weston.ini" --debug --socket="$WAYLAND_DISPLAY"
	await test -S "$socket" || complain "no socket: $(<"$work/weston.log")"
	start_clients
}

# screenshot NAME: of the whole screen, as a picture.
screenshot() {
	rm -f "$shots"/*
	XDG_PICTURES_DIR=$shots run 0 weston-screenshooter
	take_shot "$1"
}

take_shot() { # NAME
	expect "no screenshot" mv "$shots"/*.png "$pictures/$1.png"
}

# Natively, Weston disconnects the client with an error, because of libwayland's SIGBUS handler.
weston_tells() { # ARGUMENT...
	rm -f "$shots"/*
	XDG_PICTURES_DIR=$shots start_hostile --frames 100 "$@"
	await has_ended hostile || complain "the hostile client goes on"
	wait "$hostile" || true
	if [[ $* == destroy ]]; then
		# Weston does not show a destroyed buffer any more.
		said hostile 'nothing to say' || complain "told: $(<"$work/hostile.log")"
	else
		said hostile "$TOLD" || complain "not told: $(<"$work/hostile.log")"
	fi
	if [[ $1 == while ]]; then
		take_shot "weston-native-$picture"
		has_pixels "$pictures/weston-native-$picture.png" $UNCOVERED
	else
		screenshot "weston-native-$picture"
		has_pixels "$pictures/weston-native-$picture.png" $PIXELS
	fi
	alive weston
	clients_are_alive
}

# Under nosigbus run, there is nothing to tell: the client's window has zeros.
weston_goes_on() { # ARGUMENT...
	rm -f "$shots"/*
	# Wait until the stand-ins of the client before are gone.
	await has_no_stand_ins || complain "stand-ins, before there is the client"
	XDG_PICTURES_DIR=$shots start_hostile --frames 1000000 "$@"
	if [[ $picture == full ]]; then
		# ENOSPC is no truncation: nosigbus run leaves it to libwayland's handler.
		await has_ended hostile || complain "the hostile client goes on"
		said hostile "$TOLD" || complain "not told: $(<"$work/hostile.log")"
		screenshot "weston-run-$picture"
	else
		case $1 in
		destroy)
			await said hostile shown || complain "not shown: $(<"$work/hostile.log")"
			screenshot "weston-run-$picture"
			;;
		while)
			await said hostile 'exit status: 0' || complain "no screenshot: $(<"$work/hostile.log")"
			take_shot "weston-run-$picture"
			await has_stand_ins || complain "no stand-ins"
			;;
		*)
			await has_stand_ins || complain "no stand-ins"
			screenshot "weston-run-$picture"
			;;
		esac
		alive hostile
		kill "$hostile" || true
	fi
	wait "$hostile" || true
	has_pixels "$pictures/weston-run-$picture.png" $UNCOVERED
	alive weston
	clients_are_alive
}

weston_ends() { # [STATUS]
	stop_clients
	stop weston "${1:-0}"
}

# Whether Weston has accessed pages past the end of a client's file.
has_stand_ins() {
	grep "^pid=$weston .*class=shared-write" $mappings | grep -q ' shadow_pages=[1-9]'
}

has_no_stand_ins() {
	! has_stand_ins
}

# captures_into_nothing STATUS PATTERN: the screenshooter passes an empty file, because strace
# suppresses its fallocate. It has to end with STATUS.
captures_into_nothing() {
	run "$1" env XDG_PICTURES_DIR="$shots" strace -qq -o "$work/strace" \
		-e trace=fallocate,ftruncate -e inject=fallocate,ftruncate:retval=0 weston-screenshooter
	says "$2"
	expect "nothing was injected" grep INJECTED "$work/strace"
	alive weston
	clients_are_alive
	screenshot "weston-after-captures"
	has_pixels "$pictures/weston-after-captures.png" $PIXELS
}

all() {
	each_mode 'compositor, plain' is_killed "${compositor_modes[@]}" "${other_modes[@]}"
	tap_case 'compositor, without the device' without_the_device_says_so

	tap_case 'compositor, protected, with ordinary clients' protected_starts
	each_mode 'compositor, protected' lives "${compositor_modes[@]}"
	tap_case 'compositor, protected, invalid requests' invalid_is_refused
	tap_case 'compositor, protected, captures' captures_are_right
	tap_case 'compositor, protected, floods' floods_are_stopped
	tap_case 'compositor, protected, callbacks' callbacks_are_answered
	tap_case 'compositor, protected, destroyed pools' destroyed_pools_take_no_memory
	tap_case 'compositor, protected, read-only' pools_are_read_only
	tap_case 'compositor, protected, FUSE is refused' a_silent_file_is_refused
	tap_case 'compositor, protected, nothing is left' nothing_is_left
	tap_case 'compositor, protected, ends' protected_ends

	tap_case 'compositor, any file system, with ordinary clients' protected_starts --any-file-system
	each_mode 'compositor, any file system' lives "${other_modes[@]}"
	tap_case 'compositor, any file system, captures' captures_are_right --directory "$ext4"
	tap_case 'compositor, any file system, FUSE stops it' a_silent_file_stops_it
	tap_case 'compositor, any file system, nothing is left' nothing_is_left
	tap_case 'compositor, any file system, ends' protected_ends

	tap_case 'Weston, natively, with ordinary clients' start_weston env
	each_mode 'Weston, natively' weston_tells "${weston_modes[@]}"
	tap_case 'Weston, natively, capture' captures_into_nothing 0 'error 2: '
	tap_case 'Weston, natively, ends' weston_ends

	tap_case 'Weston, nosigbus run, with ordinary clients' start_weston nosigbus run
	each_mode 'Weston, nosigbus run' weston_goes_on "${weston_modes[@]}"
	tap_case 'Weston, nosigbus run, capture' captures_into_nothing $BUS ''
	# Status 74 says that data written to a client's file is lost.
	tap_case 'Weston, nosigbus run, ends' weston_ends 74
}

set_up
all >"$work/cases"
# A reader of TAP expects the number of tests first.
{
	printf 'TAP version 13\n1..%d\n' "$number"
	cat "$work/cases"
} >"$tap"
tap_summary wayland
take_down
