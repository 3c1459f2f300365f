//! Joining of a socket to a port: what the port needs to know of it, and what is set on it.
#![allow(unsafe_code)]

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::Networking::WinSock::{
    AF_INET6, SIO_UDP_CONNRESET, SIO_UDP_NETRESET, SO_PROTOCOL_INFOW, SOCK_DGRAM, SOCKET, SOL_SOCKET, WSAIoctl,
    WSAPROTOCOL_INFOW, XP1_IFS_HANDLES, getsockopt,
};
use windows_sys::Win32::Storage::FileSystem::SetFileCompletionNotificationModes;
use windows_sys::Win32::System::WindowsProgramming::{
    FILE_SKIP_COMPLETION_PORT_ON_SUCCESS, FILE_SKIP_SET_EVENT_ON_HANDLE,
};

use super::blocks::last_error;
use super::port::Port;
use crate::base::error::Error;
use crate::platform::RawHandle;

/// What is known of a socket from the start.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::backend) struct Facts {
    /// IPv6, else IPv4.
    pub(in crate::backend) is_v6: bool,
    pub(in crate::backend) is_datagram: bool,
    /// An operation that ends at once leaves no completion.
    pub(in crate::backend) skips: bool,
}

/// Makes the socket one of the port's. `may_skip`: operations that end at once are to leave no completion, where the
/// socket's provider allows it.
pub(in crate::backend) fn associate(port: &Port, handle: RawHandle, may_skip: bool) -> Result<Facts, Error> {
    let info = protocol(handle)?;
    let is_datagram = info.iSocketType == SOCK_DGRAM;
    port.associate(handle)?;
    if is_datagram {
        switch_reports_off(handle);
    }
    let skips = may_skip && is_file(&info) && skip_on_success(handle);
    Ok(Facts { is_v6: info.iAddressFamily == i32::from(AF_INET6), is_datagram, skips })
}

/// Whether operations on sockets of this kind may end without a completion.
pub(in crate::backend) fn allows_skipping(handle: RawHandle) -> bool {
    protocol(handle).is_ok_and(|info| is_file(&info))
}

/// A layer between us and the system would see a completion that it does not expect, or miss one: only handles of the file
/// system itself may skip.
fn is_file(info: &WSAPROTOCOL_INFOW) -> bool {
    info.dwServiceFlags1 & XP1_IFS_HANDLES != 0
}

fn protocol(handle: RawHandle) -> Result<WSAPROTOCOL_INFOW, Error> {
    let (mut info, mut bytes) = (WSAPROTOCOL_INFOW::default(), size_of::<WSAPROTOCOL_INFOW>() as i32);
    // SAFETY: Win32: getsockopt — writes a structure of that length, on this stack.
    let result = unsafe {
        let value = (&raw mut info).cast();
        getsockopt(handle as SOCKET, SOL_SOCKET, SO_PROTOCOL_INFOW, value, &raw mut bytes)
    };
    if result == 0 { Ok(info) } else { Err(Error::from_os(last_error())) }
}

fn skip_on_success(handle: RawHandle) -> bool {
    let modes = FILE_SKIP_COMPLETION_PORT_ON_SUCCESS | FILE_SKIP_SET_EVENT_ON_HANDLE;
    // SAFETY: Win32: SetFileCompletionNotificationModes — an open handle; no memory is passed.
    unsafe { SetFileCompletionNotificationModes(handle as HANDLE, modes as u8) != 0 }
}

/// What ICMP says about one datagram would end the receive of others: WSAECONNRESET for an unreachable port, WSAENETRESET
/// for a time to live that has run out.
fn switch_reports_off(handle: RawHandle) {
    for code in [SIO_UDP_CONNRESET, SIO_UDP_NETRESET] {
        let (is_wanted, mut bytes) = (0i32, 0);
        // SAFETY: Win32: WSAIoctl — reads a BOOL on this stack. A system that does not know it says so: then it has no
        // such reports.
        unsafe {
            WSAIoctl(
                handle as SOCKET,
                code,
                (&raw const is_wanted).cast(),
                size_of::<i32>() as u32,
                std::ptr::null_mut(),
                0,
                &raw mut bytes,
                std::ptr::null_mut(),
                None,
            );
        }
    }
}
