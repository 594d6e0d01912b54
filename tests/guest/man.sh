#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Replays the example session of nosigbus(4) in the guest (tests/boot.sh), as root, and compares the
# output.
#
# usage: man.sh DIRECTORY RESULTDIR
#
# tests/host/man.sh makes DIRECTORY. It has the example as a 64-bit and as a 32-bit program, and
# "session", the text on the terminal. In it, text after a prompt ("# " or "$ ") is input. The
# result (TAP) goes to RESULTDIR/man.tap.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=tap.sh
. "$(dirname "${BASH_SOURCE[0]}")/tap.sh"

directory=$(realpath "$1")
mkdir -p "$2"
tap=$2/man.tap

replay() {
	local line
	while IFS= read -r line; do
		case $line in
		'# '* | '$ '*)
			printf '%s\n' "$line"
			bash -c "${line#??}" 2>&1 </dev/null
			;;
		esac
	done <"$directory/session"
}

as_shown() { # BITS
	local difference
	(cd "$directory/$1" && replay >seen)
	difference=$(diff -u "$directory/session" "$directory/$1/seen") || complain "$difference"
}

{
	printf 'TAP version 13\n1..2\n'
	for bits in 64 32; do
		tap_case "the example does what is shown, $bits bits" as_shown "$bits"
	done
} >"$tap"
tap_summary man
