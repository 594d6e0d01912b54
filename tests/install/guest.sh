#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What tests/test-install.sh tests in a guest: a unit of systemd runs this at boot. The kernel's
# command line says which guest this is (nosigbus.guest=NAME). Prints TAP.

# shellcheck disable=SC2317 # tap_case calls the functions
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../guest/tap.sh
. ./tap.sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
PATIENCE=120
packages=(nosigbus nosigbus-dkms libnosigbus-dev)

# as_nobody COMMAND...
as_nobody() {
	setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"
}

loaded_at_boot() {
	expect "the module is not loaded" test -d /sys/module/nosigbus
	expect "systemd-modules-load failed" systemctl --quiet is-active systemd-modules-load
}

# mode_is MODE GROUP: udev may be late.
mode_is() {
	await has_mode "$1 root $2" || complain "/dev/nosigbus is $(stat -c '%a %U %G' /dev/nosigbus)"
}

has_mode() {
	[[ $(stat -c '%a %U %G' /dev/nosigbus) == "$1" ]]
}

only_for_audio() {
	mode_is 660 audio
	run 125 as_nobody nosigbus run true
	says '/dev/nosigbus: Permission denied'
}

# protects PREFIX...: a program that reads a file which was truncated.
protects() {
	run 135 "$@" bash -c './reader /tmp/reader.$$; exit $?'
	run 65 "$@" nosigbus run ./reader /tmp/protected
	says 'read 0'
	says '/tmp/protected: accessed behind its end'
	rm -f /tmp/reader.* /tmp/protected
}

man_pages() {
	run 0 man -w 1 nosigbus
	run 0 man -w 4 nosigbus
}

is_rt() {
	run 0 uname -v
	says PREEMPT_RT
}

# signed_by_dkms: the key is the one that DKMS has made on this machine.
signed_by_dkms() {
	run 0 modinfo -F signer nosigbus
	says 'DKMS'
}

held() {
	[[ $(cat /sys/module/nosigbus/refcnt) != 0 ]] && grep -q 'read 0' held
}

installed() {
	local package
	for package; do
		# shellcheck disable=SC2016 # dpkg's own variable
		run 0 dpkg-query -W -f '${db:Status-Status}' "$package"
		[[ $output == installed ]] || complain "$package: $output"
	done
}

refused_while_opted_in() {
	local holder package
	nosigbus run ./reader --hold /tmp/held >held 2>&1 &
	holder=$!
	await held || complain "nothing is opted in"
	run 1 rmmod nosigbus
	says 'in use'
	for package in nosigbus nosigbus-dkms; do
		run 1 dpkg --remove "$package"
		says 'nosigbus: programs have mappings opted in'
	done
	installed "${packages[@]}"
	expect "the module is gone" test -e /dev/nosigbus
	kill "$holder"
	wait "$holder" || true
	run 65 nosigbus run ./reader /tmp/after
	rm -f /tmp/held /tmp/after
}

# What is left of the packages, but for logs, the tests and what the tests have put into /etc: their
# unit, and the administrator's rule.
left() {
	find / -xdev \( -path /opt/nosigbus-test -o -path /var/log -o -path '/etc/systemd/system/*nosigbus-test*' \
		-o -path /etc/udev/rules.d/60-nosigbus.rules \) -prune -o -name '*nosigbus*' -print
}

removed() {
	run 0 apt-get purge -y "${packages[@]}"
	expect "the module is still loaded" test ! -e /sys/module/nosigbus
	expect "/dev/nosigbus is still there" test ! -e /dev/nosigbus
	output=$(left)
	[[ -z $output ]] || complain "left: $output"
}

key_unknown() {
	run 1 modprobe nosigbus
	says 'Key was rejected by service'
	dmesg >log
	expect "the kernel does not say why" grep -q 'Loading of module with unavailable key is rejected' log
}

says_what_is_missing() {
	run 125 nosigbus run true
	says '/dev/nosigbus'
	run 0 nosigbus run --if-available true
}

secure_boot() {
	run 0 mokutil --sb-state
	says 'SecureBoot enabled'
	run 0 cat /sys/kernel/security/lockdown
	says '\[(integrity|confidentiality)\]'
}

guest=$(sed -n 's/.*nosigbus\.guest=\([^ ]*\).*/\1/p' /proc/cmdline)
echo "TAP version 13"
case $guest in
installed)
	echo 1..6
	tap_case "loaded at boot" loaded_at_boot
	tap_case "the device has the mode of the udev rule" mode_is 666 root
	tap_case "nosigbus run protects a user's program" protects as_nobody
	tap_case "man pages" man_pages
	tap_case "signed with the key of DKMS" signed_by_dkms
	tap_case "rmmod and removal are refused while a mapping is opted in" refused_while_opted_in
	;;
upgraded)
	echo 1..5
	tap_case "the other kernel" is_rt
	tap_case "loaded at boot" loaded_at_boot
	tap_case "the device has the mode that the administrator gave it" only_for_audio
	tap_case "nosigbus run protects a program" protects
	tap_case "removed: nothing is left" removed
	;;
enforced)
	echo 1..2
	tap_case "the kernel refuses a module with a key that it does not know" key_unknown
	tap_case "nosigbus run says what is missing" says_what_is_missing
	;;
secure-boot)
	echo 1..3
	tap_case "Secure Boot is on, and the kernel locked down" secure_boot
	tap_case "loaded at boot, with the key enrolled" loaded_at_boot
	tap_case "nosigbus run protects a user's program" protects as_nobody
	;;
*)
	echo "Bail out! no guest $guest"
	exit 1
	;;
esac
tap_summary "$guest" >&2
exit "$failed"
