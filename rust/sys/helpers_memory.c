// SPDX-License-Identifier: GPL-2.0
/*
 * Macros and inline functions around the VMM's pages and the host's page tables.
 * The prototypes stand beside the Rust wrappers: gup.rs, table_page.rs, vmm_memory.rs,
 * process.rs, memory_file.
 */
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/pgtable.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/sched.h>
#include <linux/swap.h>
#include <linux/types.h>
#include <linux/uaccess.h>

/* As a write would. What fails here fails again where it is looked for. */
void kvm_helper_fault_in(struct mm_struct *mm, unsigned long address);
void kvm_helper_fault_in(struct mm_struct *mm, unsigned long address)
{
	int locked = 1;

	if (!mmget_not_zero(mm))
		return;
	mmap_read_lock(mm);
	get_user_pages_remote(mm, address, 1, FOLL_WRITE, NULL, &locked);
	if (locked)
		mmap_read_unlock(mm);
	mmput(mm);
}

void kvm_helper_put_page(struct page *page);
void kvm_helper_put_page(struct page *page)
{
	put_page(page);
}

u64 kvm_helper_page_frame(struct page *page);
u64 kvm_helper_page_frame(struct page *page)
{
	return page_to_pfn(page);
}

/* Reserved pages, the zero page among them, are nobody's to mark. */
void kvm_helper_note_use(struct page *page, bool dirty);
void kvm_helper_note_use(struct page *page, bool dirty)
{
	if (PageReserved(page))
		return;
	if (dirty)
		SetPageDirty(page);
	mark_page_accessed(page);
}

bool kvm_helper_is_device_frame(u64 frame);
bool kvm_helper_is_device_frame(u64 frame)
{
	return !pfn_valid(frame) || (PageReserved(pfn_to_page(frame)) && !is_zero_pfn(frame));
}

/*
 * With interrupts off neither a table nor what replaces it is freed. Each entry
 * is read once: a table may become a large page at any moment.
 */
unsigned int kvm_helper_host_page_shift(struct mm_struct *mm, unsigned long address);
unsigned int kvm_helper_host_page_shift(struct mm_struct *mm, unsigned long address)
{
	unsigned int shift = PAGE_SHIFT;
	unsigned long flags;
	pgd_t pgd;
	p4d_t p4d;
	pud_t pud;
	pmd_t pmd;

	local_irq_save(flags);
	pgd = READ_ONCE(*pgd_offset(mm, address));
	if (pgd_none(pgd))
		goto out;
	p4d = READ_ONCE(*p4d_offset(&pgd, address));
	if (p4d_none(p4d) || !p4d_present(p4d))
		goto out;
	pud = READ_ONCE(*pud_offset(&p4d, address));
	if (pud_none(pud) || !pud_present(pud))
		goto out;
	if (pud_leaf(pud)) {
		shift = PUD_SHIFT;
		goto out;
	}
	pmd = READ_ONCE(*pmd_offset(&pud, address));
	if (pmd_none(pmd) || !pmd_present(pmd))
		goto out;
	if (pmd_leaf(pmd))
		shift = PMD_SHIFT;
out:
	local_irq_restore(flags);
	return shift;
}

bool kvm_helper_folio_is_poisoned(struct folio *folio);
bool kvm_helper_folio_is_poisoned(struct folio *folio)
{
	return folio_test_hwpoison(folio);
}

u64 kvm_helper_folio_index(struct folio *folio);
u64 kvm_helper_folio_index(struct folio *folio)
{
	return folio->index;
}

/* A locked folio of one page; nobody has seen its contents before they are up to date. */
void kvm_helper_folio_fill(struct folio *folio);
void kvm_helper_folio_fill(struct folio *folio)
{
	if (folio_test_uptodate(folio))
		return;
	clear_highpage(folio_page(folio, 0));
	folio_mark_uptodate(folio);
}

/* Pages that nobody may look into, move or take; they are for a guest. */
void kvm_helper_set_inaccessible(struct address_space *mapping);
void kvm_helper_set_inaccessible(struct address_space *mapping)
{
	mapping_set_gfp_mask(mapping, GFP_HIGHUSER);
	mapping_set_inaccessible(mapping);
}

void kvm_helper_put_policy(struct mempolicy *policy);
void kvm_helper_put_policy(struct mempolicy *policy)
{
	mpol_cond_put(policy);
}
void *kvm_helper_table_alloc(void);
void *kvm_helper_table_alloc(void)
{
	return (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
}

void kvm_helper_table_free(void *table);
void kvm_helper_table_free(void *table)
{
	free_page((unsigned long)table);
}

/* Counts a table among the second-level ones of its memory cgroup and of the machine, or out. */
void kvm_helper_table_account(void *table, int count);
void kvm_helper_table_account(void *table, int count)
{
	mod_lruvec_page_state(virt_to_page(table), NR_SECONDARY_PAGETABLE, count);
}

static void free_table_page(struct rcu_head *head)
{
	__free_page(container_of(head, struct page, rcu_head));
}

void kvm_helper_table_free_rcu(void *table);
void kvm_helper_table_free_rcu(void *table)
{
	call_rcu(&virt_to_page(table)->rcu_head, free_table_page);
}

u64 kvm_helper_table_frame(void *table);
u64 kvm_helper_table_frame(void *table)
{
	return page_to_pfn(virt_to_page(table));
}

void kvm_helper_cond_resched(void);
void kvm_helper_cond_resched(void)
{
	cond_resched();
}

/* Sets bits of a byte of the page; what it was before. */
u8 kvm_helper_page_set_bits(struct page *page, unsigned int offset, u8 bits);
u8 kvm_helper_page_set_bits(struct page *page, unsigned int offset, u8 bits)
{
	u8 *byte = (u8 *)page_address(page) + (offset & ~PAGE_MASK);
	u8 old = READ_ONCE(*byte);

	while (!try_cmpxchg(byte, &old, old | bits))
		;
	return old;
}

/* A few bytes by loads of the largest sizes that fit. May sleep. */
int kvm_helper_read_user_small(u8 *to, u64 from, size_t size);
int kvm_helper_read_user_small(u8 *to, u64 from, size_t size)
{
	u64 quad;
	u32 word;
	u8 byte;

	for (; size >= sizeof(quad); size -= sizeof(quad)) {
		if (get_user(quad, (u64 __user *)from))
			return -EFAULT;
		memcpy(to, &quad, sizeof(quad));
		to += sizeof(quad);
		from += sizeof(quad);
	}
	if (size >= sizeof(word)) {
		if (get_user(word, (u32 __user *)from))
			return -EFAULT;
		memcpy(to, &word, sizeof(word));
		to += sizeof(word);
		from += sizeof(word);
		size -= sizeof(word);
	}
	for (; size; size--) {
		if (get_user(byte, (u8 __user *)from++))
			return -EFAULT;
		*to++ = byte;
	}
	return 0;
}

#ifdef CONFIG_X86_64
int kvm_helper_read_user_word(u64 *to, u64 from);
int kvm_helper_read_user_word(u64 *to, u64 from)
{
	return get_user(*to, (u64 __user *)from);
}

int kvm_helper_read_user_word_atomic(u64 *to, u64 from);
int kvm_helper_read_user_word_atomic(u64 *to, u64 from)
{
	int errno;

	pagefault_disable();
	errno = get_user(*to, (u64 __user *)from);
	pagefault_enable();
	return errno;
}
#endif

size_t kvm_helper_read_user_atomic(void *to, u64 from, size_t size);
size_t kvm_helper_read_user_atomic(void *to, u64 from, size_t size)
{
	size_t left;

	if (!access_ok((void __user *)from, size))
		return size;
	pagefault_disable();
	left = __copy_from_user_inatomic(to, (void __user *)from, size);
	pagefault_enable();
	return left;
}

size_t kvm_helper_write_user_atomic(u64 to, const void *from, size_t size);
size_t kvm_helper_write_user_atomic(u64 to, const void *from, size_t size)
{
	size_t left;

	if (!access_ok((void __user *)to, size))
		return size;
	pagefault_disable();
	left = __copy_to_user_inatomic((void __user *)to, from, size);
	pagefault_enable();
	return left;
}

#ifdef CONFIG_X86_64
/* 0 if exchanged, 1 if the value is another one, an errno otherwise. */
#define TRY_CMPXCHG(type)						\
({									\
	type expected = old;						\
									\
	__try_cmpxchg_user((type __user *)address, &expected, (type)new, fault_##type); \
})

int kvm_helper_cmpxchg_user(u64 address, size_t size, u64 old, u64 new);
int kvm_helper_cmpxchg_user(u64 address, size_t size, u64 old, u64 new)
{
	if (address & (size - 1))
		return -EINVAL;
	if (!access_ok((void __user *)address, size))
		return -EFAULT;
	switch (size) {
	case 1:
		return TRY_CMPXCHG(u8);
	case 2:
		return TRY_CMPXCHG(u16);
	case 4:
		return TRY_CMPXCHG(u32);
	case 8:
		return TRY_CMPXCHG(u64);
	}
	return -EINVAL;
}
#endif
