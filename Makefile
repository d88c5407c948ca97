# SPDX-License-Identifier: BSD-2-Clause
#
# Needs gcc and GNU make; sanitizers, lint and fuzzing need clang (see
# scripts/packages.sh).  "make help" tells the targets.  Settings, all to be
# given on the command line or in the environment:
#
#   PREFIX     where programs and manual pages go            (/usr/local)
#   SYSCONFDIR where s3blkdev.conf is        ($PREFIX/etc; /etc below /usr)
#   UNITDIR    where systemd units go              ($PREFIX/lib/systemd/system)
#   SYSUSERSDIR, TMPFILESDIR  and what systemd makes users and directories of
#                             ($PREFIX/lib/sysusers.d, $PREFIX/lib/tmpfiles.d)
#   COMPLETIONDIR   for bash      ($PREFIX/share/bash-completion/completions)
#   DESTDIR    put in front of all of these, for packages    (empty)
#   BUILD      where objects go, a directory per VARIANT     (build)
#   VARIANT    release, debug, asan, tsan or coverage        (release)
#   CC, CLANG  the compiler of releases, that of the checks  (gcc, clang)
#   CFLAGS     further flags of the compiler, after ours     (empty)
#   WERROR=1   warnings are errors: for developers, not for users
#   V=1        show the commands

PREFIX ?= /usr/local
SYSCONFDIR ?= $(if $(filter /usr /usr/,$(PREFIX)),/etc,$(PREFIX)/etc)
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions
DESTDIR ?=
BUILD ?= build
export BUILD
VARIANT ?= release
CLANG ?= clang
WERROR ?= 0
V ?= 0
FUZZ_SECONDS ?= 60
SOAK_MINUTES ?= 60
ifeq ($(origin CC),default)
CC := gcc
endif

B := $(BUILD)/$(VARIANT)
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),@:,@printf '  %-8s %s\n' '$1' '$2')

# ---- what there is ----------------------------------------------------------

PROGRAMS := $(basename $(wildcard s3blkdevd.c s3blkdev-sync.c s3blkdev-attach.c))
LIB_SOURCES := $(wildcard lib/*.c lib/*/*.c)
# These define what a file of lib/ defines, and are linked by name only.
STANDINS := fault_file memory_device
SUPPORT_SOURCES := $(filter-out $(STANDINS:%=tests/support/%.c), \
    $(wildcard tests/support/*.c))
UNIT_TESTS := $(basename $(wildcard tests/unit/test_*.c))
RACE_TESTS := $(basename $(wildcard tests/unit/race_*.c))
CRASH_TESTS := $(basename $(wildcard tests/unit/crash_*.c))
FUZZERS := $(basename $(wildcard tests/fuzz/fuzz_*.c))
# Those that measure a part of the program by itself; the other one is built
# by tests/bench/run.
BENCHES := $(filter-out tests/bench/snappy_rate, \
    $(basename $(wildcard tests/bench/*.c)))
GUI_TESTS := $(sort $(wildcard tests/gui/*.test.mjs))
SYSTEM_TESTS := $(sort $(wildcard tests/system/*.bats))
# Stories in a virtual machine, of its file system and its connections.
VM_TESTS := $(sort $(wildcard tests/vm/1?_*.bats))
VM_LONG_TESTS := $(foreach kind,ext4-4 xfs-1 xfs-4,$(VM_TESTS:%=%@$(kind))) \
    $(sort $(wildcard tests/vm/2?_*.bats))
VM_PROGRAMS := $(basename $(wildcard tests/vm/*.c))
# Stories that are told also of S3 servers, see tests/system/store_kind.bash:
# a few of them always, all of them in check-long.
story = $(wildcard tests/system/$1_*.bats)
S3_STORIES := $(call story,61)@radosgw-https-path-2 \
    $(call story,71)@radosgw-https-virtual-2 \
    $(call story,72)@radosgw-http-path-1
S3_ALL_STORIES := $(filter-out %_export.bats, \
    $(foreach number,60 61 62 63 70 71 72,$(call story,$(number))))
S3_KINDS := $(foreach scheme,http https,$(foreach style,path virtual, \
    $(foreach count,1 2,radosgw-$(scheme)-$(style)-$(count))))

# ---- flags ------------------------------------------------------------------

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wundef -Wvla -Walloca \
    -Wformat=2 -Wconversion -Wsign-conversion -Wcast-qual -Wpointer-arith \
    -Wwrite-strings -Wstrict-prototypes -Wmissing-prototypes \
    -Wold-style-definition -Wredundant-decls -Wswitch-enum \
    -Wimplicit-fallthrough -Wnull-dereference -Wdate-time \
    -Werror=implicit -Werror=incompatible-pointer-types \
    -Werror=int-conversion -Werror=return-type -Werror=format-security
GCC_WARNINGS := -Wformat-signedness -Wcast-align=strict -Wduplicated-cond \
    -Wduplicated-branches -Wlogical-op -Wjump-misses-init -Wtrampolines
CLANG_WARNINGS := -Wcast-align -Wthread-safety -Wthread-safety-beta \
    -Wmissing-variable-declarations -Wcomma -Wunreachable-code-aggressive \
    -Wconditional-uninitialized -Wextra-semi-stmt -Wdocumentation

# An overflow is what it is in two's complement, except where it is looked for.
ifeq ($(filter asan fuzz,$(VARIANT)),)
CFLAGS_OVERFLOW := -fno-strict-overflow
endif

MACHINE := $(shell uname -m)
HARDENING := -U_FORTIFY_SOURCE -fstack-protector-strong \
    -fstack-clash-protection \
    $(if $(filter x86_64,$(MACHINE)),-fcf-protection=full) \
    $(if $(filter aarch64,$(MACHINE)),-mbranch-protection=standard)

# Those of these flags that the compiler knows: gcc 11, or clang, not all.
known = $(shell for flag in $1; do echo '\#include <features.h>' | \
    $(COMPILER) -O2 -Werror -U_FORTIFY_SOURCE $$flag -E -x c - \
    > /dev/null 2>&1 && echo $$flag; done)

flags_release := -O2 -g $(HARDENING)
flags_debug := -O0 -g3 -fstack-protector-strong
flags_asan := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined \
    -fno-sanitize-recover=undefined
flags_tsan := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
flags_coverage := -O0 -g --coverage
flags_fuzz := -O1 -g -fno-omit-frame-pointer \
    -fsanitize=fuzzer-no-link,address,undefined \
    -fno-sanitize-recover=undefined
ifeq ($(flags_$(VARIANT)),)
$(error VARIANT=$(VARIANT): there are release, debug, asan, tsan, coverage)
endif

# What the sanitizers are for is found by clang, what is shipped is by gcc.
ifneq ($(filter asan tsan fuzz,$(VARIANT)),)
COMPILER := $(CLANG)
else
COMPILER := $(CC)
endif
ifneq ($(findstring clang,$(notdir $(COMPILER))),)
WARNINGS += $(CLANG_WARNINGS)
else
WARNINGS += $(GCC_WARNINGS)
endif
ifeq ($(VARIANT),release)
flags_release += $(or $(call known,-D_FORTIFY_SOURCE=3),-D_FORTIFY_SOURCE=2) \
    $(call known,-ftrivial-auto-var-init=zero -Wbidi-chars=any)
endif

ALL_CFLAGS := -std=gnu17 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 \
    -DSYSCONFDIR='"$(SYSCONFDIR)"' -Ilib -I. $(WARNINGS) \
    -fno-delete-null-pointer-checks -fno-strict-aliasing \
    -fPIE -pthread $(CFLAGS_OVERFLOW) $(flags_$(VARIANT)) $(CFLAGS)
ALL_LDFLAGS := -pie -pthread -Wl,-z,relro,-z,now,-z,noexecstack \
    -Wl,--as-needed $(filter -f%sanitize% --coverage,$(flags_$(VARIANT))) \
    $(LDFLAGS)
LIBRARIES := -lisal -lsnappy -lgnutls -lnettle -lexpat -ljansson -lsystemd $(LDLIBS)
STRICT := $(if $(filter 1,$(WERROR)),-Werror)

# ---- build ------------------------------------------------------------------

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all programs unit-tests race-tests crash-tests fuzzers FORCE

all: programs ## build the programs (VARIANT=release, debug, asan, ...)

programs: $(PROGRAMS:%=$(B)/%)
ifeq ($(VARIANT),release)
programs: $(PROGRAMS)

$(PROGRAMS): %: $(B)/%
	$(Q)cp -f $< $@
endif

unit-tests: $(UNIT_TESTS:%=$(B)/%)
race-tests: $(RACE_TESTS:%=$(B)/%)
crash-tests: $(CRASH_TESTS:%=$(B)/%)
fuzzers: $(FUZZERS:%=$(B)/%)

# Changes only when the flags do, so that other flags mean another build.
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(subst ','\'',$(COMPILER) $(ALL_CFLAGS))' | cmp -s - $@ || \
	    echo '$(subst ','\'',$(COMPILER) $(ALL_CFLAGS))' > $@

# Changes only when a file comes or goes, which the archives then do, too.
$(B)/sources: FORCE
	@mkdir -p $(@D)
	@echo '$(LIB_SOURCES) $(SUPPORT_SOURCES)' | cmp -s - $@ || \
	    echo '$(LIB_SOURCES) $(SUPPORT_SOURCES)' > $@

$(B)/%.o: %.c $(B)/flags
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(COMPILER) $(ALL_CFLAGS) $(STRICT) \
	    $(if $(filter tests/%,$<),-Itests) -MMD -MP -c -o $@ $<

$(B)/libs3blkdev.a: $(LIB_SOURCES:%.c=$(B)/%.o)
$(B)/libsupport.a: $(SUPPORT_SOURCES:%.c=$(B)/%.o)
$(B)/lib%.a: $(B)/sources
	$(call say,AR,$@)
	@mkdir -p $(@D)
	$(Q)rm -f $@ && $(AR) rcs $@ $(filter %.o,$^)

$(B)/s3blkdevd: $(patsubst %.c,$(B)/%.o,$(wildcard daemon_*.c))
$(B)/s3blkdev-sync: $(patsubst %.c,$(B)/%.o,$(wildcard sync_*.c))
$(B)/s3blkdevd $(B)/s3blkdev-sync: \
    $(patsubst %.c,$(B)/%.o,$(wildcard common*.c))
$(PROGRAMS:%=$(B)/%): $(B)/%: $(B)/%.o $(B)/libs3blkdev.a
	$(call say,LINK,$@)
	$(Q)$(COMPILER) $(ALL_CFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) \
	    $(ALL_LDFLAGS) $(LIBRARIES)

# A test with the line "/* links: fault_file */" gets that object of
# tests/support in front of the archives, so that it takes the place of
# lib/base/file.o; likewise memory_device that of lib/cache/device.o.  "common"
# stands for what the programs share.
links = $(shell sed -n 's|^/\* links: \(.*\) \*/$$|\1|p' $1.c)
linked = $(patsubst %,$(B)/tests/support/%.o,$(filter-out common,$(links))) \
    $(if $(filter common,$(links)), \
    $(patsubst %.c,$(B)/%.o,$(wildcard common*.c)))

define TEST_PROGRAM
$(B)/$1: $(B)/$1.o $(call linked,$1) $(B)/libsupport.a $(B)/libs3blkdev.a
endef
TEST_PROGRAMS := $(UNIT_TESTS) $(RACE_TESTS) $(CRASH_TESTS) $(FUZZERS) \
    $(BENCHES) $(VM_PROGRAMS)
$(foreach t,$(TEST_PROGRAMS),$(eval $(call TEST_PROGRAM,$t)))

$(TEST_PROGRAMS:%=$(B)/%):
	$(call say,LINK,$@)
	$(Q)$(COMPILER) $(ALL_CFLAGS) -o $@ $^ \
	    $(if $(findstring /fuzz_,$@),-fsanitize=fuzzer) \
	    $(ALL_LDFLAGS) $(LIBRARIES)

-include $(shell find $(B) -name '*.d' 2>/dev/null)

# ---- tests ------------------------------------------------------------------

.PHONY: check check-unit check-asan check-tsan check-crash check-system \
    check-gui check-long check-swift check-vm check-vm-long build-asan build-tsan build-release build-vm build-bench crash lint print-flags bench fuzz soak coverage ci

asan_programs = $(UNIT_TESTS:%=$(BUILD)/asan/%)
tsan_programs = $(RACE_TESTS:%=$(BUILD)/tsan/%)
crash_programs = $(CRASH_TESTS:%=$(BUILD)/asan/%)
sub = +$(Q)$(MAKE) --no-print-directory
RUN := tests/run

build-asan:
	$(sub) VARIANT=asan unit-tests crash-tests
build-tsan:
	$(sub) VARIANT=tsan race-tests
build-release:
	$(sub) VARIANT=release all
build-vm: build-release
	$(sub) VARIANT=release $(VM_PROGRAMS:%=$(BUILD)/release/%)
build-bench:
	$(sub) VARIANT=release all $(BENCHES:%=$(BUILD)/release/%)

check: build-asan build-tsan build-vm plots browser ## all tests: unit, races, crashes (short), system, virtual machine
	$(Q)CRASH_STATES=500 $(RUN) $(asan_programs) $(tsan_programs) \
	    $(crash_programs) $(GUI_TESTS) $(SYSTEM_TESTS) $(S3_STORIES) $(VM_TESTS)

check-unit: unit-tests ## unit tests in this VARIANT, nothing else
	$(Q)$(RUN) $(UNIT_TESTS:%=$(B)/%)

check-asan: build-asan ## unit and crash tests with address and undefined sanitizer
	$(Q)CRASH_STATES=500 $(RUN) $(asan_programs) $(crash_programs)

check-tsan: ## race and unit tests with thread sanitizer
	$(sub) VARIANT=tsan race-tests unit-tests
	$(Q)TEST_TIMEOUT=1200 $(RUN) $(tsan_programs) $(UNIT_TESTS:%=$(BUILD)/tsan/%)

check-gui: build-release plots browser ## the status page, also in a browser and with the real daemon
	$(Q)$(RUN) $(GUI_TESTS)

check-system: build-release ## the real programs with real NBD clients
	$(Q)$(RUN) $(SYSTEM_TESTS) $(S3_STORIES)

check-vm: build-vm ## a virtual machine with systemd and the kernel's NBD client
	$(Q)$(RUN) $(VM_TESTS)

check-vm-long: build-vm ## the same with xfs and more connections, and longer stories
	$(Q)$(RUN) $(VM_LONG_TESTS)

check-long: build-vm ## stories on S3 in all ways to reach it, and long outages
	$(Q)OUTAGE_SECONDS=180 TEST_TIMEOUT=1800 $(RUN) \
	    $(wildcard tests/system/8?_*.bats) $(foreach kind,$(S3_KINDS), \
	    $(S3_ALL_STORIES:%=%@$(kind))) $(VM_LONG_TESTS)

check-swift: build-release ## the same on OpenStack Swift, which it installs
	$(Q)bash -c '. scripts/packages.sh && packages_install $${packages_swift[@]}'
	$(Q)TEST_TIMEOUT=1800 $(RUN) $(S3_ALL_STORIES:%=%@swift-http-path-1)

crash: build-asan build-release ## crash tests in their long form: 10,000 states, 200 kills
	$(Q)CRASH_STATES=10000 KILLS=200 HOST_LOSS_MOMENTS=200 TEST_TIMEOUT=7200 $(RUN) \
	    $(crash_programs) $(wildcard tests/system/*_kill*.bats) \
	    $(wildcard tests/system/*_host_loss.bats)

# For lint: what the compiler is told, one for all files.
print-flags:
	@printf '%s\n' '$(subst ','\'',$(ALL_CFLAGS))'

lint: ## style and static analysis, see docs/STYLE.md
	$(Q)tests/lint/run

bench: build-bench ## speed beside nbdkit and qemu-nbd, into docs/BENCHMARKS.md
	$(Q)tests/bench/run

fuzz: ## each fuzzer for FUZZ_SECONDS (60); finds stay in build/fuzz
	$(sub) VARIANT=fuzz fuzzers
	$(Q)FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/run $(FUZZERS:%=$(BUILD)/fuzz/%)

soak: build-release ## everything at once for SOAK_MINUTES (60), into docs/SOAK.md
	$(Q)tests/soak/run --minutes $(SOAK_MINUTES)

coverage: ## lines that unit, race and crash tests reach, per file
	$(sub) VARIANT=coverage unit-tests race-tests crash-tests
	$(Q)find $(BUILD)/coverage -name '*.gcda' -delete
	$(Q)CRASH_STATES=500 $(RUN) $(UNIT_TESTS:%=$(BUILD)/coverage/%) \
	    $(RACE_TESTS:%=$(BUILD)/coverage/%) $(CRASH_TESTS:%=$(BUILD)/coverage/%)
	$(Q)tests/support/coverage $(BUILD)/coverage $(LIB_SOURCES)

ci: lint check ## what a change must pass

# ---- installation -----------------------------------------------------------

.PHONY: install uninstall plain-paths plots browser deb clean help

SHARE := $(PREFIX)/share/s3blkdev
DOC := $(PREFIX)/share/doc/s3blkdev

# What is installed, each file as "file:where:mode".
placed = $(foreach file,$(wildcard $1),$(file):$2/$(notdir $(file)):$3)
PROGRAM_FILES := $(foreach program,$(PROGRAMS), \
    $(BUILD)/release/$(program):$(PREFIX)/sbin/$(program):755)
GUI_FILES := $(shell find gui -type f ! -path '*/node_modules/*' \
    ! -name '*.conf*' ! -name '.*' ! -name '*~')
# What draws its plots, if "plots" could get it.
PLOT_FILES := $(addprefix gui/node_modules/uplot/,LICENSE dist/uPlot.esm.js \
    dist/uPlot.min.css)
INSTALLED := $(PROGRAM_FILES) \
    $(call placed,scripts/s3blkdev-export,$(PREFIX)/sbin,755) \
    $(call placed,docs/*.5,$(PREFIX)/share/man/man5,644) \
    $(call placed,docs/*.8,$(PREFIX)/share/man/man8,644) \
    $(call placed,s3blkdev.conf.dist gui/s3blkdev-gui.conf.dist,$(SYSCONFDIR),644) \
    $(call placed,systemd/*.service systemd/*.socket systemd/*.timer,$(UNITDIR),644) \
    systemd/s3blkdev.sysusers:$(SYSUSERSDIR)/s3blkdev.conf:644 \
    systemd/s3blkdev.tmpfiles:$(TMPFILESDIR)/s3blkdev.conf:644 \
    $(call placed,scripts/completion/*,$(COMPLETIONDIR),644) \
    $(call placed,systemd/*.conf scripts/*.cron,$(SHARE),644) \
    $(call placed,$(addprefix scripts/,init.sh start.sh stop.sh),$(SHARE),755) \
    $(call placed,scripts/settings.sh scripts/filesystem.sh,$(SHARE),644) \
    $(call placed,README.md LICENSE $(filter-out docs/STYLE.md, \
        $(wildcard docs/*.md)),$(DOC),644) \
    $(foreach file,$(GUI_FILES), \
        $(file):$(SHARE)/$(file):$(if $(filter %/server.mjs,$(file)),755,644)) \
    $(foreach file,$(PLOT_FILES),$(file):$(SHARE)/$(file):644)

# The paths of this installation, in place of those of the default one.
LOCATE := s|@PREFIX@|$(PREFIX)|g; s|@SYSCONFDIR@|$(SYSCONFDIR)|g; \
    s|/usr/local/etc/s3blkdev|$(SYSCONFDIR)/s3blkdev|g; \
    s|/usr/local/share/s3blkdev|$(SHARE)|g

quoted = '$(subst ','\'',$1)'
DESTINATION = $(call quoted,$(DESTDIR))

# A path becomes part of units and scripts, where a blank would need quotes.
plain-paths:
	@for path in $(foreach name,PREFIX SYSCONFDIR UNITDIR SYSUSERSDIR \
	    TMPFILESDIR COMPLETIONDIR,$(call quoted,$($(name)))); do \
	    case $$path in \
	    *[!A-Za-z0-9/._+-]* | [!/]* | "") \
	        echo "\"$$path\": choose an absolute path of letters, digits" \
	            "and / . _ + -" >&2; \
	        exit 2 ;; \
	    esac; \
	done

plots: ## get what draws the page's plots, by npm
	$(Q)scripts/plots

browser: ## get what drives the browser in the page's tests, by npm
	$(Q)tests/gui/driver

# What is there already as it should be is not touched.
install: plain-paths build-release plots ## install all of it; s3blkdev.conf is left alone
	$(Q)umask 022; set -e; mkdir -p $(BUILD)/install; \
	for entry in $(INSTALLED); do \
	    file=$${entry%%:*} mode=$${entry##*:}; \
	    target=$${entry#*:}; target=$(DESTINATION)$${target%:*}; \
	    case $$file in \
	    gui/node_modules/*) [ -e "$$file" ] || continue ;; \
	    esac; \
	    from=$$file; \
	    if [ "$$mode" = 644 ]; then \
	        from=$(BUILD)/install/file; \
	        LC_ALL=C sed '$(LOCATE)' "$$file" > "$$from"; \
	    fi; \
	    mkdir -p "$${target%/*}"; \
	    install -C -m "$$mode" "$$from" "$$target"; \
	done; \
	rm -r $(BUILD)/install
	$(call say,INSTALL,$(subst ','\'',$(DESTDIR))$(PREFIX))
	$(Q)$(if $(DESTDIR),:,echo 'Now, as root: systemd-sysusers &&' \
	    'systemd-tmpfiles --create && systemctl daemon-reload')
	$(Q)$(SAY_WITHOUT_PLOTS)

SAY_WITHOUT_PLOTS := [ -e $(lastword $(PLOT_FILES)) ] || \
    echo 'WARNING: this is without the plots of the status page, see above.' >&2

# Units that are enabled would leave links to nothing, and run on.
uninstall: plain-paths ## remove what install put there; s3blkdev.conf and data stay
	$(Q)for link in $(DESTINATION)/etc/systemd/system/*.wants/s3blkdev*; do \
	    case $$(readlink "$$link") in \
	    $(UNITDIR)/*) set -- "$$@" "$${link##*/}" ;; \
	    esac; \
	done; \
	[ $$# = 0 ] || { \
	    echo "first run: systemctl disable --now $$*" >&2; exit 1; \
	}
	$(Q)for entry in $(INSTALLED); do \
	    target=$${entry#*:}; rm -f $(DESTINATION)"$${target%:*}" || exit; \
	done
	$(Q)for dir in $(DESTINATION)'$(SHARE)' $(DESTINATION)'$(DOC)'; do \
	    [ ! -d "$$dir" ] || find "$$dir" -depth -type d -empty -delete; \
	done

# In a copy of the tree, which debhelper may litter.
DEB := $(BUILD)/deb/s3blkdev
deb: plots ## a Debian package, in build/deb
	$(Q)mkdir -p $(DEB)
	$(Q)find $(DEB) -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
	$(Q)rm -f $(BUILD)/deb/s3blkdev*_*
	$(Q)tar -c --exclude-vcs --exclude=./build --exclude='./$(BUILD)' \
	    --exclude=./quickstart.d \
	    --exclude='*.o' . | tar -x -C $(DEB)
	$(Q)cd $(DEB) && env -u MAKEFLAGS -u MAKELEVEL -u BUILD -u VARIANT \
	    -u CC -u CFLAGS dpkg-buildpackage --build=binary --no-sign \
	    --no-pre-clean --jobs=auto
	$(Q)ls $(BUILD)/deb/*.deb
	$(Q)$(SAY_WITHOUT_PLOTS)

clean: ## remove everything that was built
	rm -rf build
	rm -f $(PROGRAMS)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' \
	    Makefile
	@echo 'Variables are explained at the top of the Makefile.'
