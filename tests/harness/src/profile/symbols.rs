// SPDX-License-Identifier: GPL-2.0
//! Which function an address of the machine's kernel belongs to.

use std::collections::BTreeMap;

/// Functions by their first addresses.
#[derive(Default)]
pub(super) struct Symbols(BTreeMap<u64, String>);

impl Symbols {
    /// Takes a line of `/proc/kallsyms`; whether it is one.
    pub(super) fn take(&mut self, line: &str) -> bool {
        let mut words = line.split_whitespace();
        let Some((address, kind, name)) =
            words.next().zip(words.next()).zip(words.next()).map(|((a, k), n)| (a, k, n))
        else {
            return false;
        };
        let (Ok(address), "t" | "T" | "w" | "W") = (u64::from_str_radix(address, 16), kind) else {
            return false;
        };
        let name = format!("{:#}", rustc_demangle::demangle(name));
        let name = match words.next() {
            Some(module) => format!("{name} {module}"),
            None => name,
        };
        // Of several names at one place, the first one listed.
        self.0.entry(address).or_insert(name);
        true
    }

    /// The function that holds `address`.
    pub(super) fn name(&self, address: u64) -> &str {
        self.0.range(..=address).next_back().map_or("unknown", |(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_belong_to_functions() {
        let mut symbols = Symbols::default();
        assert!(symbols.take("ffffffff81000000 T _stext"));
        assert!(symbols.take("ffffffffc0001000 t _RNvCs1234_3foo3bar\t[kvm]"));
        assert!(!symbols.take("ffffffff82000000 D data"));
        assert!(!symbols.take("measured exit/cpuid instructions 1 1"));
        assert_eq!(symbols.name(0xffff_ffff_8100_0010), "_stext");
        assert_eq!(symbols.name(0xffff_ffff_c000_1004), "foo::bar [kvm]");
        assert_eq!(symbols.name(0x1000), "unknown");
    }
}
