#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Tests the format of the man pages. Also tests that nosigbus(4) agrees with the uAPI header, and
# that its example compiles, as a 64-bit and as a 32-bit program. Leaves in build/man-test what
# tests/guest/man.sh runs. Prints TAP; exits 1 if anything failed.
#
# usage: man.sh [format]
#
# "format": only the tests of the format.

# shellcheck disable=SC2317 # check calls the functions
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=check.sh
. "$(dirname "${BASH_SOURCE[0]}")/check.sh"

cd "$REPO"
page=Documentation/nosigbus.4.rst
header=include/uapi/linux/nosigbus.h
work=build/man-test

# Makes rst2man print all its messages, and takes each one as an error.
converts() { # SECTION
	rm -f "build/man/nosigbus.$1"
	make -s "build/man/nosigbus.$1"
}

# rst2man starts every paragraph with .sp, also the first one below a heading.
has_no_flaw() { # SECTION
	local output status=0
	output=$(inside mandoc -Tlint -Wwarning "build/man/nosigbus.$1") || status=$?
	# 2: nothing worse than a warning.
	output=$(grep -vE ': WARNING: skipping paragraph macro: sp after S[HS]$' <<<"$output") || true
	if [[ -n $output ]] || ((status != 0 && status != 2)); then
		echo "$output"
		return 1
	fi
}

agrees() {
	inside python3 tests/host/man-page.py "$1" "$page" "$header"
}

compiles() { # BITS
	mkdir -p "$work/$1"
	inside python3 tests/host/man-page.py program "$page" >"$work/example.c" &&
		inside gcc-14 "-m$1" -Wall -Wextra -pedantic -Werror -O2 -Iinclude/uapi \
			-o "$work/$1/example" "$work/example.c"
}

shows_a_session() {
	inside python3 tests/host/man-page.py session "$page" >"$work/session" && [[ -s $work/session ]]
}

echo "TAP version 13"
if [[ ${1-} == format ]]; then
	echo "1..4"
else
	echo "1..10"
fi
for section in 4 1; do
	check "rst2man has no complaint of nosigbus($section)" converts $section
	check "mandoc has no complaint of nosigbus($section)" has_no_flaw $section
done
if [[ ${1-} != format ]]; then
	rm -rf "$work"
	mkdir -p "$work"
	check "has all names of the header, and no others" agrees names
	check "explains all fields" agrees structs
	check "explains all errors" agrees errors
	for bits in 64 32; do
		check "the example compiles, $bits bits" compiles "$bits"
	done
	check "the example is shown in use" shows_a_session
fi
exit "$failed"
