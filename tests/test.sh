#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# make test. With the argument "all", make test_all: the same tests, and then the rest. tests/table
# says what runs where and when. The last line reads "N passed, N failed, N skipped".
#
# usage: test.sh [all]
#
# T=NAME   only the lines of the table with that name
# K=WHERE  only the lines that run there: host, stock (with desktop), debug, full
# FLAVOUR=rt  takes that flavour of Debian's kernel as the stock kernel, and leaves out the other
#          kernels, which have only one flavour
# ARCH=arm64  runs the selftests, samples, crate and programs in Debian's arm64 kernel; with
#          FLAVOUR=16k in the one with pages of 16 KiB
#
# T and K select from all lines of the table, those of test_all included.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# Hide this make's variables from the makes below.
unset MAKEFLAGS MFLAGS MAKELEVEL CFLAGS CORE_MM

want_all=${1-} only=${T-} where=${K-}
export KERNEL_FLAVOUR=${FLAVOUR-${KERNEL_FLAVOUR-}}
results=build/results selftests=build/selftests$OF_MACHINE
started=$SECONDS
cd "$REPO"

# The plan has the lines of the table as "WHEN WHERE NAME TAKES COMMAND...". WHEN is 1 for make
# test, and 2 for the lines that only test_all runs. One command runs all selftests of a guest.
plan=()
read_table() {
	local kind name rest cells i cell when spec
	local columns=("stock" "stock,nobody" "stock,32" "debug" "full" "full,32")
	while read -r kind name rest; do
		read -ra cells <<<"$rest"
		case $kind in
		selftest)
			((${#cells[@]} == ${#columns[@]})) || die "tests/table: $name has not ${#columns[@]} cells"
			for i in "${!columns[@]}"; do
				cell=${cells[i]} when=1
				[[ $cell != \[*\] ]] || cell=${cell:1:-1} when=2
				case $cell in
				-) continue ;;
				few | some | rest) spec=${columns[i]#"${columns[i]%%,*}"},$cell ;;
				all) spec=${columns[i]#"${columns[i]%%,*}"} ;;
				*) die "tests/table: $name: what is \"$cell\"?" ;;
				esac
				take "$when" "${columns[i]%%,*}" "$name" selftest "$name$spec"
			done
			;;
		run)
			when=1
			[[ ${cells[1]} != '[all]' ]] || when=2
			take "$when" "${cells[0]}" "$name" "${cells[@]:2}"
			;;
		'' | '#') ;;
		*) die "tests/table: what is \"$kind\"?" ;;
		esac
	done < <(sed -E 's/^#.*//' tests/table)
	((${#plan[@]})) || die "tests/table has nothing of T=$only K=$where" \
		"T= one of: $(sed -nE 's/^(selftest|run) +([^ ]+).*/\2/p' tests/table | sort -u | paste -sd ' ')"
}

# kernel_of WHERE: prints the kernel of that guest.
kernel_of() {
	printf '%s\n' "${1/#desktop/stock}"
}

# take WHEN WHERE NAME...: a line of the plan, if it is wanted.
take() {
	if [[ -n $KERNEL_FLAVOUR && $(kernel_of "$2") != stock ]]; then
		return
	elif on_arm64 && [[ $2 != stock || $5 == *,32* || ! "$4 $3" =~ ^selftest|\ (samples|crate|programs)$ ]]; then
		return
	elif [[ -n $only || -n $where ]]; then
		[[ ${only:-$3} == "$3" && (-z $where || $where == "$2" || $where == "$(kernel_of "$2")") ]] || return 0
	elif [[ -z $want_all && $1 == 2 ]]; then
		return
	fi
	plan+=("${*:1:4} $(on_machine "${@:5}")")
}

# on_machine WORD...: prints a command of the table, with what was built for this machine.
on_machine() {
	local command=${*//build\/samples\/release/$RELEASE}
	command=${command//build\/crate/build\/crate$OF_MACHINE}
	printf '%s\n' "${command//build\/programs/build\/programs$OF_MACHINE}"
}

# of WHEN WHERE: prints those lines of the plan, without these two fields.
of() {
	local line
	for line in "${plan[@]}"; do
		[[ $line != "$1 $2 "* ]] || printf '%s\n' "${line#"$1 $2 "}"
	done
}

has() {
	[[ -n $(of "$@") ]]
}

# Builds what the lines of the plan need, of both phases.
build() {
	local takes=()
	mapfile -t takes < <(printf '%s\n' "${plan[@]}" | awk '$4 != "selftest" && $4 != "-" { print $4 }' |
		tr , '\n' | sort -u)
	((${#takes[@]} == 0)) || make -s "${takes[@]}"
	for bits in '' 32; do
		mapfile -t programs < <(printf '%s\n' "${plan[@]}" | awk -v "bits=$bits" '
			$4 == "selftest" && (bits == "32") == ($5 ~ /,32/) { print $3 }' | sort -u)
		((${#programs[@]})) || continue
		step "Selftests: building them${bits:+ as $bits-bit programs}"
		build_selftests "$selftests$bits"
	done
}

# build_selftests DIR: $programs, as programs of $bits. They take two minutes to build, and a new
# checkout has none. So it takes what the cache has of the same sources.
build_selftests() {
	local entry
	if [[ ! -e $1 && -z $only$where ]]; then
		entry=$(selftests_entry)
		cache_entry "$entry" make_selftests
		touch "$entry"
		rm -rf "$1.part"
		# The copies are newer than the sources, so make does not build them again.
		cp -r "$entry" "$1.part"
		mv -T "$1.part" "$1"
		# Somebody may have changed a source meanwhile.
		[[ $(selftests_entry) == "$entry" ]] || rm -rf "$entry"
		find "$CACHE" -ignore_readdir_race -maxdepth 1 -name 'selftests-*' -mtime +14 -exec rm -rf {} + ||
			note "cannot remove old selftests from $CACHE"
	fi
	mkdir -p "$1"
	make_selftests "$REPO/$1"
}

# selftests_entry: prints where the cache has them. What goes in is the name.
selftests_entry() {
	local root sources
	root=$(tests/toolchain.sh)
	sources=$(sha256sum tests/selftests/* include/uapi/linux/nosigbus.h)
	printf '%s\n' "$CACHE/selftests-$(key "$bits" "$GUEST_CC" "$root" "$stock" "${programs[*]}" "$sources")"
}

make_selftests() { # DIR
	# The harness is the one of the stock kernel's own selftests.
	logged "selftests$bits" tests/toolchain.sh run make -C tests/selftests "-j$(nproc)" "CC=$GUEST_CC" \
		"OUT=$1" "M32=$bits" "KSRC=$stock/source" "${programs[@]/#/$1/}" ||
		die "the selftests did not build" "mend what the compiler complains of"
}

logs=()

# one_test NAME LABEL STATUS [WHY]: writes the TAP of a test that is one exit status, with WHY as
# its diagnostics, and adds it to the report.
one_test() {
	local ok='not ok'
	(($3 != 0)) || ok=ok
	{
		printf 'TAP version 13\n1..1\n'
		[[ -z ${4-} ]] || printf '# %s\n' "${4//$'\n'/$'\n'# }"
		printf '%s 1 %s (status %d)\n' "$ok" "$2" "$3"
	} >"$results/$1.tap"
	logs+=("$2=$results/$1.tap")
}

# Takes a piece of work that either lane may do, or fails if the other lane has it.
claim() { # WHAT
	mkdir "$results/$1.claimed" 2>/dev/null
}

# on_host WHEN: scripts that print TAP.
on_host() {
	local name command start
	while read -r name _ command; do
		claim "host-$name-$1" || continue
		step "Host: $name"
		start=$SECONDS
		bash -c "$command" </dev/null >"$results/host-$name-$1.tap" 2>&1 || {
			note "failed, see below"
			one_test "host-$name-$1-status" "host $name: exit status" 1
		}
		logs+=("host $name=$results/host-$name-$1.tap")
		printf '%d host: %s\n' $((SECONDS - start)) "$name" >>"$results/seconds"
	done < <(of "$1" host)
}

# amounts WHEN KERNEL: prints variables that say how much the tests do there. The user of make may
# set them. make test injects every 36th possible failure, each day others; test_all injects all of
# them.
amounts() {
	local calls=100000 stride=36
	[[ $2 != debug ]] || calls=25000
	(($1 == 1)) || stride=1
	printf '%s\n' "FUZZ_CALLS=${FUZZ_CALLS-$calls}" "FAILURES_STRIDE=${FAILURES_STRIDE-$stride}" \
		"FAILURES_OFFSET=${FAILURES_OFFSET-$((10#$(date +%j) % stride))}" \
		"STRESS_SECONDS=${STRESS_SECONDS-60}"
}

# in_guest WHEN WHERE: runs all lines of that guest. boot.sh fails if a command failed, if the guest
# did not end, or if the kernel log has a report. Its exit status is a test too.
in_guest() {
	local kernel name dir=$results/$2-$1 programs amounts status=0 log why=''
	kernel=$(kernel_of "$2")
	name=$(kernel_name "$2")
	mkdir -p "$dir"
	mapfile -t programs < <(of "$1" "$2" | awk '$2 == "selftest" { print $3 }')
	{
		((${#programs[@]} == 0)) ||
			printf 'tests/guest/selftests.sh %s %s %s\n' "$selftests" "$dir" "${programs[*]}"
		of "$1" "$2" | awk '$2 != "selftest"' | sed -E "s,^[^ ]+ [^ ]+ ,,; s,RESULTS,$dir,g"
	} >"$dir/commands"
	step "Guest: $name, $(of "$1" "$2" | wc -l) lines of the table"
	mapfile -t amounts < <(amounts "$1" "$kernel")
	note "${amounts[*]}"
	env "${amounts[@]}" BOOT_ENV="GROWTH_SIZES RACE_SECONDS SEED ${amounts[*]%%=*}" BOOT_TIMEOUT="${BOOT_TIMEOUT:-7200}" \
		BOOT_LOG="$REPO/$dir/kernel.log" tests/boot.sh --kernel "$kernel" -- tests/guest/run.sh "$dir" || status=$?
	# A line without a result has failed.
	while read -r log; do
		logs+=("$name $log=$dir/$log.tap")
	done < <(of "$1" "$2" | awk '$2 != "selftest" { print $1; next }
		{ sub(/,(few|some|rest)/, "", $3); gsub(/,/, "-", $3); print $3 }')
	[[ ! -s $dir/seconds ]] || sed "s/ / $name: /" "$dir/seconds" >>"$results/seconds"
	((status == 0)) || why=$(tests/klog-check.sh "$dir/kernel.log") || true
	one_test "$2-$1-guest" "$name: clean end and clean kernel log" "$status" "$why"
	if [[ $kernel != stock ]]; then
		logs+=("$name KUnit=$dir/kernel.log")
	fi
	# These kernels inject failures, so no test may be skipped for lack of that.
	if [[ $kernel != stock && -e $dir/failing_allocations.tap ]]; then
		status=0
		! grep -q 'does not inject failures' "$dir/failing_allocations.tap" || status=1
		one_test "$kernel-$1-injection" "the $kernel kernel injects failures" "$status"
	fi
}

# The lanes run side by side, because a guest without KVM seldom keeps two CPUs busy.

guests() { # WHEN WHERE...
	local guest
	for guest in "${@:2}"; do
		if has "$1" "$guest"; then
			in_guest "$1" "$guest"
		fi
	done
}

# What is left when a lane has run its own guests.
the_rest() { # WHEN
	if claim "desktop-$1"; then
		guests "$1" desktop
	fi
	on_host "$1"
}

# In make test, the guests of the stock and of the debug kernel take about as long. In the rest of
# test_all, the full kernel takes longest, and of the host's lines one takes a quarter of an hour.
plain_lane() {
	(($1 == 1)) || on_host "$1"
	guests "$1" stock
	(($1 == 1)) || guests "$1" debug
	the_rest "$1"
}

debug_lane() {
	(($1 == 2)) || guests "$1" debug
	guests "$1" full
	the_rest "$1"
}

# lane NAME WHEN: runs NAME_lane, marks each line of its output with NAME, and leaves the list of
# logs for the report. A lane that does not reach its end is a failed test.
lane() {
	local status=0 name=$1
	{
		(
			trap 'printf "%s\n" "${logs[@]}" >"$results/$name-$2.logs"' EXIT
			case $1 in
			plain) plain_lane "$2" ;;
			debug) debug_lane "$2" ;;
			esac
		) &
		# So that set -e holds in there.
		wait $! || status=$?
		((status == 0)) || note "the $1 lane ended here"
		logs=()
		one_test "$1-$2-lane" "$1 lane came to its end" "$status"
		printf '%s\n' "${logs[@]}" >>"$results/$1-$2.logs"
	} 2>&1 | sed -u "s/^/[$1] /" >&2
}

read_table
mkdir -p build
exec {one_at_a_time}>build/test.lock
flock -n "$one_at_a_time" || die "tests are going on in this checkout already" \
	"wait for them, or take another checkout"
rm -rf "$results"
mkdir -p "$results"
tests/toolchain.sh all >/dev/null
stock=$(tests/kernel.sh stock)
# Build the kernels first, one after the other, each with all CPUs. Builds and tests side by side
# would slow each other down.
for kernel in debug full; do
	if has 1 $kernel || has 2 $kernel; then
		tests/kernel.sh $kernel >/dev/null
	fi
done
for guest in stock desktop debug full; do
	if has 1 $guest || has 2 $guest; then
		make -s "build/$(kernel_name "$(kernel_of $guest)")/nosigbus.ko"
	fi
done
build
built=$SECONDS

for when in 1 2; do
	[[ " ${plan[*]/#/@}" == *" @$when "* ]] || continue
	lane debug $when &
	debug=$!
	lane plain $when
	wait $debug
	if [[ $when == 1 && -n $want_all ]]; then
		note "what make test runs took $((SECONDS - started)) s; the rest follows"
	fi
done

step "Results"
mapfile -t logs < <(sed '/^$/d' "$results"/*.logs)
status=0
tests/toolchain.sh run tests/report.py --seconds "$results/seconds" "$stock/source" "${logs[@]}" \
	>"$results/report" || status=$?
sed '$d' "$results/report"
printf 'Kernels, module and programs: %d s. Tests: %d s. All: %d s. %s\n' \
	$((built - started)) $((SECONDS - built)) $((SECONDS - started)) "$(tests/speed.sh)"
tail -n 1 "$results/report"
exit "$status"
