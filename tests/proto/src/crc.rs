// SPDX-License-Identifier: GPL-2.0
//! CRC-16/XMODEM, the checksum of a frame.

/// Continues the checksum `crc` (0 at the start) over `bytes`.
pub(crate) fn crc16(crc: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(crc, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::crc16;

    #[test]
    fn check_value_of_the_catalogue() {
        assert_eq!(crc16(0, b"123456789"), 0x31c3);
    }

    #[test]
    fn can_be_continued() {
        assert_eq!(crc16(crc16(0, b"1234"), b"56789"), 0x31c3);
    }
}
