# SPDX-License-Identifier: GPL-2.0-only
"""What Coccinelle cannot parse: a Makefile, and a list of files."""


def edit(tree):
    folder = "tools/testing/selftests/mm"
    tree.insert_after(f"{folder}/Makefile", r"^TEST_GEN_FILES \+= mseal_test\n",
                      "TEST_GEN_FILES += nosigbus\n")
    tree.insert_after(f"{folder}/run_vmtests.sh",
                      r'^CATEGORY="madv_guard" run_test \./guard-regions\n',
                      "\n"
                      "# MADV_NOSIGBUS tests\n"
                      'CATEGORY="madv_guard" run_test ./nosigbus\n')
