// SPDX-License-Identifier: GPL-2.0
/*
 * Inline functions of x86 that Rust can't call. The prototypes stand beside the
 * Rust wrappers.
 */
#include <linux/types.h>
#include <asm/fpu/api.h>
#include <asm/fpu/types.h>
#include <asm/msr.h>
#include <asm/nospec-branch.h>
#include <asm/processor.h>
#include <linux/clocksource.h>
#include <linux/irq_work.h>
#include <linux/thread_info.h>
#include <linux/timekeeper_internal.h>

/* mod.rs */

bool kvm_helper_wakes_from_mwait(void);
bool kvm_helper_wakes_from_mwait(void)
{
	return boot_cpu_has(X86_FEATURE_MWAIT) && boot_cpu_has(X86_FEATURE_ARAT) &&
	       !boot_cpu_has_bug(X86_BUG_MONITOR);
}

/* fpregs.rs */

void kvm_helper_fpregs_lock(void);
void kvm_helper_fpregs_lock(void)
{
	fpregs_lock();
	fpregs_assert_state_consistent();
	if (test_thread_flag(TIF_NEED_FPU_LOAD))
		switch_fpu_return();
}

void kvm_helper_fpregs_unlock(void);
void kvm_helper_fpregs_unlock(void)
{
	fpregs_unlock();
}

/* fpu.rs */

void *kvm_helper_fpu_area(struct fpu_guest *fpu);
void *kvm_helper_fpu_area(struct fpu_guest *fpu)
{
	return &fpu->fpstate->regs;
}

u64 kvm_helper_fpu_xfd(const struct fpu_guest *fpu);
u64 kvm_helper_fpu_xfd(const struct fpu_guest *fpu)
{
	return fpu->fpstate->xfd;
}

/* tsc.rs */

bool kvm_helper_timekeeper_uses_tsc(const struct timekeeper *keeper);
bool kvm_helper_timekeeper_uses_tsc(const struct timekeeper *keeper)
{
	enum vdso_clock_mode mode = keeper->tkr_mono.clock->vdso_clock_mode;

	return mode == VDSO_CLOCKMODE_TSC || mode == VDSO_CLOCKMODE_HVCLOCK;
}

void kvm_helper_irq_work_init(struct irq_work *work, void (*function)(struct irq_work *));
void kvm_helper_irq_work_init(struct irq_work *work, void (*function)(struct irq_work *))
{
	init_irq_work(work, function);
}

/* msr.rs */

int kvm_helper_wrmsr_safe(unsigned int msr, u64 value);
int kvm_helper_wrmsr_safe(unsigned int msr, u64 value)
{
	return wrmsrq_safe(msr, value);
}

/* spec_ctrl.rs */

void kvm_helper_vcpu_ibpb(void);
void kvm_helper_vcpu_ibpb(void)
{
	if (static_branch_likely(&switch_vcpu_ibpb))
		indirect_branch_prediction_barrier();
}

void kvm_helper_ibpb(void);
void kvm_helper_ibpb(void)
{
	indirect_branch_prediction_barrier();
}

void kvm_helper_guest_ran(void);
void kvm_helper_guest_ran(void)
{
	if (cpu_feature_enabled(X86_FEATURE_IBPB_EXIT_TO_USER))
		this_cpu_write(x86_ibpb_exit_to_user, true);
}

void kvm_helper_clear_divider(void);
noinstr void kvm_helper_clear_divider(void)
{
	amd_clear_divider();
}
