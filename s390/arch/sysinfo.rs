// SPDX-License-Identifier: GPL-2.0
//! What STORE SYSTEM INFORMATION says of virtual machines (3.2.2).

/// Bytes of a block.
pub const SIZE: usize = 4096;
/// Offset of the count of levels, in the lower half of a byte.
const COUNT: usize = 31;
/// Offset of the first description.
const FIRST: usize = 32;
/// Bytes of a description.
const EACH: usize = 64;
/// Most descriptions.
const MOST: u8 = 8;

/// "KVMguest" in EBCDIC.
const NAME: [u8; 8] = [0xd2, 0xe5, 0xd4, 0x87, 0xa4, 0x85, 0xa2, 0xa3];
/// "KVM/Linux" in EBCDIC, with blanks.
const PROGRAM: [u8; 16] = [
    0xd2, 0xe5, 0xd4, 0x61, 0xd3, 0x89, 0x95, 0xa4, 0xa7, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40,
];
/// Share of a CPU that each one has, in thousandths.
const CAPACITY: u32 = 1000;

/// Puts one more level above those that a block tells of: a guest with so many
/// CPUs.
pub fn add_level(block: &mut [u8; SIZE], cpus: u16) {
    let Some(count) = block.get(COUNT).map(|byte| byte & 0xf) else { return };
    let count = count.saturating_add(1).min(MOST);
    let end = FIRST.saturating_add(EACH.saturating_mul(usize::from(MOST)));
    if let Some(all) = block.get_mut(FIRST..end) {
        all.copy_within(..end.saturating_sub(FIRST).saturating_sub(EACH), EACH);
    }
    if let Some(byte) = block.get_mut(COUNT) {
        *byte = *byte & 0xf0 | count;
    }
    let mut level = [0; EACH];
    let mut put = |offset: usize, bytes: &[u8]| {
        level.iter_mut().skip(offset).zip(bytes).for_each(|(to, from)| *to = *from);
    };
    put(4, &cpus.to_be_bytes());
    put(6, &cpus.to_be_bytes());
    put(12, &NAME);
    put(20, &CAPACITY.to_be_bytes());
    put(24, &PROGRAM);
    block.iter_mut().skip(FIRST).zip(level).for_each(|(to, from)| *to = from);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_stack() {
        let mut block = [0; SIZE];
        add_level(&mut block, 2);
        assert_eq!(block[COUNT], 1);
        assert_eq!(block[FIRST + 4..FIRST + 8], [0, 2, 0, 2]);
        add_level(&mut block, 3);
        assert_eq!(block[COUNT], 2);
        assert_eq!(block[FIRST + 5], 3);
        assert_eq!(block[FIRST + EACH + 5], 2);
        for _ in 0..10 {
            add_level(&mut block, 1);
        }
        assert_eq!(block[COUNT], 8);
        assert_eq!(block[FIRST + 8 * EACH], 0);
    }
}
