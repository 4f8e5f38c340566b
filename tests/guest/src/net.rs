// SPDX-License-Identifier: GPL-2.0
//! TCP with the host, over QEMU's user-mode network and its fixed addresses.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use guest_load::Stream;
use nix::errno::Errno;
use proto::Fields;

use crate::commands::Arguments;

/// What QEMU's DHCP server would hand out first.
const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
/// The host's loopback interface.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// `net PORT SEED KIB`: sends bytes to that port of the host, which sends each back with all its bits
/// turned over.
pub(crate) fn exchange(words: &mut Arguments<'_>) -> Result<Fields> {
    let port: u16 = words.next("port")?;
    let seed: u64 = words.next("seed")?;
    let kib: usize = words.next("number of KiB")?;
    let mut socket = connect(port)?;
    let mut sender = socket.try_clone().context("duplicating the socket")?;
    let sending = thread::spawn(move || -> Result<()> {
        let mut stream = Stream::new(seed);
        let mut buffer = [0; 1024];
        for _ in 0..kib {
            stream.fill(&mut buffer);
            sender.write_all(&buffer).context("sending")?;
        }
        sender.shutdown(Shutdown::Write).context("ending the sending")
    });
    let mut have = Vec::new();
    socket.read_to_end(&mut have).context("receiving")?;
    match sending.join() {
        Ok(result) => result?,
        Err(_) => bail!("the sender panicked"),
    }
    let mut want = vec![0; kib * 1024];
    Stream::new(seed).fill(&mut want);
    ensure!(have.len() == want.len(), "{} bytes of {} came back", have.len(), want.len());
    let different = have.iter().zip(&want).position(|(have, want)| *have != !*want);
    ensure!(different.is_none(), "byte {different:?} came back changed");
    Ok(Fields::new().with("bytes", have.len()))
}

/// `echo PORT`: connects, and sends back one byte for each that comes, until the other side ends it. The
/// processor is idle in between.
pub(crate) fn echo(words: &mut Arguments<'_>) -> Result<Fields> {
    let mut socket = connect(words.next("port")?)?;
    let mut byte = [0];
    let mut count = 0_u64;
    while socket.read(&mut byte).context("receiving")? == 1 {
        socket.write_all(&byte).context("sending")?;
        count += 1;
    }
    Ok(Fields::new().with("bytes", count))
}

fn connect(port: u16) -> Result<TcpStream> {
    let interface = interface()?;
    set_up(&interface).with_context(|| format!("setting up {interface}"))?;
    let socket =
        TcpStream::connect_timeout(&(HOST, port).into(), PATIENCE).context("connecting")?;
    socket.set_read_timeout(Some(PATIENCE)).context("setting a limit")?;
    socket.set_write_timeout(Some(PATIENCE)).context("setting a limit")?;
    socket.set_nodelay(true).context("setting no delay")?;
    Ok(socket)
}

/// The first network interface, which may take a while to appear.
fn interface() -> Result<String> {
    let start = Instant::now();
    loop {
        for entry in fs::read_dir("/sys/class/net").context("listing interfaces")? {
            let path = entry.context("listing interfaces")?.path();
            // Loopback and tunnels belong to no device.
            if Path::new(&path).join("device").exists() {
                return Ok(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
            }
        }
        ensure!(start.elapsed() < PATIENCE, "there is no network interface");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Address, mask, and up.
fn set_up(interface: &str) -> Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").context("making a socket")?;
    let address = |ip: Ipv4Addr| libc::__c_anonymous_ifr_ifru {
        ifru_addr: {
            let [a, b, c, d] = ip.octets();
            let mut data: [libc::c_char; 14] = [0; 14];
            for (to, from) in data[2..6].iter_mut().zip([a, b, c, d]) {
                *to = libc::c_char::from_ne_bytes([from]);
            }
            libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
        },
    };
    let flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    for (request, value) in [
        (libc::SIOCSIFADDR, address(OWN)),
        (libc::SIOCSIFNETMASK, address(MASK)),
        (libc::SIOCSIFFLAGS, libc::__c_anonymous_ifr_ifru { ifru_flags: flags }),
    ] {
        let mut name: [libc::c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
        for (to, from) in name[..libc::IFNAMSIZ - 1].iter_mut().zip(interface.bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        let wanted = libc::ifreq { ifr_name: name, ifr_ifru: value };
        // SAFETY: the socket is open, and these requests read an `ifreq`, which lives until they return.
        let answer = unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw const wanted) };
        Errno::result(answer).with_context(|| format!("request {request:#x}"))?;
    }
    Ok(())
}
