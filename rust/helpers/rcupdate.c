// SPDX-License-Identifier: GPL-2.0-only

#include <linux/rcupdate.h>

/* kfree_rcu() for a type that C does not know. */
void nosigbus_kvfree_call_rcu(void *head, void *object)
{
	kvfree_call_rcu(head, object);
}

/* Without CONFIG_TASKS_RCU, synchronize_rcu_tasks() does not wait for preempted tasks. */
#if defined(CONFIG_PREEMPTION) && !defined(CONFIG_TASKS_RCU)
#error "needs CONFIG_TASKS_RCU, which CONFIG_KPROBES, CONFIG_BPF_SYSCALL and CONFIG_TRACING select"
#endif

void nosigbus_synchronize_rcu_tasks(void)
{
	synchronize_rcu_tasks();
}
