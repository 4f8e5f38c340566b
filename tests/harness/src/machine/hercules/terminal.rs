// SPDX-License-Identifier: GPL-2.0
//! A 3270 terminal that is none: a stream of bytes in each direction, as TN3270 (RFC 1576).
//!
//! Inside, the terminal is `/dev/3270/tubN`, the kernel's full-screen driver, which takes what is
//! written to it for a screen and does not look at it; neither does Hercules. So each write arrives
//! here as one record: the command WRITE, then the bytes.
//!
//! The other way the machine asks: an attention makes a `read` inside send READ BUFFER, and the answer
//! is what the `read` returns. Hercules has room for one record, so nothing may follow an attention
//! or an answer before it was taken: the sender waits for the question after an attention, and a
//! moment after an answer.

use std::collections::VecDeque;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::log::Log;

/// Telnet: commands, options and their parts.
const IAC: u8 = 255;
const DO: u8 = 253;
const WILL: u8 = 251;
const SB: u8 = 250;
const SE: u8 = 240;
const END_OF_RECORD: u8 = 239;
const BINARY: u8 = 0;
const TERMINAL_TYPE: u8 = 24;
const RECORDS: u8 = 25;
const IS: u8 = 0;
const SEND: u8 = 1;

/// A terminal that can be asked for its properties; the driver insists on asking.
const MODEL: &[u8] = b"IBM-3278-2-E@0010";

/// 3270 commands.
const WRITE: u8 = 0xf1;
const READ_BUFFER: u8 = 0xf2;
const WRITE_STRUCTURED_FIELD: u8 = 0xf3;
const READ_MODIFIED: u8 = 0xf6;

/// A record that says nothing: the decoder at the other end skips it.
const NOTHING: &[u8] = &[0];

/// Most bytes in an answer: what PID 1 reads at once.
const ANSWER: usize = 4096;

/// How long Hercules may take to take an answer.
const TAKING: Duration = Duration::from_millis(20);

/// When to draw attention again if nobody asks.
const AGAIN: Duration = Duration::from_secs(2);

/// Connects to Hercules at `port`. Both ends close when Hercules does, after the last line of `log`.
pub(super) fn connect(port: u16, log: Log) -> Result<(Incoming, Outgoing)> {
    let socket = TcpStream::connect(("127.0.0.1", port)).context("connecting")?;
    socket.set_nodelay(true).context("setting up the connection")?;
    let mut reader = BufReader::new(socket.try_clone().context("sharing the connection")?);
    negotiate(&mut reader, &socket).context("agreeing on TN3270")?;
    let line = Arc::new(Line::new(socket));
    let pump = Arc::clone(&line);
    thread::spawn(move || pump.pump());
    let incoming = Incoming { reader, line: Arc::clone(&line), log, ready: VecDeque::new() };
    Ok((incoming, Outgoing { line }))
}

/// Says what Hercules wants to hear, in its order.
fn negotiate(reader: &mut impl Read, mut socket: &TcpStream) -> Result<()> {
    let kind = [&[IAC, SB, TERMINAL_TYPE, IS], MODEL, &[IAC, SE]].concat();
    let steps: [(&[u8], &[u8]); 4] = [
        (&[IAC, DO, TERMINAL_TYPE], &[IAC, WILL, TERMINAL_TYPE]),
        (&[IAC, SB, TERMINAL_TYPE, SEND, IAC, SE], &kind),
        (&[IAC, DO, RECORDS, IAC, WILL, RECORDS], &[IAC, WILL, RECORDS, IAC, DO, RECORDS]),
        (&[IAC, DO, BINARY, IAC, WILL, BINARY], &[IAC, WILL, BINARY, IAC, DO, BINARY]),
    ];
    for (question, answer) in steps {
        let mut heard = vec![0; question.len()];
        reader.read_exact(&mut heard)?;
        ensure!(heard == question, "Hercules says {heard:?} in the place of {question:?}");
        socket.write_all(answer)?;
    }
    Ok(())
}

/// Reads up to the end of a record; none at the end of the stream.
fn read_record(reader: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut record = Vec::new();
    let mut bytes = reader.bytes();
    let mut next = || match bytes.next() {
        None => Ok(None),
        Some(Err(error)) if error.kind() == ErrorKind::ConnectionReset => Ok(None),
        Some(byte) => byte.map(Some),
    };
    while let Some(byte) = next()? {
        if byte != IAC {
            record.push(byte);
            continue;
        }
        match next()? {
            Some(END_OF_RECORD) => return Ok(Some(record)),
            Some(IAC) => record.push(IAC),
            _ => {}
        }
    }
    Ok(None)
}

/// The sending direction, shared by who writes, who answers and who draws attention.
struct Line {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    socket: TcpStream,
    queue: VecDeque<u8>,
    /// When attention was drawn, if that was not answered yet.
    asked: Option<Instant>,
    /// When the last answer was given.
    answered: Instant,
    closed: bool,
}

impl Line {
    fn new(socket: TcpStream) -> Line {
        let state = State {
            socket,
            queue: VecDeque::new(),
            asked: None,
            answered: Instant::now(),
            closed: false,
        };
        Line { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws attention to what is in the queue, until the line is closed.
    fn pump(&self) {
        let mut state = self.lock();
        while !state.closed {
            let wait = state.until_attention(Instant::now());
            state = match wait {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    state.asked = Some(Instant::now());
                    if state.send(NOTHING).is_err() {
                        return;
                    }
                    state
                }
                Some(wait) => {
                    self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Answers a question with what there is.
    fn answer(&self) -> io::Result<()> {
        let mut state = self.lock();
        let count = state.queue.len().min(ANSWER);
        let bytes: Vec<u8> = state.queue.drain(..count).collect();
        state.asked = None;
        state.answered = Instant::now();
        self.changed.notify_all();
        state.send(if bytes.is_empty() { NOTHING } else { &bytes })
    }
}

impl State {
    /// How long to wait before drawing attention; none while there is nothing to send.
    fn until_attention(&self, now: Instant) -> Option<Duration> {
        if self.queue.is_empty() {
            return None;
        }
        let due = self.asked.map_or(self.answered + TAKING, |asked| asked + AGAIN);
        Some(due.saturating_duration_since(now))
    }

    fn send(&mut self, record: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(record.len() + 2);
        for &byte in record {
            bytes.push(byte);
            if byte == IAC {
                bytes.push(IAC);
            }
        }
        bytes.extend([IAC, END_OF_RECORD]);
        self.socket.write_all(&bytes)
    }
}

/// What the machine writes.
pub(super) struct Incoming {
    reader: BufReader<TcpStream>,
    line: Arc<Line>,
    log: Log,
    ready: VecDeque<u8>,
}

impl Incoming {
    fn take(&mut self, record: &[u8]) -> io::Result<()> {
        match record.split_first() {
            Some((&WRITE, bytes)) => self.ready.extend(bytes),
            Some((&READ_BUFFER, _)) => self.line.answer()?,
            // The question for the terminal's properties, and a second look at the answer. Any
            // answer will do: the driver then takes the smallest terminal for granted.
            Some((&(WRITE_STRUCTURED_FIELD | READ_MODIFIED), _)) => {
                self.line.lock().send(NOTHING)?
            }
            // Greetings of Hercules, and the screen being cleared.
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self) {
        let mut state = self.line.lock();
        state.closed = true;
        let _ = state.socket.shutdown(Shutdown::Both);
        drop(state);
        self.line.changed.notify_all();
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() {
            let Some(record) = read_record(&mut self.reader)? else {
                self.close();
                self.log.wait();
                return Ok(0);
            };
            self.take(&record)?;
        }
        self.ready.read(buffer)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.close();
    }
}

/// What the machine reads.
pub(super) struct Outgoing {
    line: Arc<Line>,
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.line.lock();
        if state.closed {
            return Err(ErrorKind::BrokenPipe.into());
        }
        state.queue.extend(bytes);
        drop(state);
        self.line.changed.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_end_where_they_say() {
        let mut stream: &[u8] = &[WRITE, b'a', IAC, IAC, IAC, END_OF_RECORD, WRITE];
        assert_eq!(read_record(&mut stream).unwrap(), Some(vec![WRITE, b'a', IAC]));
        assert_eq!(read_record(&mut stream).unwrap(), None);
    }
}
