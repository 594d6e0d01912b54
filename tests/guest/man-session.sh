#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Does in the guest, as root, what the man page shows of its example.
#
# usage: man-session.sh SESSION DIRECTORY...
#
# SESSION is what one sees; what comes after a prompt ("# " or "$ ") is typed in, in
# each DIRECTORY, and what one sees then is left in its file "seen".
set -euo pipefail

session=$(realpath "$1")
shift

replay() {
	local line
	while IFS= read -r line; do
		case $line in
		'# '* | '$ '*)
			printf '%s\n' "$line"
			bash -c "${line#??}" 2>&1 </dev/null
			;;
		esac
	done <"$session"
}

for directory; do
	cd "$directory"
	replay >seen
	cd - >/dev/null
done
