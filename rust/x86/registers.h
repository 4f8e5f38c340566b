/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest's general registers, as both vendors' entry code moves them: an array
 * in the encoding's order, of which RAX and RSP are each vendor's own matter.
 */
#ifndef KVM_X86_REGISTERS_H
#define KVM_X86_REGISTERS_H

#define GPR_RAX	(0 * 8)
#define GPR_RCX	(1 * 8)
#define GPR_RDX	(2 * 8)
#define GPR_RBX	(3 * 8)
#define GPR_RBP	(5 * 8)
#define GPR_RSI	(6 * 8)
#define GPR_RDI	(7 * 8)
#define GPR_R(n)	((n) * 8)

/* All but RAX, RSP, RSI and RDI, from the array at \array. */
.macro LOAD_GUEST_REGISTERS array:req
	mov	GPR_RCX(\array), %rcx
	mov	GPR_RDX(\array), %rdx
	mov	GPR_RBX(\array), %rbx
	mov	GPR_RBP(\array), %rbp
	mov	GPR_R(8)(\array), %r8
	mov	GPR_R(9)(\array), %r9
	mov	GPR_R(10)(\array), %r10
	mov	GPR_R(11)(\array), %r11
	mov	GPR_R(12)(\array), %r12
	mov	GPR_R(13)(\array), %r13
	mov	GPR_R(14)(\array), %r14
	mov	GPR_R(15)(\array), %r15
.endm

/* All but RAX, RSP and RDI, to the array at \array. */
.macro SAVE_GUEST_REGISTERS array:req
	mov	%rcx, GPR_RCX(\array)
	mov	%rdx, GPR_RDX(\array)
	mov	%rbx, GPR_RBX(\array)
	mov	%rbp, GPR_RBP(\array)
	mov	%rsi, GPR_RSI(\array)
	mov	%r8, GPR_R(8)(\array)
	mov	%r9, GPR_R(9)(\array)
	mov	%r10, GPR_R(10)(\array)
	mov	%r11, GPR_R(11)(\array)
	mov	%r12, GPR_R(12)(\array)
	mov	%r13, GPR_R(13)(\array)
	mov	%r14, GPR_R(14)(\array)
	mov	%r15, GPR_R(15)(\array)
.endm

/*
 * All but RAX, RBX and RSP: the guest must not steer the host's speculation by
 * values that are still in registers.
 */
.macro CLEAR_GUEST_REGISTERS
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%ebp, %ebp
	xor	%esi, %esi
	xor	%edi, %edi
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d
	xor	%r12d, %r12d
	xor	%r13d, %r13d
	xor	%r14d, %r14d
	xor	%r15d, %r15d
.endm

#endif
