#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The toolchain root: a Debian trixie in a directory of the cache, with the
# compilers that Debian's own kernels are built with. Nothing of it touches the
# host, which only gets the packages of HOST_PACKAGES. The same directory is
# the root file system of the guests that tests/boot.sh boots.
#
#   tests/toolchain.sh                     makes it if need be, prints its path
#   tests/toolchain.sh run [--rw] [--] CMD...
#       runs CMD inside it, in the same directory: the cache and this checkout
#       are at their own paths and writable, the rest is read-only (--rw: is not)

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# package:command, or package:file
HOST_PACKAGES=(
	qemu-system-x86:qemu-system-x86_64
	mmdebstrap:mmdebstrap
	bubblewrap:bwrap
	debian-archive-keyring:/usr/share/keyrings/debian-archive-keyring.gpg
	ca-certificates:/etc/ssl/certs/ca-certificates.crt
)

SUITE=trixie
PACKAGES=(
	# to build kernels and modules
	gcc gcc-14 make rustc rust-src bindgen rustfmt rust-clippy cargo
	clang-19 lld-19 llvm-19 pahole bc bison flex libelf-dev libssl-dev
	libc6-dev cpio kmod xz-utils zstd perl python3 git ca-certificates
	# to build 32-bit programs and the man page
	gcc-14-multilib python3-docutils
	# to check them
	shellcheck spin mandoc
	# to be a guest
	busybox-static mount util-linux procps iproute2 strace e2fsprogs
	xfsprogs btrfs-progs erofs-utils dmsetup
	# to be protected there: a compositor, and programs that map files
	weston ripgrep b3sum sqlite3 silversearcher-ag
	# to attack the device there
	trinity
)

ROOT=$CACHE/root-$(key "$SUITE" "${PACKAGES[@]}" "recipe 1")

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

# What the host's apt is told about proxies and certificates, for the apt inside.
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

make_root() {
	local dir=$1 uri suite include sources=()
	need_root
	uri=$(mirror)
	apt_conf
	for suite in "$SUITE" "$SUITE-backports"; do
		sources+=("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main")
	done
	include=$(
		IFS=,
		printf '%s' "${PACKAGES[*]}"
	)
	# The package lists stay, and when they were got: tests/kernel.sh asks them.
	# shellcheck disable=SC2016 # $1 is mmdebstrap's
	logged toolchain-root mmdebstrap --mode=root --variant=apt \
		--aptopt="$CACHE/apt.conf" --include="$include" \
		--skip=cleanup/apt/lists \
		--customize-hook='rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1/etc/resolv.conf"' \
		--customize-hook='touch "$1/etc/resolv.conf" "$1/var/lib/apt/updated"' \
		"$SUITE" "$dir" "${sources[@]}" ||
		die "the toolchain root could not be made" "see the log; if it is the network, run this again"
}

run_inside() {
	local ro=(--remount-ro /) cwd=$PWD args
	if [[ ${1-} == --rw ]]; then
		ro=()
		shift
	fi
	if [[ ${1-} == -- ]]; then
		shift
	fi
	case $cwd/ in
	"$REPO"/* | "$CACHE"/*) ;;
	*) cwd=/ ;; # not visible inside
	esac
	mkdir -p "$CACHE/home" "$CACHE/cargo"
	args=(
		--die-with-parent --bind "$ROOT" / --dev /dev --proc /proc
		--perms 1777 --tmpfs /tmp --tmpfs /run
		--ro-bind "$(realpath /etc/resolv.conf)" /etc/resolv.conf
		--bind "$CACHE" "$CACHE" --bind "$REPO" "$REPO"
		"${ro[@]}"
		--setenv PATH /usr/sbin:/usr/bin:/sbin:/bin --setenv LC_ALL C.UTF-8
		--setenv HOME "$CACHE/home" --setenv CARGO_HOME "$CACHE/cargo"
		--setenv XDG_CACHE_HOME "${CACHE%/*}" --setenv APT_CONFIG "$CACHE/apt.conf"
		# Paths of the host, which say nothing in here.
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

host_packages
if [[ ! -d $ROOT ]]; then
	step "Toolchain root: Debian $SUITE with rustc, bindgen, gcc and clang (mmdebstrap, about a minute)"
	cache_entry "$ROOT" make_root
fi
if [[ ${1-} == run ]]; then
	shift
	run_inside "$@"
fi
printf '%s\n' "$ROOT"
