// SPDX-License-Identifier: GPL-2.0-only

#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>

/* False for a kernel thread that has borrowed mm by kthread_use_mm(). */
bool nosigbus_is_task_of(const struct mm_struct *mm)
{
	return current->mm == mm && !(current->flags & PF_KTHREAD);
}

void nosigbus_cond_resched(void)
{
	cond_resched();
}

unsigned int nosigbus_memalloc_noreclaim_save(void)
{
	return memalloc_noreclaim_save();
}

void nosigbus_memalloc_noreclaim_restore(unsigned int flags)
{
	memalloc_noreclaim_restore(flags);
}

void nosigbus_current_comm(char comm[TASK_COMM_LEN])
{
	strscpy_pad(comm, current->comm, TASK_COMM_LEN);
}

bool nosigbus_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

bool nosigbus_is_dumping_core(void)
{
	return current->flags & PF_DUMPCORE;
}
