// SPDX-License-Identifier: GPL-2.0
//! One frame is one line: `@@`, a letter for the kind, the payload in base64, `!`, and four hex
//! digits of a CRC-16 over the letter and the payload. Lines of any other form are console text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::crc::crc16;

/// Most bytes of payload in a frame on a channel without a line limit.
pub const MAX_PAYLOAD: usize = 3072;

/// Most bytes of payload in a frame whose line must fit 120 columns.
pub const NARROW_PAYLOAD: usize = 84;

/// What every frame starts with.
pub(crate) const MARK: &str = "@@";

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Machine is up; the payload is the kernel release.
    Hello,
    /// Bytes the command wrote to its standard output.
    Stdout,
    /// Bytes the command wrote to its standard error.
    Stderr,
    /// A part of the kernel's log, sent whole before the exit status.
    KernelLog,
    /// A line for the person at the other end: what PID 1 does, or why it cannot.
    Note,
    /// The end: an [`Exit`] in text form.
    Exit,
    /// Host to machine: bytes for the command's standard input.
    Stdin,
    /// Host to machine: the size of the terminal, `rows columns`.
    Window,
    /// Host to machine: no more input will come.
    EndOfInput,
}

impl Kind {
    const ALL: [(Kind, u8); 9] = [
        (Kind::Hello, b'H'),
        (Kind::Stdout, b'O'),
        (Kind::Stderr, b'E'),
        (Kind::KernelLog, b'L'),
        (Kind::Note, b'N'),
        (Kind::Exit, b'X'),
        (Kind::Stdin, b'I'),
        (Kind::Window, b'W'),
        (Kind::EndOfInput, b'K'),
    ];

    /// The letter that stands for this kind on the line.
    pub fn letter(self) -> u8 {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or(b'?', |(_, letter)| *letter)
    }

    /// The kind that `letter` stands for.
    pub fn from_letter(letter: u8) -> Option<Kind> {
        Self::ALL.iter().find(|(_, l)| *l == letter).map(|(kind, _)| *kind)
    }
}

/// One frame, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it carries.
    pub kind: Kind,
    /// The bytes.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame of `kind` with `payload`.
    pub fn new(kind: Kind, payload: impl Into<Vec<u8>>) -> Frame {
        Frame { kind, payload: payload.into() }
    }

    /// The line for this frame, newline included.
    pub fn to_line(&self) -> String {
        let letter = self.kind.letter();
        format!(
            "{MARK}{}{}!{:04x}\n",
            char::from(letter),
            STANDARD.encode(&self.payload),
            checksum(letter, &self.payload)
        )
    }

    /// The frame in `line` (without its line end), if it is a whole and sound one.
    pub fn from_line(line: &str) -> Option<Frame> {
        let rest = line.strip_prefix(MARK)?;
        let (&letter, _) = rest.as_bytes().split_first()?;
        let kind = Kind::from_letter(letter)?;
        let (text, check) = rest.get(1..)?.split_once('!')?;
        let payload = STANDARD.decode(text).ok()?;
        let check = u16::from_str_radix(check.trim_end(), 16).ok()?;
        (check == checksum(letter, &payload)).then_some(Frame { kind, payload })
    }

    /// Cuts `bytes` into frames of at most `limit` bytes of payload.
    pub fn split(kind: Kind, bytes: &[u8], limit: usize) -> impl Iterator<Item = Frame> + '_ {
        bytes.chunks(limit.max(1)).map(move |chunk| Frame::new(kind, chunk))
    }
}

fn checksum(letter: u8, payload: &[u8]) -> u16 {
    crc16(crc16(0, &[letter]), payload)
}

/// The payload of the last frame: how the command ended, and how many frames the machine sent
/// before this one, so that the host sees when a console swallowed some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit status as a shell gives it (128 + signal for a killed command).
    pub status: u8,
    /// Frames sent before this one.
    pub frames: u64,
}

impl Exit {
    /// The text form, `status frames`.
    pub fn to_payload(self) -> Vec<u8> {
        format!("{} {}", self.status, self.frames).into_bytes()
    }

    /// Reads the text form.
    pub fn from_payload(payload: &[u8]) -> Option<Exit> {
        let (status, frames) = std::str::from_utf8(payload).ok()?.split_once(' ')?;
        Some(Exit { status: status.parse().ok()?, frames: frames.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_survives_its_line() {
        for (kind, _) in Kind::ALL {
            let frame = Frame::new(kind, (0..=255).collect::<Vec<u8>>());
            assert_eq!(Frame::from_line(frame.to_line().trim_end()), Some(frame));
        }
    }

    #[test]
    fn narrow_frames_fit_120_columns() {
        let line = Frame::new(Kind::Stdout, [0xff; NARROW_PAYLOAD]).to_line();
        assert!(line.trim_end().len() <= 120, "{}", line.len());
    }

    #[test]
    fn a_damaged_line_is_no_frame() {
        let line = Frame::new(Kind::Stdout, *b"hello").to_line();
        let damaged = line.replacen("aGVs", "aGVt", 1);
        assert_ne!(line, damaged);
        assert_eq!(Frame::from_line(damaged.trim_end()), None);
        assert_eq!(Frame::from_line("@@"), None);
        assert_eq!(Frame::from_line("@@\u{e9}!0000"), None);
        assert_eq!(Frame::from_line("plain text"), None);
    }

    #[test]
    fn exit_survives_its_payload() {
        let exit = Exit { status: 3, frames: 70_000 };
        assert_eq!(Exit::from_payload(&exit.to_payload()), Some(exit));
        assert_eq!(Exit::from_payload(b"3"), None);
    }
}
