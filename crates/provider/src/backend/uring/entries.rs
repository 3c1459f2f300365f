//! Submission entries, and the 64 bits by which their completions are known.

use std::os::fd::RawFd;

use io_uring::{opcode, squeue, types};

use crate::base::slots::Key;
use crate::memory::{Span, SpanMut, Target};

/// What a completion entry is about: the upper 12 bits of its `user_data`; the lower 52 are the operation's key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
#[repr(u8)]
pub(super) enum Tag {
    /// Of no entry: a datagram that is part of a run.
    Ignore = 0,
    Wake,
    /// A receive buffer for the kernel, where there is no buffer ring; its key is number and section.
    Provide,
    /// Its key is that of the request to be cancelled.
    Cancel,
    /// Several datagrams as one message; its key is the run's number.
    SendRun,
    /// The same, leaving no entry when all went out.
    SendRunSkip,
    /// From here on the key is that of the request.
    Accept,
    /// A wait for a connection, where the kernel does not let an accept wait on a non-blocking listener.
    AcceptWait,
    Connect,
    /// A receive into a buffer that the kernel picks.
    Receive,
    ReceiveBulk,
    ReceiveInto,
    Send,
    /// A send that does not wait and leaves no entry when all went out.
    SendSkip,
    /// A send without a copy: two entries.
    SendZeroCopy,
    ReceiveDatagrams,
    ReceiveDatagramsBulk,
    /// One datagram, where the kernel has no multishot receives of them.
    ReceiveDatagram,
    ReceiveDatagramBulk,
}

const TAGS: [Tag; 19] = [
    Tag::Ignore,
    Tag::Wake,
    Tag::Provide,
    Tag::Cancel,
    Tag::SendRun,
    Tag::SendRunSkip,
    Tag::Accept,
    Tag::AcceptWait,
    Tag::Connect,
    Tag::Receive,
    Tag::ReceiveBulk,
    Tag::ReceiveInto,
    Tag::Send,
    Tag::SendSkip,
    Tag::SendZeroCopy,
    Tag::ReceiveDatagrams,
    Tag::ReceiveDatagramsBulk,
    Tag::ReceiveDatagram,
    Tag::ReceiveDatagramBulk,
];
const TAG_SHIFT: u32 = 52;

impl Tag {
    pub(super) fn from_number(number: u8) -> Tag {
        TAGS.get(usize::from(number)).copied().unwrap_or(Tag::Ignore)
    }
}

pub(super) fn user_data(tag: Tag, key: Key) -> u64 {
    (tag as u64) << TAG_SHIFT | key.bits()
}

pub(super) fn split(user_data: u64) -> (Tag, Key) {
    (Tag::from_number((user_data >> TAG_SHIFT) as u8), Key::from_bits(user_data & ((1 << TAG_SHIFT) - 1)))
}

// Constants of Linux, the same on every architecture, see send(2) and accept(2).
const MSG_DONTWAIT: i32 = 0x40;
const MSG_WAITALL: i32 = 0x100;
const MSG_NOSIGNAL: i32 = 0x4000;
const SOCK_CLOEXEC: i32 = 0x80000;

/// How a send behaves when the socket has no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Patience {
    /// The kernel waits for room until all is sent.
    Wait,
    /// The kernel waits for room, and a partial count is the answer: where it cannot be trusted with more.
    WaitOnce,
    /// A partial count or EAGAIN is the answer.
    Answer,
}

impl Patience {
    /// With WAITALL the kernel goes on after a short send by itself; with DONTWAIT too, it tells how far it came.
    pub(super) fn flags(self) -> i32 {
        match self {
            Patience::Wait => MSG_NOSIGNAL | MSG_WAITALL,
            Patience::WaitOnce => MSG_NOSIGNAL,
            Patience::Answer => MSG_NOSIGNAL | MSG_WAITALL | MSG_DONTWAIT,
        }
    }
}

pub(super) fn accept(fd: RawFd, multishot: bool) -> squeue::Entry {
    if multishot {
        return opcode::AcceptMulti::new(types::Fd(fd)).flags(SOCK_CLOEXEC).build();
    }
    let nowhere = std::ptr::null_mut();
    opcode::Accept::new(types::Fd(fd), nowhere, nowhere.cast()).flags(SOCK_CLOEXEC).build()
}

pub(super) fn connect(fd: RawFd, address: Span) -> squeue::Entry {
    opcode::Connect::new(types::Fd(fd), address.pointer.cast(), address.length as u32).build()
}

pub(super) fn receive_multishot(fd: RawFd, group: u16) -> squeue::Entry {
    opcode::RecvMulti::new(types::Fd(fd), group).build()
}

/// One receive into a buffer of the group, picked when bytes are there.
pub(super) fn receive_selected(fd: RawFd, group: u16, length: u32) -> squeue::Entry {
    let entry = opcode::Recv::new(types::Fd(fd), std::ptr::null_mut(), length).buf_group(group).build();
    entry.flags(squeue::Flags::BUFFER_SELECT)
}

/// Gives the kernel one buffer of a group, without a buffer ring.
pub(super) fn provide(group: u16, number: u16, span: SpanMut) -> squeue::Entry {
    opcode::ProvideBuffers::new(span.pointer, span.length as i32, 1, group, number).build()
}

pub(super) fn receive_into(fd: RawFd, span: SpanMut) -> squeue::Entry {
    opcode::Recv::new(types::Fd(fd), span.pointer, u32::try_from(span.length).unwrap_or(u32::MAX)).build()
}

pub(super) fn send(fd: RawFd, span: Span, patience: Patience) -> squeue::Entry {
    opcode::Send::new(types::Fd(fd), span.pointer, span.length as u32).flags(patience.flags()).build()
}

/// One datagram that lies in one piece; needs a kernel that takes an address in a plain send.
pub(super) fn send_datagram(fd: RawFd, span: Span, target: Target, patience: Patience) -> squeue::Entry {
    let send = opcode::Send::new(types::Fd(fd), span.pointer, span.length as u32).flags(patience.flags());
    send.dest_addr(target.pointer.cast()).dest_addr_len(target.length).build()
}

pub(super) fn send_zero_copy(fd: RawFd, span: Span, patience: Patience) -> squeue::Entry {
    opcode::SendZc::new(types::Fd(fd), span.pointer, span.length as u32).flags(patience.flags()).build()
}

pub(super) fn cancel(target: u64) -> squeue::Entry {
    opcode::AsyncCancel::new(target).build()
}

/// Waits for a descriptor to become readable, once.
pub(super) fn poll_in(fd: RawFd) -> squeue::Entry {
    const POLLIN: u32 = 1;
    opcode::PollAdd::new(types::Fd(fd), POLLIN).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_and_key_come_back_out_of_user_data() {
        let key = Key::new((1 << 20) - 1, u32::MAX);
        for tag in TAGS {
            assert_eq!(split(user_data(tag, key)), (tag, key));
        }
    }
}
