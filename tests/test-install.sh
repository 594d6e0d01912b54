#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# make test_install: installs the packages of make deb in a Debian with systemd, boots that, has apt
# install another kernel and boots it again, and removes the packages. The last line reads
# "N passed, N failed, N skipped".
#
# T=NAME...  only some of these guests:
#   installed    Debian's kernel for amd64
#   upgraded     the PREEMPT_RT kernel; at the end, the packages are removed in there
#   enforced     the first kernel, told to refuse modules whose key it does not know
#   secure-boot  the same, started by shim and a firmware with Secure Boot; the key that DKMS signs
#                with is enrolled as a user would enroll it (MokList)
#
# apt and DKMS run in the system's directory without a guest: to build the module takes a minute or
# two there, and half an hour in a guest without KVM. The guests boot images of that directory.
#
# The logs of apt and the guests stay in build/install. After a failure, so do the system and the
# images.

# shellcheck disable=SC2054 # QEMU's options have commas
# shellcheck disable=SC2317 # tap_case calls the functions
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=guest/tap.sh
. "$REPO/tests/guest/tap.sh"
# Hide this make's variables from the makes below.
unset MAKEFLAGS MFLAGS MAKELEVEL

cd "$REPO"
results=$REPO/build/results/install work=$REPO/build/install
system=$work/system
all=(installed upgraded enforced secure-boot)
read -ra names <<<"${T:-${all[*]}}"
for name in "${names[@]}"; do
	[[ " ${all[*]} " == *" $name "* ]] || die "T=$name: there is no such guest" "T= some of: ${all[*]}"
done
packages=(nosigbus nosigbus-dkms libnosigbus-dev)
# A pattern for the shell in the system.
KERNEL_TREE='/usr/src/nosigbus-*/dkms/kernel-tree.sh'

wanted() {
	[[ " ${names[*]} " == *" $1 "* ]]
}

# in_system COMMAND...: in the system's directory. There is no systemd.
in_system() {
	bwrap --die-with-parent --bind "$system" / --dev /dev --proc /proc --tmpfs /run --perms 1777 --tmpfs /tmp \
		--ro-bind "$(realpath /etc/resolv.conf)" /etc/resolv.conf \
		--ro-bind "$CACHE/apt.conf" /run/apt.conf --ro-bind "$REPO/build/deb" /run/deb \
		--setenv PATH /usr/sbin:/usr/bin:/sbin:/bin --setenv LC_ALL C.UTF-8 --setenv HOME /root \
		--setenv APT_CONFIG /run/apt.conf --setenv DEBIAN_FRONTEND noninteractive \
		--unsetenv TMPDIR --chdir / -- "$@"
}

# apt NAME ARGUMENT...: its output goes to build/install/NAME.log, too. What is only recommended would
# stay when the packages are removed.
apt() {
	local name=$1 status=0
	shift
	logged "install-$name" in_system apt-get -y --no-install-recommends "$@" || status=$?
	cp "$CURRENT_LOG" "$work/$name.log"
	return "$status"
}

# release PATTERN: prints the release of the newest kernel like that in the system.
release() {
	(cd "$system/boot" && printf '%s\n' vmlinuz-*) | sed -n 's/^vmlinuz-//p' | grep -xE "$1" | sort -V | tail -n 1
}

# What the system has, but for what differs after any use of apt, and what removed kernels leave.
contents() {
	in_system find / -xdev \( -path /run -o -path /tmp -o -path /proc -o -path /dev -o -path /var/log \
		-o -path /var/cache/apt -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /boot \
		-o -path /var/cache/man -o -path /opt/nosigbus-test -o -path "/usr/lib/modules/*-rt-*" \
		-o -name '*-old' -o -name '*.old' \) -prune -o -print | sort
}

# modules: the files of the module in the system.
modules() {
	(cd "$system" && find usr/lib/modules -name 'nosigbus.ko*')
}

has_module_for() { # RELEASE
	modules | grep "^usr/lib/modules/$1/updates/dkms/nosigbus\.ko" >/dev/null || complain "no module for $1; there are: $(modules)"
}

# refusal STATUS TEXT COMMAND...: kernel-tree.sh, without a tree, ends like that.
refusal() {
	rm -rf "$work/cache"
	mv "$system/var/cache/nosigbus" "$work/cache"
	run "$1" in_system bash -c "$3; exec $KERNEL_TREE $stock"
	says "$2"
	rm -rf "$system/var/cache/nosigbus"
	mv "$work/cache" "$system/var/cache/nosigbus"
}

says_what_is_missing() {
	local source=("$system"/usr/src/linux-source-*.tar.xz)
	mv "${source[0]}" "$work/source"
	refusal 1 "no source: apt install linux-source-" :
	mv "$work/source" "${source[0]}"
	refusal 1 "built with \"rustc .*, here is \"rustc 1.0\": install" \
		"rustc() { echo rustc 1.0; }; export -f rustc"
	refusal 1 "no bindgen: install the package" "command() { [[ \$2 != bindgen ]]; }; export -f command"
	# As if the archive had moved on: DKMS takes 77 for "skip it".
	refusal 77 "boot the newest kernel, or apt install linux-source-" \
		"dpkg-query() { if [[ \${*: -1} == linux-source-* ]]; then echo 99; else command dpkg-query \"\$@\"; fi; }; export -f dpkg-query"
}

tree_is_used_again() {
	local before
	before=$(stat -c %i "$system/var/cache/nosigbus/$stock/rust/libkernel.rmeta")
	run 0 in_system bash -c "exec $KERNEL_TREE $stock"
	[[ $before == "$(stat -c %i "$system/var/cache/nosigbus/$stock/rust/libkernel.rmeta")" ]] ||
		complain "the tree was made again"
}

removed_without_a_trace() {
	# The other kernel is no longer wanted either.
	apt purge purge "${packages[@]}" "linux-*-rt-amd64" || complain "apt could not remove the packages: $work/purge.log"
	contents >"$work/after"
	output=$(diff "$work/before" "$work/after") || complain "left, or lost: $output"
	output=$(find "$system" -xdev -path "$system/opt" -prune -o -path "$system/var/log" -prune -o -name '*nosigbus*' -print)
	[[ -z $output ]] || complain "left: $output"
}

APPEND="root=/dev/vda rw console=ttyS0,115200 panic=-1 no_timer_check tsc=reliable systemd.show_status=yes systemd.default_device_timeout_sec=900"

# image NAME KERNEL: makes the disk NAME.img of the system, and copies what boots it.
image() {
	step "Image: $1"
	cp "$system/boot/vmlinuz-$2" "$work/$1.vmlinuz"
	cp "$system/boot/initrd.img-$2" "$work/$1.initrd"
	rm -f "$work/$1.img"
	logged "install-image" inside mke2fs -q -t ext4 -d "$system" "$work/$1.img" 8G ||
		die "mke2fs could not make $work/$1.img"
}

# guest NAME IMAGE QEMU-OPTION...
guest() {
	local name=$1 disk=$2 accel=(-accel tcg,thread=multi -cpu max) status=0
	! kvm_works || accel=(-accel kvm -cpu host)
	step "Guest: $name"
	# The disk loses what the guest has written.
	logged "install-$name" setpriv --pdeathsig TERM timeout --foreground -k 5 "${BOOT_TIMEOUT:-1800}" \
		tests/toolchain.sh run --root "$root" env "TMPDIR=$work" qemu-system-x86_64 -M q35,smm=on "${accel[@]}" -m 2G -smp 2 \
		-nodefaults -no-user-config -display none -no-reboot "${@:3}" \
		-drive "file=$work/$disk.img,format=raw,if=virtio,snapshot=on" -device virtio-rng-pci \
		-serial "file:$work/console-$name.log" -device virtio-serial-pci \
		-chardev "file,id=tap,path=$results/$name.tap" -device virtserialport,chardev=tap,name=tap || status=$?
	((status == 0)) || note "QEMU ended with status $status"
	logs+=("$name=$results/$name.tap")
	printf 'TAP version 13\n1..1\n' >"$results/$name-log.tap"
	if output=$(tests/klog-check.sh "$work/console-$name.log" 2>&1); then
		echo "ok 1 clean kernel log"
	else
		printf '# %s\nnot ok 1 clean kernel log\n' "${output//$'\n'/$'\n'# }"
	fi >>"$results/$name-log.tap"
	logs+=("$name, kernel log=$results/$name-log.tap")
}

# direct_guest NAME IMAGE [APPEND]: QEMU loads the kernel.
direct_guest() {
	guest "$1" "$2" -kernel "$work/$2.vmlinuz" -initrd "$work/$2.initrd" \
		-append "$APPEND nosigbus.guest=$1 ${3-}"
}

# secure_boot: a guest whose firmware knows the keys of Microsoft, which has signed shim. shim knows
# Debian's, which has signed the kernel. MokList has the key of DKMS, as MokManager would put it
# there when the user has confirmed it at the screen. (QEMU's -shim starts shim without a boot loader,
# but Debian's shim then finds no kernel: "Failed to open  - Not Found".)
secure_boot() {
	local firmware=/usr/share/OVMF esp=$work/esp
	mkdir -p "$esp"/EFI/{BOOT,debian}
	cp "$system/usr/lib/shim/shimx64.efi.signed" "$esp/EFI/BOOT/BOOTX64.EFI"
	cp "$system/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed" "$esp/EFI/BOOT/grubx64.efi"
	cp "$work/installed.vmlinuz" "$esp/vmlinuz"
	cp "$work/installed.initrd" "$esp/initrd"
	printf '%s\n' "linux /vmlinuz $APPEND nosigbus.guest=secure-boot" "initrd /initrd" boot >"$esp/EFI/debian/grub.cfg"
	inside openssl x509 -inform DER -in "$system/var/lib/dkms/mok.pub" -out "$work/mok.pem"
	tests/toolchain.sh run --root "$root" virt-fw-vars --input $firmware/OVMF_VARS_4M.ms.fd \
		--output "$work/vars.fd" --add-mok 605dab50-e046-4300-abb6-3dd810dd8b23 "$work/mok.pem" >&2
	guest secure-boot installed -global driver=cfi.pflash01,property=secure,value=on \
		-drive "if=pflash,unit=0,format=raw,readonly=on,file=$firmware/OVMF_CODE_4M.secboot.fd" \
		-drive "if=pflash,unit=1,format=raw,file=$work/vars.fd" \
		-drive "if=none,id=esp,format=raw,readonly=on,file=fat:$esp" -device virtio-blk-pci,drive=esp,bootindex=0,addr=0x10
}

tests/toolchain.sh all >/dev/null
root=$(tests/toolchain.sh packaging)
base=$(tests/toolchain.sh system)
tests/deb.sh >/dev/null
built=$SECONDS
rm -rf "$results" "$work"
mkdir -p "$results" "$work"
logs=()

step "System: copying it"
cp -a "$base" "$system"
printf '/dev/vda / ext4 defaults 0 1\n' >"$system/etc/fstab"
# Otherwise the guest's first boot is that of a new machine, and asks questions.
in_system systemd-machine-id-setup >/dev/null 2>&1
step "System: what the archive has since it was made (apt)"
apt update update || die "the archive cannot be reached" "if it is the network, run this again"
apt newest install -t trixie-backports linux-image-amd64 linux-headers-amd64 linux-source ||
	die "the newest kernel could not be installed" "see the log"
# The key that DKMS signs with is DKMS's, whoever needs it first.
in_system dkms generate_mok >/dev/null
stock=$(release '[^-]*-amd64')
contents >"$work/before"
step "System: installing the packages, for Linux $stock (apt; DKMS builds the module)"
debs=(build/deb/{nosigbus,nosigbus-dkms,libnosigbus-dev}_*.deb)
apt install install "${debs[@]/#build/"/run"}" ||
	die "the packages could not be installed" "see the log: DKMS's is in $system/var/lib/dkms/nosigbus"
# What the guests run.
install -d "$system/opt/nosigbus-test"
install -m 755 tests/install/guest.sh tests/guest/tap.sh "$system/opt/nosigbus-test"
install -m 644 tests/install/guest.service "$system/etc/systemd/system/nosigbus-test.service"
in_system systemctl enable nosigbus-test.service &>/dev/null
cp tests/install/reader.c "$system/opt/nosigbus-test"
# shellcheck disable=SC2016 # for the shell in the system
in_system sh -c 'cd /opt/nosigbus-test && gcc -Wall -Wextra -Werror $(pkgconf --cflags nosigbus) -o reader reader.c' ||
	die "a program does not build with the header of libnosigbus-dev"
if wanted installed || wanted enforced || wanted secure-boot; then
	image installed "$stock"
fi
step "System: installing the PREEMPT_RT kernel (apt; DKMS builds the module)"
apt upgrade install -t trixie-backports linux-image-rt-amd64 linux-headers-rt-amd64 ||
	die "the PREEMPT_RT kernel could not be installed" "see the log"
rt=$(release '[^-]*-rt-amd64')
# As the comment in the rule of the package says.
sed 's/MODE=.*/MODE="0660", GROUP="audio"/' "$system/usr/lib/udev/rules.d/60-nosigbus.rules" \
	>"$system/etc/udev/rules.d/60-nosigbus.rules"
if wanted upgraded; then
	image upgraded "$rt"
fi
rm "$system/etc/udev/rules.d/60-nosigbus.rules"

{
	echo "TAP version 13"
	echo "1..5"
	tap_case "DKMS has built the module for $stock" has_module_for "$stock"
	tap_case "DKMS has built the module for $rt, when apt installed it" has_module_for "$rt"
	tap_case "the tree with the metadata is used again" tree_is_used_again
	tap_case "kernel-tree.sh says in one line what is missing" says_what_is_missing
	rm -f "$system/etc/systemd/system/nosigbus-test.service" \
		"$system/etc/systemd/system/multi-user.target.wants/nosigbus-test.service"
	step "System: removing the packages"
	tap_case "removed: no file is left" removed_without_a_trace
} >"$results/system.tap"
logs+=("system=$results/system.tap")

! wanted installed || direct_guest installed installed
! wanted upgraded || direct_guest upgraded upgraded
! wanted enforced || direct_guest enforced installed module.sig_enforce=1
! wanted secure-boot || secure_boot

step "Results"
status=0
stock_source=$(tests/kernel.sh stock)/source
inside tests/report.py "$stock_source" "${logs[@]}" >"$results/report" || status=$?
sed '$d' "$results/report"
printf 'Packages: %d s. Tests: %d s. All: %d s. %s\n' \
	"$built" $((SECONDS - built)) "$SECONDS" "$(tests/speed.sh)"
tail -n 1 "$results/report"
((status != 0)) || rm -rf "$system" "$work"/*.img
exit "$status"
