//! The operations of a plan, with payloads and rooms of every form.

use bytes::Bytes;
use raon_provider::{Buffer, Operation, Payload, Room};

use super::model::{Kind, Op};
use super::pipe::content;
use super::plan::Step;
use super::play::Player;

impl Player {
    pub(super) fn build(&mut self, kind: Kind, index: usize, step: &Step) -> (u64, Op, Operation) {
        let (token, socket) = (self.token(), self.model.sockets[index].id);
        let mut op = Op::new(kind, Some(index));
        let operation = match kind {
            Kind::Send { is_quiet } => {
                let payload = self.payload(token, step);
                op.length = payload.len();
                op.form = match payload {
                    Payload::Vec(_) => 0,
                    Payload::Bytes(_) => 1,
                    Payload::Buffer(_) => 2,
                    Payload::Gather(_) => 3,
                };
                Operation::Send { socket, payload, quiet: is_quiet }
            }
            Kind::ReceiveInto => {
                let room = self.room(step);
                (op.length, op.form) = (room.len(), usize::from(matches!(room, Room::Buffer(_))));
                Operation::ReceiveInto { socket, room }
            }
            Kind::ShutdownWrite => Operation::ShutdownWrite { socket },
            Kind::Receive => Operation::Receive { socket },
            Kind::Accept => Operation::Accept { socket },
            Kind::Close(mode) => Operation::Close { socket, mode },
            Kind::Connect { .. } | Kind::Timer => unreachable!("on no socket"),
        };
        (token, op, operation)
    }

    fn payload(&mut self, token: u64, step: &Step) -> Payload {
        let bytes = content(token, step.size);
        match step.form {
            1 => Bytes::from(bytes).into(),
            2 => match self.buffer(&bytes) {
                Some(buffer) => buffer.into(),
                None => bytes.into(),
            },
            3 => {
                let (first, rest) = bytes.split_at(step.size / 3);
                let (second, third) = rest.split_at(rest.len().min(1000) / 2);
                let middle = self.buffer(second).map_or(second.to_vec().into(), Payload::Buffer);
                vec![first.to_vec().into(), middle, Bytes::copy_from_slice(third).into()].into()
            }
            // As many pieces as one request takes, and more.
            4 => {
                let piece = step.size.div_ceil(900);
                Payload::Gather(bytes.chunks(piece).map(|part| Bytes::copy_from_slice(part).into()).collect())
            }
            5 if step.size.is_multiple_of(16) => Payload::Vec(Vec::new()),
            _ => bytes.into(),
        }
    }

    /// A pool buffer with the start of these bytes.
    fn buffer(&mut self, bytes: &[u8]) -> Option<Buffer> {
        let mut buffer = self.rig.driver.buffer().filter(|buffer| bytes.len() <= buffer.capacity())?;
        buffer.fill_from(bytes);
        Some(buffer)
    }

    fn room(&mut self, step: &Step) -> Room {
        if let (1, Some(mut buffer)) = (step.form % 2, self.rig.driver.buffer()) {
            buffer.set_len(step.size);
            return buffer.into();
        }
        vec![0; if step.form == 4 && step.size.is_multiple_of(16) { 0 } else { step.size }].into()
    }
}
