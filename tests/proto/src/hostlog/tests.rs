// SPDX-License-Identifier: GPL-2.0
//! Logs as kernels write them.

use super::reports;

fn assert_report(log: &str, needle: &str) {
    let found = reports(log);
    assert!(
        found.iter().any(|report| report.contains(needle)),
        "no report with '{needle}' in {found:?}"
    );
}

#[test]
fn a_clean_boot_has_none() {
    let log = "\
[    0.000000] Linux version 7.3.4+deb13-amd64 (debian-kernel@lists.debian.org)
[    0.000000] KASAN initialized (generic)
[    0.100000] Spectre V2 : Mitigation: Retpolines
[    0.200000] Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar
[    0.300000] debug: unmapping init [mem 0x1000-0x2000]
[    0.400000] kmemleak: Kernel memory leak detector initialized (mem pool available: 15680)
[    0.500000] rcu: \tRCU CPU stall warnings timeout set to 21 seconds.
[    1.000000] kvm: loading out-of-tree module taints kernel.
[    1.000000] kvm: module verification failed: signature and/or required key missing - tainting kernel
[    1.100000] BUGS of other kinds: none, Warning: none";
    assert_eq!(reports(log), Vec::<String>::new());
}

#[test]
fn a_warn_is_found_whole() {
    let log = "\
[    5.000000] ------------[ cut here ]------------
[    5.000000] WARNING: CPU: 0 PID: 70 at tests/modules/kvm_test_fault.c:9 init+0x9/0xff0 [kvm_test_fault]
[    5.000001] Modules linked in: kvm_test_fault(OE+)
[    5.000002] RIP: 0010:init+0x9/0xff0 [kvm_test_fault]
[    5.000003] ---[ end trace 0000000000000000 ]---
[    5.000004] next";
    let found = reports(log);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("end trace"));
    assert!(!found[0].contains("next"));
}

#[test]
fn each_kind_is_found() {
    for line in [
        "BUG: kernel NULL pointer dereference, address: 0000000000000000",
        "Oops: 0002 [#1] SMP",
        "Oops: general protection fault, probably for non-canonical address 0xdead: 0000 [#1]",
        "BUG: KASAN: slab-use-after-free in kvm_exit+0x1/0x2",
        "UBSAN: array-index-out-of-bounds in a.c:1:2",
        "WARNING: possible recursive locking detected",
        "WARNING: possible circular locking dependency detected",
        "WARNING: suspicious RCU usage",
        "BUG: sleeping function called from invalid context at mm/util.c:1",
        "BUG: scheduling while atomic: sh/1/0x00000002",
        "rcu: INFO: rcu_preempt self-detected stall on CPU",
        "rcu: INFO: rcu_sched detected stalls on CPUs/tasks:",
        "INFO: task insmod:77 blocked for more than 120 seconds.",
        "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [cat:1]",
        "refcount_t: underflow; use-after-free.",
        "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
        "ODEBUG: free active (active state 0) object: 1 object type: timer_list",
        "list_del corruption. prev->next should be ffff, but was 0000",
        "rust_kernel: panicked at rust/kvm.rs:1:2:",
        "kernel BUG at lib/list_debug.c:1!",
        "Kernel panic - not syncing: Fatal exception",
        "Unable to handle kernel pointer dereference in virtual kernel address space",
        "illegal operation: 0001 ilc:1 [#1]SMP",
        "BUG kmalloc-8 (Tainted: G): Objects remaining in kmalloc-8 on __kmem_cache_shutdown()",
    ] {
        assert_report(&format!("[    1.000000] {line}\n[    2.000000] after"), line);
    }
}

#[test]
fn reports_far_apart_are_separate() {
    let gap = "[    2.000000] quiet\n".repeat(80);
    let log = format!("[ 1.0] BUG: one\n{gap}[ 3.0] BUG: two\n");
    assert_eq!(reports(&log).len(), 2);
}
