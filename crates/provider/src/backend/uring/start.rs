//! Requests become entries of the submission queue.

use io_uring::squeue;

use super::Uring;
use super::entries::{self, Patience, Tag};
use crate::contract::{Action, CompletionMode, Request, RequestKey, Shots};
use crate::memory::buffer::Section;
use crate::memory::{Span, SpanList, Target};
use crate::platform::RawHandle;

impl Uring {
    /// False: the queue has no room for it in this turn.
    pub(super) fn start(&mut self, request: Request) -> bool {
        let Request { key, socket, handle, action } = request;
        match action {
            Action::Accept => {
                self.accepting.push((key, handle));
                self.push(Tag::Accept, key, entries::accept(handle, self.features.multishot_accept))
            }
            Action::Connect(address) => self.push(Tag::Connect, key, entries::connect(handle, address)),
            Action::Receive(section, shots) => self.start_receive(key, handle, section, shots),
            Action::ReceiveInto(span) => self.push(Tag::ReceiveInto, key, entries::receive_into(handle, span)),
            Action::ReceiveDatagrams(section, arrival) => self.start_receive_datagrams(key, handle, section, arrival),
            Action::SendDatagram(list, target, mode) => self.start_datagram(key, handle, list, target, mode),
            Action::Send(span, _) if self.goes_without_copy(socket, span) => {
                self.push(Tag::SendZeroCopy, key, entries::send_zero_copy(handle, span, self.patience()))
            }
            Action::Send(span, mode) => self.start_send(key, handle, span, mode),
            Action::SendList(list, mode) => self.start_send_list(key, handle, list, Target::of(None), mode),
            Action::Cancel => self.start_cancel(key),
        }
    }

    fn start_receive(&mut self, key: RequestKey, handle: RawHandle, section: Section, shots: Shots) -> bool {
        let group = section as u16;
        let tag = if section == Section::Bulk { Tag::ReceiveBulk } else { Tag::Receive };
        let entry = if self.features.multishot_receive && shots == Shots::Many {
            entries::receive_multishot(handle, group)
        } else {
            entries::receive_selected(handle, group, self.buffer_bytes[section as usize])
        };
        self.push(tag, key, entry)
    }

    fn goes_without_copy(&self, socket: u32, span: Span) -> bool {
        self.features.zero_copy && span.length >= self.zero_copy_bytes_min && !self.copies[socket as usize]
    }

    /// Patience of a send whose end is waited for.
    pub(super) fn patience(&self) -> Patience {
        if self.features.wait_all { Patience::Wait } else { Patience::WaitOnce }
    }

    fn start_send(&mut self, key: RequestKey, handle: RawHandle, span: Span, mode: CompletionMode) -> bool {
        if mode == CompletionMode::Always || !self.features.skip_success {
            return self.push(Tag::Send, key, entries::send(handle, span, self.patience()));
        }
        self.push_skipping(key, entries::send(handle, span, Patience::Answer), span.length)
    }

    /// Queues a send that leaves no entry when all of it goes out at once.
    pub(super) fn push_skipping(&mut self, key: RequestKey, entry: squeue::Entry, length: usize) -> bool {
        let is_pushed = self.push(Tag::SendSkip, key, entry.flags(squeue::Flags::SKIP_SUCCESS));
        if is_pushed {
            self.skipping.push_back((self.pushed, entries::user_data(Tag::SendSkip, key), length));
        }
        is_pushed
    }

    pub(super) fn start_send_list(
        &mut self,
        key: RequestKey,
        handle: RawHandle,
        list: SpanList,
        target: Target,
        mode: CompletionMode,
    ) -> bool {
        let skips = self.features.skip_success && mode == CompletionMode::OnError;
        let (tag, patience) = if skips { (Tag::SendSkip, Patience::Answer) } else { (Tag::Send, self.patience()) };
        let flags = if skips { squeue::Flags::SKIP_SUCCESS } else { squeue::Flags::empty() };
        let data = entries::user_data(tag, key);
        self.under_way.add(tag, key);
        let is_pushed = self.queue(|uring| {
            uring.ring.push_list(handle, list, target, patience, |entry| entry.flags(flags).user_data(data))
        });
        if is_pushed && skips {
            self.skipping.push_back((self.pushed, data, list.bytes));
        }
        is_pushed
    }

    pub(super) fn push(&mut self, tag: Tag, key: RequestKey, entry: squeue::Entry) -> bool {
        self.under_way.add(tag, key);
        self.push_entry(entry.user_data(entries::user_data(tag, key)))
    }

    pub(super) fn push_entry(&mut self, entry: squeue::Entry) -> bool {
        self.queue(|uring| uring.ring.push(&entry))
    }
}
