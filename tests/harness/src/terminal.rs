// SPDX-License-Identifier: GPL-2.0
//! Between a machine and the person (or pipe) in front of the harness.

use std::io::{IsTerminal, Read, Write, stderr, stdin, stdout};
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::pty::Winsize;
use nix::sys::termios::{self, SetArg, Termios};
use proto::Kind;

use crate::channel;
use crate::session::{Listener, Sender};

nix::ioctl_read_bad!(get_window, libc::TIOCGWINSZ, Winsize);

/// Hands a run's output on, and for a shell also the input.
pub struct Terminal {
    name: &'static str,
    start: Instant,
    max_payload: usize,
    interactive: bool,
    raw: Option<Termios>,
}

impl Terminal {
    /// For a run of the machine called `name`; `interactive` if it takes input.
    pub fn new(name: &'static str, max_payload: usize, interactive: bool) -> Terminal {
        Terminal { name, start: Instant::now(), max_payload, interactive, raw: None }
    }

    /// Whether both ends of a shell are a terminal.
    pub fn is_real() -> bool {
        stdin().is_terminal() && stdout().is_terminal()
    }

    fn make_raw(&mut self) {
        let Ok(old) = termios::tcgetattr(stdin()) else {
            return;
        };
        let mut raw = old.clone();
        termios::cfmakeraw(&mut raw);
        if termios::tcsetattr(stdin(), SetArg::TCSANOW, &raw).is_ok() {
            self.raw = Some(old);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(old) = &self.raw {
            let _ = termios::tcsetattr(stdin(), SetArg::TCSANOW, old);
        }
    }
}

impl Listener for Terminal {
    fn up(&mut self, tx: &Sender) {
        eprintln!("{}: up after {:.1} s", self.name, self.start.elapsed().as_secs_f32());
        if !self.interactive {
            send(tx, Kind::EndOfInput, &[], self.max_payload);
            return;
        }
        if Terminal::is_real() {
            self.make_raw();
            let (tx, limit) = (tx.clone(), self.max_payload);
            thread::spawn(move || follow_window(&tx, limit));
        }
        let (tx, limit) = (tx.clone(), self.max_payload);
        thread::spawn(move || forward_input(&tx, limit));
    }

    fn stdout(&mut self, bytes: &[u8]) {
        // A reader that went away is no reason to end the machine in the middle of something.
        let _ = stdout().write_all(bytes).and_then(|()| stdout().flush());
    }

    fn stderr(&mut self, bytes: &[u8]) {
        let _ = stderr().write_all(bytes);
    }
}

fn send(tx: &Sender, kind: Kind, bytes: &[u8], limit: usize) {
    let mut tx = tx.lock().unwrap_or_else(PoisonError::into_inner);
    // A machine that is gone is noticed elsewhere.
    let _ = channel::send(&mut **tx, kind, bytes, limit);
}

fn forward_input(tx: &Sender, limit: usize) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stdin().read(&mut buffer) {
        send(tx, Kind::Stdin, &buffer[..count], limit);
    }
    send(tx, Kind::EndOfInput, &[], limit);
}

/// Tells the machine the window's size, and again when it changes.
fn follow_window(tx: &Sender, limit: usize) {
    let mut last = (0, 0);
    loop {
        let mut size = Winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: descriptor 0 is open and `size` is valid for the call.
        let known = unsafe { get_window(0, &mut size) }.is_ok();
        if known && last != (size.ws_row, size.ws_col) {
            last = (size.ws_row, size.ws_col);
            let text = format!("{} {}", size.ws_row, size.ws_col);
            send(tx, Kind::Window, text.as_bytes(), limit);
        }
        thread::sleep(Duration::from_millis(500));
    }
}
