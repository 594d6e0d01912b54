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
# log and the results. Two workers build and try the mutants side by side. After an interrupted run,
# the script goes on where that one stopped: it does not try again what has passed or was caught, as
# long as neither the module nor the tests have changed.
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
# What is to be tried: names of mutants, and "none,KERNEL,NEEDS" for the unmodified module.
queue=$mutants/queue

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

# Copies the module's source and puts the fault into it. All mutants of a worker use the same
# directory, and only files that differ are replaced, so that make rebuilds only what has changed.
make_tree() { # NAME
	local tree=$mutants/tree-$worker new=$mutants/tree-$worker.new file
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

# build NAME: leaves the module in $mutants/NAME, and beside it the time that the build took. A
# mutant for the model is built for the stock kernel.
build() {
	local dir=$mutants/$1 begin=$SECONDS sum kernel=${kernel/model/stock} objects
	objects=$mutants/$kernel-$worker
	mkdir -p "$dir"
	if ! make_tree "$1"; then
		unusable "$1" "does not apply"
		return 1
	fi
	# Keep the module of the last run if its source and kernel are the same.
	sum=$(cd "$mutants/tree-$worker" && find . -type f -exec sha256sum {} + | sort | key "$("$REPO/tests/kernel.sh" "$kernel")" "$(cat)")
	if [[ -e $dir/nosigbus.ko && $(cat "$dir/built-from" 2>/dev/null) == "$sum" ]]; then
		return
	fi
	rm -f "$dir/nosigbus.ko"
	if SOURCE=$REPO/$mutants/tree-$worker OUT=$REPO/$objects LOG=mutant-$1 \
		tests/build-module.sh "$kernel" 2>"$dir/build.log"; then
		cp "$objects/nosigbus.ko" "$dir"
		echo "$sum" >"$dir/built-from"
		echo $((SECONDS - begin)) >"$dir/built-in"
	else
		unusable "$1" "does not build"
		return 1
	fi
}

# unusable NAME WHY: reports a mutant that does not fit the module any more.
unusable() {
	complain "$1: $2 (log: $CACHE/log/mutant-$1.log): bring it up to date"
	row failed "$1" "$2" - -
}

# run_tests DIR MODULE PROGRAM...: boots $kernel with the module and runs the programs, until a test
# fails. Sets status (the exit status of boot.sh) and seconds.
run_tests() {
	local dir=$1 module=$2 program begin=$SECONDS few=,few selftests=() guest log
	log=$REPO/build/boot/console-mutant-$worker.log
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
	BOOT_MODULE=$module BOOT_LOG=$log BOOT_TIMEOUT=${BOOT_TIMEOUT:-600} \
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
	tr -d '\r' <"$log" >"$dir/console.log"
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
	[[ $1 != passed ]] || remember "$mutants/$2" "$(<"$mutants/$2/built-from")" "${@:3}"
}

# remember DIR MODULE TEXT...: records that this module did as it should in the tests of read_header.
remember() {
	printf '%s\n' "$(key "$2" "$tests" "$kernel $model ${programs[*]} $needs")" "${@:3}" >"$1/result"
}

# recall DIR MODULE: sets recalled to the TEXT of remember, or fails if something has changed since.
recall() {
	mapfile -t recalled < <(cat "$1/result" 2>/dev/null)
	[[ ${recalled[0]-} == "$(key "$2" "$tests" "$kernel $model ${programs[*]} $needs")" ]]
}

complain() {
	note "$*"
	echo "$*" >>"$complaints"
}

# Tries the unmodified module in a kernel, with all programs of the mutants that need the same.
try_unmutated() { # KERNEL NEEDS
	local name dir=$mutants/none-$1${2:+-${2// /-}} all=()
	for name in "${names[@]}"; do
		read_header "$name"
		[[ $kernel != "$1" || $needs != "$2" ]] || all+=("${programs[@]}")
	done
	mapfile -t all < <(printf '%s\n' "${all[@]}" | sort -u)
	kernel=$1 needs=$2 model='' programs=("${all[@]}")
	mkdir -p "$dir"
	if recall "$dir" "$(sha256sum <"build/$kernel/nosigbus.ko")"; then
		note "the module as it is, in the $kernel kernel: passed before"
		return
	fi
	step "Mutants: the module as it is, in the $kernel kernel: ${all[*]}"
	BOOT_TIMEOUT=$ALL_TIMEOUT run_tests "$dir" "$REPO/build/$kernel/nosigbus.ko" "${all[@]}"
	if ! is_clean "$dir" "${all[@]}"; then
		# The other worker need not go on either.
		: >"$queue"
		die "the module as it is does not pass: $(verdict "$dir") (boot.sh: $status)" \
			"see $dir/output; until then, being caught says nothing"
	fi
	remember "$dir" "$(sha256sum <"build/$kernel/nosigbus.ko")"
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

# Takes the next line from the queue, or fails if there is none.
take() {
	local line
	exec {lock}>"$queue.lock"
	flock "$lock"
	line=$(head -n 1 "$queue")
	sed -i 1d "$queue"
	exec {lock}>&-
	[[ -n $line ]] && printf '%s\n' "$line"
}

# Takes mutants from the queue, builds them and tries them.
work() {
	local line name
	while line=$(take); do
		if [[ $line == none,* ]]; then
			IFS=, read -r _ kernel needs <<<"$line"
			try_unmutated "$kernel" "$needs"
			continue
		fi
		name=$line
		read_header "$name"
		build "$name" || continue
		if recall "$mutants/$name" "$(<"$mutants/$name/built-from")"; then
			note "$name: caught before"
			row passed "$name" "${recalled[@]:1}"
		elif [[ $kernel == model ]]; then
			try_model "$name"
		else
			try "$name"
		fi
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
tests=$(find tests/{selftests,guest,model,boot.sh,klog-check.sh} -type f -exec sha256sum {} + | sort | sha256sum)
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
# The unmodified module comes first; the debug kernel, which takes longest, before the stock kernel.
{
	for name in "${names[@]}"; do
		read_header "$name"
		[[ $kernel == model ]] || printf 'none,%s,%s\n' "$kernel" "$needs"
	done | sort -u
	printf '%s\n' "${names[@]}"
} >"$queue"
workers=() status=0
# A worker that is killed ends its guest.
trap '((! ${#workers[@]})) || kill "${workers[@]}" 2>/dev/null || true' EXIT
for worker in 1 2; do
	(work) 2> >(sed -u "s/^/[$worker] /" >&2) &
	workers+=($!)
done
for each in "${workers[@]}"; do
	wait "$each" || status=$?
done

echo 'mutant | what | caught by | seconds | to build'
sort "$table" | cut -f 2
cat "$complaints"
count() {
	grep -c "^$1" "$table" || true
}
printf '%d passed, %d failed, %d skipped\n' "$(count passed)" "$(count failed)" "$(count skipped)"
((status == 0)) && ! grep -q '^failed' "$table"
