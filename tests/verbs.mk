# SPDX-License-Identifier: GPL-2.0
#
# The commands that work on the emulated machines, included by the top-level
# Makefile. Each hands over to tests/setup/enter.sh, which prepares what is
# missing, and to the harness (tests/harness), which does the rest.
#
# The variables reach the harness through the environment, unexpanded: a CMD may
# hold quotes and dollar signs of any kind. make itself ends with 2 whenever the
# harness fails; the exact exit status is in make's message, and what
# `tests/setup/enter.sh exec …` ends with.

verb-variables := M CMD FILES MODULES KERNEL ICOUNT SMP MEM TIMEOUT KARGS T B F S SEED SEEDS THREADS
verbs := run shell exec test test-long kselftest bench profile fuzz check doc stats prepare clean distclean
.PHONY: $(verbs)

$(foreach name,$(verb-variables),$(if $(filter undefined,$(origin $(name))),,\
	$(eval $(verbs): export KVM_$(name) = $$(value $(name)))))
unexport $(verb-variables)

enter := @tests/setup/enter.sh

## Boot a machine, load the modules, run the main job [M=amd|intel|z]
run:
	$(enter) run
## An interactive root shell inside a machine
shell:
	$(enter) shell
## Run CMD='…' inside a machine [FILES= MODULES= KERNEL= ICOUNT=1 SMP= MEM= TIMEOUT= KARGS=]
exec:
	$(enter) exec
## All tests, or those whose name contains T= (T=list lists)
test:
	$(enter) test
## The slow tests and those on the debug kernel as well
test-long:
	$(enter) test --long
## The kernel's own tests of KVM [T= MODULES=rust|c|both] (T=list lists)
kselftest:
	$(enter) kselftest
## What exits, faults and VMs cost, ours and the kernel's [M=amd|intel B=name MODULES=rust|c|both]
bench:
	$(enter) bench
## Functions that the instructions of an exit are executed in, on amd [B=exit/cpuid MODULES=rust|c]
profile:
	$(enter) profile
## Random input for F=ioctl|emulate, S= seconds [SEED= SEEDS= THREADS= KERNEL=debug MODULES=]
fuzz:
	$(enter) fuzz
## Formatting, lints, layering, documentation
check:
	$(enter) check
## Build the documentation
doc:
	$(enter) doc
## Lines of each vendor beside those that are common
stats:
	$(enter) stats
## Make everything the machines need ahead of time [ONLY=step,step]
prepare:
	$(enter) prepare $(if $(ONLY),--only '$(ONLY)')
## Remove what was built; distclean also removes kernels and toolchains
clean:
	$(enter) clean
distclean:
	$(enter) clean --all
