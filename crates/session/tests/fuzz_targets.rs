//! The bodies of the fuzz targets over a generated corpus, so that they are run without a fuzzer.

#[path = "../../../fuzz/src/framings.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets use it from another crate")]
mod framings;
#[path = "../../../fuzz/src/oracle.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets use it from another crate")]
mod oracle;
#[path = "../../../fuzz/src/outbox.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets use it from another crate")]
mod outbox;
mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use raon_session::{ByteOrder, Delimiter, Fixed, Framing, LengthPrefix, LengthWidth, Packet, PacketHead, Raw, encode};

/// Numbers from a seed (xorshift64): the same corpus every time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| (self.next() >> 24) as u8).collect()
    }

    /// A plan for cutting: a count, then lengths.
    fn plan(&mut self) -> Vec<u8> {
        let count = self.next() % 16;
        [vec![count as u8], self.bytes(count as usize)].concat()
    }
}

/// 400 rounds for one target: noise, and streams of good frames, some of them with one byte changed.
fn each_input(prefix: &[u8], good: impl Fn(&mut Numbers) -> Vec<u8>, run: fn(&[u8])) {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for round in 0..400 {
        let length = (numbers.next() % 400) as usize;
        let noise = numbers.bytes(length);
        run(&noise);
        run(&[prefix, &numbers.plan(), &noise].concat());
        let mut stream: Vec<u8> = (0..numbers.next() % 12).flat_map(|_| good(&mut numbers)).collect();
        if round % 3 == 0 && !stream.is_empty() {
            let at = numbers.next() as usize % stream.len();
            stream[at] ^= 1 << (numbers.next() % 8);
        }
        run(&[prefix, &numbers.plan(), &stream].concat());
    }
}

/// A frame with a body of up to 300 bytes, most of them short.
fn frame<F: Framing>(framing: &F, head: F::Head, numbers: &mut Numbers) -> Vec<u8> {
    let length = numbers.next() % (numbers.next() % 300 + 1);
    encode(framing, head, &numbers.bytes(length as usize)).map_or_else(|_| Vec::new(), |frame| frame.to_vec())
}

//= FRAME-1
//= FRAME-3
#[test]
fn length_prefixes_over_a_corpus() {
    for flags in 0..8u8 {
        let width = if flags & 1 > 0 { LengthWidth::U32 } else { LengthWidth::U16 };
        let order = if flags & 2 > 0 { ByteOrder::Big } else { ByteOrder::Little };
        let plain = LengthPrefix::new(width, order);
        let framing = if flags & 4 > 0 { plain.header_counted() } else { plain };
        each_input(&[flags, 0, 16], |numbers| frame(&framing, (), numbers), framings::length);
        each_input(&[flags, 100, 0], |numbers| frame(&framing, (), numbers), framings::length);
    }
}

//= FRAME-1
//= FRAME-3
#[test]
fn packets_over_a_corpus() {
    let packet = |numbers: &mut Numbers| frame(&Packet::new(), PacketHead { id: numbers.next() as u16 }, numbers);
    each_input(&[0, 16], packet, framings::packet);
    each_input(&[100, 0], packet, framings::packet);
}

//= FRAME-1
//= FRAME-3
#[test]
fn delimiters_over_a_corpus() {
    for delimiter in [&b"\n"[..], b"\r\n", b"aab", &[7; 16]] {
        let framing = Delimiter::new(delimiter).expect("short enough");
        for limit in [[0, 16], [40, 0]] {
            let prefix = [&[delimiter.len() as u8], &limit[..], delimiter].concat();
            each_input(&prefix, |numbers| frame(&framing, (), numbers), framings::delimiter);
            // Few different bytes: delimiters that begin and do not end, and some that do.
            each_input(
                &prefix,
                |numbers| numbers.bytes(9).iter().map(|byte| delimiter[*byte as usize % delimiter.len()]).collect(),
                framings::delimiter,
            );
        }
    }
}

//= FRAME-1
#[test]
fn fixed_and_raw_over_a_corpus() {
    each_input(&[7], |numbers| frame(&Fixed::new(7), (), numbers), framings::fixed);
    each_input(&[], |numbers| frame(&Raw, (), numbers), framings::raw);
}

//= OUTBOX-1
//= OUTBOX-2
//= OUTBOX-3
#[test]
fn the_outbox_over_a_corpus() {
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    for _ in 0..2000 {
        let length = (numbers.next() % 500) as usize;
        outbox::outbox(&numbers.bytes(length));
    }
}

proptest! {
    #![proptest_config(support::config())]

    /// As above with other numbers each time, and cut down when it fails.
    #[test]
    fn the_outbox_is_its_model(data in vec(any::<u8>(), 2..400)) {
        outbox::outbox(&data);
    }

    #[test]
    fn the_framings_are_their_oracles(data in vec(any::<u8>(), 0..300)) {
        framings::length(&data);
        framings::packet(&data);
        framings::delimiter(&data);
        framings::fixed(&data);
        framings::raw(&data);
    }
}
