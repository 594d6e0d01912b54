#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Prints how fast this machine is now: how long one CPU takes for a fixed piece of work, and how
# many CPUs there are. Read each figure in seconds beside it.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# shellcheck disable=SC2016 # for the perl inside
seconds=$(inside perl -MTime::HiRes=time -e '
	my $start = time;
	my $sum = 0;
	$sum = ($sum * 31 + $_) % 65521 for 1 .. 50_000_000;
	printf "%.1f", time - $start;
')
printf 'Machine: %d CPUs; %s s for 50 million steps of perl.\n' "$(nproc)" "$seconds"
