/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A model of the series for linux-mm (Documentation/rfc): a file that has zeros mapped past
 * EOF is accessed while its size changes. tests/model/run.sh runs the model, both complete and
 * with the parts named below taken out.
 *
 * There is a file of at most N pages, with two mappings, and a thread in each that reads. Tasks
 * change the size. The inode lock lets only one do so at a time. Tasks unmap zeros with that lock
 * or after they have released it. The file may have pages that the file system cannot read. With
 * WORKER, a worker unmaps zeros too, once, at any time. With ADVICE, the mapping of the first thread
 * may not have opted in at first, and the thread may opt it in and out between accesses.
 *
 * One step is one access to shared state. The memory is sequentially consistent: the barriers
 * in mm/nosigbus.c make it so for the size, the mark, `lowest`, the flag of a VMA, and the page
 * table (which is always there in the model).
 *
 * The properties, by the names under which spin reports a violation:
 *
 * P1 SIGBUS is delivered only for a page that cannot be read.
 * P3 After a growing system call has returned, and until the file shrinks again, no page that
 *    the call has added is mapped as zeros.
 * P5 There is no deadlock (spin's invalid end state).
 *
 * Parts to take out, or to change:
 *
 * NO_EOF_FLAG		there is no VM_FAULT_EOF
 * NO_RECHECK		a fault does not check the size a second time
 * LATE_LOWEST		a fault records the lowest page after the second check
 * LOWEST_UNLOCKED	a fault records the lowest page before it locks the page table
 * LATE_MARK		a fault marks the inode after the second check
 * RAISED_LATE		a writer raises `lowest` after unmapping
 * NO_UNMAPPING		a writer does not unmap
 * MARK_BEFORE_SIZE	a writer checks the mark before it stores the size
 * NO_LOOK_AT_LOCK	a writer does not check whether another one holds the lock: that one may
 *			still be unmapping pages below the raised `lowest`
 * OPT_OUT_PAST_EOF	opting out unmaps only what is past EOF
 * FLAG_FIRST		opting out clears the flag of the VMA before it unmaps zeros
 */

#ifndef N
#define N		2	/* pages; sizes are in pages, 0 to N */
#endif
#ifndef ACCESSES
#define ACCESSES	2	/* of each thread */
#endif
#ifndef OPS1
#define OPS1		2	/* changes of size, by the first and the second task */
#endif
#ifndef OPS2
#define OPS2		1
#endif
#define VMAS		2

/* Never set. Each assertion reads "P1 || condition", so spin names the property that failed. */
bit P1_sigbus, P3_grown;

/* ---- The file ---- */

byte i_size;
bit inode_lock;			/* inode->i_rwsem, for write */
bit bad[N];			/* the file system cannot read the page; constant */
bit grown[N];			/* added by a call that has returned, and not truncated since */
bit cut[2 * N];			/* truncated since a task has added it: cut[task * N + p] */
#define CUT(t, p)	cut[(t) * N + (p)]

/* ---- The page tables, each with its lock ---- */

#define NONE		0
#define FILE		1
#define ZEROS		2
byte pte[VMAS * N];
#define PTE(v, p)	pte[(v) * N + (p)]
bit ptl[VMAS];
#define LOCK(l)		atomic { !l; l = 1 }

bit opted_in[VMAS];		/* VM_NOSIGBUS */

/* ---- struct zeros ---- */

bit marked;			/* AS_ZEROS_MAPPED */
byte lowest = N;
bit unmapping;			/* its lock; the task that unmaps holds it */

inline record(p)
{
	atomic { lowest = (p < lowest -> p : lowest) }
}

/* unmap_zeros() */
inline unmap_zeros(from, upto, done, p, v)
{
	LOCK(unmapping);
	upto = i_size;
	from = lowest;
	/* cmpxchg, until it succeeds or there is nothing to do */
	do
	:: from >= upto -> break
#ifdef RAISED_LATE
	:: else -> break
#else
	:: from < upto ->
		atomic {
			if
			:: lowest == from -> lowest = upto; done = 1
			:: else -> from = lowest
			fi
		};
		if
		:: done -> done = 0; break
		:: else
		fi
#endif
	od;
	if
	:: from >= upto
	:: else ->
		for (v : 0 .. VMAS - 1) {
			if
			:: opted_in[v] ->
				for (p : from .. upto - 1) {
					LOCK(ptl[v]);
					d_step { PTE(v, p) = NONE; ptl[v] = 0 }
				}
			:: else
			fi
		}
#ifdef RAISED_LATE
		lowest = upto;
#endif
	fi;
	skip;
	d_step { unmapping = 0; from = 0; upto = 0; p = 0; v = 0 }
}

#ifdef WORKER
proctype worker()
{
	byte start, end, p, v;
	bit done;

	unmap_zeros(start, end, done, p, v)
}
#endif

/* do_read_fault(), __nosigbus_read_fault() */
proctype thread(byte v)
{
	byte p, accesses;

	do
	:: accesses == ACCESSES -> break
#ifdef ADVICE
	/* madvise() excludes faults in the VMA: this is the only thread that has it. */
	:: v == 0 && accesses < ACCESSES && !opted_in[0] ->
		accesses++;
		opted_in[0] = 1
	:: v == 0 && accesses < ACCESSES && opted_in[0] ->
		accesses++;
#ifdef FLAG_FIRST
		opted_in[0] = 0;
#endif
		for (p : 0 .. N - 1) {
			LOCK(ptl[0]);
			d_step {
				if
#ifdef OPT_OUT_PAST_EOF
				:: p < i_size
#endif
				:: else -> PTE(0, p) = NONE
				fi;
				ptl[0] = 0
			}
		}
		opted_in[0] = 0
#endif
	:: accesses < ACCESSES ->
		accesses++;
		select (p : 0 .. N - 1);
again:
		/* ->fault() checks the size, and maps what it finds under the folio's lock. */
		if
		:: PTE(v, p) != NONE -> goto next
		:: d_step { PTE(v, p) == NONE && p < i_size && !bad[p] -> PTE(v, p) = FILE } -> goto next
		:: d_step { PTE(v, p) == NONE && p < i_size && bad[p] -> skip } ->
			/* No VM_FAULT_EOF. */
			goto next
		:: d_step { PTE(v, p) == NONE && p >= i_size -> skip }
		fi;
		/* ->fault() has found the page past EOF. */
		if
		:: !opted_in[v] -> goto next
		:: else
		fi;
		if
		:: p < i_size ->
#ifdef NO_EOF_FLAG
			assert(P1_sigbus || bad[p]);
#endif
			goto again
		:: else
		fi;
#ifndef LATE_MARK
		marked = 1;
#endif
#ifdef LOWEST_UNLOCKED
		record(p);
#endif
		LOCK(ptl[v]);
		if
		:: PTE(v, p) != NONE -> ptl[v] = 0; goto next
		:: else
		fi;
#if !defined(LATE_LOWEST) && !defined(LOWEST_UNLOCKED)
		record(p);
#endif
#ifndef NO_RECHECK
		if
		:: p < i_size -> ptl[v] = 0; goto again
		:: else
		fi;
#endif
#ifdef LATE_MARK
		marked = 1;
#endif
#ifdef LATE_LOWEST
		record(p);
#endif
		d_step {
			assert(P3_grown || !grown[p]);
			PTE(v, p) = ZEROS;
			ptl[v] = 0
		}
next:
	od
}

/* i_size_write(), with what its callers do before and after it */
proctype task(bit me; byte ops)
{
	byte new, old, start, upto, p, v;
	bit was_marked, has_zeros, unlocked, done;

	do
	:: ops == 0 -> break
	:: else ->
		ops--;
		select (new : 0 .. N);
		LOCK(inode_lock);
		old = i_size;
#ifdef MARK_BEFORE_SIZE
		was_marked = marked;
#endif
		d_step {
			i_size = new;
			p = new;
			do
			:: p < N -> grown[p] = 0; CUT(0, p) = 1; CUT(1, p) = 1; p++
			:: else -> break
			od;
			p = old;
			do
			:: p < new -> CUT(me, p) = 0; p++
			:: else -> break
			od;
			p = 0
		};
		if
		:: new < old ->
			/* truncate_pagecache() */
			for (p : new .. N - 1) {
				for (v : 0 .. VMAS - 1) {
					LOCK(ptl[v]);
					d_step { PTE(v, p) = NONE; ptl[v] = 0 }
				}
			}
		:: new > old ->
#ifndef MARK_BEFORE_SIZE
			was_marked = marked;
#endif
			/* has_zeros_below() */
			has_zeros = was_marked && lowest < new;
#ifndef NO_LOOK_AT_LOCK
			has_zeros = has_zeros || was_marked && unmapping;
#endif
			if
			:: has_zeros ->
				/* notify_change() holds the lock, the others do not. */
				if
				:: d_step { inode_lock = 0; unlocked = 1 }
				:: skip
				fi;
#ifndef NO_UNMAPPING
				unmap_zeros(start, upto, done, p, v)
#endif
			:: else
			fi;
			skip;
			/* The call returns. */
			d_step {
				p = old;
				do
				:: p < new -> grown[p] = grown[p] || !CUT(me, p); p++
				:: else -> break
				od;
				p = 0;
				v = 0;
				do
				:: v < VMAS * N ->
					assert(P3_grown || pte[v] != ZEROS || !grown[v % N]);
					v++
				:: else -> break
				od;
				v = 0
			}
		:: else
		fi;
		skip;
		d_step {
			inode_lock = (unlocked -> inode_lock : 0);
			unlocked = 0;
			new = 0; old = 0; was_marked = 0; has_zeros = 0; p = 0; v = 0
		}
	od
}

init {
	byte p;

	atomic {
		for (p : 0 .. N - 1) {
			if
			:: bad[p] = 0
			:: bad[p] = 1
			fi
		}
		p = 0;
		select (i_size : 0 .. N);
#ifdef ADVICE
		if
		:: skip
		:: opted_in[0] = 1
		fi;
#else
		opted_in[0] = 1;
#endif
		opted_in[1] = 1;
#ifdef WORKER
		run worker();
#endif
		run thread(0);
		run thread(1);
		run task(0, OPS1);
#if OPS2 > 0
		run task(1, OPS2);
#endif
	}
}
