# SPDX-License-Identifier: GPL-2.0-only
#
# make            the module, for the kernel tree KDIR, with your own toolchain
# make run        everything from nothing: a stock Debian kernel in QEMU, the demo
# make test       the shorter tests, in the stock kernel and in the debug kernel.
#                 T=NAME, K=KERNEL: only these (tests/table); FLAVOUR=rt: in that kernel;
#                 ARCH=arm64: the selftests in Debian's arm64 kernel, or with FLAVOUR=16k
#                 in the one with pages of 16 KiB
# make test_all   the same tests, and then all the rest
# make test_kernels  runs selftests in other kernels and machines: PREEMPT_RT, arm64, more CPUs
#                 (tests/variants; T= the names of some)
# make test_wayland  attacks sway, KWin, Mutter and others, natively and protected
#                 (T= the names of some, A= some attacks)
# make demo       what an empty file does to sway, natively and protected: two pictures
# make stress     random load and malice for STRESS_SECONDS=1200, in STRESS_KERNEL=full,
#                 with SEED= a given one
# make kcsan      the race tests in a kernel with KCSAN (a build of its own)
# make fuzz       trinity against /dev/nosigbus, FUZZ_CALLS=1000000 (an hour) in the stock
#                 kernel
# make mutants    puts faults into the module, and shows which test catches each
#                 (MUTANTS= the names of some)
# make model      checks the models of faults and size changes, over all interleavings (spin)
# make rfc        applies the series for linux-mm (Documentation/rfc) to the newest linux-source,
#                 checks and compiles it, and writes its mails to build/rfc
# make rfc_kernel  kernels with the series, in build/rfc: one with checkers, two for benchmarks
# make test_rfc   boots the first of them and runs the module's tests that apply to it
#                 (tests/rfc/cases; T= the names of some)
# make bench      measures the cost and compares it with the alternatives: prints a table
# make bench_record  the same; records the table in Documentation, for the next run to compare with
# make bench_profile  shows which functions of kernel and module execute the instructions
# make lint       rustfmt, clippy, rustdoc, shellcheck, checkpatch
# make doc        the module's documentation by rustdoc, in build/doc
# make install    the module for KDIR, the command nosigbus and its library, the header, the man
#                 pages, and what has the module loaded at boot. DESTDIR=, and prefix=/usr/local,
#                 which goes for all but the module; TOOLCHAIN=host builds with your own tools.
#                 modules_install, tools_install, headers_install, man_install and
#                 system_install do it one by one
# make uninstall  removes what make install has installed, given the same variables
# make deb        Debian packages, in build/deb: nosigbus, nosigbus-dkms, libnosigbus-dev
# make test_install  installs these in a Debian with systemd, in QEMU, with two kernels, and with
#                 Secure Boot (T= the names of some guests)
# make tools      the command nosigbus and its library
# make bindings   updates the crate's copy of the uAPI header, and its bindings
# make man        the man pages, in build/man
# make clean      removes what was built here
# make distclean  also removes the cache (toolchain, kernels)
#
# Kbuild reads the file Kbuild, not this one.

KDIR ?= /lib/modules/$(shell uname -r)/build
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/nosigbus
RELEASE := samples/release
PROGRAMS := nosigbus nosigbus-compositor nosigbus-hostile nosigbus-writer
STRESS_KERNEL ?= full
prefix ?= /usr/local
HEADERS = $(or $(INSTALL_HDR_PATH),$(DESTDIR)$(prefix))
# make install has these below prefix, and the module in the kernel's own directory.
INSTALLED := bin/nosigbus lib/libnosigbus_preload.so include/linux/nosigbus.h \
	share/pkgconfig/nosigbus.pc share/man/man1/nosigbus.1 share/man/man4/nosigbus.4 \
	lib/modules-load.d/nosigbus.conf lib/udev/rules.d/60-nosigbus.rules \
	share/doc/nosigbus/examples/compositor.conf
MODULES = $(or $(INSTALL_MOD_PATH),$(DESTDIR))

modules:
	@tests/check-kdir.sh '$(KDIR)'
	$(MAKE) -C '$(KDIR)' M='$(CURDIR)' modules

modules_install: modules
	$(MAKE) -C '$(KDIR)' M='$(CURDIR)' INSTALL_MOD_PATH='$(MODULES)' modules_install

# Also installs a file for pkg-config, with relative paths.
headers_install:
	install -D -m 644 include/uapi/linux/nosigbus.h '$(HEADERS)/include/linux/nosigbus.h'
	install -D -m 644 include/nosigbus.pc '$(HEADERS)/share/pkgconfig/nosigbus.pc'

man: build/man/nosigbus.1 build/man/nosigbus.4

man_install: man
	for section in 1 4; do \
		install -D -m 644 build/man/nosigbus.$$section \
			'$(DESTDIR)$(prefix)/share/man/man'$$section/nosigbus.$$section || exit; \
	done

# systemd and udev look in /usr/local/lib, too.
system_install:
	install -D -m 644 system/modules-load.conf '$(DESTDIR)$(prefix)/lib/modules-load.d/nosigbus.conf'
	install -D -m 644 system/nosigbus.rules '$(DESTDIR)$(prefix)/lib/udev/rules.d/60-nosigbus.rules'
	install -D -m 644 system/compositor.conf \
		'$(DESTDIR)$(prefix)/share/doc/nosigbus/examples/compositor.conf'

install: modules_install tools_install headers_install man_install system_install

uninstall:
	cd '$(DESTDIR)$(prefix)' && rm -f $(INSTALLED) && rm -rf share/doc/nosigbus
	release=$$(cat '$(KDIR)/include/config/kernel.release') && \
		rm -f '$(MODULES)'/lib/modules/"$$release"/updates/nosigbus.ko* && \
		depmod -b '$(or $(MODULES),/)' "$$release"

deb:
	@tests/deb.sh

test_install:
	@tests/test-install.sh

bindings:
	@tests/toolchain.sh all >/dev/null
	@mkdir -p build/bindings
	@tests/bindings.sh build/bindings
	cp build/bindings/nosigbus.h samples/nosigbus/
	cp build/bindings/bindings.rs samples/nosigbus/src/

tools:
	@tests/build-samples.sh build --release -p nosigbus-cli -p nosigbus-preload

# The programs need a system at least as new as the one that builds them, Debian 13.
tools_install: tools
	install -D -m 755 build/$(RELEASE)/nosigbus '$(DESTDIR)$(prefix)/bin/nosigbus'
	install -D -m 644 build/$(RELEASE)/libnosigbus_preload.so \
		'$(DESTDIR)$(prefix)/lib/libnosigbus_preload.so'

run:
	@tests/run.sh

test:
	@tests/test.sh

test_all:
	@tests/test.sh all

test_kernels:
	@tests/test-kernels.sh

test_wayland:
	@tests/test-wayland.sh

demo:
	@tests/demo.sh

stress: build/$(STRESS_KERNEL)/nosigbus.ko
	@tests/stress.sh $(STRESS_KERNEL) build/results/stress

kcsan:
	@tests/kcsan.sh

fuzz:
	@tests/fuzz.sh

rfc:
	@tests/rfc.sh

rfc_kernel:
	@for kind in debug measured plain; do tests/rfc-kernel.sh $$kind >/dev/null || exit; done

test_rfc:
	@tests/rfc-test.sh

mutants:
	@tests/mutants.sh $(MUTANTS)

model:
	@tests/toolchain.sh all >/dev/null
	@tests/toolchain.sh run tests/model/run.sh build/results/model.tap

bench:
	@tests/bench.sh

bench_record:
	@tests/bench.sh --record

bench_profile:
	@tests/profile.sh

lint:
	@tests/lint.sh

doc:
	@tests/doc.sh

# The module for a kernel of tests/kernel.sh, and the programs. Kbuild and cargo
# find out what they have to build again.
build/stock/nosigbus.ko build/debug/nosigbus.ko build/full/nosigbus.ko build/kcsan/nosigbus.ko: build/%/nosigbus.ko: FORCE
	@MACHINE=amd64 KERNEL_FLAVOUR= tests/build-module.sh $*

# A flavour of the stock kernel, as tests/kernel.sh has it.
build/stock-rt/nosigbus.ko build/stock-cloud/nosigbus.ko: build/stock-%/nosigbus.ko: FORCE
	@MACHINE=amd64 KERNEL_FLAVOUR=$* tests/build-module.sh stock

build/stock-arm64/nosigbus.ko: FORCE
	@MACHINE=arm64 KERNEL_FLAVOUR= tests/build-module.sh stock

build/stock-arm64-16k/nosigbus.ko: FORCE
	@MACHINE=arm64 KERNEL_FLAVOUR=16k tests/build-module.sh stock

$(PROGRAMS:%=build/$(RELEASE)/%) &: FORCE
	@tests/build-samples.sh

samples: $(PROGRAMS:%=build/$(RELEASE)/%)

# What tests/guest/programs.sh runs.
build/programs: FORCE
	@tests/build-programs.sh

# What tests/guest/man.sh runs.
build/man-test: FORCE
	@tests/host/man.sh >/dev/null

# What tests/guest/stress.sh runs. The harness is the one of the stock kernel's own selftests.
build/stress: FORCE
	@mkdir -p $@
	@tests/toolchain.sh run $(MAKE) -s -C tests/stress CC=gcc-14 OUT='$(CURDIR)/$@' \
		KSRC="$$(tests/kernel.sh stock)/source"

# Every message of rst2man is an error.
build/man/%: Documentation/%.rst
	@mkdir -p $(@D)
	@tests/toolchain.sh all >/dev/null
	@tests/toolchain.sh run rst2man --verbose --strict $< $@

# What tests/guest/crate.sh runs.
build/crate: FORCE
	@tests/build-crate.sh

clean:
	rm -rf build
	find . -path ./.git -prune -o \( -name '*.o' -o -name '*.ko' -o -name '*.mod' \
		-o -name '*.mod.c' -o -name '.*.cmd' -o -name '.*.d' -o -name modules.order \
		-o -name Module.symvers -o -name bindings_generated.rs \) -exec rm -f {} +

distclean: clean
	rm -rf '$(CACHE)' samples/Cargo.lock

FORCE:

.PHONY: modules modules_install headers_install bindings man man_install tools tools_install system_install install uninstall deb test_install samples run test test_all test_kernels test_wayland demo stress kcsan fuzz mutants rfc rfc_kernel test_rfc model bench bench_record bench_profile lint clean distclean FORCE
