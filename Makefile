# SPDX-License-Identifier: GPL-2.0
#
# Two halves: the modules for this host or for KDIR (here), and everything that
# runs on the emulated machines (tests/verbs.mk).

# Kbuild reads this file too when it finds no output directory of its own.
ifneq ($(KERNELRELEASE),)
include $(src)/Kbuild
else

KDIR ?= /lib/modules/$(shell uname -r)/build
# Where objects and modules go; the source tree stays clean.
OUT  ?= $(CURDIR)/build

kbuild = $(MAKE) -C $(KDIR) M=$(CURDIR) MO=$(OUT)

.DEFAULT_GOAL := modules
.PHONY: modules install load unload modules-clean help

## Modules for the running kernel, or for the tree in KDIR=
modules: check-kdir
	@mkdir -p $(OUT)
	+$(kbuild) modules

## Install them for that kernel (root) [INSTALL_MOD_PATH=]
install: modules
	+$(kbuild) modules_install
	depmod $(if $(INSTALL_MOD_PATH),-b $(INSTALL_MOD_PATH)) $$(cat $(KDIR)/include/config/kernel.release)

vendor-module = $(shell \
	if grep -qw svm /proc/cpuinfo; then echo kvm-amd; \
	elif grep -qw vmx /proc/cpuinfo; then echo kvm-intel; \
	elif grep -qw sie /proc/cpuinfo; then echo kvm-s390; fi)

## Load the modules that were built here, in place of the kernel's own (root)
load: modules
	@test -n "$(vendor-module)" || { \
	  echo "load: this processor has neither SVM, VMX nor SIE, or firmware turned it off" >&2; exit 1; }
	@built=$$(modinfo -F vermagic $(OUT)/kvm.ko | cut -d ' ' -f 1); test "$$built" = "$$(uname -r)" || { \
	  echo "load: the modules are for kernel $$built, this host runs $$(uname -r)" >&2; exit 1; }
	@$(MAKE) -s --no-print-directory unload
	@for m in $$(modinfo -F depends $(OUT)/kvm.ko $(OUT)/$(vendor-module).ko | tr , ' '); do \
	  [ $$m = kvm ] || modprobe $$m || exit 1; done
	insmod $(OUT)/kvm.ko
	insmod $(OUT)/$(vendor-module).ko || { rmmod kvm; exit 1; }

## Unload them (root)
unload:
	@for m in kvm_amd kvm_intel kvm_s390 kvm; do \
	  if [ -d /sys/module/$$m ]; then rmmod $$m || exit 1; fi; done

## Remove what `make` built
modules-clean:
	rm -rf $(OUT)

check-kdir:
	@test -e $(KDIR)/Makefile || { \
	  echo "modules: no kernel build tree at $(KDIR); install the kernel's headers or set KDIR=" >&2; exit 1; }
	@test -e $(KDIR)/rust/libkernel.rmeta || { \
	  echo "modules: $(KDIR) has no Rust metadata (rust/libkernel.rmeta)." >&2; \
	  echo "It needs CONFIG_RUST=y and 'make prepare modules_prepare' with this rustc; Debian's header" >&2; \
	  echo "packages lack it: see README.md, 'On a real host'." >&2; exit 1; }
.PHONY: check-kdir

include tests/verbs.mk

## This list
help:
	@awk '/^## / { text = substr($$0, 4); next } \
	  /^[a-z-]+:/ && text { sub(/:.*/, ""); printf "  make %-14s %s\n", $$0, text } { text = "" }' $(MAKEFILE_LIST)
endif
