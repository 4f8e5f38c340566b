/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Into a guest and out of it again (SDM vol. 3, 27 and 28).
 *
 * An entry and an exit switch RSP, RIP, RFLAGS, the segments, the control registers
 * and some MSRs. The general registers are switched here.
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/nospec-branch.h>
#include <asm/percpu.h>
#include <asm/unwind_hints.h>
#include "../../rust/x86/registers.h"

/* The VMCS field of the stack pointer after an exit. */
#define HOST_RSP	0x6c14
#define MSR_SPEC_CTRL	0x48

	.section .noinstr.text, "ax"

/*
 * bool kvm_vmx_enter(u64 *registers, u64 *host_rsp, bool launched)
 *
 * registers: the guest's sixteen general registers, RSP unused; host_rsp: what the
 * VMCS that is current has as the host's stack pointer; launched: it was entered
 * before. Returns whether the entry failed, so that the guest never ran.
 *
 * Called with interrupts off; returns the same way.
 */
SYM_FUNC_START(kvm_vmx_enter)
	push	%rbp
	mov	%rsp, %rbp
	push	%rbx
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	push	%rdi
	push	%rdx

	/* The depth of the stack is mostly the same. */
	cmp	%rsp, (%rsi)
	je	1f
	mov	%rsp, (%rsi)
	mov	$HOST_RSP, %eax
	vmwrite	%rsp, %rax
1:
	mov	GPR_RAX(%rdi), %rax
	mov	GPR_RSI(%rdi), %rsi
	LOAD_GUEST_REGISTERS %rdi
	mov	GPR_RDI(%rdi), %rdi

	/* What the kernel left in the processor's buffers isn't for the guest. */
	ALTERNATIVE_2 "", __CLEAR_CPU_BUFFERS, X86_FEATURE_CLEAR_CPU_BUF_VM_MMIO, \
		__CLEAR_CPU_BUFFERS, X86_FEATURE_CLEAR_CPU_BUF_VM

	testb	$1, (%rsp)
	jz	3f

	/* An exit goes on at kvm_vmx_exited, with the stack as it is here. */
	UNWIND_HINT_SAVE
2:	vmresume
	jmp	5f
3:	vmlaunch
	jmp	5f

SYM_INNER_LABEL_ALIGN(kvm_vmx_exited, SYM_L_GLOBAL)
	UNWIND_HINT_RESTORE
	ENDBR
	push	%rdi
	mov	16(%rsp), %rdi
	mov	%rax, GPR_RAX(%rdi)
	SAVE_GUEST_REGISTERS %rdi
	pop	GPR_RDI(%rdi)
	xor	%ebx, %ebx

4:	xor	%eax, %eax
	CLEAR_GUEST_REGISTERS

	/* Nor by what it trained: before the first return. */
	FILL_RETURN_BUFFER %rcx, RSB_CLEAR_LOOPS, X86_FEATURE_RSB_VMEXIT, \
		X86_FEATURE_RSB_VMEXIT_LITE
	/* A kernel that relies on IBRS has to write it after each exit. */
	ALTERNATIVE "jmp .Librs_done", "", X86_FEATURE_KERNEL_IBRS
	mov	$MSR_SPEC_CTRL, %ecx
	mov	PER_CPU_VAR(x86_spec_ctrl_current), %eax
	mov	PER_CPU_VAR(x86_spec_ctrl_current + 4), %edx
	wrmsr
.Librs_done:
	CLEAR_BRANCH_HISTORY_VMEXIT

	mov	%ebx, %eax
	pop	%rdx
	pop	%rdi
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbx
	pop	%rbp
	RET

	/*
	 * A fault is expected only while the machine goes down and VMX was turned off
	 * under us; else it counts as a failure all the same.
	 */
5:	mov	$1, %ebx
	jmp	4b

	_ASM_EXTABLE(2b, 5b)
	_ASM_EXTABLE(3b, 5b)
SYM_FUNC_END(kvm_vmx_enter)
