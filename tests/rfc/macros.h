/* SPDX-License-Identifier: GPL-2.0-only */
/* For Coccinelle: macros of the kernel that declare variables, and that it does not know. */
#define VMA_ITERATOR YACFE_DECLARATOR
