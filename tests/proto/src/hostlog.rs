// SPDX-License-Identifier: GPL-2.0
//! Finds reports of trouble in a kernel log.

/// What a line of trouble contains, at least one of these. Taint by modules from outside the tree
/// is no trouble, and neither is what only names an option ("KASAN initialized").
const SIGNS: &[&str] = &[
    "WARNING: ",
    "BUG: ",
    "kernel BUG at",
    "Oops:",
    "Oops#",
    "general protection fault",
    "invalid opcode:",
    "Unable to handle kernel",
    "unable to handle page fault",
    "Kernel panic",
    "KASAN: ",
    "KCSAN: ",
    "KMSAN: ",
    "UBSAN: ",
    "kmemleak: unreferenced",
    "unreferenced object 0x",
    "new suspected memory leaks",
    // From here on the kernel would find nothing any more.
    "kmemleak: Memory pool empty",
    "kmemleak: Kernel memory leak detector disabled",
    "turning off the locking correctness validator",
    "Disabling lock debugging due to kernel taint",
    "ODEBUG: Out of memory",
    "scheduling while atomic",
    "sleeping function called from invalid context",
    "possible recursive locking",
    "possible circular locking",
    "possible irq lock inversion",
    "inconsistent lock state",
    "Invalid wait context",
    "bad unlock balance",
    "held lock freed",
    "lock held when returning to user space",
    "suspicious RCU usage",
    "self-detected stall",
    "detected stalls on CPUs",
    "detected expedited stalls",
    "blocked for more than",
    "soft lockup",
    "hard LOCKUP",
    "refcount_t: ",
    "ODEBUG: ",
    "Poison overwritten",
    "edzone overwritten",
    "pagealloc: ",
    "usercopy: Kernel memory ",
    "list_add corruption",
    "list_del corruption",
    "Bad page state",
    "Bad rss-counter",
    "rust_kernel: panicked",
    "panicked at ",
    "illegal operation: ",
    "Unexpected reboot",
    "still has locks held",
    "Voluntary context switch within RCU",
    "DEBUG_LOCKS_WARN_ON",
    "Object already free",
    "Objects remaining in",
    "nested-virtualization reference leaked",
];

/// What looks like trouble and is none.
const HARMLESS: &[&str] = &[
    // Said at every boot of a machine whose firmware leaves some mitigation out.
    "Spectre V2 : WARNING: Unprivileged eBPF",
    "Spectre V2 mitigation leaves CPU vulnerable",
];

/// Most lines of a report that are shown.
const REPORT_LINES: usize = 60;

/// Lines of a report end with one of these, or with the next report.
const ENDS: &[&str] = &["---[ end trace", "=================", "</TASK>"];

/// The reports in `log`, one text each; none if all is well.
pub fn reports(log: &str) -> Vec<String> {
    let lines: Vec<&str> = log.lines().collect();
    let mut reports = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        if is_trouble(lines[at]) {
            let end = end_of_report(&lines, at);
            reports.push(lines[at..end].join("\n"));
            at = end;
        } else {
            at += 1;
        }
    }
    reports
}

fn is_trouble(line: &str) -> bool {
    SIGNS.iter().any(|sign| line.contains(sign)) && !HARMLESS.iter().any(|sign| line.contains(sign))
}

/// Index after the last line of the report that starts at `start`: its end mark if one comes soon,
/// or the rest of the indented or trace-like lines.
fn end_of_report(lines: &[&str], start: usize) -> usize {
    let limit = lines.len().min(start + REPORT_LINES);
    for (at, line) in lines.iter().enumerate().take(limit).skip(start + 1) {
        if ENDS.iter().any(|end| line.contains(end)) {
            return at + 1;
        }
    }
    lines.len().min(start + 12)
}

#[cfg(test)]
mod tests;
