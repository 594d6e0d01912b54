// SPDX-License-Identifier: GPL-2.0-only
/*
 * A plugin of QEMU's that counts how often the guest executes each instruction, while a
 * benchmark (tests/bench/bench.h) measures something. Its argument, out=FILE, is where the
 * counts go: lines "ADDRESS COUNT", and "end" after what belongs together.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../bench/profile.h"
#include "qemu-plugin.h"

/* Of the interface. */
int qemu_plugin_version = QEMU_PLUGIN_VERSION;

/* An instruction, as often as it has been translated. */
struct counted {
	struct counted *next;
	uint64_t address, count;
};

static struct counted *all;
static bool counting;
static FILE *out;

static void on_instruction(unsigned int cpu, void *data)
{
	struct counted *insn = data;

	(void)cpu;
	if (counting)
		insn->count++;
}

static void on_start(unsigned int cpu, void *data)
{
	(void)cpu;
	(void)data;
	counting = true;
}

static void on_stop(unsigned int cpu, void *data)
{
	(void)cpu;
	(void)data;
	counting = false;
}

static void on_end(unsigned int cpu, void *data)
{
	(void)cpu;
	(void)data;
	for (struct counted *insn = all; insn; insn = insn->next)
		if (insn->count) {
			fprintf(out, "%" PRIx64 " %" PRIu64 "\n", insn->address, insn->count);
			insn->count = 0;
		}
	fputs("end\n", out);
	fflush(out);
}

static void on_translation(uint64_t id, struct qemu_plugin_tb *tb)
{
	(void)id;
	for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint64_t address = qemu_plugin_insn_vaddr(insn);
		void (*cb)(unsigned int cpu, void *data) = on_instruction;
		struct counted *counted = NULL;

		switch (address) {
		case PROFILE_START:
			cb = on_start;
			break;
		case PROFILE_STOP:
			cb = on_stop;
			break;
		case PROFILE_END:
			cb = on_end;
			break;
		default:
			counted = calloc(1, sizeof(*counted));
			if (!counted)
				abort();
			counted->address = address;
			counted->next = all;
			all = counted;
		}
		qemu_plugin_register_vcpu_insn_exec_cb(insn, cb, 0, counted);
	}
}

int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
	(void)info;
	if (argc != 1 || strncmp(argv[0], "out=", 4))
		return -1;
	out = fopen(argv[0] + 4, "w");
	if (!out)
		return -1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
	return 0;
}
