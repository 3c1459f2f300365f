//! The operations of a plan, with payloads and rooms of every form.

use bytes::Bytes;
use raon_provider::{Buffer, Driver, Operation, Payload, ReceiveBuffer};

use super::model::{Kind, Op};
use super::pipe::content;
use super::play::Player;
use super::verb::Step;

impl Player {
    pub(super) fn build(&mut self, kind: Kind, index: usize, step: &Step) -> (u64, Op, Operation) {
        let (token, socket) = (self.token(), self.model.sockets[index].id);
        let mut op = Op::new(kind, Some(index));
        let operation = match kind {
            Kind::Send { is_quiet } => {
                let is_empty = step.form == 5 && step.size.is_multiple_of(16);
                let bytes = if is_empty { Vec::new() } else { content(token, step.size) };
                let payload = payload(&mut self.rig.driver, bytes, step.form);
                (op.length, op.form) = (payload.len(), form_of(&payload));
                Operation::Send { socket, payload, quiet: is_quiet }
            }
            Kind::ReceiveInto => {
                let room = self.room(step);
                (op.length, op.form) = (room.len(), usize::from(matches!(room, ReceiveBuffer::Buffer(_))));
                Operation::ReceiveInto { socket, buffer: room }
            }
            Kind::ShutdownWrite => Operation::ShutdownWrite { socket },
            Kind::Receive => Operation::Receive { socket },
            Kind::Accept => Operation::Accept { socket },
            Kind::Close(mode) => Operation::Close { socket, mode },
            Kind::Connect { .. } | Kind::Timer => unreachable!("on no socket"),
        };
        (token, op, operation)
    }

    fn room(&mut self, step: &Step) -> ReceiveBuffer {
        if let (1, Some(mut buffer)) = (step.form % 2, self.rig.driver.buffer()) {
            buffer.set_len(step.size);
            return buffer.into();
        }
        vec![0; if step.form == 4 && step.size.is_multiple_of(16) { 0 } else { step.size }].into()
    }
}

/// These bytes in one of the forms that a payload can have.
pub(super) fn payload(driver: &mut Driver, bytes: Vec<u8>, form: usize) -> Payload {
    match form {
        1 => Bytes::from(bytes).into(),
        2 => match pool_buffer(driver, &bytes) {
            Some(buffer) => buffer.into(),
            None => bytes.into(),
        },
        3 => {
            let (first, rest) = bytes.split_at(bytes.len() / 3);
            let (second, third) = rest.split_at(rest.len().min(1000) / 2);
            let middle = pool_buffer(driver, second).map_or(second.to_vec().into(), Payload::Buffer);
            vec![first.to_vec().into(), middle, Bytes::copy_from_slice(third).into()].into()
        }
        // As many pieces as one request takes, and more.
        4 => {
            let piece = bytes.len().div_ceil(900).max(1);
            Payload::Gather(bytes.chunks(piece).map(|part| Bytes::copy_from_slice(part).into()).collect())
        }
        _ => bytes.into(),
    }
}

/// Which form a payload has.
pub(super) fn form_of(payload: &Payload) -> usize {
    match payload {
        Payload::Vec(_) => 0,
        Payload::Bytes(_) => 1,
        Payload::Buffer(_) => 2,
        Payload::Gather(_) => 3,
    }
}

/// A pool buffer with these bytes, if one is free and large enough.
fn pool_buffer(driver: &mut Driver, bytes: &[u8]) -> Option<Buffer> {
    let mut buffer = driver.buffer().filter(|buffer| bytes.len() <= buffer.capacity())?;
    buffer.fill_from(bytes);
    Some(buffer)
}
