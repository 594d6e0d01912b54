#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Searches a kernel log for reports that a test must not cause, whatever the test itself printed.
# tests/klog-check.sh LOG prints these reports and exits 1, or exits 0 if there are none. KCSAN's
# reports of races that do not involve the module do not count (kcsan-reports.awk).
# tests/klog-check.sh --kcsan ours|native|others LOG prints all of KCSAN's reports of that kind.

set -euo pipefail

take=rest
if [[ $# -eq 3 && $1 == --kcsan ]]; then
	take=$2
	shift 2
fi
if [[ $# -ne 1 || ! -r ${1-} || ! $take =~ ^(rest|ours|native|others)$ ]]; then
	printf 'usage: tests/klog-check.sh [--kcsan ours|native|others] LOG\n' >&2
	exit 2
fi

bad=(
	'BUG:' 'WARNING:' 'Oops' 'kernel BUG at' 'Kernel panic' 'Bad page'
	'general protection fault' 'stack segment:' 'double fault' 'invalid opcode:'
	'unable to handle' 'Unable to handle' 'refcount_t:' 'list_(add|del) corruption'
	# lockdep
	'possible (recursive|circular|irq lock inversion|irq|unsafe locking)' 'INFO: trying to register non-static key'
	'(SOFT|HARD)(IRQ)?.*-safe -> .*-unsafe' 'inconsistent lock state' 'suspicious RCU usage'
	'held lock freed' 'lock held when returning' 'bad unlock balance' 'Invalid wait context'
	'turning off the locking correctness validator' 'sleeping function called'
	# the other checkers
	'KASAN:' 'KCSAN:' 'KFENCE:' 'UBSAN' 'unreferenced object' 'new suspected memory leaks'
	'INFO: task .* blocked' 'detected stalls' 'self-detected stall' 'soft lockup' 'hard LOCKUP'
	'rust_kernel: panicked' 'panicked at'
)
pattern=$(
	IFS='|'
	printf '%s' "${bad[*]}"
)

part() {
	awk -v "take=$take" -v "bad=$pattern" -f "$(dirname "$0")/kcsan-reports.awk" "$1"
}

if [[ $take != rest ]]; then
	part "$1"
	exit
fi
# A log that awk cannot read is not clean.
part "$1" >/dev/null || exit
if part "$1" | grep -aE "$pattern" >/dev/null; then
	printf 'the kernel log has reports (%s):\n' "$1"
	part "$1" | grep -aE -B 2 -A 40 "$pattern" | sed -n '1,200s/^/  | /p'
	exit 1
fi
