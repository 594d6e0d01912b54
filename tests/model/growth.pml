/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A model of an opted-in mapping that is accessed while the size of its file
 * changes. Documentation/growth.rst has the argument in words. tests/model/run.sh
 * runs the model, both complete and with the parts named below taken out.
 *
 * There is a file of at most N pages, and a shared writable mapping of it. Two
 * processes have the mapping (by a fork), or two threads (with ONE_VMA). A thread
 * in each reads and writes. With MAPPINGS=2 the file has two mappings that have been
 * opted in one by one; the last thread has the second one. Tasks change the size. They
 * use truncate(2), which fsnotify reports with the inode lock held, or write(2) and
 * fallocate(FALLOC_FL_COLLAPSE_RANGE), which it reports after the unlock. The file
 * may have a page that the file system cannot read.
 *
 * One step is one access to shared state. It includes a preceding wait for a lock
 * and a following unlock: to lock later or to unlock earlier allows no fewer
 * interleavings. The memory is sequentially consistent: growth.rst names the
 * barriers that make it so.
 *
 * The properties, by the names under which spin reports a violation:
 *
 * P1 SIGBUS is delivered only for a page that cannot be read.
 * P2 An access to such a page gets SIGBUS. The page is not mapped, the access is
 *    not retried for ever (a non-progress cycle), and no stand-in hides the page
 *    while it stays inside EOF.
 * P3 After a growing system call has returned, and until the file shrinks again,
 *    no page that the call has added is mapped as a stand-in.
 * P4 All that see a stand-in of a mapping at an index see the same page (P4_one_page).
 *    Once the shrinking system call has returned, data written to that page stays until
 *    the file grows over it. After that, the page is zeros again (P4_content).
 * P5 There is no deadlock (spin's invalid end state), and no livelock
 *    (non-progress cycle).
 * P6 No shadow page is below `lowest`, so that growth finds all of them. A page of
 *    a fault that has not checked EOF again is an exception.
 *
 * Macros: SHMEM (a file system without ->read_folio, which takes no invalidate
 * lock and cannot collapse), ONE_VMA, FORK (a fork creates the second process
 * meanwhile), ATTACH (the file is watched from the first stand-in on; a task that
 * changes the size may check for the watch before others see the new size), STEADY
 * (the file system fails only if it cannot read the page, to have fewer states),
 * CATCH_UP (faults drop, too, what the file has grown over), ACCESSES, OPS1, OPS2,
 * and the parts to take out. Of two mappings (not with FORK): THREADS=3 (two processes
 * have the first one), READERS=1 (the second one is SharedRead: its stand-in is the
 * zero page), MEMFD (with ATTACH and READERS: both are of the same open file of a memfd,
 * whose inode is watched already because of another open file).
 */

#ifndef N
#define N		2	/* pages; sizes are in pages, 0 to N */
#endif
#ifndef ACCESSES
#define ACCESSES	1	/* of each thread */
#endif
#ifndef OPS1
#define OPS1		2	/* changes of size, by the first and the second task */
#endif
#ifndef OPS2
#define OPS2		1
#endif

#ifndef THREADS
#define THREADS		2
#endif
#ifndef MAPPINGS
#define MAPPINGS	1
#endif

#if MAPPINGS > 1
#define VMAS		THREADS
#define VMA(thread)	(thread)
#elif defined(ONE_VMA)
#define VMAS		1
#define VMA(thread)	0
#else
#define VMAS		2
#define VMA(thread)	(thread)
#endif

/* The mapping of a VMA, and the VMAs of a mapping (one or two). The second mapping has the last. */
#define OF(v)		((v) > VMAS - MAPPINGS)
#define FIRST(m)	((m) * (VMAS - 1))
#define LAST(m)		(VMAS - MAPPINGS + (m))
#define OTHER(v)	(FIRST(OF(v)) + LAST(OF(v)) - (v))

#ifdef READERS
#define IS_READER(m)	((m) >= MAPPINGS - READERS)
#if N > 1
#error "READERS: the model has no bound of zero pages past EOF (WatchedFile::reach)"
#endif
#else
#define IS_READER(m)	false
#endif

/*
 * Never set. Each assertion reads "P1 || condition", so that spin names the
 * property that failed.
 */
bit P1_sigbus, P2_swallowed, P3_grown, P4_one_page, P4_content, P6_held;

/* ---- The file ---- */

byte i_size;
bit inode_lock;			/* inode->i_rwsem, for write */
bit folio_lock[N];
bit cached[N];			/* the page cache has the folio, up to date */
bit bad[N];			/* the file system cannot read the page; constant */

/* mapping->invalidate_lock */
byte invalidate_readers;
bit invalidate_writer;

/* ---- WatchedFile, in rust/device/watched_file.rs ---- */

byte state_readers;		/* `sem`, the semaphore */
bit state_writer;
byte lowest = N;		/* NONE */
byte end_dropping;		/* the size that stand-ins are being dropped up to, or 0 */
#ifdef ATTACH
byte reordered;			/* tasks that checked the mark, and whose size is not seen yet */
#ifdef READERS
byte starting;
#endif
#if MAPPINGS > 1
bit added[MAPPINGS];		/* State::shadows */
#endif
#ifdef MEMFD
bit marked;			/* the open file lets fsnotify report, also a truncation */
bit grace_period_over = 1;			/* Entry::grace_period_over */
#else
bit marked;			/* the inode has the mark that makes fsnotify report */
#ifdef READERS
bit grace_period_over;
#endif
#endif
#endif

/* ---- The mappings ---- */

/* ShadowPages: 0 is no page, 1 to PAGES are pages. */
#define PAGES		(VMAS - MAPPINGS + 2)	/* one more than a mapping has VMAs */
byte shadows[MAPPINGS * N];
#define SHADOW(m, p)	shadows[(m) * N + (p)]
bit content[MAPPINGS * N * (PAGES + 1)];	/* of the page `id` at `p` */
#define CONTENT(m, p, id)	content[((m) * N + (p)) * (PAGES + 1) + (id)]

/* Page tables: NONE, FILE, ZERO (the zero page), or the shadow page of that number. */
#define NONE		0
#define ZERO		8
#define FILE		9
byte pte[VMAS * N];
#define PTE(v, p)	pte[(v) * N + (p)]
#define IS_STAND_IN(e)	((e) != NONE && (e) != FILE)
#define HAS_PAGE(m, p)	(IS_READER(m) || SHADOW(m, p) != 0)

#ifdef ATTACH
bit watched[MAPPINGS];		/* Mapping::fsnotify_watch */
#define WATCHED(m)		watched[m]
#else
#define WATCHED(m)		true
#endif
#if defined(ATTACH) && MAPPINGS > 1
#define IS_ADDED(m)		added[m]
#else
#define IS_ADDED(m)		true
#endif

#ifdef FORK
byte vma_lock;			/* faults in the parent's VMA */
bit mmap_lock;			/* of the parent, for write */
bit forked;
bit in_i_mmap;			/* the child's VMA is in the file's i_mmap */
byte i_mmap_readers;
#define HAS_VMA(v)	((v) == 0 || in_i_mmap)
#else
#define HAS_VMA(v)	true
#endif

/* ---- What an observer knows ---- */

byte shown;			/* pages that P3 holds for */
byte mine[2];			/* pages that a task's growth adds to `shown` when it returns */
bit past[N];			/* past EOF, and the call that shrunk the file has returned */
#define ANY		2
byte expect[MAPPINGS * N];	/* content of the stand-in at an index, or ANY */
#define EXPECT(m, p)	expect[(m) * N + (p)]
byte looking[MAPPINGS * N];	/* faults between get_or_alloc() and the second check of EOF */
#define LOOKING(m, p)	looking[(m) * N + (p)]

#define MIN(a, b)	((a) < (b) -> (a) : (b))
#define MAX(a, b)	((a) > (b) -> (a) : (b))

/* ---- Locks ---- */

inline lock(l)
{
	l == 0 -> l = 1
}

inline down_read(readers, writer)
{
	writer == 0 -> readers++
}

inline down_write(readers, writer)
{
	readers == 0 && writer == 0 -> writer = 1
}

#ifdef NO_SEMAPHORE
#define READ_STATE	skip
#define UNREAD_STATE	skip
#define WRITE_STATE	skip
#define UNWRITE_STATE	skip
#else
#define READ_STATE	down_read(state_readers, state_writer)
#define UNREAD_STATE	state_readers--
#define WRITE_STATE	down_write(state_readers, state_writer)
#define UNWRITE_STATE	state_writer = 0
#endif

#ifdef SHMEM
#define INVALIDATE_LOCK		skip
#define INVALIDATE_UNLOCK	skip
#else
#define INVALIDATE_LOCK		down_write(invalidate_readers, invalidate_writer)
#define INVALIDATE_UNLOCK	invalidate_writer = 0
#endif

#ifdef FORK
#define VMA_LOCK(t)	if :: t == 0 -> mmap_lock == 0 -> vma_lock++ :: else fi
#define VMA_UNLOCK(t)	if :: t == 0 -> vma_lock-- :: else fi
#else
#define VMA_LOCK(t)	skip
#define VMA_UNLOCK(t)	skip
#endif

/* ---- Dropping: rust/device/watched_file.rs ---- */

/*
 * unmap_mapping_pages(): holds i_mmap_rwsem, and unmaps each VMA in the order of i_mmap, where a
 * child comes after its parent. A VMA has so few pages that one page-table lock covers all of them.
 */
inline unmap_vma(v, first, end)
{
	d_step {
		q = first;
		do
		:: q < end && HAS_VMA(v) -> PTE(v, q) = NONE; q++
		:: else -> break
		od;
		q = 0
	}
}

#ifdef CHILD_FIRST
#define FIRST_VMA	VMAS - 1
#define LAST_VMA	0
#else
#define FIRST_VMA	0
#define LAST_VMA	VMAS - 1
#endif

inline unmap(first, end)
{
#ifdef FORK
	i_mmap_readers++;
#endif
	unmap_vma(FIRST_VMA, first, end);
#if VMAS > 2
	unmap_vma(1, first, end);
#endif
#if VMAS > 1
	unmap_vma(LAST_VMA, first, end);
#endif
#ifdef FORK
	i_mmap_readers--
#endif
}

#ifdef UNMAP_ONE
#define UNMAP(first, end)	unmap_vma(0, first, end)
#else
#define UNMAP(first, end)	unmap(first, end)
#endif

/* ShadowPages::give_back(), of the pages that the file has grown over */
inline give_back(m)
{
	d_step {
		q = lo;
		do
		:: q < s && IS_ADDED(m) -> SHADOW(m, q) = 0; q++
		:: else -> break
		od;
		q = 0
	}
}

/* ShadowPages::first(): sets `q` */
inline first_held(m)
{
	q = s;
	do
	:: q < N && !(IS_ADDED(m) && SHADOW(m, q) != 0) -> q++
	:: else -> break
	od
}

#if MAPPINGS > 1 && !defined(LOWEST_OF_ONE)
#define FIRST_OF_ALL(q)	MIN(held, q)
#else
#define FIRST_OF_ALL(q)	q
#endif

/* Dropping::drop_stale(). It may also unmap everything past EOF; the shadow pages there stay. */
inline drop_stale()
{
	atomic { WRITE_STATE; lo = lowest; s = i_size; end_dropping = s }
	if
	:: lo < s ->
#if !defined(NO_ZAP) && !defined(ZAP_OUTSIDE)
		/* Inode::unmap_pages() */
#if N > 1
		if
		:: UNMAP(lo, N)
		:: UNMAP(lo, s)
		fi;
#else
		UNMAP(lo, s);
#endif
#endif
#ifndef NO_DROP
		give_back(0);
#if MAPPINGS > 1 && !defined(DROP_ONE)
		give_back(1);
#endif
#endif
#if MAPPINGS > 1
		d_step { first_held(1); held = q; q = 0 };
#endif
		d_step {
			first_held(0);
			lowest = FIRST_OF_ALL(q);
			q = 0;
			end_dropping = 0;
			UNWRITE_STATE
		}
#ifdef ZAP_OUTSIDE
		; unmap(lo, s)
#endif
	:: else -> d_step { end_dropping = 0; UNWRITE_STATE }
	fi
}

#if MAPPINGS > 1
#define FORGET	d_step { s = 0; lo = 0; held = 0 }
#else
#define FORGET	d_step { s = 0; lo = 0 }
#endif

#ifdef CATCH_UP
/* WatchedFile::drop_if_overdue(), and catch_up(), which is limited in how often */
inline catch_up()
{
	s = i_size;
	if
	:: lowest >= s
	:: lowest < s -> drop_stale()
	fi;
	FORGET
}
#endif

/* ---- Faults: rust/device/mapping.rs ---- */

/* ShadowPages::get_or_alloc(): a new page is zeros, and not in use. */
inline get_or_alloc(m, p)
{
	d_step {
		LOOKING(m, p)++;
		if
		:: SHADOW(m, p) == 0 && !IS_READER(m) ->
			do
			:: SHADOW(m, p) == 0 || PTE(FIRST(m), p) == SHADOW(m, p) ||
			   PTE(LAST(m), p) == SHADOW(m, p) -> SHADOW(m, p)++
			:: else -> break
			od;
			CONTENT(m, p, SHADOW(m, p)) = 0
		:: else
		fi
	}
}

/* insert_page(), under the page-table lock: -EBUSY is fine, something is mapped already. */
inline insert_page(v, p)
{
	d_step {
		if
		:: PTE(v, p) == NONE ->
			PTE(v, p) = (IS_READER(OF(v)) -> ZERO : SHADOW(OF(v), p));
			assert(P3_grown || p >= shown);
			assert(P4_one_page || !IS_STAND_IN(PTE(OTHER(v), p)) ||
			       PTE(OTHER(v), p) == PTE(v, p))
		:: else
		fi
	}
}

#ifdef NO_RECHECK
#define INSIDE_NOW(p)	false
#else
#define INSIDE_NOW(p)	(p < i_size)
#endif

#if defined(ATTACH) && MAPPINGS > 1
/*
 * WatchedFile::add(), of a mapping that can have shadow pages. It has none yet: no property depends
 * on the semaphore here, which is for the tree.
 */
inline add(m)
{
	if
	:: !IS_READER(m) -> atomic { WRITE_STATE; added[m] = 1; UNWRITE_STATE }
	:: else
	fi
}

/*
 * WatchedFile::start_reports(). A SharedWrite mapping always waits, so the rest matters only if
 * there is a SharedRead one. rcu::synchronize_expedited() waits for more tasks than `reordered`
 * counts: also for those that have found the mark. What these do, they may do later as well.
 */
inline start_reports(m)
{
#ifdef READERS
#if !defined(NO_STARTING) && !defined(LATE_STARTING)
	starting++;
#endif
#ifdef MEMFD
	d_step { enabled_now = !marked; marked = 1 };	/* MappedFile::enable_notification() */
#endif
#ifdef LATE_STARTING
	starting++;
#endif
	others_starting = (starting > 1);
	if
#ifdef MARK_SUFFICES
	:: !IS_READER(m) || enabled_now || others_starting || !found -> reordered == 0
#else
	:: !IS_READER(m) || enabled_now || others_starting || !grace_period_over ->
		reordered == 0;
		grace_period_over = 1
#endif
	:: else
	fi;
	d_step {
#ifndef NO_STARTING
		starting--;
#endif
		enabled_now = 0;
		others_starting = 0;
		found = 0
	}
#else
	reordered == 0
#endif
}
#endif

/* Mapping::ensure_watched() */
inline watch(v)
{
#ifndef ATTACH
	skip
#elif MAPPINGS > 1
	if
	:: watched[OF(v)]
	:: else ->
#if defined(MARK_SUFFICES)
		d_step { found = marked; marked = 1 };
#elif !defined(MEMFD)
		marked = 1;				/* Group::watch() */
#endif
#ifndef LATE_ADD
		add(OF(v));
#endif
		start_reports(OF(v));
		watched[OF(v)] = 1;
		if
		:: p < i_size -> break			/* decide() */
		:: else
		fi
	fi
#else
	if
	:: watched[0]
	:: else ->
		marked = 1;
#ifndef NO_GRACE
		reordered == 0;				/* rcu::synchronize_expedited() */
#endif
		watched[0] = 1
	fi
#endif
}

/* Group::watch() returns the WatchedFile that the mark has, also to the second mapping. */
#ifdef OWN_LISTENER
#define LOWEST_WITH(m, p)	((m) == 0 -> MIN(lowest, p) : lowest)
#else
#define LOWEST_WITH(m, p)	MIN(lowest, p)
#endif

/* map_stand_in(): answers the fault, or leaves `answered` as it is: the page is inside EOF. */
inline stand_in(v, p)
{
	do
	:: p < i_size -> break				/* decide() */
	:: else ->
		watch(v);
		get_or_alloc(OF(v), p);
#ifdef LATE_LOWEST
		atomic { READ_STATE; LOOKING(OF(v), p)-- };
#else
		atomic {
			READ_STATE;			/* WatchedFile::inserting() */
#ifndef NO_LOWEST
			lowest = LOWEST_WITH(OF(v), p);	/* Inserting::announce() */
#endif
			LOOKING(OF(v), p)--
		}
#endif
		atomic {
			if
			:: INSIDE_NOW(p) -> UNREAD_STATE; break	/* decide(), again */
			:: !INSIDE_NOW(p) && !HAS_PAGE(OF(v), p) ->
				UNREAD_STATE			/* grown over meanwhile */
			:: !INSIDE_NOW(p) && HAS_PAGE(OF(v), p) -> answered = 1
			fi
		}
#ifdef LATE_LOWEST
		lowest = MIN(lowest, p);
#endif
		if
		:: answered ->
			atomic {
				insert_page(v, p);
				UNREAD_STATE
			};
#ifdef LATE_ADD
			add(OF(v));
#endif
			break
		:: else
		fi
	od
#ifdef CATCH_UP
	; if
	:: !answered && WATCHED(OF(v)) -> catch_up()
	:: true
	fi
#endif
}

/* An access by the hardware, if there is something mapped. */
inline access(v, p, w)
{
	if
	:: PTE(v, p) == NONE -> answered = 0
	:: PTE(v, p) == FILE -> assert(P2_swallowed || !bad[p]); answered = 1
#ifdef READERS
	:: PTE(v, p) == ZERO -> assert(P3_grown || p >= shown); answered = 1
#endif
	:: else ->
		answered = 1;
		assert(P3_grown || p >= shown);
		if
		:: w ->
			CONTENT(OF(v), p, PTE(v, p)) = 1;
			EXPECT(OF(v), p) = (past[p] -> 1 : ANY)
		:: else ->
			assert(P4_content || EXPECT(OF(v), p) == ANY ||
			       EXPECT(OF(v), p) == CONTENT(OF(v), p, PTE(v, p)));
			EXPECT(OF(v), p) =
				(past[p] -> CONTENT(OF(v), p, PTE(v, p)) : EXPECT(OF(v), p))
		fi
	fi
}

proctype thread(byte t)
{
	byte left = ACCESSES;
	byte p;
	bit w, answered, seen, failed;
#ifdef READERS
	bit enabled_now, others_starting, found;
#endif
#ifdef CATCH_UP
	byte s, lo, q, held;
#endif

#ifdef FORK
	t == 0 || forked;
#endif
another:
	atomic {
		p = 0;
		w = 0;
#ifndef STEADY
		failed = 0;
#endif
		if
		:: left == 0 -> goto end
		:: else
		fi;
		left--;
		select (p : 0 .. N - 1);
		if
		:: w = 0
		:: w = !IS_READER(OF(VMA(t)))
		fi
	}

again:
	atomic {
		access(VMA(t), p, w);
		if
		:: answered -> answered = 0; goto another
		:: else
		fi;
		/* Mapping::fault() */
		VMA_LOCK(t);
		seen = WATCHED(OF(VMA(t)))
	}
	if
	:: seen -> stand_in(VMA(t), p)
	:: else
	fi;
	if
	:: answered -> goto retry
	:: else
	fi;

	/* Fault::native(): filemap_fault() or shmem_fault(), and finish_fault() */
native:
	if
	:: p >= i_size -> goto sigbus
	:: p < i_size
#ifndef STEADY
	:: !failed -> failed = 1; goto sigbus	/* it may fail for another reason, once */
#endif
	fi;
#ifdef SHMEM
	atomic {
		lock(folio_lock[p]);
		if
		:: p >= i_size || bad[p] -> folio_lock[p] = 0; goto sigbus
		:: else
		fi
	}
#else
	if
	:: cached[p] ->
		atomic {
			lock(folio_lock[p]);
			if
			:: !cached[p] -> folio_lock[p] = 0; goto native
			:: else
			fi
		}
	:: else ->
		atomic {
			down_read(invalidate_readers, invalidate_writer);
			if
			:: bad[p] -> invalidate_readers--; goto sigbus
			:: else
			fi
		}
		atomic { lock(folio_lock[p]); cached[p] = 1; invalidate_readers-- }
	fi;
	atomic {
		if
		:: p >= i_size -> folio_lock[p] = 0; goto sigbus
		:: else
		fi
	}
#endif
	d_step {
		PTE(VMA(t), p) = (PTE(VMA(t), p) == NONE -> FILE : PTE(VMA(t), p));
		folio_lock[p] = 0
	}
	goto retry;

sigbus:
	stand_in(VMA(t), p);
	if
	:: answered -> goto retry
	:: else
	fi;
#ifdef NO_DELIVERY
	goto retry;
#endif
#ifndef NO_READ
	/* MappedFile::read_page_invalidate_locked(), read_page_shmem(); judge() */
	atomic {
#ifdef SHMEM
		lock(folio_lock[p]);
		folio_lock[p] = 0;
#else
		down_read(invalidate_readers, invalidate_writer);
		invalidate_readers--;
#endif
		if
		:: p < i_size && bad[p]
		:: else -> goto retry			/* Verdict::Retry */
		fi
	}
#endif
	atomic {
		VMA_UNLOCK(t);
		assert(P1_sigbus || bad[p]);
		goto another
	}

retry:
	atomic { VMA_UNLOCK(t); answered = 0; goto again }
end:
	skip
}

/* ---- Changes of size ---- */

/* WatchedFile::nothing_stale(), in one step; keep.pml has a step for each of its loads. */
#ifdef NO_DROPPING
#define SETTLED		(lowest >= s)
#else
#define SETTLED		(lowest >= s && end_dropping <= s)
#endif

/* WatchedFile::modified() */
inline modified()
{
	s = i_size;
	if
	:: SETTLED
	:: !SETTLED -> drop_stale()
	fi;
	FORGET
}

#ifdef ATTACH
/* A load that comes before the store of the size. With two mappings: one that finds no mark. */
inline look_early()
{
	if
#if MAPPINGS > 1
	:: atomic { !marked -> early = 1; seen = 0; reordered++ }
#else
	:: atomic { early = 1; seen = marked; reordered++ }
#endif
	:: true
	fi
}

inline report()
{
	atomic {
		if
		:: early -> early = 0
		:: else -> seen = marked
		fi
	}
	if
	:: seen -> modified()
	:: else
	fi
}
#define SIZE_IS_SEEN	reordered = reordered - early
#else
#define look_early()	skip
#define report()		modified()
#define SIZE_IS_SEEN	skip
#endif

/* i_size_write(): some pages are no longer past EOF, or some are now. */
inline set_size()
{
	d_step {
		q = i_size;
		do
		:: q < to ->
			EXPECT(0, q) = ANY;
			EXPECT(MAPPINGS - 1, q) = ANY;
			past[q] = 0;
			q++
		:: else -> break
		od;
		q = 0;
		mine[0] = MIN(mine[0], to);
		mine[1] = MIN(mine[1], to);
		mine[me] = (to > i_size -> to : mine[me]);
		shown = MIN(shown, to);
		i_size = to;
		SIZE_IS_SEEN
	}
}

/* Growth finds the shadow page. */
#define FOUND(m, p)	(SHADOW(m, p) == 0 || LOOKING(m, p) || lowest <= p)

/* A growing system call returns. */
inline grown()
{
	d_step {
/* The parts whose absence breaks more than `lowest`. */
#if !defined(NO_LOWEST) && !defined(LATE_LOWEST) && !defined(NO_DROP) && !defined(DROP_ONE) && \
	!defined(OWN_LISTENER)
		q = 0;
		do
		:: q < N -> assert(P6_held || (FOUND(0, q) && FOUND(MAPPINGS - 1, q))); q++
		:: else -> break
		od;
#endif
		q = shown;
		do
		:: q < mine[me] ->
			assert(P3_grown || (!IS_STAND_IN(PTE(0, q)) &&
					    !IS_STAND_IN(PTE(VMAS / 2, q)) &&
					    !IS_STAND_IN(PTE(VMAS - 1, q))));
			EXPECT(0, q) = 0;
			EXPECT(MAPPINGS - 1, q) = 0;
			q++
		:: else -> break
		od;
		shown = MAX(shown, mine[me]);
		q = 0;
		mine[me] = 0
	}
}

/* A shrinking system call returns. */
inline shrunk()
{
	d_step {
		q = MAX(i_size, to);
		do
		:: q < N -> past[q] = 1; q++
		:: else -> break
		od;
		q = 0
	}
}

/* truncate_pagecache(): unmaps the range, then removes each folio and unmaps it again. */
inline truncate_pagecache()
{
	unmap(to, N);
	p = to;
	do
	:: p < N ->
		atomic {
			folio_lock[p] == 0 ->
			d_step {
				cached[p] = 0;
				PTE(0, p) = (PTE(0, p) == FILE -> NONE : PTE(0, p));
				PTE(VMAS / 2, p) = (PTE(VMAS / 2, p) == FILE -> NONE : PTE(VMAS / 2, p));
				PTE(VMAS - 1, p) = (PTE(VMAS - 1, p) == FILE -> NONE : PTE(VMAS - 1, p));
				p++
			}
		}
	:: else -> p = 0; break
	od
}

proctype task(byte me; byte left)
{
	byte to, s, lo, q, p;
#if MAPPINGS > 1
	byte held;
#endif
#ifdef ATTACH
	bit early, seen;
#endif

another:
	atomic {
		to = 0;
		if
		:: left == 0 -> goto end
		:: else
		fi;
		left--;
		lock(inode_lock);
		select (to : 0 .. N);
		if
		:: to > i_size -> goto truncate_up
		:: to > i_size -> goto write
		:: to < i_size -> goto truncate_down
#ifndef SHMEM
		:: to < i_size -> goto collapse
#endif
		:: to == i_size -> inode_lock = 0; goto another
		fi
	}

truncate_up:
#ifdef EVENT_BEFORE_SIZE
	report();
	atomic { set_size(); inode_lock = 0 }
#else
	look_early();
	set_size();
	report();
	inode_lock = 0;
#endif
	grown();
	goto another;

write:
	look_early();
	d_step { set_size(); inode_lock = 0 }
	report();
	grown();
	goto another;

truncate_down:
	look_early();
	atomic { INVALIDATE_LOCK; set_size() }
	truncate_pagecache();
	INVALIDATE_UNLOCK;
	report();
	d_step { inode_lock = 0; shrunk() }
	goto another;

#ifndef SHMEM
collapse:
	look_early();
	INVALIDATE_LOCK;
	truncate_pagecache();
	d_step { set_size(); INVALIDATE_UNLOCK; inode_lock = 0 }
	report();
	shrunk();
	goto another;
#endif
end:
	skip
}

#ifdef FORK
/*
 * dup_mmap(): holds the mmap lock and the parent's VMA lock for write. It adds the child's VMA to
 * i_mmap. Then copy_page_range() copies each entry under both page-table locks.
 */
proctype fork()
{
	byte p;

	mmap_lock = 1;
	vma_lock == 0;		/* no faults from here on */
	atomic { i_mmap_readers == 0 -> in_i_mmap = 1 }
	do
	:: p < N ->
		d_step {
			PTE(1, p) = PTE(0, p);
			assert(P3_grown || !IS_STAND_IN(PTE(1, p)) || p >= shown);
			p++
		}
	:: else -> break
	od;
	atomic { mmap_lock = 0; forked = 1 }
}
#endif

init {
	byte p;

	atomic {
		select (p : 0 .. N);
		i_size = p;
		shown = p;
		p = 0;
		do
		:: p < N ->
			past[p] = (p >= i_size -> 1 : 0);
			if
			:: bad[p] = 0
#ifndef NO_BAD
			:: p == N - 1 -> bad[p] = 1
#endif
			fi;
			p++
		:: else -> break
		od;
		p = 0;
		run thread(0);
#if THREADS > 1
		run thread(1);
#endif
#if THREADS > 2
		run thread(2);
#endif
		run task(0, OPS1);
#if OPS2 > 0
		run task(1, OPS2);
#endif
#ifdef FORK
		run fork()
#endif
	}
}
