// SPDX-License-Identifier: GPL-2.0-only

#include <linux/percpu.h>

/* A call may begin and end on different CPUs. Only the sum is meaningful. */
static DEFINE_PER_CPU(long, calls);

void nosigbus_call_begins(void)
{
	this_cpu_inc(calls);
}

void nosigbus_call_ends(void)
{
	this_cpu_dec(calls);
}

/* An upper bound of the number of active calls, provided that no call can begin. */
long nosigbus_calls(void)
{
	long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(&calls, cpu));
	return sum;
}
