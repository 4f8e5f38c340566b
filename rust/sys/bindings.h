/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Headers that the kernel's `bindings` crate lacks. What is taken from them is
 * listed in bindgen_parameters; types that both know come from `bindings`.
 */
#include <linux/anon_inodes.h>

#ifndef CONFIG_X86
/*
 * Capability numbers are the same on every architecture, but the header hides
 * some where they are always 0. These words do nothing else.
 */
#define __KVM_HAVE_DEBUGREGS
#define __KVM_HAVE_MCE
#define __KVM_HAVE_PIT_STATE2
#define __KVM_HAVE_VCPU_EVENTS
#define __KVM_HAVE_XCRS
#define __KVM_HAVE_XEN_HVM
#define __KVM_HAVE_XSAVE
#endif
#include <linux/kvm.h>
#ifdef CONFIG_S390
/* These two come together with structures that only x86 has. */
#define KVM_CAP_REINJECT_CONTROL 24
#define KVM_CAP_PIT2 33
#endif
#include <linux/mempolicy.h>
#include <linux/miscdevice.h>
#include <linux/mmu_notifier.h>
#include <linux/pseudo_fs.h>
#include <linux/rcuwait.h>
#include <linux/sched/stat.h>
#include <linux/preempt.h>
#include <linux/syscore_ops.h>

#ifdef CONFIG_X86
#include <asm/cpufeatures.h>
#include <asm/extable_fixup_types.h>
#include <asm/fpu/api.h>
#include <asm/spec-ctrl.h>
#include <asm/tsc.h>
#include <asm/debugreg.h>
#include <linux/irq_work.h>
#include <linux/notifier.h>
#include <linux/pvclock_gtod.h>
#include <linux/timekeeping.h>
#include <linux/entry-virt.h>
#include <linux/thread_info.h>
#include <linux/user-return-notifier.h>
#include <asm/virt.h>
#include <asm/segment.h>
#include <asm/mmu_context.h>
#endif
#ifdef CONFIG_S390
#include <asm/sclp.h>
#endif

#ifdef CONFIG_X86
static const unsigned long GUEST_MODE_WORK = XFER_TO_GUEST_MODE_WORK;
static const unsigned long KVM_KERNEL_CS = __KERNEL_CS;
static const unsigned long KVM_KERNEL_DS = __KERNEL_DS;
static const unsigned long KVM_KERNEL_TR = GDT_ENTRY_TSS * 8;
#endif

/*
 * bindgen does not evaluate function-like macros: give each ioctl's value to a
 * constant. The lists are those of uapi/ioctl; a name that is missing here
 * fails the build of rust/sys/abi_check.rs.
 */
#define ABI(name) static const unsigned int ABI_##name = name

static const unsigned int ABI_FMODE_PREAD = (__force unsigned int)FMODE_PREAD;

ABI(KVM_GET_API_VERSION);
ABI(KVM_CREATE_VM);
ABI(KVM_CHECK_EXTENSION);
ABI(KVM_GET_VCPU_MMAP_SIZE);
ABI(KVM_CREATE_VCPU);
ABI(KVM_GET_DIRTY_LOG);
ABI(KVM_SET_USER_MEMORY_REGION);
ABI(KVM_SET_USER_MEMORY_REGION2);
ABI(KVM_CREATE_IRQCHIP);
ABI(KVM_SET_GSI_ROUTING);
ABI(KVM_IRQFD);
ABI(KVM_IOEVENTFD);
ABI(KVM_CLEAR_DIRTY_LOG);
ABI(KVM_RESET_DIRTY_RINGS);
ABI(KVM_GET_STATS_FD);
ABI(KVM_CREATE_DEVICE);
ABI(KVM_SET_DEVICE_ATTR);
ABI(KVM_GET_DEVICE_ATTR);
ABI(KVM_HAS_DEVICE_ATTR);
ABI(KVM_RUN);
ABI(KVM_TRANSLATE);
ABI(KVM_SET_SIGNAL_MASK);
ABI(KVM_GET_MP_STATE);
ABI(KVM_SET_MP_STATE);
ABI(KVM_ENABLE_CAP);
ABI(KVM_GET_ONE_REG);
ABI(KVM_GET_REG_LIST);
ABI(KVM_SET_ONE_REG);
ABI(KVM_PRE_FAULT_MEMORY);
ABI(KVM_CREATE_GUEST_MEMFD);
ABI(GUEST_MEMFD_FLAG_MMAP);
ABI(GUEST_MEMFD_FLAG_INIT_SHARED);

ABI(KVM_IOEVENTFD_FLAG_DATAMATCH);
ABI(KVM_IOEVENTFD_FLAG_PIO);
ABI(KVM_IOEVENTFD_FLAG_DEASSIGN);
ABI(KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY);
ABI(KVM_IOEVENTFD_VALID_FLAG_MASK);
ABI(KVM_IRQFD_FLAG_DEASSIGN);
ABI(KVM_IRQFD_FLAG_RESAMPLE);
ABI(KVM_IRQ_ROUTING_IRQCHIP);
ABI(KVM_IRQ_ROUTING_MSI);
ABI(KVM_IRQ_ROUTING_S390_ADAPTER);
ABI(KVM_MSI_VALID_DEVID);
ABI(KVM_CREATE_DEVICE_TEST);

#ifdef CONFIG_X86
ABI(KVM_GET_MSR_INDEX_LIST);
ABI(KVM_GET_MSR_FEATURE_INDEX_LIST);
ABI(KVM_GET_SUPPORTED_CPUID);
ABI(KVM_GET_EMULATED_CPUID);
ABI(KVM_X86_GET_MCE_CAP_SUPPORTED);
ABI(KVM_SET_NR_MMU_PAGES);
ABI(KVM_SET_TSS_ADDR);
ABI(KVM_SET_IDENTITY_MAP_ADDR);
ABI(KVM_IRQ_LINE);
ABI(KVM_GET_IRQCHIP);
ABI(KVM_SET_IRQCHIP);
ABI(KVM_IRQ_LINE_STATUS);
ABI(KVM_REGISTER_COALESCED_MMIO);
ABI(KVM_UNREGISTER_COALESCED_MMIO);
ABI(KVM_CREATE_PIT);
ABI(KVM_CREATE_PIT2);
ABI(KVM_GET_PIT);
ABI(KVM_SET_PIT);
ABI(KVM_REINJECT_CONTROL);
ABI(KVM_SET_BOOT_CPU_ID);
ABI(KVM_SET_CLOCK);
ABI(KVM_GET_CLOCK);
ABI(KVM_GET_PIT2);
ABI(KVM_SET_PIT2);
ABI(KVM_SIGNAL_MSI);
ABI(KVM_GET_REGS);
ABI(KVM_SET_REGS);
ABI(KVM_GET_SREGS);
ABI(KVM_SET_SREGS);
ABI(KVM_INTERRUPT);
ABI(KVM_GET_MSRS);
ABI(KVM_SET_MSRS);
ABI(KVM_GET_FPU);
ABI(KVM_SET_FPU);
ABI(KVM_GET_LAPIC);
ABI(KVM_SET_LAPIC);
ABI(KVM_TPR_ACCESS_REPORTING);
ABI(KVM_SET_VAPIC_ADDR);
ABI(KVM_SET_CPUID2);
ABI(KVM_GET_CPUID2);
ABI(KVM_NMI);
ABI(KVM_SET_GUEST_DEBUG);
ABI(KVM_X86_SETUP_MCE);
ABI(KVM_X86_SET_MCE);
ABI(KVM_X86_SET_MSR_FILTER);
ABI(KVM_GET_VCPU_EVENTS);
ABI(KVM_SET_VCPU_EVENTS);
ABI(KVM_GET_DEBUGREGS);
ABI(KVM_SET_DEBUGREGS);
ABI(KVM_SET_TSC_KHZ);
ABI(KVM_GET_TSC_KHZ);
ABI(KVM_GET_XSAVE);
ABI(KVM_SET_XSAVE);
ABI(KVM_GET_XCRS);
ABI(KVM_SET_XCRS);
ABI(KVM_KVMCLOCK_CTRL);
ABI(KVM_SMI);
ABI(KVM_GET_SREGS2);
ABI(KVM_SET_SREGS2);
ABI(KVM_GET_XSAVE2);
#endif

#ifdef CONFIG_S390
ABI(KVM_S390_ENABLE_SIE);
ABI(KVM_S390_INTERRUPT);
ABI(KVM_S390_MEM_OP);
ABI(KVM_S390_GET_SKEYS);
ABI(KVM_SET_GUEST_DEBUG);
ABI(KVM_S390_SET_SKEYS);
ABI(KVM_S390_KEYOP);
ABI(KVM_S390_GET_CMMA_BITS);
ABI(KVM_S390_SET_CMMA_BITS);
ABI(KVM_GET_REGS);
ABI(KVM_SET_REGS);
ABI(KVM_GET_SREGS);
ABI(KVM_SET_SREGS);
ABI(KVM_GET_FPU);
ABI(KVM_SET_FPU);
ABI(KVM_S390_STORE_STATUS);
ABI(KVM_S390_SET_INITIAL_PSW);
ABI(KVM_S390_INITIAL_RESET);
ABI(KVM_S390_IRQ);
ABI(KVM_S390_SET_IRQ_STATE);
ABI(KVM_S390_GET_IRQ_STATE);
ABI(KVM_S390_NORMAL_RESET);
ABI(KVM_S390_CLEAR_RESET);
#endif
