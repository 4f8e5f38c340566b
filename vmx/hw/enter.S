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

/* struct Entering of active.rs. */
#define HOST_RSP_WRITTEN	0
#define GUEST_SPEC_CTRL		8
#define SWITCHES_SPEC_CTRL	16

/* The host's IA32_SPEC_CTRL; RAX, RCX and RDX are lost. */
.macro LOAD_HOST_SPEC_CTRL
	mov	$MSR_SPEC_CTRL, %ecx
	mov	PER_CPU_VAR(x86_spec_ctrl_current), %eax
	mov	PER_CPU_VAR(x86_spec_ctrl_current + 4), %edx
	wrmsr
.endm

/*
 * Right after an exit: RDI gets the address of the registers, which the others are
 * saved to.
 */
.macro TAKE_GUEST_REGISTERS
	UNWIND_HINT_RESTORE
	ENDBR
	push	%rdi
	mov	16(%rsp), %rdi
	mov	%rax, GPR_RAX(%rdi)
	SAVE_GUEST_REGISTERS %rdi
	pop	GPR_RDI(%rdi)
	xor	%ebx, %ebx
.endm

/*
 * bool kvm_vmx_enter(u64 *registers, struct Entering *entering, bool launched)
 *
 * registers: the guest's sixteen general registers, RSP unused; launched: the VMCS that
 * is current was entered before. Returns whether the entry failed, so that the guest
 * never ran.
 *
 * An exit goes on at kvm_vmx_exited, or at kvm_vmx_exited_switching for a guest whose
 * IA32_SPEC_CTRL is switched: two addresses for the VMCS, so that no branch has to
 * choose, which the processor could guess wrong with the guest's value still loaded.
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
	push	%rsi

	/* The depth of the stack is mostly the same. */
	cmp	%rsp, HOST_RSP_WRITTEN(%rsi)
	je	1f
	mov	%rsp, HOST_RSP_WRITTEN(%rsi)
	mov	$HOST_RSP, %eax
7:	vmwrite	%rsp, %rax
1:
	cmpb	$0, SWITCHES_SPEC_CTRL(%rsi)
	jne	6f
2:
	/* CF stays up to the entry; VERW changes ZF only. */
	btl	$0, %edx
	mov	GPR_RAX(%rdi), %rax
	mov	GPR_RSI(%rdi), %rsi
	LOAD_GUEST_REGISTERS %rdi
	mov	GPR_RDI(%rdi), %rdi

	/* What the kernel left in the processor's buffers isn't for the guest. */
	ALTERNATIVE_2 "", __CLEAR_CPU_BUFFERS, X86_FEATURE_CLEAR_CPU_BUF_VM_MMIO, \
		__CLEAR_CPU_BUFFERS, X86_FEATURE_CLEAR_CPU_BUF_VM

	jnc	4f

	/* An exit goes on with the stack as it is here. */
	UNWIND_HINT_SAVE
3:	vmresume
	jmp	5f
4:	vmlaunch
	jmp	5f

SYM_INNER_LABEL_ALIGN(kvm_vmx_exited_switching, SYM_L_GLOBAL)
	TAKE_GUEST_REGISTERS
	mov	(%rsp), %rsi
	mov	$MSR_SPEC_CTRL, %ecx
	rdmsr
	mov	%eax, GUEST_SPEC_CTRL(%rsi)
	mov	%edx, GUEST_SPEC_CTRL + 4(%rsi)
.Lrestore_spec_ctrl:
	/* Where it is written after each exit, that is to come. */
	ALTERNATIVE "", "jmp .Lexited", X86_FEATURE_KERNEL_IBRS
	mov	GUEST_SPEC_CTRL(%rsi), %rax
	cmp	PER_CPU_VAR(x86_spec_ctrl_current), %rax
	je	.Lrestored_spec_ctrl
	LOAD_HOST_SPEC_CTRL
.Lrestored_spec_ctrl:
	/* Whatever was guessed about that. */
	lfence
	jmp	.Lexited

SYM_INNER_LABEL_ALIGN(kvm_vmx_exited, SYM_L_GLOBAL)
	TAKE_GUEST_REGISTERS

.Lexited:
	xor	%eax, %eax
	CLEAR_GUEST_REGISTERS

	/* Nor by what it trained: before the first return. */
	FILL_RETURN_BUFFER %rcx, RSB_CLEAR_LOOPS, X86_FEATURE_RSB_VMEXIT, \
		X86_FEATURE_RSB_VMEXIT_LITE
	/* A kernel that relies on IBRS has to write it after each exit. */
	ALTERNATIVE "jmp .Librs_done", "", X86_FEATURE_KERNEL_IBRS
	LOAD_HOST_SPEC_CTRL
.Librs_done:
	CLEAR_BRANCH_HISTORY_VMEXIT

	mov	%ebx, %eax
	pop	%rsi
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
	mov	(%rsp), %rsi
	cmpb	$0, SWITCHES_SPEC_CTRL(%rsi)
	jne	.Lrestore_spec_ctrl
	jmp	.Lexited

	/* No return and no indirect branch with the guest's value. */
6:	mov	GUEST_SPEC_CTRL(%rsi), %rax
	cmp	PER_CPU_VAR(x86_spec_ctrl_current), %rax
	je	2b
	mov	%edx, %r8d
	mov	%rax, %rdx
	shr	$32, %rdx
	mov	$MSR_SPEC_CTRL, %ecx
	wrmsr
	mov	%r8d, %edx
	jmp	2b

	_ASM_EXTABLE(7b, 5b)
	_ASM_EXTABLE(3b, 5b)
	_ASM_EXTABLE(4b, 5b)
SYM_FUNC_END(kvm_vmx_enter)
