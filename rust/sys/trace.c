// SPDX-License-Identifier: GPL-2.0
/*
 * The tracepoints that KVM has on every architecture, as the kernel's own header
 * describes them.
 */
#include <linux/kvm_host.h>

#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include <trace/events/kvm.h>

/*
 * Those about dirty rings take structures of the kernel's own KVM, of which they read a
 * few numbers.
 */
void kvm_helper_trace_ring_push(int index, u32 added, u32 reset, u32 slot, u64 offset);
void kvm_helper_trace_ring_push(int index, u32 added, u32 reset, u32 slot, u64 offset)
{
	struct kvm_dirty_ring ring = {
		.index = index, .dirty_index = added, .reset_index = reset,
	};

	trace_kvm_dirty_ring_push(&ring, slot, offset);
}

void kvm_helper_trace_ring_reset(int index, u32 added, u32 reset);
void kvm_helper_trace_ring_reset(int index, u32 added, u32 reset)
{
	struct kvm_dirty_ring ring = {
		.index = index, .dirty_index = added, .reset_index = reset,
	};

	trace_kvm_dirty_ring_reset(&ring);
}

void kvm_helper_trace_ring_exit(int vcpu_id);
void kvm_helper_trace_ring_exit(int vcpu_id)
{
	/* Nothing else of it is read. */
	struct kvm_vcpu *vcpu = container_of(&vcpu_id, struct kvm_vcpu, vcpu_id);

	OPTIMIZER_HIDE_VAR(vcpu);
	trace_kvm_dirty_ring_exit(vcpu);
}
