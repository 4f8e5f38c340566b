// SPDX-License-Identifier: GPL-2.0
//! From a stream of bytes to frames and the console text between them.

use crate::frame::{Frame, MARK};

/// What a line of the stream turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A frame.
    Frame(Frame),
    /// A line (without its line end) that is no frame.
    Text(String),
}

/// Longest line kept; what has no line end by then is given out as text.
const LONGEST: usize = 64 * 1024;

/// Takes bytes as they come and gives items as they become whole.
#[derive(Debug, Default)]
pub struct Decoder {
    pending: Vec<u8>,
}

impl Decoder {
    /// A decoder at the start of a line.
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Adds `bytes` and returns the items that are whole now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Item> {
        let mut items = Vec::new();
        for &byte in bytes {
            match byte {
                b'\n' => self.end_line(&mut items),
                b'\0' => {}
                _ => self.pending.push(byte),
            }
            if self.pending.len() >= LONGEST {
                self.end_line(&mut items);
            }
        }
        items
    }

    /// The unfinished last line, at the end of the stream.
    pub fn finish(mut self) -> Vec<Item> {
        let mut items = Vec::new();
        if !self.pending.is_empty() {
            self.end_line(&mut items);
        }
        items
    }

    fn end_line(&mut self, items: &mut Vec<Item>) {
        let line = String::from_utf8_lossy(&self.pending).trim_end_matches('\r').to_owned();
        self.pending.clear();
        // Console text may stand before a frame on its line when two writers share the console.
        if let Some(at) = line.rfind(MARK) {
            if let Some(frame) = Frame::from_line(&line[at..]) {
                if !line[..at].trim().is_empty() {
                    items.push(Item::Text(line[..at].to_owned()));
                }
                items.push(Item::Frame(frame));
                return;
            }
        }
        items.push(Item::Text(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Kind;

    #[test]
    fn frames_and_text_in_any_cut() {
        let frame = Frame::new(Kind::Stdout, *b"abc");
        let stream = format!("booting\r\n{}[ 1.0] x {}", frame.to_line(), frame.to_line());
        let want = vec![
            Item::Text("booting".into()),
            Item::Frame(frame.clone()),
            Item::Text("[ 1.0] x ".into()),
            Item::Frame(frame),
        ];
        for cut in 1..stream.len() {
            let mut decoder = Decoder::new();
            let mut got = Vec::new();
            for chunk in stream.as_bytes().chunks(cut) {
                got.extend(decoder.push(chunk));
            }
            assert_eq!(got, want, "cut {cut}");
            assert!(decoder.finish().is_empty());
        }
    }

    #[test]
    fn an_unfinished_line_comes_out_at_the_end() {
        let mut decoder = Decoder::new();
        assert!(decoder.push(b"panic: at the dis").is_empty());
        assert_eq!(decoder.finish(), vec![Item::Text("panic: at the dis".into())]);
    }
}
