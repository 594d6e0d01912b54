/* SPDX-License-Identifier: GPL-2.0-only */
/* Mappings that raise no SIGBUS past the end of their file (MADV_NOSIGBUS). */
#ifndef _MM_NOSIGBUS_H
#define _MM_NOSIGBUS_H

#ifdef CONFIG_NOSIGBUS
vm_fault_t __nosigbus_read_fault(struct vm_fault *vmf);
vm_fault_t __nosigbus_cow_fault(struct vm_fault *vmf);
#else
static inline vm_fault_t __nosigbus_read_fault(struct vm_fault *vmf)
{
	return VM_FAULT_SIGBUS;
}

static inline vm_fault_t __nosigbus_cow_fault(struct vm_fault *vmf)
{
	return VM_FAULT_SIGBUS;
}
#endif

/* Whether zeros are due: ->fault returned @ret because the page is past EOF. */
static inline bool nosigbus_is_due(const struct vm_fault *vmf, vm_fault_t ret)
{
	const vm_fault_t past_eof = VM_FAULT_SIGBUS | VM_FAULT_EOF;

	return (ret & (past_eof | VM_FAULT_RETRY)) == past_eof &&
		vma_test_single_mask(vmf->vma, VMA_NOSIGBUS);
}

/* The result of a read fault for which ->fault returned @ret, and no page. */
static inline vm_fault_t nosigbus_read_fault(struct vm_fault *vmf, vm_fault_t ret)
{
	return nosigbus_is_due(vmf, ret) ? __nosigbus_read_fault(vmf) : ret;
}

/* The same for a write to a private mapping. */
static inline vm_fault_t nosigbus_cow_fault(struct vm_fault *vmf, vm_fault_t ret)
{
	return nosigbus_is_due(vmf, ret) ? __nosigbus_cow_fault(vmf) : ret;
}

#endif /* _MM_NOSIGBUS_H */
