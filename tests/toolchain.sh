#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The toolchain root: a Debian trixie in a directory of the cache, with the
# compilers that Debian's own kernels are built with, and the QEMU that boots them.
# Nothing of it touches the host, which only gets the packages of HOST_PACKAGES. The
# same directory is the root file system of the guests that tests/boot.sh boots.
#
#   tests/toolchain.sh          makes it if necessary, prints its path
#   tests/toolchain.sh all      the same, with the packages that only the tests need
#   tests/toolchain.sh there    prints its path if it exists
#   tests/toolchain.sh guest    prints the path of the guests' root: the same, or for arm64 one of its
#       own
#   tests/toolchain.sh compositors  prints the path of a separate root, which has the packages of
#       the small one and COMPOSITOR_PACKAGES; makes it if necessary
#   tests/toolchain.sh packaging    the same, with PACKAGING_PACKAGES
#   tests/toolchain.sh system       prints the path of a Debian with systemd and a kernel of the
#       backports, as a user may have it; makes it if necessary
#   tests/toolchain.sh host     installs HOST_PACKAGES
#   tests/toolchain.sh mirror   prints the Debian mirror that the host's apt has
#   tests/toolchain.sh run [--root ROOT] [--rw] [--bind DIR]... [--] CMD...
#       runs CMD inside it, or inside ROOT, in the same directory: the cache, this checkout and each
#       DIR are at their own paths and writable, the rest is read-only (--rw: writable)
#
# With MACHINE=arm64 (ARCH=arm64, see lib.sh) the root has a cross compiler and QEMU for arm64 too.
#
# With TOOLCHAIN=host, CMD runs with the tools of this machine, and nothing is installed. So a
# package is built, and what a user without Debian builds.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# package:command, or package:file
HOST_PACKAGES=(
	mmdebstrap:mmdebstrap
	bubblewrap:bwrap
	debian-archive-keyring:/usr/share/keyrings/debian-archive-keyring.gpg
	ca-certificates:/etc/ssl/certs/ca-certificates.crt
	xz-utils:xz
)

SUITE=trixie
# What make run takes.
PACKAGES=(
	# to build kernel modules and the samples
	gcc gcc-14 make rustc rust-src bindgen cargo
	pahole bc bison flex libelf-dev libssl-dev
	libc6-dev cpio kmod xz-utils zstd perl python3 ca-certificates
	# to boot a guest. QEMU up to version 8.0 now and then kills its guest: it translates a
	# page of kernel text while another CPU writes to the page, and then executes a
	# breakpoint that is no longer there ("Oops: int3").
	qemu-system-x86
	# to be a guest
	busybox-static mount util-linux procps iproute2 e2fsprogs weston
)
# What the tests take besides.
TEST_PACKAGES=(
	# to build kernels, 32-bit programs and the man page
	clang-19 lld-19 llvm-19 gcc-14-multilib python3-docutils git
	# to build samples in C
	libwayland-dev pkgconf
	# to check them
	rustfmt rust-clippy shellcheck spin mandoc
	# to make the series for linux-mm
	coccinelle
	# to be a guest
	strace xfsprogs btrfs-progs erofs-utils gfs2-utils dmsetup
	# to be protected in a guest: programs that map files
	ripgrep b3sum sqlite3 silversearcher-ag
	python3-numpy lrzip libvips-tools rrdtool lmdb-utils openjdk-21-jdk-headless musl-tools bubblewrap
	# to attack the device in a guest
	trinity
)
# What make test_wayland and make demo take besides what make run does.
COMPOSITOR_PACKAGES=(
	sway labwc cage phoc weston kwin-wayland mutter mir-demos
	# to run Mir without a screen, as a window of a Weston that has no screen
	mir-platform-graphics-wayland mir-platform-rendering-egl-generic
	# what draws without a GPU, and what desktops take for granted
	libgl1-mesa-dri libegl-mesa0 libgles2 dbus-daemon dbus-bin xkb-data fonts-dejavu-core
	# clients
	grim foot wayland-utils
	# conformance
	wlcs mir-wlcs-integration
)

# What make deb and make test_install take besides what make run does.
PACKAGING_PACKAGES=(
	build-essential debhelper dh-dkms lintian python3-docutils
	# to boot with Secure Boot: the firmware, and what puts keys into its variables
	ovmf python3-virt-firmware
)
# The system that make test_install installs the packages in: Debian's important packages, and these.
SYSTEM_PACKAGES=(
	systemd-sysv dbus initramfs-tools man-db pkgconf gcc libc6-dev
	# what the package nosigbus-dkms depends on, so that the tests need not fetch it each time
	dkms bc bindgen bison flex libelf-dev libssl-dev openssl pahole python3 rust-src rustc xz-utils
	# to boot with Secure Boot
	shim-signed grub-efi-amd64-signed
)
# What a user of the module takes from the backports.
SYSTEM_KERNEL_PACKAGES=(
	linux-image-amd64 linux-headers-amd64 linux-source
)

# What arm64 takes besides what make run does.
CROSS_PACKAGES=(
	gcc-14-aarch64-linux-gnu libc6-dev-arm64-cross qemu-system-arm
	# to build samples
	libstd-rust-dev:arm64 libwayland-dev:arm64 pkgconf
)
# The guest for arm64. Its packages are unpacked but not set up: that would run their programs.
ARM64_GUEST_PACKAGES=(
	bash libc-bin coreutils diffutils findutils gawk grep sed util-linux mount login.defs passwd
	busybox-static procps iproute2 kmod hostname
	e2fsprogs xfsprogs btrfs-progs erofs-utils gfs2-utils dmsetup strace
	libgcc-s1 libwayland-server0 libwayland-client0 python3
	# to be protected
	ripgrep b3sum sqlite3 silversearcher-ag git bubblewrap
)

SMALL_ROOT=$CACHE/root-run-$(key "$SUITE" "${PACKAGES[@]}" "recipe 2")
LARGE_ROOT=$CACHE/root-$(key "$SUITE" "${PACKAGES[@]}" "${TEST_PACKAGES[@]}" "recipe 2")
COMPOSITOR_ROOT=$CACHE/root-compositors-$(key "$SUITE" "${PACKAGES[@]}" "${COMPOSITOR_PACKAGES[@]}" "recipe 1")
PACKAGING_ROOT=$CACHE/root-packaging-$(key "$SUITE" "${PACKAGES[@]}" "${PACKAGING_PACKAGES[@]}" "recipe 1")
SYSTEM_ROOT=$CACHE/root-system-$(key "$SUITE" "${SYSTEM_PACKAGES[@]}" "${SYSTEM_KERNEL_PACKAGES[@]}" "recipe 1")

CROSS_ROOT=$CACHE/root-cross-$(key "$SUITE" "${PACKAGES[@]}" "${CROSS_PACKAGES[@]}" "recipe 2")
ARM64_GUEST_ROOT=$CACHE/root-arm64-$(key "$SUITE" "${ARM64_GUEST_PACKAGES[@]}" "recipe 1")

host_packages() {
	local entry missing=()
	for entry in "${HOST_PACKAGES[@]}"; do
		command -v "${entry#*:}" >/dev/null || [[ -e ${entry#*:} ]] || missing+=("${entry%%:*}")
	done
	if ((${#missing[@]} == 0)); then
		return
	fi
	step "Host: installing ${missing[*]} (apt-get)"
	need_root
	logged apt-update apt-get update ||
		die "apt-get update failed" "check the network and /etc/apt/sources.list*"
	logged apt-install env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y --no-install-recommends "${missing[@]}" ||
		die "apt could not install ${missing[*]}" "install them by hand, then run this again"
}

need_root() {
	((EUID == 0)) || die "this step needs root" "run as root: sudo make run"
}

# Copies the settings of the host's apt for proxies and certificates, for the apt inside.
apt_conf() {
	apt-config dump |
		grep -iE '^Acquire::(https?|ftp|Retries|ForceIPv[46])\b' |
		grep -v '""' >"$CACHE/apt.conf" || true
}

# The mirror that the host's apt is set up with.
mirror() {
	local uri
	uri=$(debian_uri)
	if [[ -z $uri ]]; then
		logged apt-update apt-get update || true
		uri=$(debian_uri)
	fi
	if [[ $uri == mirror+file:* ]]; then
		uri=$(awk '/^http/ { print $1; exit }' "${uri#mirror+file:}")
	fi
	[[ $uri == http* ]] || die "the host's apt knows no Debian mirror" \
		"this runs on Debian 12 and 13; give /etc/apt/sources.list a Debian mirror"
	printf '%s\n' "$uri"
}

debian_uri() {
	# shellcheck disable=SC2016 # apt's own variables
	apt-get indextargets --format '$(REPO_URI)' \
		'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | sed -n 1p
}

# list ITEM...: prints them with commas in between.
list() {
	local IFS=,
	printf '%s' "$*"
}

# Sets sources to the lines of a sources.list.
find_sources() {
	local uri suite
	uri=$(mirror)
	apt_conf
	for suite in "$SUITE" "$SUITE-backports"; do
		sources+=("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main")
	done
}

make_root() {
	local dir=$1 sources=()
	need_root
	find_sources
	# shellcheck disable=SC2016 # $1 is mmdebstrap's
	logged toolchain-root mmdebstrap --mode=root --variant=apt \
		--aptopt="$CACHE/apt.conf" --include="$(list "${PACKAGES[@]}")" \
		--customize-hook='rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1/etc/resolv.conf"' \
		--customize-hook='touch "$1/etc/resolv.conf"' \
		"$SUITE" "$dir" "${sources[@]}" ||
		die "the toolchain root could not be made" "see the log; if it is the network, run this again"
}

# The apt of this root stays set up, for the tests to install packages with.
make_system_root() {
	local dir=$1 sources=()
	need_root
	find_sources
	# shellcheck disable=SC2016 # $1 is mmdebstrap's
	logged system-root mmdebstrap --mode=root --variant=important \
		--aptopt="$CACHE/apt.conf" --aptopt='APT::Install-Recommends "false"' \
		--include="$(list "${SYSTEM_PACKAGES[@]}")" \
		--customize-hook='chroot "$1" env DEBIAN_FRONTEND=noninteractive apt-get install -y -t '"$SUITE-backports ${SYSTEM_KERNEL_PACKAGES[*]}" \
		--customize-hook='rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1/etc/resolv.conf"' \
		--customize-hook='touch "$1/etc/resolv.conf"' \
		"$SUITE" "$dir" "${sources[@]}" ||
		die "the system for the tests could not be made" "see the log; if it is the network, run this again"
}

make_arm64_guest_root() {
	local dir=$1 sources=() file
	need_root
	find_sources
	logged arm64-guest-root mmdebstrap --mode=root --variant=extract --architectures=arm64 \
		--skip=check/qemu --aptopt="$CACHE/apt.conf" \
		--include="$(list "${ARM64_GUEST_PACKAGES[@]}")" "$SUITE" "$dir" "${sources[@]}" ||
		die "the root of the arm64 guest could not be made" "see the log; if it is the network, run this again"
	# What setting up the packages would make.
	ln -s gawk "$dir/usr/bin/awk"
	[[ -e $dir/usr/bin/sh ]] || ln -s bash "$dir/usr/bin/sh"
	for file in passwd group nsswitch.conf; do
		cp "$ROOT/etc/$file" "$dir/etc/"
	done
	mkdir -p "$dir"/{proc,sys,dev,run,tmp,root,var/lib}
}

# make_larger_root LOG PACKAGE... DIR: copies the small root and installs more packages in the copy.
# The copy shares the small root's files (hard links) until a package replaces them.
make_larger_root() {
	local packages=("${@:2:$#-2}")
	ROOT=$SMALL_ROOT
	[[ -d $ROOT ]] || MACHINE=amd64 "$REPO/tests/toolchain.sh" >/dev/null
	ROOT=${!#}
	cp -al "$SMALL_ROOT/." "$ROOT"
	apt_conf
	logged "$1" install_inside "${packages[@]}" ||
		die "the packages for the tests could not be installed" "see the log; if it is the network, run this again"
}

# root_of_its_own DIR STEP FUNCTION ARG...: prints DIR; if it does not exist, FUNCTION makes it.
root_of_its_own() {
	if [[ ! -d $1 ]]; then
		step "$2"
		cache_entry "$1" "${@:3}"
	fi
	printf '%s\n' "$1"
}

install_inside() {
	if [[ $* == *:arm64* ]]; then
		(run_inside --rw dpkg --add-architecture arm64)
	fi
	(run_inside --rw apt-get update) &&
		(run_inside --rw env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@") &&
		(run_inside --rw apt-get clean)
}

run_inside() {
	local ro=(--remount-ro /) binds=() cwd=$PWD args
	while true; do
		case ${1-} in
		--root) ROOT=$2 && shift ;;
		--rw) ro=() ;;
		--bind) binds+=(--bind "$2" "$2") && shift ;;
		--) shift && break ;;
		*) break ;;
		esac
		shift
	done
	case $cwd/ in
	"$REPO"/* | "$CACHE"/*) ;;
	*) cwd=/ ;; # not visible inside
	esac
	mkdir -p "$CACHE/home" "$CACHE/cargo"
	args=(
		--die-with-parent --bind "$ROOT" / --dev /dev --proc /proc
		--perms 1777 --tmpfs /tmp --tmpfs /run
		--ro-bind "$(realpath /etc/resolv.conf)" /etc/resolv.conf
		--dev-bind-try /dev/kvm /dev/kvm
		--bind "$CACHE" "$CACHE" --bind "$REPO" "$REPO" "${binds[@]}"
		"${ro[@]}"
		--setenv PATH /usr/sbin:/usr/bin:/sbin:/bin --setenv LC_ALL C.UTF-8
		--setenv HOME "$CACHE/home" --setenv CARGO_HOME "$CACHE/cargo"
		--setenv XDG_CACHE_HOME "${CACHE%/*}" --setenv APT_CONFIG "$CACHE/apt.conf"
		# Paths of the host, which mean nothing inside.
		--unsetenv SSL_CERT_FILE --unsetenv SSL_CERT_DIR
		--unsetenv CURL_CA_BUNDLE --unsetenv CARGO_HTTP_CAINFO
		--unsetenv RUSTUP_HOME --unsetenv TMPDIR
		--chdir "$cwd"
	)
	if [[ -e /etc/ssl/certs/ca-certificates.crt ]]; then
		args+=(--ro-bind /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt)
	fi
	exec bwrap "${args[@]}" -- "$@"
}

if [[ ${TOOLCHAIN-} == host ]]; then
	if [[ ${1-} == run ]]; then
		shift
		exec "$@"
	fi
	exit
fi
case ${1-} in
mirror)
	mirror
	exit
	;;
host)
	host_packages
	exit
	;;
there)
	if on_arm64; then
		[[ ! -d $CROSS_ROOT ]] || exec "$0"
	elif [[ -d $LARGE_ROOT || -d $SMALL_ROOT ]]; then
		exec "$0"
	fi
	exit
	;;
esac
host_packages
case ${1-} in
compositors)
	root_of_its_own "$COMPOSITOR_ROOT" "Compositors' root: sway, KWin, Mutter and others, and Mesa (apt-get)" \
		make_larger_root compositor-packages "${COMPOSITOR_PACKAGES[@]}"
	exit
	;;
packaging)
	root_of_its_own "$PACKAGING_ROOT" "Packaging root: debhelper, dh-dkms, lintian, firmware (apt-get)" \
		make_larger_root packaging-packages "${PACKAGING_PACKAGES[@]}"
	exit
	;;
system)
	root_of_its_own "$SYSTEM_ROOT" "System: Debian $SUITE with systemd, a kernel and a compiler (mmdebstrap, minutes)" \
		make_system_root
	exit
	;;
esac
if on_arm64; then
	ROOT=$CROSS_ROOT
	if [[ ! -d $ROOT ]]; then
		step "Toolchain root: cross compiler and QEMU for arm64 (apt-get)"
		cache_entry "$ROOT" make_larger_root cross-packages "${CROSS_PACKAGES[@]}"
	fi
	ROOT=$CROSS_ROOT
	if [[ ${1-} == guest ]]; then
		if [[ ! -d $ARM64_GUEST_ROOT ]]; then
			step "Guest's root: Debian $SUITE for arm64 (mmdebstrap)"
			cache_entry "$ARM64_GUEST_ROOT" make_arm64_guest_root
		fi
		ROOT=$ARM64_GUEST_ROOT
	fi
else
	ROOT=$LARGE_ROOT
fi
if [[ ! -d $ROOT && ${1-} == all ]]; then
	step "Toolchain root: what only the tests take: clang, checkers, file systems (apt-get)"
	cache_entry "$LARGE_ROOT" make_larger_root test-packages "${TEST_PACKAGES[@]}"
	ROOT=$LARGE_ROOT
elif [[ ! -d $ROOT ]]; then
	ROOT=$SMALL_ROOT
fi
if [[ ! -d $ROOT ]]; then
	step "Toolchain root: Debian $SUITE with rustc, bindgen, gcc and QEMU (mmdebstrap, about a minute)"
	cache_entry "$ROOT" make_root
fi
if [[ ${1-} == run ]]; then
	shift
	run_inside "$@"
fi
printf '%s\n' "$ROOT"
