#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# rustc for modules_prepare (tests/kernel.sh): of the kernel's library crates a module
# takes what is said of them (rmeta), not their code, which is in the kernel that it is
# loaded into. To make that code takes most of the time, so this does not, and leaves an
# empty object, which Kbuild goes on with. The rmeta are the same, byte for byte: with
# -Zno-codegen, unlike without --emit=obj, rustc still decides what modules may inline.

for argument; do
	case $argument in
	--emit=obj=*.o) object=${argument#--emit=obj=} ;;
	esac
done
if [[ -z ${object-} ]]; then
	exec rustc "$@"
fi
rustc "$@" -Zno-codegen 2> >(grep -v 'ignoring emit path\|warnings\? emitted\|^$' >&2) &&
	"${CC:-gcc}" -c -x c -o "$object" /dev/null
