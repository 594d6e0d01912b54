#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Checks growth.pml, keep.pml and series.pml with spin, over all interleavings. The complete
# protocol must violate no property. If a part of it is taken out, spin has to find a certain
# violation. Prints TAP, with the number of states of each case. Runs in the toolchain root:
#
# usage: tests/toolchain.sh run tests/model/run.sh [--short|--long|--case NAME] [FILE]
#        FILE gets the TAP too. --short: the short cases in which spin has to find nothing.
#        --long: all others. --case: only that case.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

work=$REPO/build/model
# MiB; the largest case takes some 1400.
memory=4000

# The cases of each model, as EXPECTED RESULT|NAME|DEFINES. "none": spin visits all states and finds
# nothing. "cycle": spin finds a non-progress cycle. "no cycle": it finds no such cycle, and nothing
# else. "none, long" and "no cycle, long": the same, in so many states that make test leaves it out.
growth=(
	"none, long|two threads in two processes, two size changes|-DN=1 -DSTEADY -DOPS1=1 -DOPS2=1"
	"none, long|shmem: two threads in two processes, three size changes|-DN=1 -DSHMEM -DSTEADY -DOPS1=2 -DOPS2=1"
	"none, long|shmem: two threads in one process, two size changes|-DN=1 -DSHMEM -DSTEADY -DONE_VMA -DOPS1=1 -DOPS2=1"
	"none|one thread, two accesses, two size changes|-DN=1 -DTHREADS=1 -DACCESSES=2 -DOPS1=1 -DOPS2=1"
	"none, long|one thread, two accesses, three size changes|-DN=1 -DTHREADS=1 -DACCESSES=2 -DOPS1=2 -DOPS2=1"
	"none, long|shmem: one thread, two accesses, a file of two pages|-DN=2 -DSHMEM -DTHREADS=1 -DACCESSES=2 -DOPS1=1 -DOPS2=1"
	"none, long|shmem: a fork, two size changes|-DN=1 -DSHMEM -DSTEADY -DFORK -DOPS1=1 -DOPS2=1"
	"none, long|shmem: one thread, watched from the first stand-in on, three size changes|-DN=1 -DSHMEM -DTHREADS=1 -DATTACH -DOPS1=2 -DOPS2=1"
	"none|two threads, watched from the first stand-in on, a size change|-DN=1 -DATTACH -DOPS1=1 -DOPS2=0"
	"none, long|shmem: two threads in two processes, watched from the first stand-in on, two size changes by one task|-DN=1 -DSHMEM -DATTACH -DOPS1=2 -DOPS2=0"
	"none, long|one thread, two accesses, watched from the first stand-in on, two size changes|-DN=1 -DTHREADS=1 -DACCESSES=2 -DATTACH -DOPS1=1 -DOPS2=1"
	"none|two mappings, a size change|-DMAPPINGS=2 -DN=1 -DSTEADY -DOPS1=1 -DOPS2=0"
	"none, long|two mappings, two size changes|-DMAPPINGS=2 -DN=1 -DSTEADY -DOPS1=1 -DOPS2=1"
	"none, long|shmem: two mappings, two accesses each, two size changes by one task|-DMAPPINGS=2 -DN=1 -DSHMEM -DSTEADY -DACCESSES=2 -DOPS1=2 -DOPS2=0"
	"none, long|shmem: two mappings, a file of two pages, two size changes by one task|-DMAPPINGS=2 -DN=2 -DSHMEM -DSTEADY -DOPS1=2 -DOPS2=0"
	"none, long|shmem: two mappings, two processes have one of them, a size change|-DMAPPINGS=2 -DTHREADS=3 -DN=1 -DSHMEM -DSTEADY -DOPS1=1 -DOPS2=0"
	"none, long|shmem: two mappings, faults drop, too, two size changes|-DMAPPINGS=2 -DN=1 -DSHMEM -DSTEADY -DCATCH_UP -DOPS1=1 -DOPS2=1"
	"none|two mappings, watched from the first stand-in on, a size change|-DMAPPINGS=2 -DN=1 -DSTEADY -DATTACH -DOPS1=1 -DOPS2=0"
	"none, long|shmem: two mappings, watched from the first stand-in on, two size changes|-DMAPPINGS=2 -DN=1 -DSHMEM -DSTEADY -DATTACH -DOPS1=1 -DOPS2=1"
	"none|two mappings, one SharedRead, watched from the first stand-in on, a size change|-DMAPPINGS=2 -DN=1 -DSTEADY -DATTACH -DREADERS=1 -DOPS1=1 -DOPS2=0"
	"none, long|shmem: two mappings of a memfd, one SharedRead, watched from the first stand-in on, two size changes|-DMAPPINGS=2 -DN=1 -DSHMEM -DSTEADY -DATTACH -DREADERS=1 -DMEMFD -DOPS1=1 -DOPS2=1"
	"no cycle, long|shmem: two threads get on|-DN=1 -DSHMEM -DOPS1=2 -DOPS2=0"
	"no cycle, long|one thread gets on|-DN=1 -DTHREADS=1 -DOPS1=2 -DOPS2=1"
	"no cycle, long|shmem: two mappings get on, faults drop, too|-DMAPPINGS=2 -DN=1 -DSHMEM -DSTEADY -DCATCH_UP -DOPS1=2 -DOPS2=0"
	"no cycle|shmem: two mappings get on, one SharedRead, watched from the first stand-in on|-DMAPPINGS=2 -DN=1 -DSHMEM -DSTEADY -DATTACH -DREADERS=1 -DOPS1=1 -DOPS2=0"

	"P3_grown|without the second look at i_size|-DN=1 -DNO_RECHECK -DOPS1=1 -DOPS2=1"
	"P3_grown|without unmapping|-DN=1 -DNO_ZAP -DOPS1=1 -DOPS2=1"
	"P3_grown|without the semaphore|-DN=1 -DNO_SEMAPHORE -DOPS1=1 -DOPS2=1"
	"P3_grown|without the lowest stand-in being recorded|-DN=1 -DNO_LOWEST -DOPS1=1 -DOPS2=1"
	"P3_grown|recording it after the second look|-DN=1 -DLATE_LOWEST -DOPS1=1 -DOPS2=1"
	"P4_content|without shadow pages being dropped|-DN=1 -DNO_DROP -DOPS1=1 -DOPS2=1"
	"P4_content|without waiting for who drops pages|-DN=1 -DNO_DROPPING -DOPS1=1 -DOPS2=1"
	"P4_one_page|unmapping after the semaphore|-DN=1 -DZAP_OUTSIDE -DOPS1=1 -DOPS2=1"
	"P3_grown|the event before the size|-DN=1 -DEVENT_BEFORE_SIZE -DOPS1=1 -DOPS2=1"
	"P1_sigbus|without reading the page while it cannot shrink|-DN=1 -DTHREADS=1 -DNO_READ -DOPS1=1 -DOPS2=1"
	"P1_sigbus|shmem: without asking for the page|-DN=1 -DSHMEM -DTHREADS=1 -DNO_READ -DOPS1=1 -DOPS2=1"
	"P3_grown|without the grace period before the first stand-in|-DN=1 -DTHREADS=1 -DATTACH -DNO_GRACE -DOPS1=1 -DOPS2=0"
	"cycle|errors never delivered|-DN=1 -DTHREADS=1 -DNO_DELIVERY -DOPS1=1 -DOPS2=0"
	"P3_grown|shmem: a fork, the child unmapped before its parent|-DN=1 -DSHMEM -DFORK -DCHILD_FIRST -DOPS1=1 -DOPS2=1"
	"P3_grown|shmem: two mappings, unmapping one of them only|-DMAPPINGS=2 -DN=1 -DSHMEM -DUNMAP_ONE -DOPS1=1 -DOPS2=0"
	"P4_content|shmem: two mappings, dropping the shadow pages of one of them only|-DMAPPINGS=2 -DN=1 -DSHMEM -DSTEADY -DDROP_ONE -DACCESSES=2 -DOPS1=2 -DOPS2=0"
	"P6_held|shmem: two mappings, raising the lowest stand-in to that of one of them|-DMAPPINGS=2 -DN=2 -DSHMEM -DSTEADY -DLOWEST_OF_ONE -DOPS1=1 -DOPS2=0"
	"P4_one_page|shmem: two mappings, unmapping after the semaphore|-DMAPPINGS=2 -DTHREADS=3 -DN=1 -DSHMEM -DSTEADY -DZAP_OUTSIDE -DOPS1=1 -DOPS2=1"
	"P3_grown|shmem: two mappings, the second one with a WatchedFile of its own|-DMAPPINGS=2 -DN=1 -DSHMEM -DOWN_LISTENER -DOPS1=1 -DOPS2=0"
	"P6_held|shmem: two mappings, added to the file's after the first stand-in|-DMAPPINGS=2 -DN=1 -DSHMEM -DATTACH -DLATE_ADD -DOPS1=1 -DOPS2=0"
	"P3_grown|shmem: two mappings, the second one not waiting if the mark is there|-DMAPPINGS=2 -DN=1 -DSHMEM -DATTACH -DREADERS=1 -DMARK_SUFFICES -DOPS1=1 -DOPS2=0"
	"P3_grown|shmem: two mappings of a memfd, without counting who enables reports|-DMAPPINGS=2 -DN=1 -DSHMEM -DATTACH -DREADERS=1 -DMEMFD -DNO_STARTING -DOPS1=1 -DOPS2=0"
	"P3_grown|shmem: two mappings of a memfd, counting who has enabled them|-DMAPPINGS=2 -DN=1 -DSHMEM -DATTACH -DREADERS=1 -DMEMFD -DLATE_STARTING -DOPS1=1 -DOPS2=0"
)
keep=(
	"none|three threads|-DTHREADS=3"
	"none|three threads, page_mkwrite|-DTHREADS=3 -DMKWRITE"
	"none|two threads, page_mkwrite, two clears|-DMKWRITE -DCLEARS=2"
	"none, long|two threads, page_mkwrite, two accesses, a clear|-DMKWRITE -DACCESSES=2 -DCLEARS=1"
	"none, long|two threads, page_mkwrite, a large folio, faulting around, a clear|-DMKWRITE -DLARGE -DAROUND -DCLEARS=1"
	"none|two threads, page_mkwrite, a stale page, faulting around|-DMKWRITE -DSTALE -DAROUND"
	"none, long|two threads, page_mkwrite, truncation|-DMKWRITE -DSIZE"
	"none, long|two threads, truncation|-DSIZE"
	"none, long|one thread, two accesses, truncation, two clears|-DTHREADS=1 -DACCESSES=2 -DSIZE -DCLEARS=2"
	"none, long|one thread, page_mkwrite, two accesses, faulting around, truncation, a clear|-DTHREADS=1 -DMKWRITE -DACCESSES=2 -DAROUND -DSIZE -DCLEARS=1"
	"none|one thread, two accesses, collapse, a late report|-DTHREADS=1 -DACCESSES=2 -DSIZE -DCOLLAPSE -DREPORT"
	"none, long|one thread, page_mkwrite, two accesses, truncation, a late report|-DTHREADS=1 -DMKWRITE -DACCESSES=2 -DSIZE -DREPORT"
	"none|one thread, page_mkwrite, two accesses, collapse, a clear|-DTHREADS=1 -DMKWRITE -DACCESSES=2 -DSIZE -DCOLLAPSE -DCLEARS=1"
	"no cycle|two threads get on, page_mkwrite, a clear|-DMKWRITE -DCLEARS=1"
	"no cycle|two threads get on, page_mkwrite, a large folio, a stale page|-DMKWRITE -DLARGE -DSTALE"
	"no cycle, long|two threads get on, truncation|-DSIZE"
	"no cycle|one thread gets on, page_mkwrite, truncation|-DTHREADS=1 -DMKWRITE -DACCESSES=2 -DSIZE"

	"P1_two|faulting around all the time|-DNO_SUPPRESSION"
	"P1_two|without waiting for who faults around|-DAROUND -DNO_SYNCHRONIZE"
	"P1_two|the second one not waiting|-DAROUND -DNO_SECOND_WAIT"
	"P1_two|faulting around again after a clear|-DAROUND -DCLEARS=1 -DKEEPING_ENDS"
	"P1_two|a fault not looking again|-DNO_FAULT_RECHECK"
	"P1_two|page_mkwrite not looking again|-DMKWRITE -DNO_MKWRITE_RECHECK"
	"P1_two|mapping a large folio as a whole|-DLARGE -DWHOLE"
	"P1_two|page_mkwrite: mapping a large folio as a whole for a write|-DMKWRITE -DLARGE -DWHOLE_WRITE"
	"P1_lost|copying before unmapping|-DCOPY_FIRST"
	"P1_two|without locking the page|-DNO_LOCK"
	"P1_two|without looking into the page cache again|-DNO_SECOND_LOOK"
	"P1_two|without the barrier in keep|-DNO_KEEP_BARRIER"
	"P1_two|without the barrier in a fault|-DNO_FAULT_BARRIER"
	"P1_two|without unmapping a stale page|-DSTALE -DNO_UNMAP"
	"P2_recorded|recording after the semaphore|-DRECORD_LATE"
	"P2_recorded|clearing what was not told of|-DCLEARS=1 -DCLEAR_UNTOLD"
	"P3_dropped|clearing without unmapping|-DCLEARS=1 -DNO_CLEAR_UNMAP"
	"P3_dropped|mapping without the semaphore, a clear|-DCLEARS=1 -DNO_SEMAPHORE"
	"P3_dropped|mapping without the semaphore, truncation|-DSIZE -DNO_SEMAPHORE"
	"P3_dropped|without the first failed page|-DSIZE -DNO_FIRST_FAILED"
	"P3_dropped|recording the first failed page after the look|-DSIZE -DLATE_FIRST_FAILED"
	"P1_lost|announcing that something is dropped after the look|-DTHREADS=1 -DACCESSES=2 -DSIZE -DCOLLAPSE -DREPORT -DLATE_DROPPING"
	"P1_lost|a growth dropping what is kept|-DTHREADS=1 -DACCESSES=2 -DSIZE -DREPORT -DDROP_KEPT"
	"P3_dropped|a clear forgetting what is past EOF|-DTHREADS=1 -DACCESSES=2 -DSIZE -DCOLLAPSE -DCLEARS=1 -DNO_LOWER"
	"cycle|kept pages never mapped|-DNO_KEPT_ANSWER"
)
series=(
	"none|the series: a file of one page, three size changes|-DN=1"
	"none, long|the series: a file of two pages, two size changes|-DN=2 -DACCESSES=1 -DOPS1=1 -DOPS2=1"
	"none|the series: a mapping opts in and out, a size change|-DN=1 -DOPS1=1 -DOPS2=0 -DADVICE"
	"none|the series: a mapping opts in and out, two size changes|-DN=1 -DOPS1=1 -DOPS2=1 -DADVICE"
	"none|the series: a worker unmaps too, a size change|-DN=1 -DOPS1=1 -DOPS2=0 -DWORKER"
	"none, long|the series: a worker unmaps too, two size changes|-DN=1 -DOPS1=1 -DOPS2=1 -DWORKER"

	"P1_sigbus|the series: without VM_FAULT_EOF|-DN=1 -DNO_EOF_FLAG"
	"P3_grown|the series: without the second look at i_size|-DN=1 -DNO_RECHECK"
	"P3_grown|the series: recording the lowest page after it|-DN=1 -DLATE_LOWEST"
	"P3_grown|the series: recording it before the page table is locked|-DN=1 -DLOWEST_UNLOCKED"
	"P3_grown|the series: marking the inode after it|-DN=1 -DLATE_MARK"
	"P3_grown|the series: raising the lowest page after unmapping|-DN=1 -DRAISED_LATE"
	"P3_grown|the series: without unmapping|-DN=1 -DNO_UNMAPPING"
	"P3_grown|the series: without waiting for another growth that is unmapping|-DN=1 -DNO_LOOK_AT_LOCK"
	"P3_grown|the series: looking at the mark before the size is written|-DN=1 -DMARK_BEFORE_SIZE"
	"P3_grown|the series: opting out unmaps only what is past EOF|-DN=1 -DOPS1=1 -DOPS2=1 -DADVICE -DOPT_OUT_PAST_EOF"
	"P3_grown|the series: opting out clears the flag before it unmaps|-DN=1 -DOPS1=1 -DOPS2=1 -DADVICE -DFLAG_FIRST"
)
cases=("${growth[@]/#/growth|}" "${keep[@]/#/keep|}" "${series[@]/#/series|}")
case ${1-} in
--short) mapfile -t cases < <(printf '%s\n' "${cases[@]}" | grep -E '^[^|]*\|(none|no cycle)\|') ;;
--long) mapfile -t cases < <(printf '%s\n' "${cases[@]}" | grep -vE '^[^|]*\|(none|no cycle)\|') ;;
--case)
	mapfile -t cases < <(printf '%s\n' "${cases[@]}" | grep -F "|$2|")
	((${#cases[@]})) || die "there is no case $2"
	shift 2
	;;
esac
[[ ${1-} != --* ]] || shift

# check NUMBER: runs a case in a directory of its own, leaves its TAP there.
check() {
	local dir=$work/$1 model expected name defines found status='not ok' options=(-O2)
	local checker=(./pan -m100000 -w24)
	IFS='|' read -r model expected name defines <<<"${cases[$1]}"
	expected=${expected%, long}
	mkdir -p "$dir"
	cd "$dir"
	if [[ $expected == *cycle ]]; then
		options+=(-DNP)
		checker+=(-l)
	else
		options+=(-DSAFETY)
	fi
	# shellcheck disable=SC2086 # these are words
	{
		spin -a $defines "$REPO/tests/model/$model.pml"
		gcc "${options[@]}" -w -DCOLLAPSE -DMEMLIM=$memory -DVECTORSZ=512 -o pan pan.c
		"${checker[@]}"
	} >log 2>&1 || true

	found=$(sed -nE 's/^pan:1: assertion violated \(+(P[0-9]_[a-z_]+)\|\|.*/\1/p
		s/^pan:1: non-progress cycle.*/cycle/p
		s/^pan:1: (invalid end state).*/\1/p' log)
	# A search that memory or depth has cut short, or that has not run, is not "nothing found".
	if [[ -z $found ]] && grep -q '^State-vector .*, errors: 0$' log &&
		! grep -qE 'Search not completed|max search depth|out of memory' log; then
		found=none
	fi
	if [[ $found == "${expected/#no cycle/none}" ]]; then
		status=ok
	fi
	{
		printf '%s %d %s: %s\n' "$status" $(($1 + 1)) "$model" "$name"
		printf '# %s: %s; %s states, %s s\n' "$defines" "${found:-no result}" \
			"$(sed -nE 's/^ *([0-9.e+]+) states, stored.*/\1/p' log)" \
			"$(sed -nE 's/^pan: elapsed time ([0-9.]+) seconds/\1/p' log)"
		if [[ $status != ok ]]; then
			printf '# expected: %s\n' "$expected"
			sed 's/^/# /' log
			if [[ -e $model.pml.trail ]]; then
				echo "# how it comes to that: cd $dir && spin -p -k $model.pml.trail" \
					"$defines $REPO/tests/model/$model.pml"
			fi
		fi
	} >tap
	rm -f pan pan.[bchmpt]
}

all() {
	local i running=0 failed=0
	printf 'TAP version 13\n1..%d\n' ${#cases[@]}
	rm -rf "$work"
	for i in "${!cases[@]}"; do
		if ((running == $(nproc))); then
			wait -n
			running=$((running - 1))
		fi
		check "$i" &
		running=$((running + 1))
	done
	wait
	for i in "${!cases[@]}"; do
		cat "$work/$i/tap"
		[[ $(<"$work/$i/tap") == ok* ]] || failed=1
	done
	return $failed
}

if (($# > 0)); then
	mkdir -p "$(dirname "$1")"
	all | tee "$1"
else
	all
fi
