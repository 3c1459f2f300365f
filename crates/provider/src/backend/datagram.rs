//! Batches of datagrams by one system call each, for the back ends of Linux: recvmmsg(2) and sendmmsg(2). Several datagrams
//! may be one message, with their common length in control data beside it: UDP_SEGMENT and UDP_GRO, see udp(7).
#![allow(unsafe_code)]

use std::io;
use std::mem::zeroed;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use socket2::SockAddr;

use super::absence::{reason, trial, uninterrupted};
use crate::backend::readiness::Message;
use crate::base::attempt::Attempt;
use crate::base::error::Error;
use crate::contract::input::{BATCH_MAX, Label, UNSPECIFIED};
use crate::contract::merge::MergingProbe;
use crate::memory::{Span, SpanMut, Target};
use crate::platform::option::set_coalescing;

/// An IPv6 address in the system's form, the longest that comes.
pub(crate) const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();

/// Room for control data: one header and one number are all that is asked for (24 bytes).
pub(crate) const CONTROL_BYTES: usize = 32;

/// Room for what the kernel says beside a datagram.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Control(pub(crate) [u8; CONTROL_BYTES]);

impl Control {
    pub(crate) const EMPTY: Control = Control([0; CONTROL_BYTES]);
}

/// The control data of a merged message, laid out as cmsg(3) says: a header, and behind it the length.
#[repr(C, align(8))]
pub(crate) struct SegmentControl {
    header: libc::cmsghdr,
    segment_bytes: u16,
}

impl SegmentControl {
    /// So much of it is control data, with the padding that belongs to it.
    pub(crate) const BYTES: usize = size_of::<SegmentControl>();

    pub(crate) fn new(segment_bytes: usize) -> Self {
        let segment_bytes = u16::try_from(segment_bytes).expect("a segment is shorter than a message");
        // SAFETY: cmsg(3) — a header of zeroes is a valid one.
        let mut header: libc::cmsghdr = unsafe { zeroed() };
        header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<u16>()) as _;
        (header.cmsg_level, header.cmsg_type) = (libc::SOL_UDP, libc::UDP_SEGMENT);
        SegmentControl { header, segment_bytes }
    }
}

/// The common length of the datagrams in a message that the kernel has merged; 0: it is one datagram.
pub(crate) fn segment_bytes(mut control: &[u8]) -> u16 {
    const HEAD: usize = size_of::<libc::cmsghdr>();
    const WORD: usize = size_of::<usize>();
    let number = |at: usize, bytes: &[u8]| Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    // A length in one word, level and type in an int each, then the data; the next header is aligned to a word.
    while let Some(length) = control.get(..WORD).map(|word| usize::from_ne_bytes(word.try_into().expect("a word"))) {
        let is_ours = number(WORD, control) == Some(libc::SOL_UDP) && number(WORD + 4, control) == Some(libc::UDP_GRO);
        if is_ours && length >= HEAD + 4 {
            return number(HEAD, control).and_then(|bytes| u16::try_from(bytes).ok()).unwrap_or(0);
        }
        match control.get(length.next_multiple_of(WORD)..) {
            Some(rest) if length >= HEAD => control = rest,
            _ => break,
        }
    }
    0
}

/// Receives what is there, one datagram per span, at most [`BATCH_MAX`], and says how many came.
pub(crate) fn receive(handle: RawFd, spans: &[SpanMut], labels: &mut [Label; BATCH_MAX]) -> Attempt<usize> {
    // SAFETY: recvmmsg(2) — structures of zeroes are valid: no name, no buffers, no control data.
    let (mut headers, mut vectors, mut names): ([libc::mmsghdr; BATCH_MAX], [libc::iovec; BATCH_MAX], _) =
        unsafe { (zeroed(), zeroed(), [[0u8; NAME_BYTES]; BATCH_MAX]) };
    let mut controls = [Control::EMPTY; BATCH_MAX];
    let count = spans.len().min(BATCH_MAX);
    for (at, span) in spans[..count].iter().enumerate() {
        vectors[at] = libc::iovec { iov_base: span.pointer.cast(), iov_len: span.length };
        let header = &mut headers[at].msg_hdr;
        header.msg_iov = &raw mut vectors[at];
        header.msg_iovlen = 1;
        header.msg_name = names[at].as_mut_ptr().cast();
        header.msg_namelen = NAME_BYTES as u32;
        header.msg_control = controls[at].0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_BYTES as _;
    }
    let came = call(|| {
        // SAFETY: recvmmsg(2) — `count` headers; what they point to is on this stack. OWN-1 — the spans are pool buffers in
        // our hands.
        unsafe {
            libc::recvmmsg(handle, headers.as_mut_ptr(), count as u32, libc::MSG_DONTWAIT as _, std::ptr::null_mut())
        }
    });
    if let Attempt::Done(came) = came {
        for at in 0..came {
            let header = &headers[at];
            let name = &names[at][..(header.msg_hdr.msg_namelen as usize).min(NAME_BYTES)];
            let control = &controls[at].0[..CONTROL_BYTES.min(header.msg_hdr.msg_controllen as _)];
            labels[at] = Label {
                length: header.msg_len as usize,
                from: address(name).unwrap_or(UNSPECIFIED),
                is_truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
                segment_bytes: segment_bytes(control),
            };
        }
    }
    came
}

/// Sends messages of one socket, at most [`BATCH_MAX`], and says how many went, from the first on. Their spans lie in a row.
pub(crate) fn send(handle: RawFd, messages: &[Message], spans: &[Span]) -> Attempt<usize> {
    // SAFETY: sendmmsg(2) — headers of zeroes are valid.
    let mut headers: [libc::mmsghdr; BATCH_MAX] = unsafe { zeroed() };
    let mut controls = [const { None }; BATCH_MAX];
    let mut spans = spans;
    let count = messages.len().min(BATCH_MAX);
    for ((header, control), message) in headers.iter_mut().zip(&mut controls).zip(messages) {
        let (own, rest) = spans.split_at(message.spans);
        spans = rest;
        let header = &mut header.msg_hdr;
        header.msg_iov = own.as_ptr().cast_mut().cast();
        header.msg_iovlen = own.len() as _;
        header.msg_name = message.target.pointer.cast_mut().cast();
        header.msg_namelen = message.target.length;
        if message.count > 1 {
            let control = control.insert(SegmentControl::new(message.segment_bytes));
            header.msg_control = std::ptr::from_mut(control).cast();
            header.msg_controllen = SegmentControl::BYTES as _;
        }
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: OWN-1 — payloads and addresses are kept until the final event, lists and control data through the call;
    // readv(2) — a Span is an iovec.
    call(|| unsafe { libc::sendmmsg(handle, headers.as_mut_ptr(), count as u32, flags as _) })
}

fn call(mut system_call: impl FnMut() -> i32) -> Attempt<usize> {
    loop {
        let result = system_call();
        if result >= 0 {
            return Attempt::Done(result as usize);
        }
        match std::io::Error::last_os_error().raw_os_error().unwrap_or(0) {
            libc::EINTR => {}
            libc::EAGAIN => return Attempt::Later,
            code => return Attempt::Failed(Error::from_os(code)),
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

/// Whether the kernel takes merged messages apart (sent), and merges them (received), tried on throw-away sockets.
pub(crate) fn probe() -> MergingProbe {
    match Loopback::new() {
        Ok(sockets) => {
            let segments = sockets.takes_apart();
            let coalesces = sockets.merges(matches!(segments, Ok(true)));
            (trial(segments), trial(coalesces))
        }
        Err(error) => {
            let reason = reason(error.raw_os_error().unwrap_or(0));
            (Err(reason), Err(reason))
        }
    }
}

/// Two throw-away sockets.
struct Loopback {
    receiver: UdpSocket,
    sender: UdpSocket,
}

impl Loopback {
    fn new() -> io::Result<Self> {
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        receiver.set_read_timeout(Some(Duration::from_millis(100)))?;
        Ok(Loopback { receiver, sender: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))? })
    }

    fn takes_apart(&self) -> io::Result<bool> {
        let alone = Label { length: 4, ..Label::NONE };
        Ok(self.send()? && self.arrives(alone) && self.arrives(alone))
    }

    fn merges(&self, is_taken_apart: bool) -> io::Result<bool> {
        set_coalescing(self.receiver.as_raw_fd(), true)?;
        let merged = Label { length: 8, segment_bytes: 4, ..Label::NONE };
        // A kernel that cannot send merged ones cannot be asked to merge on loopback either: then the option has to do.
        Ok(!is_taken_apart || self.send()? && self.arrives(merged))
    }

    fn send(&self) -> io::Result<bool> {
        let address = SockAddr::from(self.receiver.local_addr()?);
        let message = Message { count: 2, segment_bytes: 4, spans: 1, target: Target::of(Some(&address)) };
        match send(self.sender.as_raw_fd(), &[message], &[Span::of(b"raonraon")]) {
            Attempt::Done(went) => Ok(went == 1),
            Attempt::Later => Ok(false),
            Attempt::Failed(error) => Err(io::Error::from_raw_os_error(error.os_code())),
        }
    }

    fn arrives(&self, expected: Label) -> bool {
        // Loopback may take its time; the receive itself does not wait.
        let _ = uninterrupted(|| self.receiver.peek(&mut [0]));
        let (mut labels, mut room) = ([Label::NONE; BATCH_MAX], [0; 16]);
        let came = receive(self.receiver.as_raw_fd(), &[SpanMut::of(&mut room)], &mut labels);
        let Label { length, segment_bytes, .. } = labels[0];
        matches!(came, Attempt::Done(1)) && (length, segment_bytes) == (expected.length, expected.segment_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BindOptions, Completions, Config, Driver, Kind, Operation, Outcome};

    #[test]
    fn the_common_length_is_found_among_control_data() {
        let of = |level: i32, kind: i32, data: &[u8]| {
            let length = size_of::<libc::cmsghdr>() + data.len();
            let mut bytes = [&length.to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes(), data].concat();
            bytes.resize(bytes.len().next_multiple_of(size_of::<usize>()), 0);
            bytes
        };
        let ours = of(libc::SOL_UDP, libc::UDP_GRO, &1200i32.to_ne_bytes());
        let other = of(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &[1; 5]);
        assert_eq!(segment_bytes(&ours), 1200);
        assert_eq!(segment_bytes(&[&other[..], &ours].concat()), 1200);
        assert_eq!((segment_bytes(&other), segment_bytes(&[]), segment_bytes(&[0; 32])), (0, 0, 0));
        assert_eq!(segment_bytes(&ours[..18]), 0);
    }

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

    /// The kernel refuses to take a message apart whose datagrams are to have no checksum: EINVAL.
    #[test]
    fn a_refused_message_goes_again_one_by_one() {
        for kind in [Kind::IoUring, Kind::Epoll] {
            let mut driver = Driver::open(&Config::named(kind)).unwrap();
            let plain = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            crate::platform::option::set_option(plain.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
            let unchecked = driver.adopt(plain).unwrap();
            let checked = driver.bind(([127, 0, 0, 1], 0), &BindOptions::default()).unwrap();
            let far = driver.bind(([127, 0, 0, 1], 0), &BindOptions::default()).unwrap();
            let address = driver.local_address(far).unwrap().ip().unwrap();
            driver.receive(far, 1).unwrap();
            let mut merged_before = 0;
            // What one socket is refused is nothing to the others.
            for (near, length, quiet, merged) in [
                (unchecked, 100, false, 0),
                (checked, 100, true, 20),
                (unchecked, 90, true, 0),
                (checked, 100, true, 20),
            ] {
                for at in 0..20 {
                    let payload = vec![at; length].into();
                    driver.submit(Operation::SendTo { socket: near, to: address, payload, quiet }, 2).unwrap();
                }
                let (mut came, mut sent) = (Vec::new(), 0);
                let mut completions = Completions::with_capacity(64);
                while came.len() < 20 || sent < if quiet { 0 } else { 20 } {
                    driver.poll(None, &mut completions).unwrap();
                    for one in completions.drain() {
                        match one.outcome {
                            Outcome::Datagram { bytes, .. } => came.push((bytes[0], bytes.len())),
                            Outcome::Sent(_) => sent += 1,
                            other => panic!("{other:?}"),
                        }
                    }
                }
                came.sort_unstable();
                assert!(came.into_iter().eq((0..20).map(|at| (at, length))), "each once");
                let merged_sent = driver.stats().merged_sent;
                assert_eq!(merged_sent - std::mem::replace(&mut merged_before, merged_sent), merged, "{kind} {length}");
            }
        }
    }
}
