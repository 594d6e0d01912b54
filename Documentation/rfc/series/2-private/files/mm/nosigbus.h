/* SPDX-License-Identifier: GPL-2.0-only */
/* Mappings that raise no SIGBUS past the end of their file (MADV_NOSIGBUS). */
#ifndef _MM_NOSIGBUS_H
#define _MM_NOSIGBUS_H

#ifdef CONFIG_NOSIGBUS
int nosigbus_madvise(struct vm_area_struct *vma, unsigned long start, unsigned long end,
		     int advice, vm_flags_t *flags);
vm_fault_t __nosigbus_read_fault(struct vm_fault *vmf, vm_fault_t answer);
vm_fault_t __nosigbus_cow_fault(struct vm_fault *vmf, vm_fault_t answer);
#else
static inline int nosigbus_madvise(struct vm_area_struct *vma, unsigned long start,
				   unsigned long end, int advice, vm_flags_t *flags)
{
	return -EINVAL;
}

static inline vm_fault_t __nosigbus_read_fault(struct vm_fault *vmf, vm_fault_t answer)
{
	return answer;
}

static inline vm_fault_t __nosigbus_cow_fault(struct vm_fault *vmf, vm_fault_t answer)
{
	return answer;
}
#endif

/* Whether a file system's answer to a fault is a SIGBUS that may be answered otherwise. */
static inline bool nosigbus_may_answer(const struct vm_fault *vmf, vm_fault_t answer)
{
	return (answer & (VM_FAULT_SIGBUS | VM_FAULT_RETRY)) == VM_FAULT_SIGBUS &&
		(vmf->vma->vm_flags & VM_NOSIGBUS);
}

/* What becomes of a read that the file system has not answered with a page. */
static inline vm_fault_t nosigbus_read_fault(struct vm_fault *vmf, vm_fault_t answer)
{
	return nosigbus_may_answer(vmf, answer) ? __nosigbus_read_fault(vmf, answer) : answer;
}

/* The same of a write to a private mapping, which vmf->cow_page is for. */
static inline vm_fault_t nosigbus_cow_fault(struct vm_fault *vmf, vm_fault_t answer)
{
	return nosigbus_may_answer(vmf, answer) ? __nosigbus_cow_fault(vmf, answer) : answer;
}

#endif /* _MM_NOSIGBUS_H */
