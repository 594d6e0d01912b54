# SPDX-License-Identifier: GPL-2.0-only
"""Comments are what changes as well, and Coccinelle does not keep the layout of the statement."""


def edit(tree):
    def use_set_mask_bits(text):
        store = ("\tmapping->flags = (mapping->flags & ~AS_FOLIO_ORDER_MASK) |\n"
                 "\t\t(min << AS_FOLIO_ORDER_MIN) | (max << AS_FOLIO_ORDER_MAX);\n")
        assert text.count(store) == 1, "include/linux/pagemap.h: the store of the orders"
        return text.replace(store, "\t/* Other bits may change at the same time. */\n"
                                   "\tset_mask_bits(&mapping->flags, AS_FOLIO_ORDER_MASK,\n"
                                   "\t\t      (min << AS_FOLIO_ORDER_MIN) | (max << AS_FOLIO_ORDER_MAX));\n")

    tree.change("include/linux/pagemap.h", use_set_mask_bits)
