//! The server's process, when it runs on this machine: found by its listening socket, then measured from outside.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use raon_provider::Address;

use super::is_local;

/// Another process of this machine.
pub(crate) struct ServerProcess {
    pid: i32,
    clock: Option<ClockId>,
}

impl ServerProcess {
    /// The process that listens, or takes datagrams, at an address of this machine; `None` if there is none or its descriptors are hidden.
    pub(crate) fn listening_at(address: &Address, is_udp: bool) -> Option<Self> {
        let inodes = match address.ip() {
            Some(ip) if is_local(ip.ip()) => listening_inodes(ip, if is_udp { &UDP } else { &TCP }),
            Some(_) => return None,
            None => named_inodes(address),
        };
        let pid = fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            holds_socket(&entry.path(), &inodes).then_some(pid)
        })?;
        Some(ServerProcess { pid, clock: clock_getcpuclockid(Pid::from_raw(pid)).ok() })
    }

    /// CPU time of all its threads so far, in nanoseconds.
    pub(crate) fn cpu_ns(&self) -> Option<u64> {
        let clock = self.clock.and_then(|clock| clock.now().ok());
        clock.and_then(|time| u64::try_from(time.num_nanoseconds()).ok()).or_else(|| self.scheduled_ns())
    }

    /// The same from the scheduler's figures of each thread, where the process clock cannot be read.
    fn scheduled_ns(&self) -> Option<u64> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid)).ok()?.flatten();
        let times = threads.filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        Some(times.sum()).filter(|sum| *sum > 0)
    }

    /// Memory that it holds, in bytes.
    pub(crate) fn rss_bytes(&self) -> Option<u64> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).unwrap_or_default();
        let kilobytes = rollup.lines().find_map(|line| line.strip_prefix("Rss:")?.split_whitespace().next());
        if let Some(kilobytes) = kilobytes {
            return Some(kilobytes.parse::<u64>().ok()? * 1024);
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next())?;
        Some(kilobytes.parse::<u64>().ok()? * 1024)
    }
}

/// Where the kernel lists sockets, and how it writes the state of those that take what comes from anyone.
struct Tables {
    paths: [&'static str; 2],
    state: &'static str,
}

const TCP: Tables = Tables { paths: ["/proc/net/tcp", "/proc/net/tcp6"], state: "0A" };
const UDP: Tables = Tables { paths: ["/proc/net/udp", "/proc/net/udp6"], state: "07" };

/// Inodes of the sockets that listen where a connection or datagram to `address` arrives.
fn listening_inodes(address: SocketAddr, tables: &Tables) -> Vec<String> {
    let texts = tables.paths.map(|path| fs::read_to_string(path).unwrap_or_default());
    let lines = texts.iter().flat_map(|table| table.lines());
    lines.filter_map(|line| listening_inode(line, address, tables.state)).collect()
}

/// The inode, if a line of such a table is about a socket in that state that takes what goes to `address`, see proc(5).
fn listening_inode(line: &str, address: SocketAddr, wanted: &str) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, local, _, state, _, _, _, _, _, inode, ..] = fields[..] else { return None };
    let (ip, port) = local.split_once(':')?;
    let is_port = u16::from_str_radix(port, 16) == Ok(address.port());
    let ip = table_ip(ip)?;
    let takes = ip.is_unspecified() || ip.to_canonical() == address.ip().to_canonical();
    (state == wanted && is_port && takes).then(|| inode.to_owned())
}

/// Inodes of the Unix sockets that listen under that name.
fn named_inodes(address: &Address) -> Vec<String> {
    let text = address.to_string();
    let name = text.strip_prefix("unix:").unwrap_or_default();
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    table.lines().filter_map(|line| named_inode(line, name)).collect()
}

/// The inode, if a line of `/proc/net/unix` is about a listener of that name, see unix(7) and proc(5).
fn named_inode(line: &str, name: &str) -> Option<String> {
    /// Of the flags: it listens.
    const ACCEPTS: &str = "00010000";
    let fields: Vec<&str> = line.strip_suffix(name)?.split_whitespace().collect();
    let [_, _, _, flags, _, _, inode] = fields[..] else { return None };
    (flags == ACCEPTS).then(|| inode.to_owned())
}

/// An address as the kernel prints it: words of 32 bits, each in the machine's byte order.
fn table_ip(text: &str) -> Option<IpAddr> {
    let words: Vec<[u8; 4]> = (0..text.len() / 8)
        .map_while(|index| u32::from_str_radix(text.get(index * 8..index * 8 + 8)?, 16).ok())
        .map(u32::to_ne_bytes)
        .collect();
    match words[..] {
        [word] => Some(Ipv4Addr::from(word).into()),
        [_, _, _, _] => <[u8; 16]>::try_from(words.concat()).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

fn holds_socket(process: &Path, inodes: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    descriptors.flatten().any(|descriptor| {
        let target = fs::read_link(descriptor.path()).unwrap_or_default();
        let inode = target.to_str().and_then(|target| target.strip_prefix("socket:[")?.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.iter().any(|wanted| wanted == inode))
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn finds_itself() {
        for bind in ["127.0.0.1:0", "0.0.0.0:0"] {
            let listener = TcpListener::bind(bind).unwrap();
            let port = listener.local_addr().unwrap().port();
            let process = ServerProcess::listening_at(&([127, 0, 0, 1], port).into(), false).unwrap();
            assert_eq!(process.pid, std::process::id() as i32);
            assert!(process.cpu_ns().unwrap() > 0);
            assert!(process.rss_bytes().unwrap() > 100_000);
        }
    }

    #[test]
    fn finds_itself_by_its_datagram_socket() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let process = ServerProcess::listening_at(&socket.local_addr().unwrap().into(), true).unwrap();
        assert_eq!(process.pid, std::process::id() as i32);
    }

    #[test]
    fn reads_the_table_of_ipv6() {
        let line =
            "0: 00000000000000000000000001000000:2328 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 77 1";
        assert_eq!(listening_inode(line, "[::1]:9000".parse().unwrap(), "0A").as_deref(), Some("77"));
        assert_eq!(listening_inode(line, "[::1]:9001".parse().unwrap(), "0A"), None);
        assert_eq!(listening_inode("sl local_address rem_address", "[::1]:9000".parse().unwrap(), "0A"), None);
    }

    #[test]
    fn reads_the_table_of_unix_sockets() {
        let line = |flags: &str, name: &str| format!("0000000000000000: 00000002 00000000 {flags} 0001 01 4711 {name}");
        assert_eq!(named_inode(&line("00010000", "/run/a b.sock"), "/run/a b.sock").as_deref(), Some("4711"));
        assert_eq!(named_inode(&line("00010000", "@echo"), "@echo").as_deref(), Some("4711"));
        assert_eq!(named_inode(&line("00000000", "@echo"), "@echo"), None, "a connection");
        assert_eq!(named_inode(&line("00010000", "@echo2"), "@echo"), None);
        assert_eq!(named_inode(&line("00010000", "/run/a b.sock"), "b.sock"), None);
    }
}
