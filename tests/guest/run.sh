#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs in a guest (tests/boot.sh), as root, what tests/test.sh has found in tests/table for
# it.
#
# usage: run.sh RESULTDIR
#
# RESULTDIR/commands has the commands, one a line. How many seconds each took is added to
# RESULTDIR/seconds; of selftests.sh it is each program. Fails if one of them does.
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
