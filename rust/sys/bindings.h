/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Headers that the kernel's `bindings` crate lacks. What is taken from them is
 * listed in bindgen_parameters; types that both know come from `bindings`.
 */
#include <linux/anon_inodes.h>
#include <linux/kvm.h>
#include <linux/miscdevice.h>
#include <linux/syscore_ops.h>

#ifdef CONFIG_X86
#include <asm/cpufeatures.h>
#include <asm/virt.h>
#endif
#ifdef CONFIG_S390
#include <asm/sclp.h>
#endif

/*
 * bindgen does not evaluate function-like macros: give each ioctl's value to a
 * constant. The list is the one of uapi/ioctl.rs; a name that is missing here
 * fails the build of rust/sys/abi_check.rs.
 */
#define ABI(name) static const unsigned int ABI_##name = name

ABI(KVM_GET_API_VERSION);
ABI(KVM_CREATE_VM);
ABI(KVM_CHECK_EXTENSION);
ABI(KVM_GET_VCPU_MMAP_SIZE);
ABI(KVM_CREATE_VCPU);
ABI(KVM_GET_DIRTY_LOG);
ABI(KVM_SET_USER_MEMORY_REGION);
ABI(KVM_SET_USER_MEMORY_REGION2);
ABI(KVM_CLEAR_DIRTY_LOG);
ABI(KVM_RUN);
