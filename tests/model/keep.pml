/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A model of a mapping that records errors. The file system fails for a page in
 * one fault, while it succeeds in another. Documentation/errors.rst has the
 * argument in words. tests/model/run.sh runs the model, both complete and with the
 * parts named below taken out.
 *
 * There is one page of a file, and a shared writable mapping of it with
 * NOSIGBUS_RECORD_ERRORS that two processes have (by a fork). Threads read and
 * write. The file system fails or succeeds at random in each call. Tasks clear the
 * error. One task truncates the file below the page and grows it again. At first,
 * the page may be in the page cache, and may be mapped.
 *
 * One step is one access to shared state, as in growth.pml. The memory is
 * sequentially consistent, except for two stores before an smp_mb(): the store of
 * a kept page that the page cache does not have, and the store of a page into the
 * page cache. Others see these stores at any time, at the latest after the barrier.
 *
 * The properties, by the names under which spin reports a violation:
 *
 * P1 No store is lost. Each access, in both processes, finds the last store
 *    (P1_lost), except during a clear, or while the file shrinks and grows. Once
 *    the fault that puts a kept page in place of the file's page has returned, no
 *    access reaches the file's page (P1_two).
 * P2 An error that a stand-in has answered stays recorded until a clear that has
 *    reported it.
 * P3 When a clear has returned, the old page is neither kept nor mapped. The same
 *    holds when growth over a page that was past EOF has returned. Only an error
 *    that is recorded later keeps a page again, and the next clear drops it.
 * P4 There is no deadlock (spin's invalid end state), and no livelock
 *    (non-progress cycle).
 *
 * Macros: MKWRITE (the file system has ->page_mkwrite), THREADS (two or three; the
 * first and the third are in one process), AROUND (one more thread in that
 * process, which only faults around), LARGE (one more thread in the other process,
 * which faults at another page of the same folio), STALE (at first, the page cache
 * may have the page, and have it mapped, but not up to date), ACCESSES, CLEARS,
 * SIZE, COLLAPSE (a collapse shrinks the file, and growth is reported first),
 * REPORT (one more report at any time, and only single accesses as steps), and the
 * parts to take out.
 */

#ifndef THREADS
#define THREADS		2	/* in two processes */
#endif
#ifndef ACCESSES
#define ACCESSES	1	/* of each thread */
#endif
#ifndef CLEARS
#define CLEARS		0
#endif

/*
 * Never set. Each assertion reads "P1 || condition", so that spin names the
 * property that failed.
 */
bit P1_lost, P1_two, P2_recorded, P3_dropped;

/* ---- The file ---- */

bit i_size = 1;			/* in pages */
byte cached;			/* the folio in the page cache, by number, or 0 */
byte folios;			/* how many there have been */
bit folio_lock[3];		/* by number */
bit uptodate;			/* it has been read */
bit file;			/* what is in the page */

/* ---- The mapping ---- */

/* Page tables, of each process. */
#define NONE		0
#define FILE_RO		1
#define FILE_RW		2
#define SHADOW		3	/* and more: the shadow page of number 1, 2, ... */
byte pte[2];
#define IS_FILE(e)	((e) == FILE_RO || (e) == FILE_RW)
#define IS_SHADOW(e)	((e) >= SHADOW)

#ifdef MKWRITE
#define MAPPED		FILE_RO
#else
#define MAPPED		FILE_RW
#endif

/* ShadowPages: 0 is no page. */
byte shadow;
bit kept;			/* it has a mark: ShadowPages::is_kept() */
byte last_shadow;
#define SHADOWS		3
bit content[SHADOWS + 1];	/* by number */

/* Errors, in rust/device/errors.rs */
bit keeping, keeping_is_known;	/* the latter: map_pages_stopped */
bit first_error;
bit since;			/* first_since */
byte error_count;		/* `count` */

/* WatchedFile, in rust/device/watched_file.rs */
byte state_readers;		/* `sem`, the semaphore */
byte state_writer;
bit low;			/* `lowest` is the page */
bit first_failed;		/* so is `first_failed` */
byte end_dropping;		/* 2: whatever the size is */

/* RCU, as bits: threads in a critical section, and for each thread those that it waits for. */
byte rcu_readers;
byte rcu_pending[3];

/* Stored, and visible only to the thread that has stored it. */
bit kept_buffered;
bit cached_buffered;

/* ---- What an observer knows ---- */

#define ANY		2
byte expect;			/* what was stored last, or ANY */
bit settled;			/* a page is kept, and the fault that kept it has finished */
bit old;			/* the shadow page is from before the growth */
byte clearing, resizing;
#define UNSURE		(clearing || resizing)

/* A clear or a change of size is over, after which the expected content is known again. */
inline sure()
{
	if
	:: UNSURE -> expect = ANY
	:: else ->
		assert(P3_dropped || !settled || kept);
		expect = (settled -> content[shadow] : file)
	fi
}

/* Several accesses in one step; with REPORT, a step for each. */
#ifdef REPORT
#define ATOMIC(steps)	steps
#else
#define ATOMIC(steps)	atomic { steps }
#endif

/* ---- Locks ---- */

/* For write to keep a page, or to drop some. */
#define KEEPING			1
#define DROPPING		2
#define MAY_WRITE_STATE		(state_readers == 0 && state_writer == 0)
#define WRITE_STATE(what)	MAY_WRITE_STATE -> state_writer = what
#define UNWRITE_STATE		state_writer = 0
#ifdef NO_SEMAPHORE
#define MAY_READ_STATE		(state_writer != KEEPING)
#define READ_STATE		skip
#define UNREAD_STATE		skip
#else
#define MAY_READ_STATE		(state_writer == 0)
#define READ_STATE		state_readers++
#define UNREAD_STATE		state_readers--
#endif

#define UNLOCK_FOLIO(f)	folio_lock[f] = 0

#ifdef NO_LOCK
#define KEEP_LOCK(f)	skip
#define KEEP_UNLOCK(f)	skip
#else
#define KEEP_LOCK(f)	folio_lock[f] == 0 -> folio_lock[f] = 1
#define KEEP_UNLOCK(f)	UNLOCK_FOLIO(f)
#endif

/* ---- Core mm ---- */

/* unmap_mapping_pages(), of one VMA, under the page-table lock. */
#define UNMAP(v)	pte[v] = NONE

/* An access by the hardware, if it is allowed to. */
inline access(v, w)
{
	if
	:: pte[v] == NONE || (pte[v] == FILE_RO && w) -> answered = 0
	:: pte[v] == FILE_RW || (pte[v] == FILE_RO && !w) ->
		answered = 1;
		assert(P1_two || !settled);
		assert(P1_lost || expect == ANY || expect == file);
		if
		:: w -> file = 1 - (expect == ANY -> file : expect); expect = (UNSURE -> ANY : file)
		:: else
		fi
	:: IS_SHADOW(pte[v]) ->
		answered = 1;
		assert(P3_dropped || UNSURE || pte[v] == SHADOW + shadow);
		assert(P2_recorded || first_error || UNSURE);
		assert(P1_lost || expect == ANY || expect == content[pte[v] - SHADOW]);
		if
		:: w ->
			content[pte[v] - SHADOW] =
				1 - (expect == ANY -> content[pte[v] - SHADOW] : expect);
			expect = (UNSURE -> ANY : content[pte[v] - SHADOW])
		:: else
		fi
	fi
}

/* ---- Faults: rust/device/mapping.rs ---- */

/* MappingState::is_kept() */
#define IS_KEPT		(keeping && kept && !kept_buffered)

/* The store may have become visible, or not. */
inline may_see_kept()
{
	if
	:: kept_buffered -> kept_buffered = 0
	:: true
	fi
}

inline new_shadow()
{
	last_shadow = last_shadow % SHADOWS + 1;
	shadow = last_shadow
}

#ifdef NO_KEPT_ANSWER
#define IS_NATIVE	(i_size == 1)
#else
#define IS_NATIVE	(i_size == 1 && !IS_KEPT)
#endif

/* map_stand_in(): answers the fault, or leaves `answered` as it is. */
inline stand_in(v)
{
	ATOMIC(
		atomic { may_see_kept(); files = IS_NATIVE; past = (i_size == 0) };	/* decide() */
		if
		:: files -> files = 0
		:: atomic {
			!files && MAY_READ_STATE ->
			READ_STATE;		/* WatchedFile::inserting() */
			if
			:: past -> low = 1; lowered = 1; past = 0	/* Inserting::announce() */
			:: !past ->
				page = (i_size == 1 && IS_KEPT -> shadow : 0);
				answered = 1;
				inserting = 1
			fi
		   }
		fi;
		if
		:: lowered ->
			/* as growth.pml has it, in one step */
			d_step {
				lowered = 0;
				if
				:: i_size == 0 ->
					if
					:: shadow == 0 -> new_shadow(); content[shadow] = 0
					:: else
					fi;
					pte[v] = (pte[v] == NONE -> SHADOW + shadow : pte[v]);
					answered = 1
				:: i_size == 1
				fi;
				UNREAD_STATE
			}
		:: else
		fi
	);
	if
	:: answered && inserting ->
		/* insert_page(), under the page-table lock */
		d_step {
			pte[v] = (page && pte[v] == NONE -> SHADOW + page : pte[v]);
			page = 0;
			inserting = 0;
			UNREAD_STATE
		}
	:: else
	fi
}

/* WatchedFile::modified() */
inline modified()
{
	ATOMIC(
		s = i_size;
		/* nothing_stale() */
		unsettled = (s == 0 && first_failed);
		if
		:: !unsettled -> unsettled = (end_dropping > s)
		:: else
		fi;
		if
		:: !unsettled -> unsettled = (s == 1 && low)
		:: else
		fi;
		s = 0
	);
	if
	:: unsettled -> unsettled = 0; settle()
	:: else
	fi
}

#define UNDROP	d_step { s = 0; end_dropping = 0; UNWRITE_STATE }

/* Dropping::drop_stale() */
inline settle()
{
	ATOMIC(dropping(); cut_off(first_failed, i_size); look_again());
	if
	:: s == 1 && low ->
		UNMAP(0);
		UNMAP(1);
		d_step { give_back(); UNDROP }
	:: else -> UNDROP
	fi
}

inline dropping()
{
	atomic {
		WRITE_STATE(DROPPING);
#ifndef LATE_DROPPING
		end_dropping = 2;
#endif
		kept_buffered = 0
	}
}

/* Bounds::truncate(), ShadowPages::unkeep() */
inline cut_off(what, size)
{
	if
	:: what && size == 0 ->
		low = 1;
		what = 0;
		d_step { kept = 0; settled = 0 }
	:: else
	fi
}

/* The begin of Dropping::drop_grown_over() */
inline look_again()
{
	s = i_size;
	end_dropping = s
}

/* ShadowPages::give_back() */
inline give_back()
{
	if
#ifdef DROP_KEPT
	:: true -> shadow = 0; kept = 0; old = 0; settled = 0
#else
	:: !kept -> shadow = 0; old = 0
	:: kept
#endif
	fi;
	low = 0
}

/* filemap_map_pages(), and the end of do_fault_around(). */
inline map_pages(v)
{
	d_step {
		if
		:: cached && uptodate && !folio_lock[cached] && i_size == 1 && pte[v] == NONE ->
			cached_buffered = 0;
			pte[v] = MAPPED;
			answered = 1
		:: else
		fi;
		rcu_readers = rcu_readers & ~(1 << t);
		rcu_pending[0] = rcu_pending[0] & ~(1 << t);
		rcu_pending[1] = rcu_pending[1] & ~(1 << t);
		rcu_pending[2] = rcu_pending[2] & ~(1 << t)
	}
}

proctype thread(byte t; byte v)
{
	byte left = ACCESSES;
	byte page;		/* a folio, or a shadow page, by number */
	byte has;		/* the folio that keep() has locked */
	bit w, ro, writing, answered, copy, lowered, past, files, inserting, s, unsettled;

another:
	atomic {
		d_step { w = 0; answered = 0 }
		if
		:: left == 0 -> goto end
		:: else
		fi;
		left--;
		if
		:: w = 0
		:: w = 1
		fi
	}

again:
	atomic {
		d_step {
			page = 0; has = 0; ro = 0; writing = 0; copy = 0;
			answered = 0;
			access(v, w)
		}
		if
		:: answered -> goto another
		:: else
		fi;
		if
		:: pte[v] == FILE_RO -> ro = 1; page = cached; goto mkwrite
		:: else
		fi;
		/* do_fault_around(), Mapping::may_map_around() */
		if
#ifdef NO_SUPPRESSION
		:: !w -> rcu_readers = rcu_readers | (1 << t)
#else
		:: !w && !keeping -> rcu_readers = rcu_readers | (1 << t)
		:: !w && keeping -> goto fault
#endif
		:: w -> goto fault
		fi
	}

	map_pages(v);
	if
	:: answered -> goto again
	:: else
	fi;

	/* Mapping::fault() */
fault:
	stand_in(v);
	if
	:: answered -> goto again
	:: else
	fi;
#ifdef SIZE
	/* WatchedFile::catch_up(), unless that was done a short while ago. */
	if
	:: i_size == 1 && low -> settle()
	:: skip
	fi;
#endif

	/* Fault::native(): filemap_fault() or shmem_fault() */
native:
	atomic {
		if
		:: goto sigbus
		:: i_size == 1
		fi;
		if
		:: cached == 0 ->
			folios++;
			cached = folios;
			cached_buffered = 1
		:: cached && !uptodate -> cached_buffered = 1
		:: else
		fi;
		uptodate = 1;
		page = cached
	}
	/* FilePage::pass_as(), MappingState::how_to_map() */
	atomic {
		folio_lock[page] == 0;
		if
		:: cached != page -> page = 0; goto native
		:: cached == page && i_size == 0 -> page = 0; goto sigbus
		:: else
		fi;
#ifndef NO_FAULT_BARRIER
		cached_buffered = 0;
#endif
		may_see_kept();
		if
#ifndef NO_FAULT_RECHECK
		:: IS_KEPT -> goto again
		:: else
#else
		:: true
#endif
		fi;
#ifdef MKWRITE
		/* do_shared_fault(): unlocked in between */
		if
		:: w -> goto mkwrite
		:: else
		fi;
#endif
		folio_lock[page] = 1
	}
	/* finish_fault() */
	d_step {
		pte[v] = (pte[v] == NONE -> MAPPED : pte[v]);
		UNLOCK_FOLIO(page)
	}
	goto again;

	/* Mapping::mkwrite(), of a page that is not locked */
mkwrite:
#ifdef MKWRITE
	atomic {
		may_see_kept();
		if
		:: IS_KEPT -> goto unmap
		:: else
		fi
	}
	atomic {
		if
		:: true ->
			if
			/* answer_refusal(), Mkwrite::is_of_file() */
			:: i_size == 0 || cached != page -> goto unmap
			:: else -> page = 0; writing = 1; goto keep
			fi
		:: folio_lock[page] == 0 ->
			/* FilePage::pass_unless() */
			may_see_kept();
			if
			:: cached != page -> goto again
#ifndef NO_MKWRITE_RECHECK
			:: cached == page && IS_KEPT -> goto again
#endif
			:: else
			fi;
			folio_lock[page] = 1
		fi
	}
	/* finish_fault(), finish_mkwrite_fault() */
	d_step {
		pte[v] = (pte[v] == (ro -> FILE_RO : NONE) -> FILE_RW : pte[v]);
		UNLOCK_FOLIO(page)
	}
	goto again;
#endif

sigbus:
	stand_in(v);
	if
	:: answered -> goto again
	:: else
	fi;

	/* Mapping::keep() */
keep:
	atomic {
		/* Errors::start_keeping() */
		if
		:: keeping_is_known -> goto look
#ifdef NO_SECOND_WAIT
		:: !keeping_is_known && keeping -> goto look
		:: !keeping
#else
		:: else
#endif
		fi;
		keeping = 1;
#ifndef NO_SYNCHRONIZE
		rcu_pending[t] = rcu_readers
#endif
	}
	atomic { rcu_pending[t] == 0 -> keeping_is_known = 1 }

look:
	/* MappedFile::lock_cached_page(), WatchedFile::try_lock_to_keep() and keeping() */
	atomic {
		if
		:: !uptodate || cached_buffered ->
			if
			:: writing -> goto unmap
			:: else -> WRITE_STATE(KEEPING)
			fi
		:: uptodate ->
			cached_buffered = 0;
			page = cached;
			KEEP_LOCK(page);
			if
			:: cached != page -> KEEP_UNLOCK(page); page = 0; goto look
			:: cached == page && !MAY_WRITE_STATE ->
				KEEP_UNLOCK(page);
				MAY_WRITE_STATE;
				goto again
			:: else -> WRITE_STATE(KEEPING); has = page; page = 0
			fi
		fi
	}
#if !defined(NO_FIRST_FAILED) && !defined(LATE_FIRST_FAILED)
	first_failed = 1;				/* Keeping::announce() */
#endif
	if
	:: i_size == 0 -> goto release
	:: else
	fi;
	if
	:: has ->
#ifdef COPY_FIRST
		copy = file;
		UNMAP(0);
		UNMAP(1)
#else
		UNMAP(0);
		d_step { UNMAP(1); copy = file }	/* CachedPage::copy_to() */
#endif
	:: else
	fi;
	/* ShadowPages::keep() */
	atomic {
		if
		:: kept -> goto release
		:: else
		fi;
		d_step {
			new_shadow();
			content[shadow] = copy;
			kept = 1;
			old = 0;
			kept_buffered = (has == 0);
			/* There is nothing that could be read. */
			expect = (!has && cached && !uptodate -> ANY : expect)
		}
		if
		:: has -> goto recorded
		:: else
		fi
	}
	/* MappedFile::cached() */
	atomic {
#ifndef NO_KEEP_BARRIER
		kept_buffered = 0;
#endif
		if
		:: !uptodate || cached_buffered
#ifndef NO_SECOND_LOOK
		:: uptodate ->
			cached_buffered = 0;
			d_step { shadow = 0; kept = 0; kept_buffered = 0 }
			goto release
#else
		:: uptodate
#endif
		fi
	}
#ifndef NO_UNMAP
	UNMAP(0);
	UNMAP(1);
#endif
	expect = (UNSURE -> ANY : content[shadow]);
recorded:
	atomic {
#ifdef LATE_FIRST_FAILED
		first_failed = 1;
#endif
#ifndef RECORD_LATE
		first_error = 1;
		since = 1;
#endif
		error_count++;
		settled = 1;
		assert(P1_two || (!IS_FILE(pte[0]) && !IS_FILE(pte[1])))
	}
release:
	atomic {
		UNWRITE_STATE;
		KEEP_UNLOCK(has);
		if
		:: has -> kept_buffered = 0
		:: else
		fi
	}
#ifdef RECORD_LATE
	first_error = kept
#endif
	goto again;

unmap:
	UNMAP(0);
	UNMAP(1);
	goto again;
end:
	skip
}

#ifdef AROUND
/* A thread whose access to another page makes core mm map this one, if it can. */
proctype around(byte t; byte v)
{
	bit answered;

	if
	:: atomic { !keeping -> rcu_readers = rcu_readers | (1 << t) }; map_pages(v)
	:: keeping
	fi
}
#endif

/* ---- NOSIGBUS_STATUS with NOSIGBUS_CLEAR_ERROR ---- */

#if CLEARS > 0
#ifdef NO_LOWER
#define LOWER
#else
#define LOWER	cut_off(first_failed, end_inside);
#endif

/* Dropping::drop_stale(), called by WatchedFile::clear_error() */
inline clear_settle()
{
	ATOMIC(dropping(); end_inside = i_size; LOWER look_again());
	if
	:: s == 1 && low ->
		UNMAP(0);
		UNMAP(1);
		give_back()
	:: else
	fi
}

proctype clear(byte left)
{
	byte told;
	bit drop, s, end_inside;

another:
	atomic {
		told = 0;
		drop = 0;
		if
		:: left == 0 -> goto end
		:: else
		fi;
		left--;
		clearing++;
		expect = ANY
	}
tell:
	/* MappingState::status() */
	told = error_count;
	/* WatchedFile::clear_error() */
	clear_settle();
	/* Clearing::start() */
	atomic {
		if
#ifdef CLEAR_UNTOLD
		:: true -> assert(P2_recorded || told == error_count)
#else
		:: told != error_count -> UNDROP; goto tell
		:: else
#endif
		fi;
		since = 0;
		drop = kept
	}
#ifdef KEEPING_ENDS
	keeping = 0;
	keeping_is_known = 0;
#endif
	if
	:: drop ->
		if
#ifndef NO_CLEAR_UNMAP
		:: end_inside ->
			UNMAP(0);
			UNMAP(1)
#endif
		:: else
		fi;
		d_step {
			if
			:: kept -> shadow = 0; kept = 0; old = 0; settled = 0
			:: else
			fi
		}
		/* The next part, of which there is none. */
		UNDROP;
		clear_settle()
	:: else
	fi;
	/* Clearing::finish() */
	d_step {
		assert(P3_dropped || !kept || since);
		first_error = since
	}
	UNDROP;
	d_step {
		clearing--;
		sure()
	}
	goto another;
end:
	skip
}
#endif

/* ---- Changes of size ---- */

#ifdef SIZE
/* The system calls have returned. */
inline resized()
{
	d_step {
		resizing = 0;
		assert(P3_dropped || !old);
		assert(P3_dropped || !IS_SHADOW(pte[0]) || pte[0] == SHADOW + shadow);
		assert(P3_dropped || !IS_SHADOW(pte[1]) || pte[1] == SHADOW + shadow);
		sure()
	}
}

proctype size()
{
	bit s, unsettled;

	/* ftruncate() to nothing, or a collapse */
	d_step { i_size = 0; resizing = 1; expect = ANY }
	/* truncate_pagecache() */
	UNMAP(0);
	UNMAP(1);
	atomic {
		cached == 0 || folio_lock[cached] == 0;
		d_step {
			cached = 0;
			uptodate = 0;
			cached_buffered = 0;
			file = 0;
			pte[0] = (IS_FILE(pte[0]) -> NONE : pte[0]);
			pte[1] = (IS_FILE(pte[1]) -> NONE : pte[1])
		}
	}
#ifdef COLLAPSE
	/* write(), by a task that is faster than the report of the collapse */
	i_size = 1;
	modified();
#else
	modified();

	/* ftruncate(), to one page */
	d_step { i_size = 1; old = (shadow != 0) }
	modified();
#endif
	resized()
}
#endif

#ifdef REPORT
/* The report of a write or of the collapse. It can come at any time. */
proctype report()
{
	bit s, unsettled;

	modified()
}
#endif

#ifdef LARGE
/* A fault at another page of the same folio. */
proctype neighbour(byte v)
{
	byte page;
	bit w;

	/* FilePage::pass_as(), MappingState::how_to_map() */
	atomic {
		if
		:: uptodate -> page = cached; folio_lock[page] == 0
		:: true -> goto end
		fi;
		if
		:: w = 0
#ifdef MKWRITE
		:: w = 1
#endif
		fi;
		if
		:: cached != page -> goto end
#ifndef WHOLE
		:: cached == page && keeping -> goto end
#ifndef WHOLE_WRITE
		:: cached == page && !keeping && w -> goto end
#endif
#endif
		:: else
		fi;
		cached_buffered = 0;
		if
		:: w -> goto mkwrite
		:: else
		fi;
		folio_lock[page] = 1
	}
	/* finish_fault() */
	d_step {
		pte[v] = (pte[v] == NONE -> MAPPED : pte[v]);
		UNLOCK_FOLIO(page)
	}
	goto end;

	/* FilePage::pass_unless(), finish_fault() */
mkwrite:
	atomic {
		folio_lock[page] == 0;
		if
		:: cached == page && pte[v] == NONE -> pte[v] = FILE_RW
		:: else
		fi
	}
end:
	skip
}
#endif

init {
	atomic {
		if
		:: true
		:: cached = 1;
			folios = 1;
#ifdef STALE
			uptodate = 0;
#else
			uptodate = 1;
#endif
			if
			:: true
			:: pte[0] = MAPPED
#ifdef MKWRITE
			:: pte[0] = FILE_RW
#endif
			fi;
			if
			:: true
			:: pte[1] = MAPPED
#ifdef MKWRITE
			:: pte[1] = FILE_RW
#endif
			fi
		fi;
		if
		:: true
		:: keeping = 1;		/* another page is kept */
			keeping_is_known = 1;
			error_count = 1;
			first_error = 1
		fi;
		run thread(0, 0);
#if THREADS > 1
		run thread(1, 1);
#endif
#if THREADS > 2
		run thread(2, 0);
#endif
#ifdef AROUND
		run around(3, 0);
#endif
#if CLEARS > 0
		run clear(CLEARS);
#endif
#ifdef SIZE
		run size();
#endif
#ifdef REPORT
		run report();
#endif
#ifdef LARGE
		run neighbour(1);
#endif
	}
}
