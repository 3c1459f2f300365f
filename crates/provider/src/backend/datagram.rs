//! Batches of datagrams by one system call each, for the back ends of Linux: recvmmsg(2) and sendmmsg(2).
#![allow(unsafe_code)]

use std::mem::zeroed;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::RawFd;

use crate::error::Error;
use crate::memory::{SpanList, SpanMut, Target};
use crate::readiness::{BATCH_MAX, Label, Tried, UNSPECIFIED};

/// An IPv6 address in the system's form, the longest that comes.
pub(crate) const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();

/// Receives what is there, one datagram per span, at most [`BATCH_MAX`], and says how many came.
pub(crate) fn receive(handle: RawFd, spans: &[SpanMut], labels: &mut [Label; BATCH_MAX]) -> Tried<usize> {
    // SAFETY: recvmmsg(2) — structures of zeroes are valid: no name, no buffers, no control data.
    let (mut headers, mut vectors, mut names): ([libc::mmsghdr; BATCH_MAX], [libc::iovec; BATCH_MAX], _) =
        unsafe { (zeroed(), zeroed(), [[0u8; NAME_BYTES]; BATCH_MAX]) };
    let count = spans.len().min(BATCH_MAX);
    for (at, span) in spans[..count].iter().enumerate() {
        vectors[at] = libc::iovec { iov_base: span.pointer.cast(), iov_len: span.length };
        let header = &mut headers[at].msg_hdr;
        header.msg_iov = &raw mut vectors[at];
        header.msg_iovlen = 1;
        header.msg_name = names[at].as_mut_ptr().cast();
        header.msg_namelen = NAME_BYTES as u32;
    }
    let came = call(|| {
        // SAFETY: recvmmsg(2) — `count` headers; what they point to is on this stack. OWN-1 — the spans are pool buffers in
        // our hands.
        unsafe { libc::recvmmsg(handle, headers.as_mut_ptr(), count as u32, libc::MSG_DONTWAIT, std::ptr::null_mut()) }
    });
    if let Tried::Done(came) = came {
        for at in 0..came {
            let header = &headers[at];
            let name = &names[at][..(header.msg_hdr.msg_namelen as usize).min(NAME_BYTES)];
            labels[at] = Label {
                length: header.msg_len as usize,
                from: address(name).unwrap_or(UNSPECIFIED),
                is_truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            };
        }
    }
    came
}

/// Sends datagrams of one socket, at most [`BATCH_MAX`], and says how many went, from the first on.
pub(crate) fn send(handle: RawFd, datagrams: &[(SpanList, Target)]) -> Tried<usize> {
    // SAFETY: sendmmsg(2) — headers of zeroes are valid.
    let mut headers: [libc::mmsghdr; BATCH_MAX] = unsafe { zeroed() };
    let count = datagrams.len().min(BATCH_MAX);
    for (header, (list, target)) in headers.iter_mut().zip(datagrams) {
        let header = &mut header.msg_hdr;
        header.msg_iov = list.pointer.cast_mut().cast();
        header.msg_iovlen = list.count as _;
        header.msg_name = target.pointer.cast_mut().cast();
        header.msg_namelen = target.length;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: OWN-1 — lists, payloads and addresses are kept until the final event; readv(2) — a Span is an iovec.
    call(|| unsafe { libc::sendmmsg(handle, headers.as_mut_ptr(), count as u32, flags as _) })
}

fn call(mut system_call: impl FnMut() -> i32) -> Tried<usize> {
    loop {
        let result = system_call();
        if result >= 0 {
            return Tried::Done(result as usize);
        }
        match std::io::Error::last_os_error().raw_os_error().unwrap_or(0) {
            libc::EINTR => {}
            libc::EAGAIN => return Tried::Later,
            code => return Tried::Failed(Error::from_os(code)),
        }
    }
}

/// An address out of the system's form, see ip(7) and ipv6(7).
pub(crate) fn address(name: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(name.get(..2)?.try_into().ok()?));
    let port = u16::from_be_bytes(name.get(2..4)?.try_into().ok()?);
    match family {
        libc::AF_INET => {
            let octets: [u8; 4] = name.get(4..8)?.try_into().ok()?;
            Some(SocketAddr::from((Ipv4Addr::from(octets), port)))
        }
        libc::AF_INET6 => {
            let flow = u32::from_be_bytes(name.get(4..8)?.try_into().ok()?);
            let octets: [u8; 16] = name.get(8..24)?.try_into().ok()?;
            let scope = u32::from_ne_bytes(name.get(24..28)?.try_into().ok()?);
            Some(SocketAddrV6::new(Ipv6Addr::from(octets), port, flow, scope).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_out_as_they_went_in() {
        for text in ["127.0.0.1:80", "[::1]:9000", "[fe80::1%3]:7"] {
            let expected: SocketAddr = text.parse().unwrap();
            let system = socket2::SockAddr::from(expected);
            // SAFETY: getsockname(2) — a SockAddr is `len` bytes long.
            let bytes = unsafe { std::slice::from_raw_parts(system.as_ptr().cast::<u8>(), system.len() as usize) };
            assert_eq!(address(bytes), Some(expected));
        }
        assert_eq!(address(&[0; 3]), None);
    }
}
