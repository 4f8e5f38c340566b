// SPDX-License-Identifier: GPL-2.0
/*
 * Inline functions of s390. The prototypes stand beside the Rust wrappers: key.rs,
 * mod.rs, registers.rs, table.rs.
 */
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/random.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <asm/access-regs.h>
#include <asm/cpacf.h>
#include <asm/facility.h>
#include <asm/fpu.h>
#include <asm/gmap_helpers.h>
#include <asm/machine.h>
#include <asm/sysinfo.h>
#include <asm/timex.h>
#include <asm/uaccess.h>

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

void kvm_helper_discard(unsigned long start, unsigned long end);
void kvm_helper_discard(unsigned long start, unsigned long end)
{
	mmap_read_lock(current->mm);
	gmap_helper_discard(current->mm, start, end);
	mmap_read_unlock(current->mm);
}

/* DMA is the zone below 2 GiB. */
void *kvm_helper_alloc_low_pages(size_t size);
void *kvm_helper_alloc_low_pages(size_t size)
{
	return alloc_pages_exact(size, GFP_KERNEL_ACCOUNT | __GFP_ZERO | GFP_DMA);
}

void kvm_helper_random(u8 *bytes, size_t size);
void kvm_helper_random(u8 *bytes, size_t size)
{
	get_random_bytes(bytes, size);
}

u8 kvm_helper_storage_key(u64 page);
u8 kvm_helper_storage_key(u64 page)
{
	return page_get_storage_key(page);
}

void kvm_helper_set_storage_key(u64 page, u8 key, bool quiesce);
void kvm_helper_set_storage_key(u64 page, u8 key, bool quiesce)
{
	page_set_storage_key(page, key, quiesce);
}

u8 kvm_helper_reset_reference(u64 page);
u8 kvm_helper_reset_reference(u64 page)
{
	return page_reset_referenced(page);
}

int kvm_helper_disable_sharing(void);
int kvm_helper_disable_sharing(void)
{
	int result;

	mmap_write_lock(current->mm);
	result = gmap_helper_disable_cow_sharing();
	mmap_write_unlock(current->mm);
	return result;
}

union quad {
	u8 bytes[16];
	u8 one;
	u16 two;
	u32 four;
	u64 eight;
	unsigned __int128 sixteen;
};

/*
 * 1 if it was done. What was there goes to old. The key is 0: nothing is checked. The
 * address is physical.
 */
int kvm_helper_exchange(u64 address, size_t size, u8 *old, const u8 *new);
int kvm_helper_exchange(u64 address, size_t size, u8 *old, const u8 *new)
{
	union quad expected = {}, wanted = {}, found = {};
	void *at = __va(address);
	int result;

	if (size > sizeof(union quad) || address & (size - 1))
		return -EINVAL;
	memcpy(expected.bytes, old, size);
	memcpy(wanted.bytes, new, size);
	switch (size) {
	case 1:
		result = __cmpxchg_key1(at, &found.one, expected.one, wanted.one, 0);
		break;
	case 2:
		result = __cmpxchg_key2(at, &found.two, expected.two, wanted.two, 0);
		break;
	case 4:
		result = __cmpxchg_key4(at, &found.four, expected.four, wanted.four, 0);
		break;
	case 8:
		result = __cmpxchg_key8(at, (unsigned long *)&found.eight, expected.eight,
					wanted.eight, 0);
		break;
	case 16:
		result = __cmpxchg_key16(at, &found.sixteen, expected.sixteen, wanted.sixteen, 0);
		break;
	default:
		return -EINVAL;
	}
	if (result)
		return result;
	memcpy(old, found.bytes, size);
	return !memcmp(found.bytes, expected.bytes, size);
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

/* Functions of instructions, as struct kvm_s390_vm_cpu_subfunc begins. */
struct subfunctions {
	u8 plo[32];
	u8 ptff[16];
	cpacf_mask_t kmac, kmc, km, kimd, klmd;
	cpacf_mask_t pckmo;
	cpacf_mask_t kmctr, kmf, kmo, pcc;
	cpacf_mask_t ppno;
	cpacf_mask_t kma;
	cpacf_mask_t kdsa;
	u8 sortl[32];
	u8 dfltcc[32];
	u8 pfcr[16];
};
static_assert(sizeof(struct subfunctions) == 336);

/* Function code 0 asks what there is; the answer goes to where register 1 points. */
#define QUERY(insn, to)						\
	asm volatile("	lghi	0,0\n"				\
		     "	lgr	1,%[at]\n"			\
		     "	.insn	" insn "\n"			\
		     : "+m" (to)				\
		     : [at] "a" (&(to))				\
		     : "cc", "0", "1")

/* PERFORM LOCKED OPERATION only tells with bit 55 of the function code. */
static bool has_locked_operation(unsigned int code)
{
	int cc;

	asm volatile("	lgr	0,%[code]\n"
		     "	plo	0,0,0,0(0)\n"
		     "	ipm	%[cc]\n"
		     : [cc] "=d" (cc)
		     : [code] "d" ((unsigned long)code | 0x100)
		     : "cc", "0");
	return (u32)cc >> 28 == 0;
}

void kvm_helper_subfunctions(struct subfunctions *all);
void kvm_helper_subfunctions(struct subfunctions *all)
{
	unsigned int code;

	for (code = 0; code < 256; code++)
		if (has_locked_operation(code))
			all->plo[code / 8] |= 0x80 >> code % 8;
	if (test_facility(28))
		ptff(all->ptff, sizeof(all->ptff), PTFF_QAF);
	if (test_facility(17)) {
		__cpacf_query(CPACF_KMAC, &all->kmac);
		__cpacf_query(CPACF_KMC, &all->kmc);
		__cpacf_query(CPACF_KM, &all->km);
		__cpacf_query(CPACF_KIMD, &all->kimd);
		__cpacf_query(CPACF_KLMD, &all->klmd);
	}
	if (test_facility(76))
		__cpacf_query(CPACF_PCKMO, &all->pckmo);
	if (test_facility(77)) {
		__cpacf_query(CPACF_KMCTR, &all->kmctr);
		__cpacf_query(CPACF_KMF, &all->kmf);
		__cpacf_query(CPACF_KMO, &all->kmo);
		__cpacf_query(CPACF_PCC, &all->pcc);
	}
	if (test_facility(57))
		__cpacf_query(CPACF_PRNO, &all->ppno);
	if (test_facility(146))
		__cpacf_query(CPACF_KMA, &all->kma);
	if (test_facility(155))
		__cpacf_query(CPACF_KDSA, &all->kdsa);
	if (test_facility(150))
		QUERY("rre,0xb9380000,2,4", all->sortl);
	if (test_facility(151))
		QUERY("rrf,0xb9390000,2,4,6,0", all->dfltcc);
	if (test_facility(201))
		QUERY("rsy,0xeb0000000016,0,0,0(1)", all->pfcr);
}
