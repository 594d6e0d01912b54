#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Shared by the tests that run on the host (source it after lib.sh, do not run it). Each test is one
# command; its output is printed if it fails. guest/tap.sh is for the tests in a guest.

# shellcheck disable=SC2034 # for those who source this
number=0 failed=0

comment() {
	sed 's/^/# /'
}

# check NAME COMMAND...: a test that is the command's exit status.
check() {
	local name=$1 output ok=ok
	shift
	number=$((number + 1))
	output=$("$@" 2>&1) || ok='not ok'
	if [[ $ok != ok ]]; then
		failed=1
		comment <<<"$output"
	fi
	echo "$ok $number $name"
}
