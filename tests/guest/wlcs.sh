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

# wlcs_as HOW [COMMAND...]
wlcs_as() {
	local how=$1 status=0
	shift
	mkdir -m 700 "$work/$how"
	XDG_RUNTIME_DIR=$work/$how LIBGL_ALWAYS_SOFTWARE=1 timeout 6000 \
		"$@" /usr/lib/*/wlcs/wlcs /usr/lib/*/mir/miral_wlcs_integration.so --gtest_color=no \
		>"$results/wlcs-$how" 2>&1 || status=$?
	echo "$status" >"$work/$how.status"
}

# outcomes HOW: "TEST OUTCOME" for each test that was run, in order.
outcomes() {
	sed -nE 's/^\[ +(OK|FAILED|SKIP) +\] ([^ ,]+).* \([0-9]+ ?ms\)$/\2 \1/p' "$results/wlcs-$1" | sort
}

# No test may be left out: at the end, gtest prints how many there were.
runs_to_its_end() { # HOW
	local there
	there=$(sed -nE 's/^\[=+\] ([0-9]+) tests from .* ran\..*/\1/p' "$results/wlcs-$1")
	[[ -n $there ]] || complain "status $(<"$work/$1.status"), and no end: $(tail -n 5 "$results/wlcs-$1")"
	expect "$there tests, and $(wc -l <"$work/$1") outcomes" test "$there" = "$(wc -l <"$work/$1")"
	((there > 100)) || complain "only $there tests"
}

# The lines are "TEST NATIVELY PROTECTED".
joined() {
	join -a 1 -a 2 -e missing -o 0,1.2,2.2 "$work/natively" "$work/protected"
}

same_in() { # GROUP
	local other
	other=$(joined | awk -v group="$1" '$2 != $3 && index($1, group ".") == 1' |
		grep -vxFf <(sed '/^#/d; /^$/d' "$differences")) || true
	[[ -z $other ]] || complain "natively and protected: $other"
}

differs_as_explained() { # LINE
	expect "it is $(joined | grep -F "${1%% *} ")" grep -qxF "$1" <(joined)
}

wlcs_as natively env &
wlcs_as protected "$work/nosigbus" run --keep-status -- &
wait
for how in natively protected; do
	outcomes $how >"$work/$how"
done
mapfile -t groups < <(joined | sed 's/\..*//' | sort -u)
mapfile -t explained < <(sed '/^#/d; /^$/d' "$differences")
{
	printf 'TAP version 13\n1..%d\n' $((2 + ${#groups[@]} + ${#explained[@]}))
	tap_case 'wlcs, natively, runs to its end' runs_to_its_end natively
	tap_case 'wlcs, nosigbus run, runs to its end' runs_to_its_end protected
	for group in "${groups[@]}"; do
		tap_case "wlcs, $group: the same $(joined | grep -c "^$group\\.") outcomes both ways" same_in "$group"
	done
	for line in "${explained[@]}"; do
		tap_case "wlcs, differs as explained: $line" differs_as_explained "$line"
	done
} >"$results/wlcs.tap"
tap_summary wlcs
echo "$((SECONDS - start)) wlcs" >>"$results/seconds"
rm -rf "$work"
