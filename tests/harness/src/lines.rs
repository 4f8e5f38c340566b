// SPDX-License-Identifier: GPL-2.0
//! Lines of what comes in pieces.

/// What came and isn't a whole line yet.
#[derive(Default)]
pub struct Lines(Vec<u8>);

impl Lines {
    /// Takes a piece; the lines that are whole now.
    pub fn take(&mut self, piece: &[u8]) -> Vec<String> {
        self.0.extend(piece);
        let Some(end) = self.0.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let rest = self.0.split_off(end + 1);
        let whole = std::mem::replace(&mut self.0, rest);
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_lines() {
        let mut lines = Lines::default();
        assert!(lines.take(b"on").is_empty());
        assert_eq!(lines.take(b"e\ntwo\n\nthr"), ["one", "two", ""]);
        assert_eq!(lines.take(b"ee\n"), ["three"]);
        assert!(lines.take(b"").is_empty());
    }
}
