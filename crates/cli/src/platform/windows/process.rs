//! The server's process, when it runs on this machine: found by its listening socket, then measured from outside.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use raon_provider::Address;
use windows_sys::Win32::Foundation::{ERROR_INSUFFICIENT_BUFFER, FILETIME, NO_ERROR};
use windows_sys::Win32::NetworkManagement::IpHelper::{GetExtendedTcpTable, GetExtendedUdpTable};
use windows_sys::Win32::NetworkManagement::IpHelper::{TCP_TABLE_OWNER_PID_LISTENER, UDP_TABLE_OWNER_PID};
use windows_sys::Win32::Networking::WinSock::{AF_INET, AF_INET6};
use windows_sys::Win32::System::ProcessStatus::{K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS};
use windows_sys::Win32::System::Threading::{GetProcessTimes, OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION};

use super::is_local;

/// Another process of this machine.
pub(crate) struct ServerProcess {
    handle: OwnedHandle,
}

impl ServerProcess {
    /// The process that listens, or takes datagrams, at an address of this machine; `None` if there is none or it is not
    /// ours to look at.
    pub(crate) fn listening_at(address: &Address, is_udp: bool) -> Option<Self> {
        let address = address.ip().filter(|address| is_local(address.ip()))?;
        let tables = if is_udp { &UDP } else { &TCP };
        ServerProcess::open(tables.iter().find_map(|table| table.owner(address))?)
    }

    fn open(pid: u32) -> Option<Self> {
        // SAFETY: Win32: OpenProcess takes numbers, and returns null or a handle that is the caller's to close.
        let handle = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid) };
        // SAFETY: Win32: OpenProcess has just returned it, and nobody else has it.
        (!handle.is_null()).then(|| ServerProcess { handle: unsafe { OwnedHandle::from_raw_handle(handle) } })
    }

    /// CPU time of all its threads so far, in nanoseconds; the system counts in ticks of its clock, up to 15.6 ms.
    pub(crate) fn cpu_ns(&self) -> Option<u64> {
        let nothing = FILETIME { dwLowDateTime: 0, dwHighDateTime: 0 };
        let [mut created, mut ended, mut kernel, mut user] = [nothing; 4];
        let handle = self.handle.as_raw_handle();
        // SAFETY: Win32: GetProcessTimes fills the four structures, which outlive the call; the handle is open and may query.
        let done = unsafe { GetProcessTimes(handle, &mut created, &mut ended, &mut kernel, &mut user) };
        let units = |time: FILETIME| u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime);
        (done != 0).then(|| (units(kernel) + units(user)) * 100)
    }

    /// Memory that it holds, in bytes.
    pub(crate) fn rss_bytes(&self) -> Option<u64> {
        let mut counters = PROCESS_MEMORY_COUNTERS::default();
        let length = size_of::<PROCESS_MEMORY_COUNTERS>() as u32;
        // SAFETY: Win32: K32GetProcessMemoryInfo fills one structure of that length; the handle is open and may query.
        let done = unsafe { K32GetProcessMemoryInfo(self.handle.as_raw_handle(), &mut counters, length) };
        (done != 0).then_some(counters.WorkingSetSize as u64)
    }
}

/// How the tables of TCP and of UDP are asked for: buffer, its length in bytes, sorted, family, which form, zero.
type Ask = unsafe extern "system" fn(*mut c_void, *mut u32, i32, u32, i32, u32) -> u32;

/// A list of sockets with their processes: a count, then rows of 32-bit words, see MIB_TCPTABLE_OWNER_PID and its kin.
struct Table {
    ask: Ask,
    form: i32,
    family: u16,
    /// Words of a row, and where in it address, port and process are.
    row: usize,
    address: usize,
    port: usize,
    pid: usize,
}

const TCP: [Table; 2] = [
    Table {
        ask: GetExtendedTcpTable,
        form: TCP_TABLE_OWNER_PID_LISTENER,
        family: AF_INET,
        row: 6,
        address: 1,
        port: 2,
        pid: 5,
    },
    Table {
        ask: GetExtendedTcpTable,
        form: TCP_TABLE_OWNER_PID_LISTENER,
        family: AF_INET6,
        row: 14,
        address: 0,
        port: 5,
        pid: 13,
    },
];

const UDP: [Table; 2] = [
    Table { ask: GetExtendedUdpTable, form: UDP_TABLE_OWNER_PID, family: AF_INET, row: 3, address: 0, port: 1, pid: 2 },
    Table {
        ask: GetExtendedUdpTable,
        form: UDP_TABLE_OWNER_PID,
        family: AF_INET6,
        row: 7,
        address: 0,
        port: 5,
        pid: 6,
    },
];

impl Table {
    /// Whose socket takes what goes to `address`.
    fn owner(&self, address: SocketAddr) -> Option<u32> {
        let words = self.words()?;
        let (count, rows) = words.split_first()?;
        let mut rows = rows.chunks_exact(self.row).take(*count as usize);
        rows.find_map(|row| {
            let is_port = u16::from_be(row[self.port] as u16) == address.port();
            let ip = self.ip(row)?;
            let takes = ip.is_unspecified() || ip.to_canonical() == address.ip().to_canonical();
            (is_port && takes).then_some(row[self.pid])
        })
    }

    /// The local address of a row; its bytes lie in memory in the order of the network.
    fn ip(&self, row: &[u32]) -> Option<IpAddr> {
        let octets: Vec<u8> = row[self.address..].iter().take(4).flat_map(|word| word.to_ne_bytes()).collect();
        match self.family {
            AF_INET => <[u8; 4]>::try_from(&octets[..4]).ok().map(|octets| Ipv4Addr::from(octets).into()),
            _ => <[u8; 16]>::try_from(octets).ok().map(|octets| Ipv6Addr::from(octets).into()),
        }
    }

    /// The table as it is now. It may grow between asking for its length and for itself: then once more.
    fn words(&self) -> Option<Vec<u32>> {
        const TRIES: usize = 8;
        let mut words: Vec<u32> = Vec::new();
        for _ in 0..TRIES {
            let mut bytes = u32::try_from(size_of_val(&words[..])).ok()?;
            let place = if words.is_empty() { ptr::null_mut() } else { words.as_mut_ptr().cast() };
            // SAFETY: Win32: GetExtendedTcpTable and GetExtendedUdpTable write at most `bytes` bytes to `place`, as long as
            // the vector is, whose words may hold anything; with 0 they write the wanted length only.
            match unsafe { (self.ask)(place, &mut bytes, 0, self.family.into(), self.form, 0) } {
                NO_ERROR => return Some(words),
                ERROR_INSUFFICIENT_BUFFER => words = vec![0; (bytes as usize).div_ceil(size_of::<u32>())],
                _ => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use raon_conformance::vacant::Vacant;

    use super::*;

    #[test]
    fn finds_itself() {
        for bind in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"] {
            let listener = TcpListener::bind(bind).unwrap();
            let address = listener.local_addr().unwrap();
            let owner = TCP.iter().find_map(|table| table.owner(address));
            assert_eq!(owner, Some(std::process::id()), "{bind}");
            let process = ServerProcess::listening_at(&address.into(), false).unwrap();
            assert!(process.rss_bytes().unwrap() > 100_000);
            assert!(process.cpu_ns().is_some());
        }
    }

    #[test]
    fn finds_itself_by_its_datagram_socket() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert_eq!(UDP.iter().find_map(|table| table.owner(address)), Some(std::process::id()));
        let vacant = Vacant::stream();
        assert!(ServerProcess::listening_at(vacant.address(), false).is_none(), "nobody listens there");
    }
}
