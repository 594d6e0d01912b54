#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs one hostile client against a real desktop, Debian's sway, and against the same sway under
# nosigbus run. The client passes an empty file as the keymap of a virtual keyboard. Both
# desktops are windows of a third sway, which has no screen and plays the part of the monitor.
# The client does not attack the third sway, so it can still take a picture when a desktop has
# died. Needs the nosigbus module, sway, swaybg, foot, grim and Weston's demo clients. Exits 1
# if a step does not go as expected.
#
# usage: desktop.sh BINDIR PICTUREDIR
#
# BINDIR has nosigbus, its library and nosigbus-hostile. The script writes pictures of the screen
# to PICTUREDIR: desktop-before.png and desktop-after.png.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

work=$(mktemp -d)
mkdir -p "$2"
pictures=$(realpath "$2")
rm -f "$pictures"/desktop-{before,after}.png
cp "$1"/{nosigbus,libnosigbus_preload.so,nosigbus-hostile} "$work"
cd "$work"
PATH=$work:$PATH
ulimit -c 0
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$here/common.sh"

# The colour of one window on each desktop. The two colours look the same.
declare -A color=([plain]=22aa44 [protected]=22aa45)
WIDTH=150 HEIGHT=100

# configure NAME LINE...: writes the configuration of a sway.
configure() {
	mkdir -m 700 "$1"
	printf '%s\n' 'xwayland disable' 'font pango:DejaVu Sans 10' 'focus_on_window_activation none' \
		'client.focused #285577 #285577 #ffffff #285577 #285577' \
		'client.unfocused #285577 #285577 #ffffff #285577 #285577' \
		'client.focused_inactive #285577 #285577 #ffffff #285577 #285577' "${@:2}" >"$1/config"
}

# sway_as NAME COMMAND...: runs the command, which starts a sway, and waits for sway's socket.
declare -A process=()
sway_as() {
	local name=$1
	shift
	XDG_RUNTIME_DIR=$work/$name WLR_RENDERER=pixman SWAYSOCK=$work/$name/ipc "$@" &>"$name/log" &
	process[$name]=$!
	await "the socket of $name" test -S "$name/wayland-1"
}

# on NAME COMMAND...: runs the command as a client of that sway.
on() {
	XDG_RUNTIME_DIR=$work/$1 WAYLAND_DISPLAY=wayland-1 SWAYSOCK=$work/$1/ipc "${@:2}"
}

# desktop NAME TITLE X COMMAND...: starts a sway by the command, in a window of the monitor, and
# three windows on that sway.
desktop() {
	local name=$1 title=$2 x=$3
	shift 3
	configure "$name" 'output * background #446688 solid_color' \
		'for_window [app_id="foot"] floating enable, resize set 330 180, move position 15 45' \
		'for_window [app_id=".*flower"] floating enable, move position 270 120' \
		"for_window [app_id=\"paint\"] floating enable, move position 40 230"
	# swaymsg waits only three seconds for an answer.
	await "the monitor's answer" on monitor swaymsg --quiet "for_window [title=\"^wlroots\"] 'floating enable, border normal, \
		resize set 500 370, move position $x 35, title_format \"$title\"'"
	sway_as "$name" env WLR_BACKENDS=wayland "WAYLAND_DISPLAY=$work/monitor/wayland-1" \
		"$@" sway --config "$work/$name/config"
	on "$name" foot -- sh -c "uname -sr; echo; tail -n +1 $work/says; exec sleep infinity" &>"$name/foot" &
	clients+=($!)
	on "$name" env WAYLAND_DEBUG=client weston-flower &>"$name/flower" &
	clients+=($!)
	on "$name" nosigbus-hostile --color "${color[$name]}" --size ${WIDTH}x$HEIGHT paint &>"$name/paint" &
	clients+=($!)
	await "weston-flower" grep -q 'wl_surface.*attach' "$name/flower"
	await "a window of one colour" grep -q shown "$name/paint"
	await "a picture of $name" shows "$name" $((WIDTH * HEIGHT))
}

# picture FILE: takes a picture of the monitor.
picture() {
	on monitor grim "$1"
}

# shows NAME PIXELS: succeeds if the monitor shows this many pixels of that desktop's window.
shows() {
	picture now.png
	[[ $(nosigbus-hostile --color "${color[$1]}" pixels now.png) == "$2" ]]
}

# attack NAME: runs the hostile client against that desktop, and prints the client's last line.
attack() {
	local status=0
	on "$1" nosigbus-hostile attack keymap-empty &>"$1/attack" || status=$?
	echo "   hostile client: $(tail -n 1 "$1/attack")"
	return $status
}

clients=()
cat >says <<-'END'
	$ cat letter.txt
	Dear reader, what is not saved
	here is lost if sway dies.
END
echo "Two desktops, sway $(sway --version | sed 's/.* //'), with a terminal and two other windows each. A client passes"
echo "an empty file as its keyboard's keymap, and says that it has 64 KiB."
configure monitor 'output * resolution 1060x420 background #101010 solid_color'
sway_as monitor env WLR_BACKENDS=headless sway --config "$work/monitor/config"
desktop plain 'sway' 15
desktop protected 'nosigbus run sway' 545 nosigbus run --keep-status --
picture "$pictures/desktop-before.png"
echo
echo "1. sway:"
status=0
attack plain || status=$?
((status == 10)) || fail "the client does not take it for gone: $(<plain/attack)"
await "the end of sway" has_ended "${process[plain]}"
status=0
wait "${process[plain]}" || status=$?
((status == BUS)) || fail "it should have died of SIGBUS, and ended with status $status: $(tail -n 5 plain/log)"
echo "   sway: killed by signal 7 (SIGBUS)"
wait "${clients[@]::3}" || true
await "a picture without it" shows plain 0
echo "   its clients: gone with it"
echo
echo "2. nosigbus run sway:"
attack protected || fail "the client does not say that it goes on: $(<protected/attack)"
grep '^nosigbus: ' protected/log | sed 's/^/   /'
# Runs another client, so that sway must draw new frames after the attack.
on protected nosigbus-hostile --color 0000fe --size 20x20 --frames 2 oversize &>protected/after || true
await "the same picture" shows protected $((WIDTH * HEIGHT))
for client in "${clients[@]:3}"; do
	kill -0 "$client" || fail "one of its clients is gone"
done
await "sway's answer" on protected swaymsg -t get_version
picture "$pictures/desktop-after.png"
echo "   sway: goes on; its clients are shown as before"
kill "${clients[@]:3}" "${process[protected]}" "${process[monitor]}" || true
wait || true
echo
echo "Pictures: $pictures/desktop-*.png"
cd /
rm -rf "$work"
