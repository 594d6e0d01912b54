// SPDX-License-Identifier: GPL-2.0-only

#include <linux/memcontrol.h>

struct mem_cgroup *nosigbus_set_active_memcg(struct mem_cgroup *memcg)
{
	return set_active_memcg(memcg);
}

struct mem_cgroup *nosigbus_get_mem_cgroup_from_mm(struct mm_struct *mm)
{
	return get_mem_cgroup_from_mm(mm);
}

void nosigbus_mem_cgroup_put(struct mem_cgroup *memcg)
{
	mem_cgroup_put(memcg);
}
