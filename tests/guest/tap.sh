#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Shared by the tests of programs (source it, do not run it): a case is a function
# that calls complain if something is wrong.

# shellcheck disable=SC2034 # for those who source this

number=0 failed=0 start=$SECONDS
# A line "MILLISECONDS LABEL" for each case.
durations=''

# expect WHAT COMMAND...: the command has to succeed.
expect() {
	local what=$1
	shift
	"$@" &>/dev/null || complain "$what"
}

complain() {
	printf '%s\n' "$*" | sed 's/^/# /'
	bad=yes
}

# run STATUS COMMAND...: runs the command, which has to end with STATUS. $output gets its output.
run() {
	local expected=$1 status=0
	shift
	output=$("$@" 2>&1) || status=$?
	((status == expected)) || complain "status $status, not $expected: $*: $output"
}

# await COMMAND...: whether it succeeds within $PATIENCE seconds.
await() {
	local end=$((SECONDS + PATIENCE))
	until "$@" &>/dev/null; do
		((SECONDS < end)) || return 1
		sleep 0.05
	done
}

# says PATTERN: $output has to match it; sets $found to what its last group matches.
says() {
	found=
	if [[ $output =~ $1 ]]; then
		found=${BASH_REMATCH[-1]}
	else
		complain "not what it is to say ($1): $output"
	fi
}

# skip WHY: marks the case as skipped, because it cannot test anything.
skip() {
	skipped=$1
}

# milliseconds: sets $now to those since 1970. A locale may have a comma in place of the point.
milliseconds() {
	now=$((${EPOCHREALTIME/[.,]/} / 1000))
}

# tap_case LABEL FUNCTION [ARGUMENT...]: runs a case, and prints its result and how long it took.
tap_case() {
	local label=$1 result=ok bad='' skipped='' now began
	shift
	number=$((number + 1))
	milliseconds
	began=$now
	"$@"
	milliseconds
	durations+="$((now - began)) $label"$'\n'
	printf '# %d ms\n' $((now - began))
	[[ -z $bad ]] || result='not ok' failed=$((failed + 1))
	[[ -z $skipped || -n $bad ]] || label+=" # SKIP ${skipped//$'\n'/ }"
	printf '%s %d %s\n' "$result" "$number" "$label"
}

# tap_summary NAME: for the console, with the five slowest cases if all took a minute.
tap_summary() {
	echo "  $1: pass:$((number - failed)) fail:$failed ($((SECONDS - start)) s)"
	((SECONDS - start < 60)) || sort -rn <<<"$durations" | head -5 |
		awk '{ ms = $1; sub(/^[0-9]+ /, ""); printf "    %5.1f s  %s\n", ms / 1000, $0 }'
}
