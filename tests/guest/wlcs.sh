#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs all of wlcs, the conformance tests for Wayland compositors, on Mir, natively and under
# nosigbus run. The guest's root has both (tests/boot.sh with BOOT_ROOT=$(tests/toolchain.sh
# compositors)). Each test has to end the same way both times, except those of
# tests/compositors/wlcs.
#
# usage: wlcs.sh BINDIR RESULTDIR
#
# BINDIR has the samples. The result (TAP) goes to RESULTDIR/wlcs.tap, and what wlcs has printed
# to RESULTDIR/wlcs-natively and wlcs-protected.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=tap.sh
. "$(dirname "${BASH_SOURCE[0]}")/tap.sh"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
differences=$here/../compositors/wlcs
mkdir -p "$2"
results=$(realpath "$2")
work=$(mktemp -d)
cp "$1"/{nosigbus,libnosigbus_preload.so} "$work"
ulimit -c 0

# wlcs_as HOW FILTER [COMMAND...]: runs the tests that FILTER selects. $work/HOW gets "TEST OUTCOME"
# for each, in order.
wlcs_as() {
	local how=$1 filter=$2 status=0 runtime begin
	shift 2
	runtime=$(mktemp -d)
	begin=$(stat -c %s "$results/wlcs-$how")
	# Appended, because more than one process writes there.
	XDG_RUNTIME_DIR=$runtime LIBGL_ALWAYS_SOFTWARE=1 timeout 6000 \
		"$@" /usr/lib/*/wlcs/wlcs /usr/lib/*/mir/miral_wlcs_integration.so --gtest_color=no \
		"--gtest_filter=$filter" >>"$results/wlcs-$how" 2>&1 || status=$?
	rm -rf "$runtime"
	echo "$status" >"$work/$how.status"
	tail -c "+$((begin + 1))" "$results/wlcs-$how" >"$work/$how.log"
	sed -nE 's/^.*\[ +(OK|FAILED|SKIP) +\] ([^ ,]+).* \([0-9]+ ?ms\)$/\2 \1/p' "$work/$how.log" |
		sort >"$work/$how"
}

# both_ways FILTER: side by side. $work/joined gets "TEST NATIVELY PROTECTED" for each test.
both_ways() {
	wlcs_as natively "$1" env &
	wlcs_as protected "$1" "$work/nosigbus" run --keep-status -- &
	wait
	join -a 1 -a 2 -e missing -o 0,1.2,2.2 "$work/natively" "$work/protected" >"$work/joined"
}

# Lines of $work/all: the tests that end differently, but for those of tests/compositors/wlcs.
unexplained() {
	awk '$2 != $3' "$work/all" | grep -vxFf <(sed '/^#/d; /^$/d' "$differences") || true
}

# Some tests depend on time, and fail now and then. So only a difference that is there three times
# counts: runs again what has ended differently, unless that is more than a few. $work/all gets "TEST
# NATIVELY PROTECTED" of the last run of each test.
runs_again() {
	local times differing
	for times in 2 3; do
		mapfile -t differing < <(unexplained | cut -d ' ' -f 1)
		((${#differing[@]} > 0 && ${#differing[@]} <= 10)) || return 0
		printf '# time %d: %s\n' $times "${differing[*]}"
		both_ways "$(IFS=: && echo "${differing[*]}")"
		awk 'FILENAME == ARGV[1] { again[$1] = $0; next } $1 in again { print again[$1]; next } { print }' \
			"$work/joined" "$work/all" >"$work/new"
		mv "$work/new" "$work/all"
	done
}

# No test may be left out: at the end, gtest prints how many there were.
runs_to_its_end() { # HOW
	local there outcomes
	there=$(sed -nE 's/^.*\[=+\] ([0-9]+) tests from .* (cases|suites) r[au]n\..*/\1/p' "$work/$1.log")
	outcomes=$(wc -l <"$work/$1")
	[[ -n $there ]] || complain "status $(<"$work/$1.status"), and no end: $(tail -n 5 "$work/$1.log")"
	expect "$there tests, and $outcomes outcomes" test "$there" = "$outcomes"
	((there > 100)) || complain "only $there tests"
}

same_in() { # GROUP
	local other
	other=$(unexplained | awk -v group="$1" 'index($1, group ".") == 1')
	[[ -z $other ]] || complain "natively and protected: $other"
}

differs_as_explained() { # LINE
	expect "it is $(grep -F "${1%% *} " "$work/all")" grep -qxF "$1" "$work/all"
}

for how in natively protected; do
	: >"$results/wlcs-$how"
done
both_ways '*'
mv "$work/joined" "$work/all"
mapfile -t groups < <(sed 's/\..*//' "$work/all" | sort -u)
mapfile -t explained < <(sed '/^#/d; /^$/d' "$differences")
{
	printf 'TAP version 13\n1..%d\n' $((2 + ${#groups[@]} + ${#explained[@]}))
	tap_case 'wlcs, natively, runs to its end' runs_to_its_end natively
	tap_case 'wlcs, nosigbus run, runs to its end' runs_to_its_end protected
	runs_again
	for group in "${groups[@]}"; do
		tap_case "wlcs, $group: the same $(grep -c "^$group\\." "$work/all") outcomes both ways" same_in "$group"
	done
	for line in "${explained[@]}"; do
		tap_case "wlcs, differs as explained: $line" differs_as_explained "$line"
	done
} >"$results/wlcs.tap"
tap_summary wlcs
echo "$((SECONDS - start)) wlcs" >>"$results/seconds"
rm -rf "$work"
