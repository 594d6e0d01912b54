#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Tests that Documentation/compositors.rst has the same tables as the tests of the compositors, and
# that a difference is found. Prints TAP; exits 1 if anything failed.

# shellcheck disable=SC2317 # check calls the functions
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=check.sh
. "$(dirname "${BASH_SOURCE[0]}")/check.sh"

cd "$REPO"

agrees() {
	inside python3 tests/compositors/tables.py check
}

# Changes a cell in a copy of the table: the first one that says that a compositor dies.
difference_is_found() {
	local copy=build/compositors-test
	rm -rf "$copy"
	mkdir -p "$copy/tests" "$copy/Documentation"
	cp -r tests/compositors "$copy/tests"
	cp Documentation/compositors.rst "$copy/Documentation"
	inside python3 "$copy/tests/compositors/tables.py" check || return 1
	sed -i '0,/SIGBUS/s//lives/' "$copy/tests/compositors/table"
	! inside python3 "$copy/tests/compositors/tables.py" check
}

echo "TAP version 13"
echo "1..2"
check "the document has the tables of the tests" agrees
check "a cell that differs is found" difference_is_found
exit $failed
