// SPDX-License-Identifier: GPL-2.0
/*
 * Inline functions of x86 that Rust can't call. The prototypes stand beside the
 * Rust wrappers.
 */
#include <linux/entry-common.h>
#include <linux/sched.h>
#include <linux/types.h>
#include <asm/cpu_entry_area.h>
#include <asm/desc.h>
#include <asm/fpu/api.h>
#include <asm/fpu/types.h>
#include <asm/fsgsbase.h>
#include <asm/hardirq.h>
#include <asm/mce.h>
#include <asm/mmu_context.h>
#include <asm/msr.h>
#include <asm/nospec-branch.h>
#include <asm/processor.h>
#include <asm/segment.h>
#include <asm/vmx.h>
#include <linux/clocksource.h>
#include <linux/irq_work.h>
#include <linux/jump_label.h>
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

bool kvm_helper_ibpb_clears_returns(void);
bool kvm_helper_ibpb_clears_returns(void)
{
	return boot_cpu_has(X86_FEATURE_SPEC_CTRL) && !boot_cpu_has_bug(X86_BUG_EIBRS_PBRSB);
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

/* l1d.rs */

/* Rust looks at the key by its place in a structure. */
struct l1d_flushes {
	struct static_key_false key;
};

extern struct l1d_flushes kvm_helper_l1d_flushes;
struct l1d_flushes kvm_helper_l1d_flushes = { .key = STATIC_KEY_FALSE_INIT };

bool kvm_helper_has_l1tf(void);
bool kvm_helper_has_l1tf(void)
{
	return boot_cpu_has_bug(X86_BUG_L1TF);
}

/* 0: nothing, 1: some entries flush, 2: all, 3: all, whatever others say. */
unsigned int kvm_helper_l1tf_wanted(void);
unsigned int kvm_helper_l1tf_wanted(void)
{
	switch (l1tf_mitigation) {
	case L1TF_MITIGATION_OFF:
		return 0;
	case L1TF_MITIGATION_FULL:
		return 2;
	case L1TF_MITIGATION_FULL_FORCE:
		return 3;
	default:
		return 1;
	}
}

unsigned int kvm_helper_l1tf_now(void);
unsigned int kvm_helper_l1tf_now(void)
{
	return READ_ONCE(l1tf_vmx_mitigation);
}

void kvm_helper_l1tf_set(unsigned int flush, bool flushes);
void kvm_helper_l1tf_set(unsigned int flush, bool flushes)
{
	WRITE_ONCE(l1tf_vmx_mitigation, flush);
	if (flushes)
		static_branch_enable(&kvm_helper_l1d_flushes.key);
	else
		static_branch_disable(&kvm_helper_l1d_flushes.key);
}

/* The kernel has the flag if the kernel has KVM for Intel's processors. */
void kvm_helper_l1d_filled(void);
void kvm_helper_l1d_filled(void)
{
#if IS_ENABLED(CONFIG_CPU_MITIGATIONS) && IS_ENABLED(CONFIG_KVM_INTEL)
	raw_cpu_write(irq_stat.kvm_cpu_l1tf_flush_l1d, 1);
#endif
}

bool kvm_helper_l1d_take_filled(void);
bool kvm_helper_l1d_take_filled(void)
{
#if IS_ENABLED(CONFIG_CPU_MITIGATIONS) && IS_ENABLED(CONFIG_KVM_INTEL)
	bool filled = kvm_get_cpu_l1tf_flush_l1d();

	kvm_clear_cpu_l1tf_flush_l1d();
	return filled;
#else
	return true;
#endif
}

/* guest_exit.rs */

void kvm_helper_take_interrupt(unsigned int vector);
void kvm_helper_take_interrupt(unsigned int vector)
{
	x86_entry_from_kvm(EVENT_TYPE_EXTINT, vector);
}

void kvm_helper_take_nmi(void);
noinstr void kvm_helper_take_nmi(void)
{
	x86_entry_from_kvm(EVENT_TYPE_NMI, NMI_VECTOR);
}

void kvm_helper_take_machine_check(void);
void kvm_helper_take_machine_check(void)
{
#ifdef CONFIG_X86_MCE
	/* As if user mode had been interrupted: it wasn't the kernel's doing. */
	struct pt_regs regs = { .cs = __USER_CS, .flags = X86_EFLAGS_IF };

	do_machine_check(&regs);
#endif
}

/* host_state.rs */

u64 kvm_helper_tss_base(unsigned int cpu);
u64 kvm_helper_tss_base(unsigned int cpu)
{
	return (unsigned long)&get_cpu_entry_area(cpu)->tss.x86_tss;
}

u64 kvm_helper_gdt_base(unsigned int cpu);
u64 kvm_helper_gdt_base(unsigned int cpu)
{
	return (unsigned long)get_cpu_gdt_ro(cpu);
}

u64 kvm_helper_gs_base(unsigned int cpu);
u64 kvm_helper_gs_base(unsigned int cpu)
{
	return cpu_kernelmode_gs_base(cpu);
}

/* user_segments.rs; the structure is there as well. */

struct user_segments {
	u16 ds, es, fs, gs, ldt;
	u64 fs_base, kernel_gs_base;
};

void kvm_helper_save_user_segments(struct user_segments *s);
void kvm_helper_save_user_segments(struct user_segments *s)
{
	asm volatile("sldt %0" : "=m" (s->ldt));
	savesegment(ds, s->ds);
	savesegment(es, s->es);
	if (is_64bit_mm(current->mm)) {
		current_save_fsgs();
		s->fs = current->thread.fsindex;
		s->gs = current->thread.gsindex;
		s->fs_base = current->thread.fsbase;
		s->kernel_gs_base = current->thread.gsbase;
	} else {
		savesegment(fs, s->fs);
		savesegment(gs, s->gs);
		rdmsrq(MSR_FS_BASE, s->fs_base);
		rdmsrq(MSR_KERNEL_GS_BASE, s->kernel_gs_base);
	}
}

/*
 * After exits that left null selectors, and the widest limits in GDTR and TR.
 * Interrupts are off.
 */
void kvm_helper_restore_user_segments(const struct user_segments *s);
void kvm_helper_restore_user_segments(const struct user_segments *s)
{
	if (s->ldt || s->gs & 7) {
		asm volatile("lldt %0" : : "m" (s->ldt));
		load_gs_index(s->gs);
	}
	if (s->fs & 7)
		loadsegment(fs, s->fs);
	if (s->ds | s->es) {
		loadsegment(ds, s->ds);
		loadsegment(es, s->es);
	}
	wrmsrq(MSR_KERNEL_GS_BASE, s->kernel_gs_base);
	invalidate_tss_limit();
	load_fixmap_gdt(raw_smp_processor_id());
}
