#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Compares the configuration of a kernel that runs tests with Debian's: each option of core mm, of
# fsnotify and of the file systems that tests use. An option that is off in the test kernel may
# leave out code that the module has to work with. tests/kernel/differences lists the differences,
# with reasons. Prints TAP.
#
# usage: config.sh debug|full

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

kernel=$1
cd "$REPO"
stock=$(tests/kernel.sh stock)
mine=$(tests/kernel.sh "$kernel")/build/.config
debians=$stock/build/.config
source=$stock/source

# The options that Kconfig files define.
options() { # FILE...
	sed -nE 's/^(menu)?config ([A-Z0-9_]+)$/\2/p' "$@" | sort -u
}

# Prints the value of an option in a configuration. A module counts as built in.
value() { # CONFIG OPTION
	local found
	found=$(sed -nE "s/^CONFIG_$2=(.*)/\1/p" "$1")
	[[ $found == m ]] && found=y
	printf '%s' "${found:-n}"
}

# The full kernel also has the file systems that the debug kernel lacks.
files=("$source"/mm/Kconfig{,.debug} "$source"/fs/notify/Kconfig "$source"/fs/notify/*/Kconfig)
for fs in '' ext4 jbd2 overlayfs iomap netfs hugetlbfs 9p; do
	files+=("$source/fs/$fs/Kconfig")
done
if [[ $kernel == full ]]; then
	for fs in xfs btrfs erofs quota; do
		files+=("$source/fs/$fs/Kconfig")
	done
fi
mapfile -t files < <(ls "${files[@]}" 2>/dev/null)

differing=()
while read -r option; do
	[[ $(value "$debians" "$option") == "$(value "$mine" "$option")" ]] ||
		differing+=("$option")
done < <(options "${files[@]}")

# What the list has of this kernel.
mapfile -t listed < <(awk -v "kernel=$kernel" '
	/^#/ || NF == 0 { next }
	$1 == "both" || $1 == kernel { print $2 }' tests/kernel/differences | sort -u)

printf 'TAP version 13\n1..2\n'
status=0
mapfile -t new < <(comm -23 <(printf '%s\n' "${differing[@]}" | sort -u) <(printf '%s\n' "${listed[@]}"))
for option in "${new[@]}"; do
	printf '# %s: Debian %s, here %s\n' "$option" "$(value "$debians" "$option")" "$(value "$mine" "$option")"
done
if ((${#new[@]} == 0)); then
	echo "ok 1 the $kernel kernel differs from Debian's in nothing but what tests/kernel/differences says"
else
	echo "not ok 1 the $kernel kernel differs from Debian's in what tests/kernel/differences does not say"
	status=1
fi
mapfile -t old < <(comm -13 <(printf '%s\n' "${differing[@]}" | sort -u) <(printf '%s\n' "${listed[@]}"))
((${#old[@]} == 0)) || printf "# %s does not differ\n" "${old[@]}"
if ((${#old[@]} == 0)); then
	echo "ok 2 all that tests/kernel/differences says of the $kernel kernel is so"
else
	echo "not ok 2 all that tests/kernel/differences says of the $kernel kernel is so"
	status=1
fi
exit $status
