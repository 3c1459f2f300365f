//! Packets, from a scripted client's side.

use raon::SimPeer;

/// A packet as it is sent.
pub(crate) fn packet(id: u16, body: &[u8]) -> Vec<u8> {
    let mut packet = ((4 + body.len()) as u16).to_le_bytes().to_vec();
    packet.extend_from_slice(&id.to_le_bytes());
    packet.extend_from_slice(body);
    packet
}

/// Packets that were read.
#[derive(Default)]
pub(crate) struct Frames {
    input: Vec<u8>,
    frames: Vec<(u16, Vec<u8>)>,
    /// The end was read, in order or not.
    pub(crate) end: Option<bool>,
}

impl Frames {
    /// Reads up to so many bytes, once; returns how many packets there are in all.
    pub(crate) fn read(&mut self, client: &mut SimPeer, bytes_max: usize) -> usize {
        let mut bytes = vec![0; bytes_max];
        match client.read(&mut bytes) {
            Ok(Some(0)) => self.end = Some(true),
            Ok(Some(length)) => self.push(&bytes[..length]),
            Ok(None) => {}
            Err(_) => self.end = Some(false),
        }
        self.frames.len()
    }

    /// Takes bytes as they came.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(&[low, high]) = self.input.get(at..at + 2) {
            let size = usize::from(u16::from_le_bytes([low, high]));
            let Some(frame) = self.input.get(at..at + size) else { break };
            self.frames.push((u16::from_le_bytes([frame[2], frame[3]]), frame[4..].to_vec()));
            at += size;
        }
        self.input.drain(..at);
    }

    pub(crate) fn count(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn last(&self) -> Option<&(u16, Vec<u8>)> {
        self.frames.last()
    }

    /// All so far, which are forgotten.
    pub(crate) fn take(&mut self) -> Vec<(u16, Vec<u8>)> {
        std::mem::take(&mut self.frames)
    }
}
