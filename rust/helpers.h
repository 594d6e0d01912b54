/* SPDX-License-Identifier: GPL-2.0-only */
/* Wrappers for macros and inline functions, for rust/abstractions. */
#ifndef _NOSIGBUS_HELPERS_H
#define _NOSIGBUS_HELPERS_H

#include <linux/eventfd.h>
#include <linux/fs.h>
#include <linux/fsnotify_backend.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/shmem_fs.h>
#include <linux/xarray.h>

int nosigbus_mmap_write_lock_killable(struct mm_struct *mm);
void nosigbus_mmap_write_unlock(struct mm_struct *mm);
void nosigbus_vma_start_write(struct vm_area_struct *vma);
void nosigbus_vm_flags_mod(struct vm_area_struct *vma, vm_flags_t set, vm_flags_t clear);
int nosigbus_ksm_madvise(struct vm_area_struct *vma, unsigned long start, unsigned long end,
			 int advice, vm_flags_t *flags);
bool nosigbus_vma_is_special(const struct vm_area_struct *vma);
bool nosigbus_userfaultfd_armed(struct vm_area_struct *vma);
void nosigbus_mapping_unmap_writable(struct address_space *mapping);
int nosigbus_mapping_map_writable(struct address_space *mapping);
loff_t nosigbus_i_size_read(const struct inode *inode);
bool nosigbus_is_dax(const struct inode *inode);
bool nosigbus_is_private(const struct inode *inode);
bool nosigbus_is_anon_file(const struct inode *inode);
bool nosigbus_mm_is_unstable(struct mm_struct *mm);
void nosigbus_mm_add_shmem_pages(struct mm_struct *mm, long pages);
struct page *nosigbus_zero_page(unsigned long addr);
struct page *nosigbus_alloc_zeroed_user_page(void);
bool nosigbus_is_task_of(const struct mm_struct *mm);
struct mem_cgroup *nosigbus_set_active_memcg(struct mem_cgroup *memcg);
struct mem_cgroup *nosigbus_get_mem_cgroup_from_mm(struct mm_struct *mm);
void nosigbus_mem_cgroup_put(struct mem_cgroup *memcg);
bool nosigbus_seq_has_overflowed(struct seq_file *seq);
struct page *nosigbus_virt_to_page(const void *addr);
bool nosigbus_page_is_reserved(const struct page *page);
void nosigbus_kfree_rcu(void *head, void *object);
void nosigbus_get_page(struct page *page);
void nosigbus_put_page(struct page *page);
int nosigbus_page_count(const struct page *page);
void nosigbus_lock_page(struct page *page);
bool nosigbus_trylock_page(struct page *page);
int nosigbus_xa_insert(struct xarray *xa, unsigned long index, void *entry);
bool nosigbus_xa_marked(const struct xarray *xa, xa_mark_t mark);
void nosigbus_cond_resched(void);
struct module *nosigbus_this_module(void);
bool nosigbus_is_within_module(const void *object, const struct module *module);
void nosigbus_set_vm_ops(struct vm_area_struct *vma, const struct vm_operations_struct *ops);
void nosigbus_module_get(void);
void nosigbus_module_put(void);
void nosigbus_synchronize_rcu_tasks(void);

void nosigbus_init_rwsem(struct rw_semaphore *sem);
int nosigbus_fsnotify_add_inode_mark(struct fsnotify_mark *mark, struct inode *inode);
struct fsnotify_mark *nosigbus_fsnotify_find_inode_mark(struct inode *inode,
							struct fsnotify_group *group);
struct fsnotify_mark *nosigbus_fsnotify_inode_mark(struct fsnotify_iter_info *iter);
struct dentry *nosigbus_fsnotify_dentry(const void *data, int data_type);
struct inode *nosigbus_d_real_inode(const struct dentry *dentry);
const struct inode *nosigbus_file_user_inode(const struct file *file);
bool nosigbus_file_has_no_notification(const struct file *file);
void nosigbus_file_enable_notification(struct file *file);
bool nosigbus_file_has_hsm(const struct file *file);
void nosigbus_invalidate_lock_shared(struct address_space *mapping);
void nosigbus_invalidate_unlock_shared(struct address_space *mapping);
void nosigbus_call_begins(void);
void nosigbus_call_ends(void);
long nosigbus_calls(void);
struct address_space *nosigbus_folio_mapping(const struct folio *folio);
int nosigbus_folio_lock_killable(struct folio *folio);
bool nosigbus_folio_test_uptodate(const struct folio *folio);
struct page *nosigbus_folio_file_page(struct folio *folio, pgoff_t index);
struct address_space *nosigbus_page_mapping(const struct page *page);
bool nosigbus_page_is_broken(struct page *page);
void nosigbus_wait_for_pmd(struct mm_struct *mm, pmd_t *pmd);
struct folio *nosigbus_filemap_trylock_folio(struct address_space *mapping, pgoff_t index);
int nosigbus_copy_page(struct page *to, struct page *from);
bool nosigbus_is_shmem(struct address_space *mapping);
struct folio *nosigbus_shmem_read_folio(struct address_space *mapping, pgoff_t index);
void nosigbus_folio_put(struct folio *folio);
pgd_t *nosigbus_pgd_offset(struct mm_struct *mm, unsigned long addr);
bool nosigbus_pgd_none(pgd_t *pgd);
p4d_t *nosigbus_p4d_offset(pgd_t *pgd, unsigned long addr);
bool nosigbus_p4d_none(p4d_t *p4d);
pud_t *nosigbus_pud_offset(p4d_t *p4d, unsigned long addr);
bool nosigbus_pud_none(pud_t *pud);
pmd_t *nosigbus_pmd_offset(pud_t *pud, unsigned long addr);
unsigned long nosigbus_pgd_addr_end(unsigned long addr, unsigned long end);
unsigned long nosigbus_p4d_addr_end(unsigned long addr, unsigned long end);
unsigned long nosigbus_pud_addr_end(unsigned long addr, unsigned long end);
bool nosigbus_pmd_is_huge(pmd_t *pmd);
bool nosigbus_pmd_none(pmd_t *pmd);
bool nosigbus_pmd_has_table(pmd_t *pmd);
bool nosigbus_is_zero_page(pmd_t *pmd, unsigned long addr);
bool nosigbus_page_is_pmd_mappable(struct page *page);
bool nosigbus_page_is_large(struct page *page);
unsigned int nosigbus_memalloc_noreclaim_save(void);
void nosigbus_memalloc_noreclaim_restore(unsigned int flags);
struct eventfd_ctx *nosigbus_eventfd_ctx_fdget(int fd);
void nosigbus_eventfd_ctx_put(struct eventfd_ctx *ctx);
void nosigbus_eventfd_signal(struct eventfd_ctx *ctx);
dev_t nosigbus_inode_dev(const struct inode *inode);
unsigned int nosigbus_major(dev_t dev);
unsigned int nosigbus_minor(dev_t dev);
void nosigbus_current_comm(char comm[TASK_COMM_LEN]);
struct pid *nosigbus_current_tgid(void);
bool nosigbus_is_being_killed(void);
struct folio *nosigbus_filemap_get_folio(struct address_space *mapping, pgoff_t index);
struct dentry *nosigbus_debugfs_create_dir(const char *name, struct dentry *parent);
struct dentry *nosigbus_debugfs_create_file(const char *name, umode_t mode,
					    struct dentry *parent, void *data,
					    const struct file_operations *fops);
void nosigbus_debugfs_remove(struct dentry *dentry);

#endif /* _NOSIGBUS_HELPERS_H */
