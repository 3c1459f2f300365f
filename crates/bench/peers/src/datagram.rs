//! Messages that stand for several datagrams of one sender and one length: how the kernel tells of such a one, and how
//! it is told to send one. See udp(7), UDP_GRO and UDP_SEGMENT, and cmsg(3).

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use crate::check;

/// One header and a number, padded to words of 64 bits.
pub const CONTROL_BYTES: usize = 24;
/// The longest message: all of an IP packet.
pub const MESSAGE_BYTES_MAX: usize = 65_536;
/// A header: length in one word, then level and type in an int each.
const HEAD_BYTES: usize = size_of::<libc::cmsghdr>();

/// What stands beside a message.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub struct Control(pub [u8; CONTROL_BYTES]);

impl Control {
    pub const EMPTY: Control = Control([0; CONTROL_BYTES]);

    /// Beside a message that is to leave as datagrams of so many bytes.
    pub fn segments(bytes: u16) -> Self {
        let mut control = [0; CONTROL_BYTES];
        control[..8].copy_from_slice(&(HEAD_BYTES + size_of::<u16>()).to_ne_bytes());
        control[8..12].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
        control[12..16].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
        control[16..18].copy_from_slice(&bytes.to_ne_bytes());
        Control(control)
    }
}

/// The length of the datagrams in a message of `length` bytes, if it is several.
pub fn coalesced(control: &[u8], length: usize) -> Option<u16> {
    let number = |at: usize| control.get(at..at + 4).map(|bytes| i32::from_ne_bytes(bytes.try_into().unwrap()));
    let is_told = number(8) == Some(libc::SOL_UDP) && number(12) == Some(libc::UDP_GRO);
    let bytes = number(HEAD_BYTES).filter(|_| is_told)?;
    u16::try_from(bytes).ok().filter(|bytes| *bytes > 0 && usize::from(*bytes) < length)
}

/// Lets a socket take several datagrams as one message.
pub fn coalesce(socket: &UdpSocket) -> io::Result<()> {
    set(socket, libc::UDP_GRO, 1)
}

/// Lets everything that a socket sends leave as datagrams of so many bytes.
pub fn segment(socket: &UdpSocket, bytes: i32) -> io::Result<()> {
    set(socket, libc::UDP_SEGMENT, bytes)
}

fn set(socket: &UdpSocket, option: i32, value: i32) -> io::Result<()> {
    let (value, bytes) = ((&raw const value).cast(), size_of::<i32>() as libc::socklen_t);
    // SAFETY: setsockopt(2) — the value is an int on this stack.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, option, value, bytes) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_are_told_from_one() {
        let mut control = Control::segments(1200);
        assert_eq!(coalesced(&control.0, 2400), None, "to be sent, not received");
        control.0[12..16].copy_from_slice(&libc::UDP_GRO.to_ne_bytes());
        control.0[16..20].copy_from_slice(&1200i32.to_ne_bytes());
        assert_eq!(coalesced(&control.0, 2400), Some(1200));
        assert_eq!(coalesced(&control.0, 1200), None);
        assert_eq!(coalesced(&[], 2400), None);
    }
}
