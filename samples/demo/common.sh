# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash disable=SC2034 # BUS is for those who source this
#
# Shared by the demos (source it, do not run it).

# The exit status of a shell's child that SIGBUS has killed.
BUS=$((128 + 7))

# Hides bash's own messages about killed processes; the demos print their own.
exec 3>&2 2>/dev/null
fail() {
	echo "${0##*/}: $*" >&3
	exit 1
}

# await WHAT COMMAND...: repeats the command until it succeeds, for at most two minutes, because
# guests may be slow.
await() {
	local what=$1 end=$((SECONDS + 120))
	shift
	until "$@" &>/dev/null; do
		((SECONDS < end)) || fail "waited in vain for $what"
		sleep 0.05
	done
}

has_ended() { # PROCESS
	! kill -0 "$1"
}
