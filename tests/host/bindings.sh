#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The crate nosigbus has a copy of the uAPI header, and bindings that bindgen makes of it. Tests
# that both are up to date. Prints TAP; exits 1 if anything failed.
#
# usage: bindings.sh

# shellcheck disable=SC2317 # check calls the functions
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=check.sh
. "$(dirname "${BASH_SOURCE[0]}")/check.sh"

# Visible inside the toolchain root.
mkdir -p "$CACHE/tmp"
work=$(mktemp -d "$CACHE/tmp/bindings.XXXXXX")
trap 'rm -rf "$work"' EXIT

# same FILE MADE: both are the same. If not, prints the command that makes them so.
same() {
	diff -u "$REPO/samples/nosigbus/$1" "$work/$2" || {
		echo 'make bindings'
		return 1
	}
}

# If the header had another field or another number, the test would notice.
differs() { # EXPRESSION
	mkdir -p "$work/changed/tests" "$work/changed/include/uapi/linux"
	cp "$REPO"/tests/{lib,toolchain,bindings}.sh "$work/changed/tests"
	sed "$1" "$REPO/include/uapi/linux/nosigbus.h" >"$work/changed/include/uapi/linux/nosigbus.h"
	"$work/changed/tests/bindings.sh" "$work/changed" &&
		! cmp -s "$work/bindings.rs" "$work/changed/bindings.rs"
}

echo "TAP version 13"
echo "1..5"
check "bindgen and rustfmt take the header" "$REPO/tests/bindings.sh" "$work"
check "the crate's header is the module's" same nosigbus.h nosigbus.h
check "the crate's bindings are bindgen's" same src/bindings.rs bindings.rs
# shellcheck disable=SC2016 # sed's
check "another field would be noticed" differs 's/^\t__s32 eventfd;/&\n\t__u64 more;/'
check "another number would be noticed" differs '/^#define NOSIGBUS_EVENTFD/s/1U << 1/1U << 9/'
exit "$failed"
