#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Documentation/compositors.rst has the tables that the tests of the compositors compare
# with, and a difference is found. Prints TAP; exits 1 if anything failed.

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

# In a copy, one cell after the other, of those that say that a compositor dies.
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
