// SPDX-License-Identifier: GPL-2.0
/*
 * The tracepoints that KVM has on every architecture, as the kernel's own header
 * describes them.
 */
#include <linux/kvm_host.h>

#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include <trace/events/kvm.h>
