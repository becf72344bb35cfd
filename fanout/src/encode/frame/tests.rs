//! Tests decoding of clients' frames that arrive in pieces of any size, and encoding.

use proptest::{collection::vec, prelude::*};

use super::*;

#[test]
fn many_small_frames_of_one_read_are_taken_without_moving_the_rest() {
    let ping = masked(0x89, b"");
    let mut decoder = Decoder::<MESSAGE_BYTES_MAX>::default();
    decoder.push(&ping.repeat(10_000));
    decoder.push(&ping[..3]);
    let before = decoder.buffer.as_ptr();
    for _ in 0..10_000 {
        assert_eq!(decoder.next(), Ok(Some(Incoming::Ping(vec![]))));
    }
    assert_eq!(decoder.next(), Ok(None));
    assert_eq!((decoder.buffer.as_ptr(), decoder.rest().len()), (before, 3), "nothing was moved");
    decoder.push(&ping[3..]);
    assert_eq!(decoder.buffer.len(), ping.len(), "what was taken is dropped with the next read");
    assert_eq!(decoder.next(), Ok(Some(Incoming::Ping(vec![]))));
    assert_eq!(decoder.buffer.capacity(), 0, "an idle socket holds no buffer");
}

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![first, 0x80 | u8::try_from(payload.len()).expect("short")];
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn read(bytes: &[u8]) -> Result<Vec<Incoming>, Violation> {
    read_by(Decoder::<MESSAGE_BYTES_MAX>::default(), bytes)
}

fn read_by(mut decoder: Decoder, bytes: &[u8]) -> Result<Vec<Incoming>, Violation> {
    let mut all = Vec::new();
    // One byte at a time: it must not matter how the network splits frames.
    for byte in bytes {
        decoder.push(&[*byte]);
        while let Some(incoming) = decoder.next()? {
            all.push(incoming);
        }
    }
    Ok(all)
}

#[test]
fn fragmented_messages_are_read_whole() {
    let bytes = [masked(0x01, b"he"), masked(0x89, b"now"), masked(0x80, b"llo"), masked(0x88, b"")].concat();
    let expected =
        vec![Incoming::Ping(b"now".to_vec()), Incoming::Text("hello".to_owned()), Incoming::Close(None)];
    assert_eq!(read(&bytes), Ok(expected));
}

#[test]
fn frames_that_the_protocol_forbids_are_refused() {
    let unmasked = [0x81, 0x00];
    for bad in [
        &unmasked[..],
        &masked(0xC1, b"reserved"),
        &masked(0x80, b"continues nothing"),
        &masked(0x09, b"fragmented ping"),
        &masked(0x83, b"unknown"),
        &masked(0x88, &[0x03]),
        &masked(0x88, &1005_u16.to_be_bytes()),
        &[masked(0x01, b"a"), masked(0x81, b"b")].concat(),
    ] {
        assert_eq!(read(bad), Err(Violation::Protocol), "{bad:?}");
    }
    assert_eq!(read(&masked(0x81, &[0xFF])), Err(Violation::NotUtf8));
    let huge = [0x81, 0xFF, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0, 0];
    assert_eq!(read(&huge), Err(Violation::TooBig));
}

#[test]
fn compressed_message_is_inflated_where_agreed() {
    let message = deflate::deflate(&[b'x'; 200]).expect("it shrinks");
    let (first, second) = message.split_at(3);
    let pieces = [masked(0x41, first), masked(0x89, b""), masked(0x80, second)].concat();
    let expected = vec![Incoming::Ping(vec![]), Incoming::Text("x".repeat(200))];
    assert_eq!(read_by(Decoder::<MESSAGE_BYTES_MAX>::new(true), &pieces), Ok(expected));
    assert_eq!(read(&pieces), Err(Violation::Protocol));
    for bad in [masked(0xC9, b"ping"), masked(0xC1, &[0xFF; 3]), masked(0xE1, b"rsv2")] {
        assert_eq!(
            read_by(Decoder::<MESSAGE_BYTES_MAX>::new(true), &bad),
            Err(Violation::Protocol),
            "{bad:?}"
        );
    }
    let bomb = deflate::deflate(&vec![b'x'; MESSAGE_BYTES_MAX + 1]).expect("it shrinks");
    let frame = [&[0xC1, 0xFE][..], &u16::try_from(bomb.len()).expect("short").to_be_bytes(), &[0; 4], &bomb];
    assert_eq!(read_by(Decoder::<MESSAGE_BYTES_MAX>::new(true), &frame.concat()), Err(Violation::TooBig));
}

#[test]
fn frame_is_compressed_where_that_saves_bytes() {
    let message = [b'x'; 2_000];
    let deflated = deflated(&text(&[&message])).expect("it pays");
    assert_eq!(deflated[0], 0xC1);
    assert_eq!(deflate::inflate(&deflated[2..], 2_000), Ok(message.to_vec()));
    assert_eq!(super::deflated(&text(&[&message[..deflate::COMPRESS_FROM_BYTES - 1]])), None);
}

/// Bytes of frames that a client might send, most of them invalid.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let frame = (any::<bool>(), 0..16_u8, vec(any::<u8>(), 0..126));
    vec(frame, 1..5).prop_map(|frames| {
        let one = |(fin, opcode, payload): (bool, u8, Vec<u8>)| masked(u8::from(fin) << 7 | opcode, &payload);
        frames.into_iter().flat_map(one).collect()
    })
}

proptest! {
    #[test]
    fn any_bytes_are_messages_or_a_violation(bytes in prop_oneof![vec(any::<u8>(), 0..300), frames()], at in any::<usize>(), deflates in any::<bool>()) {
        let mut decoder = Decoder::<MESSAGE_BYTES_MAX>::new(deflates);
        let mut whole = Vec::new();
        let (first, second) = bytes.split_at(at % (bytes.len() + 1));
        let mut read_all = |bytes: &[u8]| -> Result<(), Violation> {
            decoder.push(bytes);
            while let Some(incoming) = decoder.next()? {
                whole.push(incoming);
            }
            Ok(())
        };
        // The result must not depend on where the network splits the bytes.
        let result = read_all(first).and_then(|()| read_all(second));
        prop_assert_eq!(read_by(Decoder::<MESSAGE_BYTES_MAX>::new(deflates), &bytes), result.map(|()| whole));
    }

    #[test]
    fn text_message_round_trips_however_it_is_cut(text in ".{0,31}", cuts in vec(0..124_usize, 0..4)) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.sort_unstable();
        let (mut frames, mut from) = (Vec::new(), 0);
        for cut in cuts {
            frames.extend(masked(if frames.is_empty() { TEXT } else { CONTINUATION }, &text.as_bytes()[from..cut]));
            from = cut;
        }
        let last = 0x80 | if frames.is_empty() { TEXT } else { CONTINUATION };
        frames.extend(masked(last, &text.as_bytes()[from..]));
        prop_assert_eq!(read(&frames), Ok(vec![Incoming::Text(text)]));
    }
}

#[test]
fn frame_lengths_are_written_in_three_forms() {
    assert_eq!(text(&[b"ab", b"c"])[..2], [0x81, 3]);
    assert_eq!(text(&[&[b'x'; 126]])[..4], [0x81, 126, 0, 126]);
    assert_eq!(text(&[&[b'x'; 65_536]])[..10], [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(close(1000, "bye"), Bytes::from_static(b"\x88\x05\x03\xe8bye"));
}
