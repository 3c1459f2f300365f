//! Packets of `serve pingpong` and `load pingpong` (`raon::Packet`), with packed little-endian bodies.
//!
//! 1. The client connects and sends `ConnectRequest`; the server answers with `ConnectAnswer`. Unless its result is
//!    [`OK`], it then ends the session.
//! 2. From then on each `PingRequest` is answered by a `PingAnswer`, in order.

mod server;

pub(crate) use server::{Pingpong, Rules};

/// Length of what stands before a body: size and id.
pub(crate) const HEADER_BYTES: usize = 4;

/// Ids of packets.
pub(crate) const CONNECT_REQUEST: u16 = 1;
pub(crate) const CONNECT_ANSWER: u16 = 2;
pub(crate) const PING_REQUEST: u16 = 3;
pub(crate) const PING_ANSWER: u16 = 4;

/// Results of connecting; everything else is [`UNKNOWN`]. This server bans nobody, others may.
pub(crate) const OK: u8 = 0;
pub(crate) const WRONG_VERSION: u8 = 1;
pub(crate) const FULL: u8 = 2;
pub(crate) const BANNED: u8 = 3;
pub(crate) const UNKNOWN: u8 = 255;

/// A result in words.
pub(crate) fn result_text(result: u8) -> &'static str {
    match result {
        OK => "ok",
        WRONG_VERSION => "wrong client version",
        FULL => "the server is full",
        BANNED => "banned",
        UNKNOWN => "unknown reason",
        _ => "a result that the protocol does not have",
    }
}

/// A message with a body of one length.
pub(crate) trait Body: Sized {
    /// The id of its packets.
    const ID: u16;
    /// Its bytes.
    type Bytes: AsRef<[u8]>;

    fn to_bytes(&self) -> Self::Bytes;

    /// `None` if the length is another one.
    fn parse(bytes: &[u8]) -> Option<Self>;
}

/// A whole packet.
pub(crate) fn packet<B: Body>(body: &B) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES + body.to_bytes().as_ref().len()];
    write_packet(body, &mut bytes);
    bytes
}

/// Writes a whole packet, for which there is just the room.
pub(crate) fn write_packet<B: Body>(body: &B, out: &mut [u8]) {
    let (header, rest) = out.split_at_mut(HEADER_BYTES);
    let body = body.to_bytes();
    header[..2].copy_from_slice(&((HEADER_BYTES + body.as_ref().len()) as u16).to_le_bytes());
    header[2..].copy_from_slice(&B::ID.to_le_bytes());
    rest.copy_from_slice(body.as_ref());
}

macro_rules! bodies {
    ($($(#[$doc:meta])* $name:ident = $id:ident, $bytes:literal { $($field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) struct $name { $(pub(crate) $field: $type,)* }

        impl Body for $name {
            const ID: u16 = $id;
            type Bytes = [u8; $bytes];

            fn to_bytes(&self) -> [u8; $bytes] {
                let mut bytes = [0; $bytes];
                let mut rest = &mut bytes[..];
                $(
                    let field;
                    (field, rest) = rest.split_at_mut(size_of::<$type>());
                    field.copy_from_slice(&self.$field.to_le_bytes());
                )*
                debug_assert!(rest.is_empty());
                bytes
            }

            fn parse(bytes: &[u8]) -> Option<Self> {
                let mut rest = bytes;
                $(
                    let ($field, behind) = rest.split_first_chunk()?;
                    let $field = <$type>::from_le_bytes(*$field);
                    rest = behind;
                )*
                rest.is_empty().then_some($name { $($field,)* })
            }
        }
    )*};
}

bodies! {
    /// SessionConnectReq.
    ConnectRequest = CONNECT_REQUEST, 4 { client_version: u32, }
    /// SessionConnectRes.
    ConnectAnswer = CONNECT_ANSWER, 13 { session_id: u64, server_time_s: u32, result: u8, }
    /// PingReq.
    PingRequest = PING_REQUEST, 12 { client_time_ms: u64, sequence: u32, }
    /// PongRes.
    PingAnswer = PING_ANSWER, 20 { client_time_ms: u64, server_time_ms: u64, sequence: u32, }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_packed_and_little_endian() {
        let answer = ConnectAnswer { session_id: 0x0102, server_time_s: 3, result: FULL };
        assert_eq!(answer.to_bytes(), [2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 2]);
        assert_eq!(ConnectAnswer::parse(&answer.to_bytes()), Some(answer));
        let ping = PingRequest { client_time_ms: 0x0A0B, sequence: 7 };
        assert_eq!(ping.to_bytes(), [0x0B, 0x0A, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0]);
        let pong = PingAnswer { client_time_ms: 1, server_time_ms: 2, sequence: 3 };
        assert_eq!(pong.to_bytes(), [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(ConnectRequest { client_version: 1 << 24 }.to_bytes(), [0, 0, 0, 1]);
    }

    #[test]
    fn other_lengths_are_no_messages() {
        for length in [0, 3, 5, 12, 13, 14] {
            assert_eq!(ConnectRequest::parse(&vec![0; length]), None, "{length}");
        }
        assert_eq!((PingRequest::parse(&[0; 11]), PingRequest::parse(&[0; 13])), (None, None));
    }
}
