#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs the selftests in a guest (tests/boot.sh), as root.
#
# usage: run.sh BINDIR RESULTDIR
#
# BINDIR has the programs, NOSIGBUS_KO is the module. What each prints (TAP) goes
# to RESULTDIR/NAME.tap; tests/report.py reads it. Fails only if a program could
# not be run at all: what failed in it is for the report to say.
set -eu

bin=$1
results=$2
work=$(mktemp -d)
# The programs make their files here, also as an unprivileged user.
NOSIGBUS_TMPFS=$work/tmpfs
NOSIGBUS_EXT4=$work/ext4
export NOSIGBUS_TMPFS NOSIGBUS_EXT4

chmod 755 "$work"
mkdir "$NOSIGBUS_TMPFS" "$NOSIGBUS_EXT4"
mount -t tmpfs -o mode=1777 tmpfs "$NOSIGBUS_TMPFS"
[ -e /dev/loop-control ] || modprobe loop
truncate -s 64M "$work/ext4.img"
mkfs.ext4 -q -F "$work/ext4.img"
mount -o loop "$work/ext4.img" "$NOSIGBUS_EXT4"
chmod 1777 "$NOSIGBUS_EXT4"

mkdir -p "$results"
rm -f "$results"/*.tap

# run NAME COMMAND...: one program, its output in NAME.tap.
run() {
	name=$1
	shift
	status=0
	"$@" >"$results/$name.tap" 2>&1 || status=$?
	echo "  $name: $(sed -n 's/^# Totals: //p' "$results/$name.tap") (exit $status)"
}

nobody() {
	setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"
}

for program in mapping errors; do
	run "$program-root" "$bin/$program"
	run "$program-nobody" nobody "$bin/$program"
done
run module "$bin/module"

umount "$NOSIGBUS_EXT4" "$NOSIGBUS_TMPFS"
