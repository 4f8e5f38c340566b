// SPDX-License-Identifier: GPL-2.0
/*
 * Macros and inline functions of the kernel that Rust can't call. Nothing else
 * belongs here; the prototypes stand beside the Rust wrappers.
 */
#include <linux/sched/signal.h>
#include <linux/compat.h>
#include <linux/cpumask.h>
#include <linux/dcache.h>
#include <linux/mem_encrypt.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/rcuwait.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/types.h>
#include <linux/uaccess.h>
#include <trace/events/ipi.h>

bool kvm_helper_is_compat(void);
bool kvm_helper_is_compat(void)
{
	return in_compat_syscall();
}

bool kvm_helper_access_ok(u64 address, u64 size);
bool kvm_helper_access_ok(u64 address, u64 size)
{
	return access_ok((void __user *)address, size);
}

void kvm_helper_get_page(struct page *page);
void kvm_helper_get_page(struct page *page)
{
	get_page(page);
}

void *kvm_helper_page_address(struct page *page);
void *kvm_helper_page_address(struct page *page)
{
	return page_address(page);
}

int kvm_helper_mutex_lock_killable(struct mutex *mutex);
int kvm_helper_mutex_lock_killable(struct mutex *mutex)
{
	return mutex_lock_killable(mutex);
}

void kvm_helper_mutex_unlock(struct mutex *mutex);
void kvm_helper_mutex_unlock(struct mutex *mutex)
{
	mutex_unlock(mutex);
}

void kvm_helper_rcuwait_prepare(struct rcuwait *wait);
void kvm_helper_rcuwait_prepare(struct rcuwait *wait)
{
	prepare_to_rcuwait(wait);
}

void kvm_helper_rcuwait_finish(struct rcuwait *wait);
void kvm_helper_rcuwait_finish(struct rcuwait *wait)
{
	finish_rcuwait(wait);
}

void kvm_helper_set_interruptible(void);
void kvm_helper_set_interruptible(void)
{
	set_current_state(TASK_INTERRUPTIBLE);
}

/* Gets a vCPU out of its guest: any interrupt does. */
void kvm_helper_interrupt_cpu(int cpu);
void kvm_helper_interrupt_cpu(int cpu)
{
#ifdef CONFIG_X86
	smp_send_reschedule(cpu);
#endif
}

static void acknowledge(void *info)
{
}

void kvm_helper_interrupt_cpus(const struct cpumask *cpus);
void kvm_helper_interrupt_cpus(const struct cpumask *cpus)
{
	preempt_disable();
	smp_call_function_many(cpus, acknowledge, NULL, true);
	preempt_enable();
}

static DEFINE_MUTEX(globals);

void kvm_helper_lock_globals(void);
void kvm_helper_lock_globals(void)
{
	mutex_lock(&globals);
}

void kvm_helper_unlock_globals(void);
void kvm_helper_unlock_globals(void)
{
	mutex_unlock(&globals);
}

static DEFINE_MUTEX(looks);

void kvm_helper_lock_looks(void);
void kvm_helper_lock_looks(void)
{
	mutex_lock(&looks);
}

void kvm_helper_unlock_looks(void);
void kvm_helper_unlock_looks(void)
{
	mutex_unlock(&looks);
}

int kvm_helper_dentry_count(const struct dentry *dentry);
int kvm_helper_dentry_count(const struct dentry *dentry)
{
	return d_count(dentry);
}

void kvm_helper_synchronize_rcu_tasks(void);
void kvm_helper_synchronize_rcu_tasks(void)
{
	synchronize_rcu_tasks();
}

unsigned int kvm_helper_num_online_cpus(void);
unsigned int kvm_helper_num_online_cpus(void)
{
	return num_online_cpus();
}

/* Runs on every online CPU with interrupts off, and waits. */
void kvm_helper_on_each_cpu(void (*function)(void *info));
void kvm_helper_on_each_cpu(void (*function)(void *info))
{
	on_each_cpu(function, NULL, 1);
}

void *kvm_helper_alloc_pages(size_t size);
void *kvm_helper_alloc_pages(size_t size)
{
	return alloc_pages_exact(size, GFP_KERNEL_ACCOUNT | __GFP_ZERO);
}

/* What the processor is told: with memory encryption, the bit that asks for it. */
u64 kvm_helper_physical(const void *address);
u64 kvm_helper_physical(const void *address)
{
#ifdef CONFIG_X86
	return __sme_pa(address);
#else
	return __pa(address);
#endif
}

#ifdef CONFIG_X86
#include <linux/sched.h>
#include <asm/cpufeature.h>

u64 kvm_helper_run_delay(void);
u64 kvm_helper_run_delay(void)
{
#ifdef CONFIG_SCHED_INFO
	return current->sched_info.run_delay;
#else
	return 0;
#endif
}
#include <asm/msr.h>

unsigned int kvm_helper_physical_bits(void);
unsigned int kvm_helper_physical_bits(void)
{
	return boot_cpu_data.x86_phys_bits;
}

bool kvm_helper_boot_cpu_has(unsigned int feature);
bool kvm_helper_boot_cpu_has(unsigned int feature)
{
	return boot_cpu_has(feature);
}

unsigned int kvm_helper_capability(unsigned int word);
unsigned int kvm_helper_capability(unsigned int word)
{
	return word < NCAPINTS ? boot_cpu_data.x86_capability[word] : 0;
}

int kvm_helper_rdmsr_safe(unsigned int msr, u64 *value);
int kvm_helper_rdmsr_safe(unsigned int msr, u64 *value)
{
	return rdmsrq_safe(msr, value);
}
#endif

/*
 * The signals that the current task blocks, changed for a while. What it blocked
 * before is kept where the kernel looks for it when a signal is waited for.
 */
void kvm_helper_block_signals(u64 signals);
void kvm_helper_block_signals(u64 signals)
{
	sigset_t set;

	BUILD_BUG_ON(sizeof(set) != sizeof(signals));
	memcpy(&set, &signals, sizeof(set));
	sigdelsetmask(&set, sigmask(SIGKILL) | sigmask(SIGSTOP));
	sigprocmask(SIG_SETMASK, &set, &current->real_blocked);
}

void kvm_helper_unblock_signals(void);
void kvm_helper_unblock_signals(void)
{
	sigprocmask(SIG_SETMASK, &current->real_blocked, NULL);
	sigemptyset(&current->real_blocked);
}
