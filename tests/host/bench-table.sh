#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Tests tests/bench.py with made-up figures: it marks figures that got worse, and no others, and it
# records figures only if all are there. Prints TAP; exits 1 if anything failed.

# shellcheck disable=SC2317 # check calls the functions
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=check.sh
. "$(dirname "${BASH_SOURCE[0]}")/check.sh"

cd "$REPO"
work=build/bench-test
rm -rf "$work"
mkdir -p "$work"

# values SUBJECT FACTOR: prints the lines that the benchmarks print, for all figures of bench.py. In
# each contest, SUBJECT costs FACTOR times as much as the others.
values() {
	inside python3 -B - "$@" <<-'END'
		import sys
		sys.path.insert(0, "tests")
		import bench

		subject, factor = sys.argv[1], float(sys.argv[2])
		pairs = {(row.contest, name) for rows in bench.GROUPS.values() for row in rows
		         for name in (row.subject, row.against) if name}
		for contest, name in sorted(pairs):
		    # Bytes per page are nothing, or some.
		    cost = 0 if name.startswith("read-") and contest == "memory" else 1000
		    print("value", contest, name, cost * (factor if name == subject else 1))
		print("a line of something else")
	END
}

# report NAME [ARGUMENT...]: the tables of $work/NAME.txt, in $work/NAME.out.
report() {
	inside python3 tests/bench.py --commit "$1" --previous "$work/before.json" \
		--json "$work/$1.json" --chart "$work/$1.svg" "${@:2}" "$work/$1.txt" >"$work/$1.out"
}

# Counts the rows that match, without the rows of time: these mention threads or processes.
rows() { # NAME PATTERN
	grep -E "$2" "$work/$1.out" | grep -cvE '^(WORSE|missed)|threads|processes' || true
}

nothing_is_worse_than_itself() {
	values none 1 >"$work/before.txt" && report before &&
		values none 1 >"$work/same.txt" && report same && (($(rows same WORSE) == 0))
}

# All rows that compare an opted-in mapping with others are marked, whichever comes first.
ours_is_worse() {
	local all
	values opted-in 1.2 >"$work/worse.txt" && report worse &&
		all=$(inside python3 -B -c '
import sys
sys.path.insert(0, "tests")
import bench
print(sum("opted-in" in (row.subject, row.against)
          for rows in bench.GROUPS.values() for row in rows))') &&
		((all > 30)) && (($(rows worse WORSE) == all))
}

a_little_is_not_worse() {
	values opted-in 1.05 >"$work/little.txt" && report little && (($(rows little WORSE) == 0))
}

better_is_not_worse() {
	values opted-in 0.5 >"$work/better.txt" && report better && (($(rows better WORSE) == 0))
}

others_getting_worse_is_no_concern() {
	values handler-page 2 >"$work/others.txt" && report others && (($(rows others WORSE) == 0))
}

time_is_not_marked() {
	values 2 3 >"$work/time.txt" && report time && ! grep -q WORSE "$work/time.out"
}

bytes_of_a_page_are_noticed() {
	sed 's/^value memory read-private .*/value memory read-private 8/' "$work/before.txt" \
		>"$work/bytes.txt" && report bytes && grep -E '^per page read, private .* MISSED .* WORSE' "$work/bytes.out"
}

what_lacks_a_figure_is_not_recorded() {
	grep -v ' write-ext4 ' "$work/before.txt" >"$work/lacking.txt"
	cp Documentation/performance.rst "$work/lacking.rst"
	! report lacking --document "$work/lacking.rst" &&
		cmp Documentation/performance.rst "$work/lacking.rst" &&
		grep '^not measured: write-ext4' "$work/lacking.out"
}

what_is_complete_is_recorded() {
	cp Documentation/performance.rst "$work/same.rst"
	report same --document "$work/same.rst" &&
		grep '^Measured: commit same\. Previous figures: commit before\.' "$work/same.rst" &&
		diff <(sed '/make bench_record\.$/,$d' Documentation/performance.rst) \
			<(sed '/make bench_record\.$/,$d' "$work/same.rst")
}

echo "TAP version 13"
echo "1..9"
check "nothing is worse than itself" nothing_is_worse_than_itself
check "ours, 20 % worse, is marked" ours_is_worse
check "5 % are not" a_little_is_not_worse
check "what got better is not" better_is_not_worse
check "others that got worse are not" others_getting_worse_is_no_concern
check "what a clock has measured is not" time_is_not_marked
check "8 bytes of a page are noticed" bytes_of_a_page_are_noticed
check "what lacks a figure is not recorded" what_lacks_a_figure_is_not_recorded
check "what is complete is recorded" what_is_complete_is_recorded
exit $failed
