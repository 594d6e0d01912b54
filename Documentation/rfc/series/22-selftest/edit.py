# SPDX-License-Identifier: GPL-2.0-only
"""What Coccinelle cannot parse: a Makefile, and a list of categories and programs."""


def edit(tree):
    folder = "tools/testing/selftests/mm"
    tree.insert_after(f"{folder}/Makefile", r"^TEST_GEN_FILES \+= mseal_test\n",
                      "TEST_GEN_FILES += nosigbus\n")
    tree.insert_after(f"{folder}/Makefile", r"^TEST_PROGS \+= ksft_mremap\.sh\n",
                      "TEST_PROGS += ksft_nosigbus.sh\n")
    tree.insert_before(f"{folder}/run_vmtests.sh", r"^- memfd_secret\n",
                       "- nosigbus\n"
                       "\ttest madvise(2) MADV_NOSIGBUS and MADV_SIGBUS options\n")
    tree.insert_before(f"{folder}/run_vmtests.sh", r"^# PROCESS_MADV test\n",
                       "# MADV_NOSIGBUS and MADV_SIGBUS tests\n"
                       'CATEGORY="nosigbus" run_test ./nosigbus\n'
                       "\n")
