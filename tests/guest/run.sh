#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs in a guest (tests/boot.sh), as root, the commands that tests/test.sh has taken from
# tests/table.
#
# usage: run.sh RESULTDIR
#
# RESULTDIR/commands has the commands, one per line. The script adds the seconds that each took to
# RESULTDIR/seconds; selftests.sh itself adds those of each program. Fails if a command fails.
set -euo pipefail

results=$1 status=0
while read -r command; do
	start=$SECONDS name=${command%% *}
	bash -c "$command" </dev/null || status=$?
	case $name in
	*/selftests.sh) ;;
	*) echo "$((SECONDS - start)) $(basename "$name" .sh)" >>"$results/seconds" ;;
	esac
done <"$results/commands"
exit $status
