//! Messages of any length, framed and cut anywhere: what comes out is what went in.

mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use raon_session::{
    ByteOrder, Delimiter, Fixed, Framing, FreeLists, Inbox, LengthPrefix, LengthWidth, Packet, PacketHead, encode,
};

/// Puts the messages on a stream, cuts it as `cuts` say, and reads it again.
fn there_and_back<F: Framing>(framing: &F, messages: &[(F::Head, Vec<u8>)], cuts: &[usize]) -> Vec<(F::Head, Vec<u8>)> {
    let mut stream = Vec::new();
    for (head, body) in messages {
        stream.extend_from_slice(&encode(framing, *head, body).expect("within the limit"));
    }
    let (mut inbox, mut free_lists, mut found) = (Inbox::default(), FreeLists::<Vec<u8>>::default(), Vec::new());
    let (mut rest, mut cuts) = (&stream[..], cuts.iter().cycle());
    while !rest.is_empty() {
        let length = cuts.next().map_or(rest.len(), |cut| 1 + cut % rest.len());
        let (mut input, after) = rest.split_at(length);
        rest = after;
        while let Some(message) = inbox.next(framing, &mut input, &mut free_lists).expect("good frames") {
            found.push((message.head(), message.to_vec()));
        }
    }
    assert_eq!((inbox.partial_bytes(), inbox.charged_bytes()), (0, 0), "nothing is begun, nothing is held");
    found
}

fn bodies(length_max: usize) -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(prop_oneof![4 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 0..=length_max)], 0..16)
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![0..3usize, 0..300usize, 0..8192usize], 0..20)
}

fn without_heads(bodies: Vec<Vec<u8>>) -> Vec<((), Vec<u8>)> {
    bodies.into_iter().map(|body| ((), body)).collect()
}

proptest! {
    #![proptest_config(support::config())]

    //= FRAME-1
    #[test]
    fn length_prefixes(bodies in bodies(9000), cuts in cuts(), is_wide: bool, is_big: bool, is_counted: bool) {
        let width = if is_wide { LengthWidth::U32 } else { LengthWidth::U16 };
        let order = if is_big { ByteOrder::Big } else { ByteOrder::Little };
        let plain = LengthPrefix::new(width, order).with_limit(9004);
        let framing = if is_counted { plain.header_counted() } else { plain };
        let messages = without_heads(bodies);
        prop_assert_eq!(there_and_back(&framing, &messages, &cuts), messages);
    }

    //= FRAME-1
    #[test]
    fn packets(bodies in bodies(4092), ids in vec(any::<u16>(), 40), cuts in cuts()) {
        let messages: Vec<_> = ids.into_iter().map(|id| PacketHead { id }).zip(bodies).collect();
        prop_assert_eq!(there_and_back(&Packet::new(), &messages, &cuts), messages);
    }

    //= FRAME-1
    #[test]
    fn delimiters(bodies in bodies(9000), delimiter in vec(0..4u8, 1..=16), cuts in cuts()) {
        let framing = Delimiter::new(&delimiter).expect("1 to 16 bytes").with_limit(9016);
        // Whatever the framing refuses would be cut elsewhere; the rest must come through.
        let bodies = bodies.into_iter().filter(|body| framing.check((), body).is_ok());
        let messages = without_heads(bodies.collect());
        prop_assert_eq!(there_and_back(&framing, &messages, &cuts), messages);
    }

    //= FRAME-1
    #[test]
    fn fixed(length in 1..600u32, count in 0..40usize, cuts in cuts()) {
        let messages: Vec<_> = (0..count).map(|number| ((), vec![number as u8; length as usize])).collect();
        prop_assert_eq!(there_and_back(&Fixed::new(length), &messages, &cuts), messages);
    }
}
