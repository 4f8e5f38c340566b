// SPDX-License-Identifier: GPL-2.0
/*
 * Inline functions of s390. The prototypes stand beside the Rust wrappers: mod.rs,
 * registers.rs, table.rs.
 */
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <asm/access-regs.h>
#include <asm/fpu.h>
#include <asm/machine.h>
#include <asm/sysinfo.h>

u16 kvm_helper_take_guest_fault(u64 *teid);
u16 kvm_helper_take_guest_fault(u64 *teid)
{
	u16 code = current->thread.gmap_int_code;

	*teid = current->thread.gmap_teid.val;
	current->thread.gmap_int_code = 0;
	return code;
}

bool kvm_helper_machine_has_esop(void);
bool kvm_helper_machine_has_esop(void)
{
	return machine_has_esop();
}

/* STSI wants a page of its own. */
int kvm_helper_stsi(void *block, int fc, int sel1, int sel2);
int kvm_helper_stsi(void *block, int fc, int sel1, int sel2)
{
	void *page = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	int result;

	if (!page)
		return -ENOMEM;
	result = stsi(page, fc, sel1, sel2);
	if (!result)
		memcpy(block, page, PAGE_SIZE);
	free_page((unsigned long)page);
	return result;
}

struct guest_registers {
	freg_t fprs[__NUM_FPRS];
	u32 acrs[NUM_ACRS];
	u32 fpc;
};

void kvm_helper_with_guest_registers(struct guest_registers *registers,
				     void (*body)(void *data), void *data);
void kvm_helper_with_guest_registers(struct guest_registers *registers,
				     void (*body)(void *data), void *data)
{
	DECLARE_KERNEL_FPU_ONSTACK32(host);
	u32 host_acrs[NUM_ACRS];

	kernel_fpu_begin(&host, KERNEL_FPC | KERNEL_VXR);
	save_access_regs(host_acrs);
	restore_access_regs(registers->acrs);
	fpu_lfpc_safe(&registers->fpc);
	load_fp_regs(registers->fprs);

	body(data);

	fpu_stfpc(&registers->fpc);
	save_fp_regs(registers->fprs);
	save_access_regs(registers->acrs);
	restore_access_regs(host_acrs);
	kernel_fpu_end(&host, KERNEL_FPC | KERNEL_VXR);
}

void kvm_helper_read_guest_registers(struct guest_registers *registers);
void kvm_helper_read_guest_registers(struct guest_registers *registers)
{
	fpu_stfpc(&registers->fpc);
	save_fp_regs(registers->fprs);
	save_access_regs(registers->acrs);
}

void *kvm_helper_dat_table_alloc(unsigned int order);
void *kvm_helper_dat_table_alloc(unsigned int order)
{
	return (void *)__get_free_pages(GFP_KERNEL_ACCOUNT, order);
}

void kvm_helper_dat_table_free(void *table, unsigned int order);
void kvm_helper_dat_table_free(void *table, unsigned int order)
{
	free_pages((unsigned long)table, order);
}

static void free_upper_table(struct rcu_head *head)
{
	__free_pages(container_of(head, struct page, rcu_head), 2);
}

/* For tables of order 2; smaller ones are kvm_helper_table_free_rcu()'s. */
void kvm_helper_dat_upper_free_rcu(void *table);
void kvm_helper_dat_upper_free_rcu(void *table)
{
	call_rcu(&virt_to_page(table)->rcu_head, free_upper_table);
}
