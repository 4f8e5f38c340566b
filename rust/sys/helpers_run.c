// SPDX-License-Identifier: GPL-2.0
/*
 * Inline functions around preemption, interrupts, per-CPU data and the way into
 * a guest. The prototypes stand beside the Rust wrappers: preempt.rs, irq.rs,
 * percpu.rs, guest_mode.rs.
 */
#include <linux/cpumask.h>
#include <linux/entry-virt.h>
#include <linux/irqflags.h>
#include <linux/kvm_host.h>
#include <linux/percpu.h>
#include <linux/pid.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/stat.h>
#include <linux/sched/task.h>
#include <linux/smp.h>

/* preempt.rs */

void kvm_helper_preempt_disable(void);
void kvm_helper_preempt_disable(void)
{
	preempt_disable();
}

void kvm_helper_preempt_enable(void);
void kvm_helper_preempt_enable(void)
{
	preempt_enable();
}

bool kvm_helper_current_is_runnable(void);
bool kvm_helper_current_is_runnable(void)
{
	return task_is_runnable(current);
}

/* irq.rs */

bool kvm_helper_irq_disable_and_test(void);
bool kvm_helper_irq_disable_and_test(void)
{
	unsigned long flags;

	local_irq_save(flags);
	return !raw_irqs_disabled_flags(flags);
}

void kvm_helper_irq_enable(void);
void kvm_helper_irq_enable(void)
{
	local_irq_enable();
}

void kvm_helper_irq_window(void);
void kvm_helper_irq_window(void)
{
	local_irq_enable();
	/* sti holds interrupts back for one instruction. */
	cpu_relax();
	local_irq_disable();
}

/* percpu.rs */

void __percpu *kvm_helper_percpu_alloc(size_t size, size_t align);
void __percpu *kvm_helper_percpu_alloc(size_t size, size_t align)
{
	return __alloc_percpu(size, align);
}

void kvm_helper_percpu_free(void __percpu *base);
void kvm_helper_percpu_free(void __percpu *base)
{
	free_percpu(base);
}

void *kvm_helper_percpu_of(void __percpu *base, unsigned int cpu);
void *kvm_helper_percpu_of(void __percpu *base, unsigned int cpu)
{
	return per_cpu_ptr(base, cpu);
}

void *kvm_helper_percpu_this(void __percpu *base);
void *kvm_helper_percpu_this(void __percpu *base)
{
	return raw_cpu_ptr(base);
}

bool kvm_helper_cpu_possible(unsigned int cpu);
bool kvm_helper_cpu_possible(unsigned int cpu)
{
	return cpu < nr_cpu_ids && cpu_possible(cpu);
}

/* Runs on every online CPU with interrupts off, and waits. */
void kvm_helper_on_each_cpu_with(void (*function)(void *info), void *info);
void kvm_helper_on_each_cpu_with(void (*function)(void *info), void *info)
{
	on_each_cpu(function, info, 1);
}

/* guest_mode.rs */

int kvm_helper_guest_handle_work(void);
int kvm_helper_guest_handle_work(void)
{
	return xfer_to_guest_mode_handle_work();
}

bool kvm_helper_guest_work_pending(void);
bool kvm_helper_guest_work_pending(void)
{
	return __xfer_to_guest_mode_work_pending();
}

void kvm_helper_guest_prepare(void);
void kvm_helper_guest_prepare(void)
{
	xfer_to_guest_mode_prepare();
}

void kvm_helper_guest_timing_enter(void);
void kvm_helper_guest_timing_enter(void)
{
	guest_timing_enter_irqoff();
}

void kvm_helper_guest_timing_exit(void);
void kvm_helper_guest_timing_exit(void)
{
	guest_timing_exit_irqoff();
}

/*
 * guest_state_enter_irqoff() and guest_state_exit_irqoff() without what they tell
 * RCU. Between these two nothing may be traced.
 */

void kvm_helper_guest_state_enter(void);
noinstr void kvm_helper_guest_state_enter(void)
{
	instrumentation_begin();
	trace_hardirqs_on_prepare();
	lockdep_hardirqs_on_prepare();
	instrumentation_end();

	context_tracking_guest_enter();
	lockdep_hardirqs_on(CALLER_ADDR0);
}

void kvm_helper_guest_state_exit(void);
noinstr void kvm_helper_guest_state_exit(void)
{
	lockdep_hardirqs_off(CALLER_ADDR0);
	context_tracking_guest_exit();

	instrumentation_begin();
	trace_hardirqs_off_finish();
	instrumentation_end();
}

void kvm_helper_guest_note_quiescence(void);
void kvm_helper_guest_note_quiescence(void)
{
	rcu_virt_note_context_switch();
}

/* runner.rs */

struct pid *kvm_helper_current_pid(void);
struct pid *kvm_helper_current_pid(void)
{
	return task_pid(current);
}

struct pid *kvm_helper_get_current_pid(void);
struct pid *kvm_helper_get_current_pid(void)
{
	return get_task_pid(current, PIDTYPE_PID);
}

void kvm_helper_put_pid(struct pid *pid);
void kvm_helper_put_pid(struct pid *pid)
{
	put_pid(pid);
}

u32 kvm_helper_pid_number(struct pid **slot);
u32 kvm_helper_pid_number(struct pid **slot)
{
	u32 number;

	rcu_read_lock();
	number = pid_nr(READ_ONCE(*slot));
	rcu_read_unlock();
	return number;
}

int kvm_helper_yield_to(struct pid **slot);
int kvm_helper_yield_to(struct pid **slot)
{
	struct task_struct *task = NULL;
	struct pid *pid;
	int yielded;

	rcu_read_lock();
	pid = READ_ONCE(*slot);
	if (pid)
		task = get_pid_task(pid, PIDTYPE_PID);
	rcu_read_unlock();
	if (!task)
		return 0;
	yielded = yield_to(task, true);
	put_task_struct(task);
	return yielded;
}
