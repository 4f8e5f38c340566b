# SPDX-License-Identifier: GPL-2.0
#
# Boot sector of the intel machine's disk: loads an unpacked Linux kernel and its initramfs to where
# they run and enters the kernel in 64-bit mode, as Documentation/arch/x86/boot.rst describes it.
# A general boot loader would read the same through the BIOS and let the kernel unpack itself, which
# takes most of the time of an emulated boot.
#
# The harness (tests/harness/src/machine/bochs/disk.rs) writes what belongs to a run behind this sector:
# boot_params, the command line, and a table of what to load from where.

	.intel_syntax noprefix

# Where things are in memory below 1 MiB. The 17 sectors after this one go to BOOT_PARAMS: boot_params,
# the command line, the table.
	.equ	BOOT_PARAMS, 0x10000
	.equ	ENTRY, 0x12000			# the kernel's entry point
	.equ	LOADS, 0x12004			# address, first sector, sectors; ends with zero sectors
	.equ	TABLES, 0x20000			# PML4, PDPT, four page directories

# Offsets in boot_params.
	.equ	E820_ENTRIES, 0x1e8
	.equ	E820_TABLE, 0x2d0
	.equ	E820_MAX, 128

	.equ	IA32_EFER, 0xc0000080

	.code16
	.globl	_start
_start:	cli
	xor	ax, ax
	mov	ds, ax
	mov	ss, ax
	mov	sp, 0x7c00
	mov	si, offset params_packet
	mov	ah, 0x42			# extended read
	int	0x13
	jc	broken

	mov	ax, BOOT_PARAMS >> 4
	mov	es, ax
	xor	ebx, ebx
	mov	di, E820_TABLE
e820:	mov	eax, 0xe820
	mov	ecx, 20
	mov	edx, 0x534d4150			# 'SMAP'
	int	0x15
	jc	e820_done
	add	di, 20
	inc	byte ptr es:[E820_ENTRIES]
	cmp	byte ptr es:[E820_ENTRIES], E820_MAX
	je	e820_done
	test	ebx, ebx
	jnz	e820
e820_done:
	cli
	lgdt	[gdt_pointer]
	mov	eax, cr0
	or	al, 1
	mov	cr0, eax
	ljmp	0x08:protected

# The console says that the disk is to blame, then a triple fault ends the emulator.
broken:	mov	al, 'D'
	mov	dx, 0x3f8
	out	dx, al
	lidt	[no_idt]
	int3

	.code32
broken32:
	mov	al, 'D'
	mov	edx, 0x3f8
	out	dx, al
	lidt	[no_idt]
	int3

protected:
	mov	eax, 0x18
	mov	ds, eax
	mov	es, eax
	mov	ss, eax
	cld
	mov	dx, 0x3f6			# no interrupts from the disk
	mov	al, 2
	out	dx, al
	mov	esi, LOADS
next_load:
	mov	edi, [esi]			# where to
	mov	ebx, [esi + 4]			# first sector
	mov	ebp, [esi + 8]			# sectors
	add	esi, 12
	test	ebp, ebp
	jz	loaded
command:
	mov	ecx, 0x8000			# sectors for one command
	cmp	ecx, ebp
	cmova	ecx, ebp
	mov	dx, 0x1f6
	mov	al, 0x40
	out	dx, al
	mov	dx, 0x1f2			# count and address, high bytes first
	mov	al, ch
	out	dx, al
	inc	edx
	mov	eax, ebx
	shr	eax, 24
	out	dx, al
	inc	edx
	xor	eax, eax
	out	dx, al
	inc	edx
	out	dx, al
	mov	dx, 0x1f2
	mov	al, cl
	out	dx, al
	mov	eax, ebx
	inc	edx
	out	dx, al
	shr	eax, 8
	inc	edx
	out	dx, al
	shr	eax, 8
	inc	edx
	out	dx, al
	mov	dx, 0x1f7
	mov	al, 0x24			# READ SECTORS EXT
	out	dx, al
	add	ebx, ecx
	sub	ebp, ecx
sector:	mov	dx, 0x1f7
	in	al, dx
	test	al, 0x80			# busy
	jnz	sector
	test	al, 0x01			# error
	jnz	broken32
	test	al, 0x08			# data
	jz	sector
	mov	dl, 0xf0
	mov	eax, ecx
	mov	ecx, 512 / 4
	rep insd
	mov	ecx, eax
	loop	sector
	test	ebp, ebp
	jnz	command
	jmp	next_load

# The first 4 GiB of memory, mapped one to one with pages of 2 MiB.
loaded:	mov	edi, TABLES
	xor	eax, eax
	mov	ecx, 0x6000 / 4
	rep stosd
	mov	dword ptr [TABLES], TABLES + 0x1007
	mov	edi, TABLES + 0x1000
	mov	eax, TABLES + 0x2007
directory:
	stosd
	add	edi, 4
	add	eax, 0x1000
	cmp	eax, TABLES + 0x6007
	jne	directory
	mov	edi, TABLES + 0x2000
	mov	eax, 0x87
page:	stosd
	add	edi, 4
	add	eax, 0x200000
	jnc	page

	mov	eax, cr4
	or	al, 0x20			# PAE
	mov	cr4, eax
	mov	eax, TABLES
	mov	cr3, eax
	mov	ecx, IA32_EFER
	rdmsr
	or	ah, 1				# LME
	wrmsr
	mov	eax, cr0
	or	eax, 0x80000000
	mov	cr0, eax
	ljmp	0x10:enter

	.code64
enter:	mov	esi, BOOT_PARAMS
	mov	eax, [ENTRY]
	jmp	rax

	.balign	4
params_packet:					# 17 sectors from the second one on
	.byte	16, 0
	.word	17
	.word	0, BOOT_PARAMS >> 4
	.quad	1
gdt_pointer:
	.word	4 * 8 - 1
	.long	gdt
no_idt:	.word	0
	.long	0
	.balign	8
gdt:	.quad	0
	.quad	0x00cf9b000000ffff		# 0x08: 32-bit code
	.quad	0x00af9b000000ffff		# 0x10: 64-bit code, __BOOT_CS
	.quad	0x00cf93000000ffff		# 0x18: data, __BOOT_DS

	.org	0x1fe
	.word	0xaa55
