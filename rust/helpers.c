// SPDX-License-Identifier: GPL-2.0-only
/* Wrappers for macros and inline functions, which Rust cannot call, and a few lines of C. */

#include <linux/cpumask.h>
#include <linux/dcache.h>
#include <linux/debugfs.h>
#include <linux/eventfd.h>
#include <linux/highmem.h>
#include <linux/ksm.h>
#include <linux/memcontrol.h>
#include <linux/module.h>
#include <linux/oom.h>
#include <linux/pagemap.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/smp.h>
#include <linux/userfaultfd_k.h>
#include <linux/xarray.h>

#include "helpers.h"

int nosigbus_mmap_write_lock_killable(struct mm_struct *mm)
{
	return mmap_write_lock_killable(mm);
}

void nosigbus_mmap_write_unlock(struct mm_struct *mm)
{
	mmap_write_unlock(mm);
}

void nosigbus_vma_start_write(struct vm_area_struct *vma)
{
	vma_start_write(vma);
}

void nosigbus_vm_flags_mod(struct vm_area_struct *vma, vm_flags_t set, vm_flags_t clear)
{
	vm_flags_mod(vma, set, clear);
}

int nosigbus_ksm_madvise(struct vm_area_struct *vma, unsigned long start, unsigned long end,
			 int advice, vm_flags_t *flags)
{
	return ksm_madvise(vma, start, end, advice, flags);
}

bool nosigbus_vma_is_special(const struct vm_area_struct *vma)
{
	return vma->vm_flags & VM_SPECIAL;
}

bool nosigbus_userfaultfd_armed(struct vm_area_struct *vma)
{
	return userfaultfd_armed(vma);
}

void nosigbus_mapping_unmap_writable(struct address_space *mapping)
{
	mapping_unmap_writable(mapping);
}

int nosigbus_mapping_map_writable(struct address_space *mapping)
{
	return mapping_map_writable(mapping);
}

loff_t nosigbus_i_size_read(const struct inode *inode)
{
	return i_size_read(inode);
}

bool nosigbus_is_dax(const struct inode *inode)
{
	return IS_DAX(inode);
}

bool nosigbus_is_private(const struct inode *inode)
{
	return IS_PRIVATE(inode);
}

bool nosigbus_is_anon_file(const struct inode *inode)
{
	return IS_ANON_FILE(inode);
}

bool nosigbus_mm_is_unstable(struct mm_struct *mm)
{
	return check_stable_address_space(mm);
}

/* add_mm_counter() without its tracepoint, which modules cannot call. */
void nosigbus_mm_add_shmem_pages(struct mm_struct *mm, long pages)
{
	percpu_counter_add(&mm->rss_stat[MM_SHMEMPAGES], pages);
}

struct page *nosigbus_alloc_zeroed_user_page(void)
{
	return alloc_page(GFP_HIGHUSER | __GFP_ACCOUNT | __GFP_ZERO);
}

/* False for a kernel thread that has borrowed mm by kthread_use_mm(). */
bool nosigbus_is_task_of(const struct mm_struct *mm)
{
	return current->mm == mm && !(current->flags & PF_KTHREAD);
}

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

struct page *nosigbus_zero_page(unsigned long addr)
{
	return ZERO_PAGE(addr);
}

struct page *nosigbus_virt_to_page(const void *addr)
{
	return virt_to_page(addr);
}

bool nosigbus_page_is_reserved(const struct page *page)
{
	return PageReserved(page);
}

/* kfree_rcu() for a type that C does not know. */
void nosigbus_kfree_rcu(void *head, void *object)
{
	kvfree_call_rcu(head, object);
}

void nosigbus_get_page(struct page *page)
{
	get_page(page);
}

void nosigbus_put_page(struct page *page)
{
	put_page(page);
}

void nosigbus_lock_page(struct page *page)
{
	lock_page(page);
}

bool nosigbus_trylock_page(struct page *page)
{
	return trylock_page(page);
}

int nosigbus_xa_insert(struct xarray *xa, unsigned long index, void *entry)
{
	return xa_insert(xa, index, entry, GFP_KERNEL_ACCOUNT);
}

bool nosigbus_xa_marked(const struct xarray *xa, xa_mark_t mark)
{
	return xa_marked(xa, mark);
}

void nosigbus_cond_resched(void)
{
	cond_resched();
}

bool nosigbus_is_within_module(const void *object, const struct module *module)
{
	return module && within_module((unsigned long)object, module);
}

void nosigbus_set_vm_ops(struct vm_area_struct *vma, const struct vm_operations_struct *ops)
{
	/* Publishes the initialised table. Pairs with the address dependency of its callers. */
	smp_store_release(&vma->vm_ops, ops);
}

struct module *nosigbus_this_module(void)
{
	return THIS_MODULE;
}

void nosigbus_module_get(void)
{
	__module_get(THIS_MODULE);
}

void nosigbus_module_put(void)
{
	module_put(THIS_MODULE);
}

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

/* Without CONFIG_TASKS_RCU, synchronize_rcu_tasks() does not wait for preempted tasks. */
#if defined(CONFIG_PREEMPTION) && !defined(CONFIG_TASKS_RCU)
#error "needs CONFIG_TASKS_RCU, which CONFIG_KPROBES, CONFIG_BPF_SYSCALL and CONFIG_TRACING select"
#endif

void nosigbus_synchronize_rcu_tasks(void)
{
	synchronize_rcu_tasks();
}

void nosigbus_init_rwsem(struct rw_semaphore *sem)
{
	init_rwsem(sem);
}

int nosigbus_fsnotify_add_inode_mark(struct fsnotify_mark *mark, struct inode *inode)
{
	return fsnotify_add_inode_mark(mark, inode, 0);
}

struct fsnotify_mark *nosigbus_fsnotify_find_inode_mark(struct inode *inode,
							struct fsnotify_group *group)
{
	return fsnotify_find_inode_mark(inode, group);
}

struct fsnotify_mark *nosigbus_fsnotify_inode_mark(struct fsnotify_iter_info *iter)
{
	return fsnotify_iter_inode_mark(iter);
}

struct dentry *nosigbus_fsnotify_dentry(const void *data, int data_type)
{
	return fsnotify_data_dentry(data, data_type);
}

struct inode *nosigbus_d_real_inode(const struct dentry *dentry)
{
	return d_real_inode(dentry);
}

const struct inode *nosigbus_file_user_inode(const struct file *file)
{
	return file_user_inode(file);
}

bool nosigbus_file_has_no_notification(const struct file *file)
{
	return FMODE_FSNOTIFY_NONE(file->f_mode);
}

/*
 * Enables ordinary fsnotify events, but no permission and no pre-content events. A single store,
 * unlike file_set_fsnotify_mode(): readers do not take f_lock, and an intermediate value
 * without a bit set would enable all events.
 */
void nosigbus_file_enable_notification(struct file *file)
{
	WRITE_ONCE(file->f_mode, (file->f_mode & ~FMODE_FSNOTIFY_MASK) | FMODE_NONOTIFY_PERM);
}

bool nosigbus_file_has_hsm(const struct file *file)
{
	return FMODE_FSNOTIFY_HSM(READ_ONCE(file->f_mode));
}

void nosigbus_invalidate_lock_shared(struct address_space *mapping)
{
	filemap_invalidate_lock_shared(mapping);
}

void nosigbus_invalidate_unlock_shared(struct address_space *mapping)
{
	filemap_invalidate_unlock_shared(mapping);
}

struct address_space *nosigbus_folio_mapping(const struct folio *folio)
{
	return folio->mapping;
}

int nosigbus_folio_lock_killable(struct folio *folio)
{
	return folio_lock_killable(folio);
}

bool nosigbus_folio_test_uptodate(const struct folio *folio)
{
	return folio_test_uptodate(folio);
}

struct page *nosigbus_folio_file_page(struct folio *folio, pgoff_t index)
{
	return folio_file_page(folio, index);
}

struct address_space *nosigbus_page_mapping(const struct page *page)
{
	return READ_ONCE(page_folio(page)->mapping);
}

void nosigbus_wait_for_pmd(struct mm_struct *mm, pmd_t *pmd)
{
	spin_unlock(pmd_lock(mm, pmd));
}

struct folio *nosigbus_filemap_trylock_folio(struct address_space *mapping, pgoff_t index)
{
	return __filemap_get_folio(mapping, index, FGP_LOCK | FGP_NOWAIT, 0);
}

bool nosigbus_page_is_broken(struct page *page)
{
	return is_page_hwpoison(page);
}

int nosigbus_copy_page(struct page *to, struct page *from)
{
	return copy_mc_highpage(to, from);
}

bool nosigbus_is_shmem(struct address_space *mapping)
{
	return shmem_mapping(mapping);
}

struct folio *nosigbus_shmem_read_folio(struct address_space *mapping, pgoff_t index)
{
	return shmem_read_folio(mapping, index);
}

void nosigbus_folio_put(struct folio *folio)
{
	folio_put(folio);
}

pgd_t *nosigbus_pgd_offset(struct mm_struct *mm, unsigned long addr)
{
	return pgd_offset(mm, addr);
}

bool nosigbus_pgd_none(pgd_t *pgd)
{
	return pgd_none(pgdp_get(pgd));
}

p4d_t *nosigbus_p4d_offset(pgd_t *pgd, unsigned long addr)
{
	return p4d_offset(pgd, addr);
}

bool nosigbus_p4d_none(p4d_t *p4d)
{
	return p4d_none(p4dp_get(p4d));
}

pud_t *nosigbus_pud_offset(p4d_t *p4d, unsigned long addr)
{
	return pud_offset(p4d, addr);
}

bool nosigbus_pud_none(pud_t *pud)
{
	return pud_none(pudp_get(pud));
}

pmd_t *nosigbus_pmd_offset(pud_t *pud, unsigned long addr)
{
	return pmd_offset(pud, addr);
}

unsigned long nosigbus_pgd_addr_end(unsigned long addr, unsigned long end)
{
	return pgd_addr_end(addr, end);
}

/* Where a level is folded, pXd_addr_end() returns `end`. So apply the levels above it first. */
unsigned long nosigbus_p4d_addr_end(unsigned long addr, unsigned long end)
{
	return p4d_addr_end(addr, pgd_addr_end(addr, end));
}

unsigned long nosigbus_pud_addr_end(unsigned long addr, unsigned long end)
{
	return pud_addr_end(addr, nosigbus_p4d_addr_end(addr, end));
}

bool nosigbus_pmd_is_huge(pmd_t *pmd)
{
	return pmd_is_huge(pmdp_get_lockless(pmd));
}

bool nosigbus_pmd_none(pmd_t *pmd)
{
	return pmd_none(pmdp_get_lockless(pmd));
}

bool nosigbus_pmd_has_table(pmd_t *pmd)
{
	return !pmd_none(*pmd) && !pmd_is_huge(*pmd);
}

#ifdef CONFIG_HIGHPTE
#error "looks into page tables that have no permanent address: turn CONFIG_HIGHPTE off"
#endif

/* Whether the PTE for addr, in the PTE table that pmd points to, maps the zero page. */
bool nosigbus_is_zero_page(pmd_t *pmd, unsigned long addr)
{
	pte_t pte = ptep_get_lockless(pte_offset_kernel(pmd, addr));

	return pte_present(pte) && pte_pfn(pte) == page_to_pfn(ZERO_PAGE(addr));
}

bool nosigbus_page_is_pmd_mappable(struct page *page)
{
	return folio_test_pmd_mappable(page_folio(page));
}

bool nosigbus_page_is_large(struct page *page)
{
	return folio_test_large(page_folio(page));
}

unsigned int nosigbus_memalloc_noreclaim_save(void)
{
	return memalloc_noreclaim_save();
}

void nosigbus_memalloc_noreclaim_restore(unsigned int flags)
{
	memalloc_noreclaim_restore(flags);
}

struct eventfd_ctx *nosigbus_eventfd_ctx_fdget(int fd)
{
	return eventfd_ctx_fdget(fd);
}

void nosigbus_eventfd_ctx_put(struct eventfd_ctx *ctx)
{
	eventfd_ctx_put(ctx);
}

void nosigbus_eventfd_signal(struct eventfd_ctx *ctx)
{
	eventfd_signal(ctx);
}

dev_t nosigbus_inode_dev(const struct inode *inode)
{
	return inode->i_sb->s_dev;
}

unsigned int nosigbus_major(dev_t dev)
{
	return MAJOR(dev);
}

unsigned int nosigbus_minor(dev_t dev)
{
	return MINOR(dev);
}

void nosigbus_current_comm(char comm[TASK_COMM_LEN])
{
	strscpy_pad(comm, current->comm, TASK_COMM_LEN);
}

struct pid *nosigbus_current_tgid(void)
{
	return get_task_pid(current, PIDTYPE_TGID);
}

bool nosigbus_is_being_killed(void)
{
	return fatal_signal_pending(current);
}

#ifdef CONFIG_KUNIT
int nosigbus_page_count(const struct page *page)
{
	return page_count(page);
}
#endif

struct folio *nosigbus_filemap_get_folio(struct address_space *mapping, pgoff_t index)
{
	return filemap_get_folio(mapping, index);
}

struct dentry *nosigbus_debugfs_create_dir(const char *name, struct dentry *parent)
{
	return debugfs_create_dir(name, parent);
}

struct dentry *nosigbus_debugfs_create_file(const char *name, umode_t mode,
					    struct dentry *parent, void *data,
					    const struct file_operations *fops)
{
	return debugfs_create_file(name, mode, parent, data, fops);
}

void nosigbus_debugfs_remove(struct dentry *dentry)
{
	debugfs_remove(dentry);
}

bool nosigbus_seq_has_overflowed(struct seq_file *seq)
{
	return seq_has_overflowed(seq);
}
