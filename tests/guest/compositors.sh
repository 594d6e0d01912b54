#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Attacks Wayland compositors from Debian in a guest whose root has them (tests/boot.sh with
# BOOT_ROOT=$(tests/toolchain.sh compositors)), as root, without a screen: each compositor
# with each attack of nosigbus-hostile, natively, under nosigbus run, and under nosigbus run with the
# options that Documentation/compositors.rst recommends.
#
# usage: compositors.sh BINDIR RESULTDIR NAME...
#
# BINDIR has the samples. A NAME is a compositor, or wlcs (wlcs.sh). tests/compositors/table has the
# expected outcomes. The results (TAP) go to RESULTDIR/compositor-NAME.tap; tests/report.py reads
# them. RESULTDIR/NAME.seen has the outcomes, as lines "ATTACK NATIVELY PLAIN RECOMMENDED".
# RESULTDIR/NAME.fds has the compositor's interfaces, and their requests that take a file
# descriptor. These requests have to be those of tests/compositors/requests. ATTACKS: names of
# attacks, to run only these.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=tap.sh
. "$(dirname "${BASH_SOURCE[0]}")/tap.sh"

if (($# > 3)); then
	# Run them side by side, because each mostly waits.
	printf '%s\0' "${@:3}" | xargs -0 -n 1 -P "$(nproc)" "$0" "$1" "$2"
	exit
elif [[ $3 == wlcs ]]; then
	exec "$(dirname "$0")/wlcs.sh" "$1" "$2"
fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../compositors/start.sh
. "$here/../compositors/start.sh"
name=$3
mkdir -p "$2"
results=$(realpath "$2")
work=$(mktemp -d)
# Copied, so that they are not read over 9p each time.
cp "$1"/{nosigbus,libnosigbus_preload.so,nosigbus-hostile} "$work"
PATH=$work:$PATH
ulimit -c 0
# wlroots keeps a descriptor of each pool. keymap-after-many needs more of them than a guest allows.
ulimit -n 65536

# The two ways to run a compositor under nosigbus run, by its options. With both, the compositor ends
# with its own status.
declare -A options=([plain]='--keep-status' [recommended]='--record-errors --force --keep-status')

# Time limits in seconds, for one step and for a whole attack. They are long, because the guest may
# be slow.
PATIENCE=120
ATTACK_PATIENCE=400

fail() {
	echo "compositors.sh: $*" >&2
	exit 1
}

must() {
	local output
	output=$("$@" 2>&1) || fail "cannot set up the tests: $*: $output"
}

# Reads the table: $rows gets the names of its rows, $attacks the names of the rows to run, and
# ${expected[COMPOSITOR ATTACK]} the cells.
rows=() attacks=()
declare -A expected=()
read_table() {
	local line columns=() i
	while read -ra line; do
		if ((${#columns[@]} == 0)); then
			columns=("${line[@]:1}")
			continue
		fi
		((${#line[@]} == ${#columns[@]} + 1)) || fail "tests/compositors/table: ${line[0]} has not ${#columns[@]} cells"
		rows+=("${line[0]}")
		[[ -n ${ATTACKS-} && " $ATTACKS " != *" ${line[0]} "* ]] || attacks+=("${line[0]}")
		for i in "${!columns[@]}"; do
			expected["${columns[i]} ${line[0]}"]=${line[i + 1]}
		done
	done < <(sed 's/#.*//; /^[[:space:]]*$/d' "$here/../compositors/table")
	((${#attacks[@]})) || fail "there is no such attack: $ATTACKS"
	[[ " ${columns[*]} " == *" $name "* ]] || fail "tests/compositors/table has no $name"
}

# Some attacks need a file system: one with files that are not memfds, or one without space.
ext4=$work/ext4 full=$work/full
declare -A places=([shm-ext4]=$ext4 [shm-full]=$full [keymap-full]=$full)
set_up() {
	mkdir "$ext4" "$full"
	modprobe -q loop || true
	must truncate -s 16M "$work/image"
	must mkfs.ext4 -q -F "$work/image"
	must mount -o loop "$work/image" "$ext4"
	must mount -t tmpfs -o size=16k tmpfs "$full"
	must dd if=/dev/zero "of=$full/all" bs=16k count=1
}

take_down() {
	must umount "$ext4" "$full"
	rm -rf "$work"
}

# start_natively, start_protected WAY: start the compositor. start_protected also starts another
# client, which has to keep its window.
start_natively() {
	start_compositor "$name" "$work/run"
	stands || complain "it does not start: $(tail -n 20 "$work/run/log")"
}

start_protected() {
	local arguments
	read -ra arguments <<<"${options[$1]}"
	start_compositor "$name" "$work/run" nosigbus run "${arguments[@]}" --
	stands || complain "it does not start: $(tail -n 20 "$work/run/log")"
	expect "it is not protected" grep -q libnosigbus_preload.so "/proc/$compositor/maps"
	nosigbus-hostile paint &>"$work/bystander" &
	bystander=$!
	await grep -q shown "$work/bystander" || complain "another client has no window: $(<"$work/bystander")"
}

# stands: whether the compositor's socket is there and answers. Fails at once if the compositor has
# ended.
stands() {
	await has_socket_or_end && ! has_ended "$compositor" && await answers
}

has_socket_or_end() {
	find_socket || has_ended "$compositor"
}

answers() {
	timeout 60 nosigbus-hostile fds
}

# attack ATTACK: sets $seen to what it did to the compositor: the signal that killed it, "exit-N",
# "hangs", "lives", or "-" if the compositor does not offer what the attack takes.
attack() {
	local status=0 arguments=()
	[[ -z ${places[$1]-} ]] || arguments=(--dir "${places[$1]}")
	timeout $ATTACK_PATIENCE nosigbus-hostile attack "$1" "${arguments[@]}" \
		--patience $PATIENCE &>"$work/attack" || status=$?
	seen=lives
	case $status in
	0) ;;
	77) seen=- ;;
	10) await has_ended "$compositor" || seen=hangs ;;
	*) complain "the client: status $status: $(tail -n 5 "$work/attack" "$work/run/log")" ;;
	esac
	if has_ended "$compositor"; then
		status=0
		wait "$compositor" || status=$?
		compositor=
		if ((status > 128)); then
			seen=SIG$(kill -l $((status - 128)))
		else
			seen=exit-$status
		fi
	elif [[ $seen == hangs ]] || ! await answers; then
		complain "it does not answer: $(tail -n 5 "$work/attack")"
		seen=hangs
		stop_compositor KILL
	fi
}

# expected_of ATTACK PART: what the cell of the table has natively (1), under nosigbus run (2), and
# with the recommended options (3). A part that is left out says that the compositor lives.
expected_of() {
	local parts
	IFS=/ read -ra parts <<<"${expected["$name $1"]}"
	echo "${parts[$2 - 1]-lives}"
}

# Whether $seen is what $want says.
is_wanted() {
	case $want in
	*\?) [[ $seen == lives || $seen == "${want%\?}" ]] ;;
	dies) [[ $seen == SIG* ]] ;;
	*) [[ $seen == "$want" ]] ;;
	esac
}

natively() { # ATTACK
	local want
	want=$(expected_of "$1" 1)
	[[ -n $compositor ]] || start_natively
	[[ -z $bad ]] || return 0
	attack "$1"
	native[$1]=$seen
	is_wanted || complain "$seen, and not what the table has, $want: $(tail -n 3 "$work/attack" "$work/run/log")"
	[[ $seen != - ]] || skip "$(tail -n 1 "$work/attack")"
	# It may die of this attack yet, and the next one must find a compositor.
	[[ $want != *\? || -z $compositor ]] || stop_compositor
}

declare -A part=([plain]=2 [recommended]=3)
under_nosigbus_run() { # WAY ATTACK
	local want before
	want=$(expected_of "$2" "${part[$1]}")
	[[ -n $compositor ]] || start_protected "$1"
	[[ -z $bad ]] || return 0
	before=$(stat -c %s "$work/run/log")
	attack "$2"
	protected["$1 $2"]=$seen
	case $seen in
	-)
		expect "it offers natively what the attack takes" test "$(expected_of "$2" 1)" = -
		skip "$(tail -n 1 "$work/attack")"
		;;
	lives)
		expect "nosigbus run is said not to help" test "$want" = lives
		! kills_natively "$2" || says_which_file "$2" "$before" ||
			{ another_paints && await says_which_file "$2" "$before"; } ||
			complain "nosigbus run has not said which file: $(grep '^nosigbus: ' "$work/run/log"); $(nosigbus status "$compositor")"
		has_ended "$bystander" || return 0
		complain "another client has ended: $(<"$work/bystander")"
		stop_compositor
		;;
	*) is_wanted || complain "$seen: $(tail -n 3 "$work/attack" "$work/run/log")" ;;
	esac
}

# Whether an attack has killed the compositor natively, by SIGBUS or by the compositor's own handler,
# and does so each time.
kills_natively() { # ATTACK
	[[ ${native[$1]-} =~ ^SIG(BUS|ABRT)$ && $(expected_of "$1" 1) != *\? ]]
}

# nosigbus run names a file at the compositor's next call of mmap(2) or munmap(2). Another client has it
# make both.
another_paints() {
	local another
	nosigbus-hostile paint &>"$work/another" &
	another=$!
	await grep -q shown "$work/another" || complain "another client has no window: $(<"$work/another")"
	kill "$another"
	wait "$another" || true
}

# Whether nosigbus run has named a file since the log had BEFORE bytes. After many pools, the kernel
# does not list the keymap, and nosigbus run can only say once that there are other files.
says_which_file() { # ATTACK BEFORE
	grep -qE '^nosigbus: .+: (accessed behind its end|cannot be (read|written) at byte)' \
		< <(tail -c "+$(($2 + 1))" "$work/run/log") && return
	[[ $1 == keymap-after-many ]] && grep -q '^nosigbus: .*: other files may have been cut off' "$work/run/log"
}

# The compositor's requests, as lines "REQUEST USE", have to be those of tests/compositors/requests.
lists_requests() {
	local wanted
	run 0 nosigbus-hostile fds
	printf '%s\n' "$output" >"$results/$name.fds"
	wanted=$(awk -v name="$name" '/^#/ || !NF { next }
		!column { for (column = 1; $column != name; ) column++; next }
		$column == "x" { print $1, $2 }' "$here/../compositors/requests" | sort)
	output=$(requests)
	[[ $output == "$wanted" ]] || complain "not what tests/compositors/requests has: $(diff <(echo "$wanted") <(echo "$output"))"
}

requests() {
	awk -F '\t' 'NF >= 5 { gsub(" ", "-", $5); print $3, $5 } $3 == "unknown" { print $1, $3 }' \
		"$results/$name.fds" | sort -u
}

has_all_attacks() {
	expect "tests/compositors/table has other attacks than nosigbus-hostile" \
		diff <(printf '%s\n' "${rows[@]}" | sort) <(nosigbus-hostile attacks | cut -f 1 | sort)
}

declare -A native=() protected=()
all() {
	local attack way
	compositor=''
	tap_case "$name, starts" start_natively
	tap_case "$name, all attacks" has_all_attacks
	tap_case "$name, requests with file descriptors" lists_requests
	for attack in "${attacks[@]}"; do
		tap_case "$name, natively, $attack: $(expected_of "$attack" 1)" natively "$attack"
	done
	[[ -z $compositor ]] || stop_compositor
	for way in plain recommended; do
		tap_case "$name, nosigbus run ${options[$way]}, starts" start_protected $way
		for attack in "${attacks[@]}"; do
			tap_case "$name, nosigbus run ${options[$way]}, $attack: $(expected_of "$attack" "${part[$way]}")" \
				under_nosigbus_run $way "$attack"
		done
		[[ -z $compositor ]] || stop_compositor
	done
}

read_table
set_up
export WAYLAND_DISPLAY XDG_RUNTIME_DIR
printf 'TAP version 13\n1..%d\n' $((3 * ${#attacks[@]} + 5)) >"$results/compositor-$name.tap"
# Drop bash's messages about killed processes: the cases report these processes themselves.
exec 3>&2 2>/dev/null
all >>"$results/compositor-$name.tap"
exec 2>&3
for attack in "${attacks[@]}"; do
	printf '%s %s %s %s\n' "$attack" "${native[$attack]-?}" "${protected["plain $attack"]-?}" \
		"${protected["recommended $attack"]-?}"
done >"$results/$name.seen"
tap_summary "$name"
echo "$((SECONDS - start)) $name" >>"$results/seconds"
take_down
