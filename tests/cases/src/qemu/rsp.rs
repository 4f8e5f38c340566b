// SPDX-License-Identifier: GPL-2.0
//! The remote protocol of gdb, as far as the tests speak it: packets `$DATA#SUM`, each acknowledged with
//! `+`.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// How long an answer, or a stop, may take.
const ANSWER: Duration = Duration::from_secs(60);

/// Where RIP is in the packet of all registers: after sixteen others.
const RIP: usize = 16;

/// Kinds of breakpoints in `Z` packets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Break {
    /// An instruction put into the guest's code.
    Software = 0,
    /// A debug register.
    Hardware = 1,
    /// A debug register that looks at writes.
    Write = 2,
}

/// A debugger's connection to QEMU.
pub(crate) struct Rsp(UnixStream);

impl Rsp {
    /// Takes over a connection. The guest has been stopped by it.
    pub(crate) fn new(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(ANSWER)).context("setting a limit")?;
        let mut rsp = Self(stream);
        let stop = rsp.request("?")?;
        ensure!(is_stop(&stop), "the first answer is '{stop}'");
        Ok(rsp)
    }

    /// Sends a request and returns the answer.
    pub(crate) fn request(&mut self, data: &str) -> Result<String> {
        self.send(data)?;
        self.receive().with_context(|| format!("the answer to '{data}'"))
    }

    /// The processors go on.
    pub(crate) fn start(&mut self) -> Result<()> {
        self.send("vCont;c")
    }

    /// Waits for a stop after [`Rsp::start`].
    pub(crate) fn await_stop(&mut self) -> Result<u32> {
        let stop = self.receive().context("waiting for a stop")?;
        self.stopped(&stop)
    }

    /// Asks running processors to stop.
    pub(crate) fn interrupt(&mut self) -> Result<u32> {
        self.0.write_all(&[3]).context("interrupting")?;
        self.await_stop()
    }

    /// Lets one processor execute one instruction.
    pub(crate) fn step(&mut self, thread: u32) -> Result<()> {
        let stop = self.request(&format!("vCont;s:{thread:x}"))?;
        let stopped = self.stopped(&stop)?;
        ensure!(stopped == thread, "thread {stopped} stopped in place of {thread}");
        Ok(())
    }

    /// The instruction pointer of a processor.
    pub(crate) fn rip(&mut self, thread: u32) -> Result<u64> {
        self.expect_ok(&format!("Hg{thread:x}"))?;
        let registers = self.request("g")?;
        let digits = registers.get(RIP * 16..RIP * 16 + 16).context("too few registers")?;
        Ok(u64::from_str_radix(digits, 16).context("a register")?.swap_bytes())
    }

    /// Reads eight bytes of the guest's memory as processor `thread` sees it.
    pub(crate) fn word(&mut self, thread: u32, address: u64) -> Result<u64> {
        self.expect_ok(&format!("Hg{thread:x}"))?;
        let digits = self.request(&format!("m{address:x},8"))?;
        Ok(u64::from_str_radix(&digits, 16).with_context(|| digits)?.swap_bytes())
    }

    /// Sets a breakpoint.
    pub(crate) fn set(&mut self, kind: Break, address: u64) -> Result<()> {
        self.expect_ok(&format!("Z{},{address:x},{}", kind as u8, length(kind)))
    }

    /// Removes a breakpoint.
    pub(crate) fn clear(&mut self, kind: Break, address: u64) -> Result<()> {
        self.expect_ok(&format!("z{},{address:x},{}", kind as u8, length(kind)))
    }

    /// Leaves the guest alone: it goes on.
    pub(crate) fn detach(mut self) -> Result<()> {
        self.expect_ok("D")
    }

    fn expect_ok(&mut self, data: &str) -> Result<()> {
        let answer = self.request(data)?;
        ensure!(answer == "OK", "the answer to '{data}' is '{answer}'");
        Ok(())
    }

    /// The thread in a stop packet, `T05thread:NUMBER;…`.
    fn stopped(&mut self, packet: &str) -> Result<u32> {
        ensure!(is_stop(packet), "'{packet}' in place of a stop");
        let thread = packet.split("thread:").nth(1).and_then(|rest| rest.split(';').next());
        let digits = thread.with_context(|| format!("no thread in '{packet}'"))?;
        // `pPROCESS.THREAD` or just the thread.
        let digits = digits.rsplit('.').next().unwrap_or(digits);
        u32::from_str_radix(digits, 16).with_context(|| format!("thread '{digits}'"))
    }

    fn send(&mut self, data: &str) -> Result<()> {
        let packet = format!("${data}#{:02x}", sum(data.as_bytes()));
        self.0.write_all(packet.as_bytes()).context("sending to the gdb stub")?;
        let byte = self.byte()?;
        ensure!(byte == b'+', "'{data}' was not acknowledged but answered with {byte:#x}");
        Ok(())
    }

    fn receive(&mut self) -> Result<String> {
        loop {
            match self.byte()? {
                b'$' => break,
                b'+' => {}
                other => bail!("{other:#x} where a packet should begin"),
            }
        }
        let mut data = Vec::new();
        loop {
            match self.byte()? {
                b'#' => break,
                byte => data.push(byte),
            }
        }
        let digits = [self.byte()?, self.byte()?];
        let want = std::str::from_utf8(&digits).ok().and_then(|d| u8::from_str_radix(d, 16).ok());
        ensure!(want == Some(sum(&data)), "a packet with a wrong sum");
        self.0.write_all(b"+").context("acknowledging")?;
        String::from_utf8(expand(&data)).context("a packet")
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.0.read_exact(&mut byte).context("reading from the gdb stub")?;
        Ok(byte[0])
    }
}

fn is_stop(packet: &str) -> bool {
    packet.starts_with("T05") || packet.starts_with("S05") || packet.starts_with("T02")
}

/// The sum that ends a packet.
fn sum(data: &[u8]) -> u8 {
    data.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

/// Undoes run-length encoding: `X*C` is X and then C - 29 more of it.
fn expand(data: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    let mut bytes = data.iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, out.last().copied()) {
            (b'*', Some(last)) => {
                let count = bytes.next().unwrap_or(29).saturating_sub(29);
                out.extend(std::iter::repeat_n(last, count.into()));
            }
            _ => out.push(byte),
        }
    }
    out
}

fn length(kind: Break) -> u8 {
    match kind {
        Break::Software | Break::Hardware => 1,
        Break::Write => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::{expand, sum};

    #[test]
    fn packets() {
        assert_eq!(sum(b"OK"), 0x9a);
        assert_eq!(expand(b"0* 1"), b"00001");
        assert_eq!(expand(b"T05"), b"T05");
    }
}
