/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Into a guest and out of it again (APM vol. 2, 15.5 and 15.6).
 *
 * VMRUN switches RIP, RSP, RAX, RFLAGS, CS, SS, DS, ES, the control registers and
 * the descriptor tables. The rest is done here: VMLOAD and VMSAVE for FS, GS, TR,
 * LDTR and the system-call MSRs, moves for the other general registers.
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/nospec-branch.h>
#include <asm/percpu.h>
#include "../../rust/x86/registers.h"

#define MSR_SPEC_CTRL	0x48

	.section .noinstr.text, "ax"

/*
 * void kvm_svm_enter(u64 vmcb, u64 *registers, u64 host)
 * void kvm_svm_enter_switching(u64 vmcb, u64 *registers, u64 host, u64 *spec_ctrl)
 *
 * vmcb: physical address of the guest's control block; registers: its sixteen
 * general registers, RAX and RSP unused; host: physical address of a page that
 * VMSAVE filled with the host's state; spec_ctrl: the guest's SPEC_CTRL.
 *
 * Called with GIF and IF clear; returns the same way. The guest runs with the
 * host's IF set, so that interrupts for the host get it out.
 */
.macro ENTER name:req, switches:req
SYM_FUNC_START(\name)
	push	%rbp
	mov	%rsp, %rbp
	push	%rbx
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	/* In the order in which they are needed afterwards, last one first. */
.if \switches
	push	%rcx
.endif
	push	%rdx
	push	%rdi
	push	%rsi

	/*
	 * The guest's exits on interrupts go by the host's IF. It is set here and not
	 * right before VMRUN, where processors take the shadow that STI leaves for one
	 * instruction into the guest. GIF keeps everything out meanwhile.
	 */
	sti

.if \switches
	/* No return and no indirect branch with the guest's value. */
	mov	(%rcx), %rax
	cmp	PER_CPU_VAR(x86_spec_ctrl_current), %rax
	je	9f
	mov	%rax, %rdx
	shr	$32, %rdx
	mov	$MSR_SPEC_CTRL, %ecx
	wrmsr
9:
.endif
	mov	%rdi, %rax
1:	vmload	%rax
2:
	LOAD_GUEST_REGISTERS %rsi
	mov	GPR_RDI(%rsi), %rdi
	mov	GPR_RSI(%rsi), %rsi

	ALTERNATIVE "", __CLEAR_CPU_BUFFERS, X86_FEATURE_CLEAR_CPU_BUF_VM
3:	vmrun	%rax
4:	cli

	/* RAX and RSP are the host's, all other general registers the guest's. */
	pop	%rax
	SAVE_GUEST_REGISTERS %rax
	mov	%rdi, GPR_RDI(%rax)

	pop	%rax
5:	vmsave	%rax
6:	pop	%rax
	/* Brings GS back: no per-CPU variable before this. */
7:	vmload	%rax
8:
	/* The guest must not steer the host's returns. */
	FILL_RETURN_BUFFER %rax, RSB_CLEAR_LOOPS, X86_FEATURE_RSB_VMEXIT
.if \switches
	pop	%rdi
	mov	$MSR_SPEC_CTRL, %ecx
	rdmsr
	mov	%eax, (%rdi)
	mov	%edx, 4(%rdi)
	mov	(%rdi), %rax
	cmp	PER_CPU_VAR(x86_spec_ctrl_current), %rax
	je	9f
	mov	PER_CPU_VAR(x86_spec_ctrl_current), %eax
	mov	PER_CPU_VAR(x86_spec_ctrl_current + 4), %edx
	wrmsr
9:
.endif
	UNTRAIN_RET_VM

	CLEAR_GUEST_REGISTERS
	xor	%ebx, %ebx

	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbx
	pop	%rbp
	RET

	/*
	 * A fault is expected only while the machine goes down and SVM was turned
	 * off under us: then go on to the end, whatever that does.
	 */
10:	cmpb	$0, virt_rebooting(%rip)
	jne	2b
	ud2
30:	cmpb	$0, virt_rebooting(%rip)
	jne	4b
	ud2
50:	cmpb	$0, virt_rebooting(%rip)
	jne	6b
	ud2
70:	cmpb	$0, virt_rebooting(%rip)
	jne	8b
	ud2

	_ASM_EXTABLE(1b, 10b)
	_ASM_EXTABLE(3b, 30b)
	_ASM_EXTABLE(5b, 50b)
	_ASM_EXTABLE(7b, 70b)
SYM_FUNC_END(\name)
.endm

ENTER kvm_svm_enter, 0
ENTER kvm_svm_enter_switching, 1

/* void kvm_svm_save_host(u64 host): VMSAVE into a page. */
SYM_FUNC_START(kvm_svm_save_host)
	mov	%rdi, %rax
1:	vmsave	%rax
2:	RET
3:	cmpb	$0, virt_rebooting(%rip)
	jne	2b
	ud2
	_ASM_EXTABLE(1b, 3b)
SYM_FUNC_END(kvm_svm_save_host)

/* void kvm_svm_clgi(void), void kvm_svm_stgi(void) */
SYM_FUNC_START(kvm_svm_clgi)
1:	clgi
2:	RET
3:	cmpb	$0, virt_rebooting(%rip)
	jne	2b
	ud2
	_ASM_EXTABLE(1b, 3b)
SYM_FUNC_END(kvm_svm_clgi)

SYM_FUNC_START(kvm_svm_stgi)
1:	stgi
2:	RET
3:	cmpb	$0, virt_rebooting(%rip)
	jne	2b
	ud2
	_ASM_EXTABLE(1b, 3b)
SYM_FUNC_END(kvm_svm_stgi)
