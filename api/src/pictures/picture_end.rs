//! Finds where a picture ends in its bytes. Bytes after the end are not part of it and may be anything.

use image::ImageFormat;

/// Returns the length of the picture at the start of the bytes; `None` if its structure can't be followed to the end.
pub(super) fn find_picture_end(format: ImageFormat, bytes: &[u8]) -> Option<usize> {
    let end = match format {
        ImageFormat::Jpeg => find_jpeg_end(bytes),
        ImageFormat::Png => find_png_end(bytes),
        ImageFormat::Gif => find_gif_end(bytes),
        ImageFormat::WebP => find_webp_end(bytes),
        _ => None,
    };
    end.filter(|end| *end <= bytes.len())
}

/// Follows the markers, most of them with a length, to the end marker.
fn find_jpeg_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        // Any number of 0xff may precede a marker.
        while *bytes.get(at)? == 0xff && *bytes.get(at + 1)? == 0xff {
            at += 1;
        }
        let (0xff, marker) = (*bytes.get(at)?, *bytes.get(at + 1)?) else { return None };
        at += 2;
        match marker {
            0xd9 => return Some(at),
            0x01 | 0xd0..=0xd7 => continue,
            _ => at += usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?])),
        }
        if marker == 0xda {
            // Coded data, in which 0xff is followed by 0 or by a restart marker.
            while *bytes.get(at)? != 0xff || matches!(*bytes.get(at + 1)?, 0 | 0xd0..=0xd7) {
                at += 1;
            }
        }
    }
}

/// Follows the chunks of length, type, data and checksum to `IEND`.
fn find_png_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 8;
    loop {
        let head = bytes.get(at..at + 8)?;
        let length = u32::from_be_bytes(head[..4].try_into().ok()?);
        at = at.checked_add(12)?.checked_add(usize::try_from(length).ok()?)?;
        if &head[4..] == b"IEND" {
            return Some(at);
        }
    }
}

/// Follows the blocks to the trailer.
fn find_gif_end(bytes: &[u8]) -> Option<usize> {
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let mut at = 13 + table(*bytes.get(10)?);
    loop {
        match *bytes.get(at)? {
            0x3b => return Some(at + 1),
            0x2c => at += 11 + table(*bytes.get(at + 9)?),
            0x21 => at += 2,
            _ => return None,
        }
        loop {
            let length = usize::from(*bytes.get(at)?);
            at += 1 + length;
            if length == 0 {
                break;
            }
        }
    }
}

/// Reads the length of the single RIFF chunk, padded to an even number.
fn find_webp_end(bytes: &[u8]) -> Option<usize> {
    let length = usize::try_from(u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?)).ok()?;
    length.checked_add(length % 2)?.checked_add(8)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::pictures::tests::{FORMATS, written};

    #[test]
    fn bytes_after_a_picture_are_no_part_of_it() {
        for format in FORMATS {
            for side in [1, 8, 65] {
                let picture = written(side, side, format);
                assert_eq!(find_picture_end(format, &picture), Some(picture.len()), "{format:?}");
                for more in [&b"PK\x03\x04"[..], b"\0", b"<script>", &picture] {
                    let longer = [&picture, more].concat();
                    assert_eq!(find_picture_end(format, &longer), Some(picture.len()), "{format:?}");
                }
                assert_eq!(find_picture_end(format, &picture[..picture.len() - 1]), None, "{format:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_picture_bytes_have_an_end_within_them_or_none(start in 0..4_usize, bytes in vec(any::<u8>(), 0..60)) {
            let head = written(1, 1, FORMATS[start]);
            for cut in [2, 8, 13, 30] {
                let bytes = [&head[..cut.min(head.len())], &bytes].concat();
                prop_assert!(find_picture_end(FORMATS[start], &bytes).is_none_or(|end| end <= bytes.len()));
            }
        }
    }
}
