//! Datagrams on io_uring: multishot receives over the buffer rings (where the kernel has none, one request per datagram), sends
//! as entries of the batch.

use super::Uring;
use super::calls::{Reaped, ReceivedDatagram};
use super::entries::{self, Patience, Tag};
use super::finish::failed;
use crate::base::error::{Error, ErrorKind};
use crate::contract::DATAGRAM_OVERHEAD_BYTES;
use crate::contract::merge::MERGED_BYTES_MAX;
use crate::contract::{Arrival, CompletionMode, EventResult, RequestKey};
use crate::memory::buffer::{Buffer, BufferPool, Section};
use crate::memory::{SpanList, Target};
use crate::platform::RawHandle;

impl Uring {
    pub(super) fn start_receive_datagrams(
        &mut self,
        key: RequestKey,
        handle: RawHandle,
        section: Section,
        arrival: Arrival,
    ) -> bool {
        let bytes = self.buffer_bytes[usize::from(section == Section::Bulk)];
        // A multishot receive writes into the buffer what it has to say: a merged message must fit beside it, or it would be
        // cut short and datagrams lost that nobody called too long.
        let fits = arrival == Arrival::Single || bytes >= MERGED_BYTES_MAX as u32 + DATAGRAM_OVERHEAD_BYTES;
        let is_multishot = self.features.multishot_message && fits;
        let tag = match (is_multishot, section) {
            (true, Section::Bulk) => Tag::ReceiveDatagramsBulk,
            (true, _) => Tag::ReceiveDatagrams,
            (false, Section::Bulk) => Tag::ReceiveDatagramBulk,
            (false, _) => Tag::ReceiveDatagram,
        };
        self.under_way.add(tag, key);
        let (group, data) = (section as u16, entries::user_data(tag, key));
        self.queue(|uring| match is_multishot {
            true => uring.ring.push_receive_datagrams(handle, group, data),
            false => uring.ring.push_receive_datagram(handle, group, bytes, data),
        })
    }

    pub(super) fn start_datagram(
        &mut self,
        key: RequestKey,
        handle: RawHandle,
        list: SpanList,
        target: Target,
        mode: CompletionMode,
    ) -> bool {
        let Some(span) = list.single().filter(|_| self.features.send_address) else {
            return self.start_send_list(key, handle, list, target, mode);
        };
        if mode == CompletionMode::Always || !self.features.skip_success {
            return self.push(Tag::Send, key, entries::send_datagram(handle, span, target, self.patience()));
        }
        self.push_skipping(key, entries::send_datagram(handle, span, target, Patience::Answer), span.length)
    }

    pub(super) fn received_datagram(&mut self, entry: Reaped, section: Section, pool: &mut BufferPool) -> EventResult {
        let mut buffer = match self.take_received(entry, section, pool) {
            Ok(Some(buffer)) => buffer,
            // Never without a header; should it happen, the kernel has ended the stream for no reason it tells.
            Ok(None) => return failed(Error::new(ErrorKind::NoBuffers)),
            Err(error) => return failed(error),
        };
        let Some(parcel) = self.ring.parse_datagram(&buffer) else { return failed(Error::new(ErrorKind::Os)) };
        if parcel.is_truncated {
            return EventResult::Truncated(parcel.from);
        }
        buffer.narrow(parcel.start, parcel.length);
        came(buffer, &parcel)
    }

    /// The sender's address lies in the request's own header.
    pub(super) fn received_one_datagram(
        &mut self,
        entry: Reaped,
        section: Section,
        pool: &mut BufferPool,
    ) -> EventResult {
        let parcel = self.ring.open_letter(entry.user_data);
        match self.take_received(entry, section, pool) {
            Err(error) => failed(error),
            Ok(_) if parcel.is_truncated => EventResult::Truncated(parcel.from),
            // An empty datagram comes without a buffer.
            Ok(buffer) => came(buffer.unwrap_or_default(), &parcel),
        }
    }
}

fn came(buffer: Buffer, parcel: &ReceivedDatagram) -> EventResult {
    match parcel.segment_bytes {
        0 => EventResult::Datagram(buffer, parcel.from),
        segment_bytes => EventResult::Datagrams(buffer, parcel.from, segment_bytes),
    }
}
