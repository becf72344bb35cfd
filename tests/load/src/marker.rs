//! Writes and finds the marker in a message's text: `~<writer>:<sequence>:<nanoseconds since 1970>~`.
//!
//! What must hold: a marker is found in a frame without parsing the frame, and contains no character that JSON or any
//! other encoding escapes.

use std::io::Write as _;

/// The identity of a message, and when it was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    /// The writer's number among the writers of all rooms.
    pub(crate) writer: u32,
    /// The number of the message among those of its writer, from 1.
    pub(crate) seq: u64,
    /// When the message was due, in nanoseconds since 1970.
    pub(crate) due_ns: u64,
}

impl Marker {
    /// The text of a message: the marker, padded to `text_bytes` bytes.
    pub(crate) fn to_message_text(self, text_bytes: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(text_bytes.max(48));
        write!(text, "~{}:{}:{}~", self.writer, self.seq, self.due_ns)
            .expect("writing to a Vec does not fail");
        text.resize(text_bytes.max(text.len()), b'x');
        text
    }
}

/// Finds the first marker in some bytes, and the index after its end.
pub(crate) fn find_marker(bytes: &[u8]) -> Option<(Marker, usize)> {
    let mut from = 0;
    while let Some(offset) = memchr::memchr(b'~', &bytes[from..]) {
        let start = from + offset + 1;
        match parse_marker(&bytes[start..]) {
            Some((marker, len)) => return Some((marker, start + len)),
            None => from = start,
        }
    }
    None
}

fn parse_marker(bytes: &[u8]) -> Option<(Marker, usize)> {
    let mut numbers = [0_u64; 3];
    let mut position = 0;
    for (number, end) in numbers.iter_mut().zip(*b"::~") {
        let start = position;
        while let Some(digit @ b'0'..=b'9') = bytes.get(position)
            && position - start < 19
        {
            *number = *number * 10 + u64::from(digit - b'0');
            position += 1;
        }
        if position == start || bytes.get(position) != Some(&end) {
            return None;
        }
        position += 1;
    }
    let [writer, seq, due] = numbers;
    Some((Marker { writer: writer.try_into().ok()?, seq, due_ns: due }, position))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKER: Marker = Marker { writer: 7, seq: 42, due_ns: 1_763_700_000_000_000_001 };

    #[test]
    fn marked_text_has_the_requested_length() {
        let text = MARKER.to_message_text(128);
        assert_eq!(text.len(), 128);
        assert_eq!(find_marker(&text), Some((MARKER, 26)));
        assert_eq!(MARKER.to_message_text(0).len(), 26);
    }

    #[test]
    fn marker_is_found_among_other_bytes() {
        let frame =
            [b"{\"a~b\":\"~1:2\",\"message\":\"".as_slice(), &MARKER.to_message_text(0), b"\"}"].concat();
        assert_eq!(find_marker(&frame), Some((MARKER, frame.len() - 2)));
        for none in ["", "~", "~1:2:x~", "~1::3~", "~5000000000:1:1~", "~1:2:12345678901234567890~"] {
            assert_eq!(find_marker(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn marker_that_is_cut_off_is_not_found() {
        let text = MARKER.to_message_text(0);
        for end in 0..text.len() {
            assert_eq!(find_marker(&text[..end]), None, "{end}");
        }
    }
}
