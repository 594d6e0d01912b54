#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# make mutants: puts each fault of tests/mutants into the module, one at a time, and runs the tests
# that should catch it. Prints a table: which test caught the fault, and in how many seconds.
#
# usage: mutants.sh [NAME...]
#
# NAME selects tests/mutants/NAME.patch. Without a NAME, the script tries all of them. Each patch
# has a header above the diff:
#
#   What: what the fault breaks, in a sentence.
#   Caught-by: KERNEL PROGRAM...
#       a kernel of tests/kernel.sh, and the selftests that should catch the fault there
#       (tests/selftests), or KUnit, which runs when the debug kernel loads the module
#   Caught-by: model CASE
#       no test catches this fault reliably. CASE of tests/model/run.sh has the same fault in the
#       model. The script builds the mutant, and CASE has to find the fault
#   Why: only for "model": why no test catches the fault reliably.
#   Needs: all-tests, if the fault shows only on file systems that "few" of selftests.sh leaves out;
#       leak-scan, if only kmemleak finds it (half a minute)
#
# A mutant is caught if a test fails (which ends the run), if the guest dies, or if the guest's
# kernel log has a report (tests/boot.sh). A guest that takes too long proves nothing, because the
# host may be slow; the tests have their own time limits. First, the unmodified module has to pass
# the same tests. build/mutants/NAME keeps the mutant's module, the output of the guest, its kernel
# log and the results. The mutants for the stock kernel and those for the debug kernel run side by
# side.
#
# The last line reads "N passed, N failed, N skipped". A mutant has failed if it is not caught where
# its header says.
#
# BOOT_TIMEOUT: the seconds after which the script ends a guest (600).

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
shopt -s nullglob

# The time limit of the unmodified module for all programs at once, in seconds.
ALL_TIMEOUT=3600

cd "$REPO"
tests/toolchain.sh all >/dev/null
mutants=build/mutants
# table has a line for each mutant: passed, failed or skipped, and a row to print. complaints has
# the messages about failures.
table=$mutants/table complaints=$mutants/complaints

# header NAME FIELD: prints that field of the patch's header, or nothing.
header() {
	sed -n "/^--- /q; s/^$2: //p" "tests/mutants/$1.patch" | sed -n 1p
}

# Reads where a mutant should be caught: sets kernel, programs and needs. Or sets kernel to "model",
# and model to the case.
read_header() { # NAME
	local by
	[[ -e tests/mutants/$1.patch ]] || die "$1: no such mutant" "ls tests/mutants"
	[[ -n $(header "$1" What) ]] || die "tests/mutants/$1.patch has no line What:"
	by=$(header "$1" Caught-by)
	needs=$(header "$1" Needs) model=
	read -r kernel by <<<"$by"
	case $kernel in
	model)
		model=$by programs=()
		[[ -n $(header "$1" Why) ]] || die "tests/mutants/$1.patch has no line Why:"
		grep -qF "|$model|" tests/model/run.sh || die "$1: tests/model/run.sh has no case \"$model\""
		return
		;;
	stock | debug) read -ra programs <<<"$by" ;;
	*) die "tests/mutants/$1.patch: Caught-by: takes stock, debug or model" ;;
	esac
	((${#programs[@]})) || die "tests/mutants/$1.patch: Caught-by: names no program"
}

# Copies the module's source and puts the fault into it. All mutants use the same directory, and
# only files that differ are replaced, so that make rebuilds only what has changed.
make_tree() { # NAME
	local tree=$mutants/tree new=$mutants/tree.new file
	rm -rf "$new"
	mkdir -p "$new" "$tree"
	git ls-files -co --exclude-standard -z rust include Kbuild Makefile | xargs -0 cp --parents -t "$new"
	# git does not see a tree inside a directory that it ignores, so it needs the prefix.
	logged "mutant-$1" git apply -v -C1 --directory="$new" "tests/mutants/$1.patch" || return
	while read -r -d '' file; do
		cmp -s "$new/$file" "$tree/$file" || (cd "$new" && cp --parents "$file" "$REPO/$tree")
	done < <(cd "$new" && find . -type f -print0)
	while read -r -d '' file; do
		[[ -e $new/$file ]] || rm "$tree/$file"
	done < <(cd "$tree" && find . -type f -print0)
}

# build NAME: leaves the module in $mutants/NAME, and beside it the time that the build took.
build() {
	local dir=$mutants/$1 begin=$SECONDS sum
	read_header "$1"
	mkdir -p "$dir"
	if ! make_tree "$1"; then
		unusable "$1" "does not apply"
		return
	fi
	# Keep the module of the last run if its source and kernel are the same.
	[[ $kernel != model ]] || kernel=stock
	sum=$(cd "$mutants/tree" && find . -type f -exec sha256sum {} + | sort | key "$("$REPO/tests/kernel.sh" "$kernel")" "$(cat)")
	if [[ -e $dir/nosigbus.ko && $(cat "$dir/built-from" 2>/dev/null) == "$sum" ]]; then
		return
	fi
	rm -f "$dir/nosigbus.ko"
	if SOURCE=$REPO/$mutants/tree OUT=$REPO/$mutants/$kernel LOG=mutant-$1 \
		tests/build-module.sh "$kernel" 2>"$dir/build.log"; then
		cp "$mutants/$kernel/nosigbus.ko" "$dir"
		echo "$sum" >"$dir/built-from"
		echo $((SECONDS - begin)) >"$dir/built-in"
	else
		unusable "$1" "does not build"
	fi
}

# unusable NAME WHY: reports a mutant that does not fit the module any more.
unusable() {
	complain "$1: $2 (log: $CACHE/log/mutant-$1.log): bring it up to date"
	row failed "$1" "$2" - -
	rm -f "$mutants/$1/nosigbus.ko"
}

# run_tests DIR MODULE PROGRAM...: boots $kernel with the module and runs the programs, until a test
# fails. Sets status (the exit status of boot.sh) and seconds.
run_tests() {
	local dir=$1 module=$2 program begin=$SECONDS few=,few selftests=() guest
	local command=(true)
	shift 2
	for program; do
		[[ $program == KUnit ]] || selftests+=("$program")
	done
	[[ $needs != *all-tests* ]] || few=
	if ((${#selftests[@]})); then
		command=(tests/guest/selftests.sh build/selftests "$dir/results" "${selftests[@]/%/$few}")
	fi
	rm -rf "$dir/results"
	mkdir -p "$dir/results"
	BOOT_MODULE=$module BOOT_TIMEOUT=${BOOT_TIMEOUT:-600} \
		BOOT_KMEMLEAK=$([[ $needs != *leak-scan* ]] || echo yes) \
		tests/boot.sh --kernel "$kernel" -- "${command[@]}" >"$dir/output" 2>&1 </dev/null &
	guest=$!
	# shellcheck disable=SC2064 # the one of now
	trap "kill $guest 2>/dev/null || true" EXIT
	# The guest's output appears here at once.
	while kill -0 "$guest" 2>/dev/null; do
		if [[ -n $(failures "$dir") ]]; then
			# QEMU ends with it.
			kill "$guest" 2>/dev/null || true
			break
		fi
		sleep 0.5
	done
	status=0
	wait "$guest" 2>/dev/null || status=$?
	trap - EXIT
	seconds=$((SECONDS - begin))
	tr -d '\r' <"build/boot/console-$kernel.log" >"$dir/console.log"
}

# The selftests that have failed, as PROGRAM: TEST.
failures() { # DIR
	local tap program
	for tap in "$1"/results/*.tap; do
		program=$(basename "$tap" .tap)
		sed -nE "s/^not ok [0-9]+ ([^ ]+).*/$program: \1/p" "$tap"
	done
}

# Prints in a few words what has failed, or nothing.
verdict() { # DIR
	local found=()
	mapfile -t found < <(failures "$1")
	# The KUnit tests at insmod. The kernel's own KUnit tests come before that in the log.
	mapfile -t -O ${#found[@]} found < <(sed '1,/nosigbus: loading out-of-tree module/d' "$1/console.log" |
		sed -nE 's/^(\[[^]]*\] )? +not ok [0-9]+ ([^ ]+).*/KUnit: \2/p')
	case $status in
	98) ! grep -q 'nosigbus-boot: ready' "$1/console.log" || found+=("the guest dies") ;;
	99) found+=("kernel log: $(first_report "$1/console.log")") ;;
	esac
	# selftests.sh takes down what it has set up.
	if grep -qE 'selftests.sh: .* are left' "$1/output"; then
		found+=("file systems are left")
	fi
	((${#found[@]} == 0)) || join "${found[@]}"
}

join() {
	local text=$1
	shift
	printf '%s' "$text" "${@/#/, }"
}

# The first line of what klog-check.sh complains of.
first_report() {
	tests/klog-check.sh "$1" | sed -nE 's/^  \| (\[[^]]*\] )?//p' |
		grep -m 1 -E 'BUG|WARNING|Oops|panic|KASAN|UBSAN|fault|unreferenced|refcount|RCU|stall|lock|corruption' |
		cut -c 1-70 || true
}

# Whether all programs have come to their end without a failure.
is_clean() { # DIR PROGRAM...
	local program tap
	((status == 0)) && [[ -z $(verdict "$1") ]] || return
	for program in "${@:2}"; do
		[[ $program != KUnit ]] || continue
		tap=$1/results/$program.tap
		grep -qs '^# Totals:' "$tap" || return
	done
}

# row passed|failed|skipped NAME WHERE SECONDS BUILD-SECONDS
row() {
	printf '%s\t%s | %s | %s | %s | %s\n' "$1" "$2" "$(header "$2" What)" "${@:3}" >>"$table"
}

complain() {
	note "$*"
	echo "$*" >>"$complaints"
}

# Tries the unmodified module in a kernel, once for each value of "Needs" of the mutants there.
try_unmutated() { # KERNEL
	local name way ways=()
	for name in "${names[@]}"; do
		read_header "$name"
		[[ $kernel != "$1" ]] || ways+=("$needs")
	done
	((${#ways[@]})) || return 0
	while read -r way; do
		try_unmutated_in "$1" "$way"
	done < <(printf '%s\n' "${ways[@]}" | sort -u)
}

try_unmutated_in() { # KERNEL NEEDS
	local name wanted=$2 all=() dir=$mutants/none-$1${2:+-${2// /-}}
	for name in "${names[@]}"; do
		read_header "$name"
		[[ $kernel == "$1" && $needs == "$wanted" ]] || continue
		all+=("${programs[@]}")
	done
	((${#all[@]})) || return 0
	mapfile -t all < <(printf '%s\n' "${all[@]}" | sort -u)
	kernel=$1 needs=$wanted
	step "Mutants: the module as it is, in the $kernel kernel: ${all[*]}"
	BOOT_TIMEOUT=$ALL_TIMEOUT run_tests "$dir" "$REPO/build/$kernel/nosigbus.ko" "${all[@]}"
	is_clean "$dir" "${all[@]}" ||
		die "the module as it is does not pass: $(verdict "$dir") (boot.sh: $status)" \
			"see $dir/output; until then, being caught says nothing"
	note "passed, $seconds s"
}

try() { # NAME
	local dir=$mutants/$1 built found
	step "Mutant $1: $(header "$1" What)"
	built=$(<"$dir/built-in")
	run_tests "$dir" "$REPO/$dir/nosigbus.ko" "${programs[@]}"
	found=$(verdict "$dir")
	if [[ -n $found ]]; then
		note "caught: $found, $seconds s"
		row passed "$1" "$kernel: $found" "$seconds" "$built"
	elif ((status == 97)) || ! grep -q 'nosigbus-boot: ready' "$dir/console.log"; then
		complain "$1: no verdict: no end after ${BOOT_TIMEOUT:-600} s, or no boot (boot.sh: $status; see $dir)"
		row failed "$1" "no verdict by $kernel: ${programs[*]}" "$seconds" "$built"
	else
		complain "$1: not caught by $kernel: ${programs[*]} (boot.sh: $status; see $dir)"
		row failed "$1" "NOT CAUGHT by $kernel: ${programs[*]}" "$seconds" "$built"
	fi
}

# Runs the case of the model, which has to find the fault.
try_model() { # NAME
	local begin=$SECONDS status=0
	step "Mutant $1, in the model: $model"
	tests/toolchain.sh run tests/model/run.sh --case "$model" >"$mutants/$1/output" 2>&1 || status=$?
	if ((status == 0)); then
		row passed "$1" "model: $model" $((SECONDS - begin)) "$(<"$mutants/$1/built-in")"
	else
		complain "$1: not found by the model: see $mutants/$1/output"
		row failed "$1" "NOT FOUND by the model: $model" $((SECONDS - begin)) "$(<"$mutants/$1/built-in")"
	fi
}

# Tries everything of one kernel: first the unmodified module, then each mutant.
lane() { # KERNEL
	local name
	try_unmutated "$1"
	for name in "${names[@]}"; do
		read_header "$name"
		[[ $kernel != "$1" || ! -e $mutants/$name/nosigbus.ko ]] || try "$name"
	done
}

names=("$@")
if ((${#names[@]} == 0)); then
	for patch in tests/mutants/*.patch; do
		names+=("$(basename "$patch" .patch)")
	done
fi
kernels=()
for name in "${names[@]}"; do
	read_header "$name"
	[[ $kernel == model || " ${kernels[*]} " == *" $kernel "* ]] || kernels+=("$kernel")
done

stock=$(tests/kernel.sh stock)
mkdir -p "$mutants" build/selftests
step "Selftests: building them"
logged selftests-mutants tests/toolchain.sh run make -C tests/selftests CC=gcc-14 \
	"OUT=$REPO/build/selftests" M32= "KSRC=$stock/source" ||
	die "the selftests did not build" "mend what the compiler complains of"

for kernel in "${kernels[@]}"; do
	make -s "build/$kernel/nosigbus.ko"
done
: >"$table"
: >"$complaints"
step "Mutants: building ${#names[@]}"
for name in "${names[@]}"; do
	build "$name"
done
lanes=() status=0
# A lane that is killed ends its guest.
trap '((! ${#lanes[@]})) || kill "${lanes[@]}" 2>/dev/null || true' EXIT
for kernel in "${kernels[@]}"; do
	(lane "$kernel") 2> >(sed -u "s/^/[$kernel] /" >&2) &
	lanes+=($!)
done
for each in "${lanes[@]}"; do
	wait "$each" || status=$?
done
for name in "${names[@]}"; do
	read_header "$name"
	[[ $kernel != model || ! -e $mutants/$name/nosigbus.ko ]] || try_model "$name"
done

echo 'mutant | what | caught by | seconds | to build'
sort "$table" | cut -f 2
cat "$complaints"
count() {
	grep -c "^$1" "$table" || true
}
printf '%d passed, %d failed, %d skipped\n' "$(count passed)" "$(count failed)" "$(count skipped)"
((status == 0)) && ! grep -q '^failed' "$table"
