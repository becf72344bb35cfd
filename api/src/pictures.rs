//! Stores pictures: decoded before they are stored, without bytes after their end, and never changed.
//!
//! What must hold: every stored picture was decoded completely, whatever its name and media type claim. Memory and
//! work of decoding are bounded, however many requests come. Names are random, so only people who were given a name
//! know it.

mod decode;
mod folder;
mod picture_end;

use std::{io, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use image::ImageFormat;
use protocol::error::{Error, ErrorCode};
use service::{metric_names as names, random};
use sha2::{Digest as _, Sha256};
use tokio::{fs::File, sync::Semaphore, time::timeout};

use folder::Folder;

pub(crate) use decode::{PictureError, decode};

/// Maximum size of a picture, in bytes.
pub(crate) const PICTURE_MAX_BYTES: usize = 5 << 20;
/// Maximum pictures decoded at a time.
const CONCURRENT_DECODES_MAX: usize = 2;
/// How long a picture waits until it is decoded.
const DECODE_QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time of an operation of the store.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// A picture's format, found in its content: the extension of its name, and its media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PictureFormat {
    extension: &'static str,
    image_format: ImageFormat,
}

const PICTURE_FORMATS: [PictureFormat; 4] = [
    PictureFormat { extension: "jpg", image_format: ImageFormat::Jpeg },
    PictureFormat { extension: "png", image_format: ImageFormat::Png },
    PictureFormat { extension: "gif", image_format: ImageFormat::Gif },
    PictureFormat { extension: "webp", image_format: ImageFormat::WebP },
];

impl PictureFormat {
    pub(crate) fn content_type(self) -> &'static str {
        self.image_format.to_mime_type()
    }
}

/// A picture that was decoded completely.
#[derive(Clone, Debug)]
pub(crate) struct DecodedPicture {
    bytes: Bytes,
    format: PictureFormat,
}

impl DecodedPicture {
    /// Returns a name for the picture: random, or derived from the request and the content, so that a repeated
    /// request gets the same name.
    pub(crate) fn new_name(&self, request: Option<&[&str]>) -> PictureName {
        let stem: [u8; 16] = match request {
            None => random::unique_id().to_be_bytes(),
            Some(parts) => {
                let mut hash = Sha256::new();
                for part in parts.iter().map(|part| part.as_bytes()).chain([&*self.bytes]) {
                    hash.update((part.len() as u64).to_be_bytes());
                    hash.update(part);
                }
                hash.finalize()[..16].try_into().expect("half of 32 bytes")
            }
        };
        PictureName { stem: u128::from_be_bytes(stem), format: self.format }
    }
}

/// The name of a stored picture: 32 hexadecimal digits and an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PictureName {
    stem: u128,
    format: PictureFormat,
}

impl PictureName {
    /// Parses a name; `None` for any text that is not exactly a name's form.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (stem, end) = text.split_once('.')?;
        let form = PICTURE_FORMATS.into_iter().find(|form| form.extension == end)?;
        let name = Self { stem: u128::from_str_radix(stem, 16).ok()?, format: form };
        (name.to_string() == text).then_some(name)
    }

    pub(crate) fn format(self) -> PictureFormat {
        self.format
    }
}

impl std::fmt::Display for PictureName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}.{}", self.stem, self.format.extension)
    }
}

/// The store of pictures.
pub(crate) struct PictureStore {
    folder: Folder,
    decode_permits: Arc<Semaphore>,
}

impl PictureStore {
    /// Opens the store in a folder, which is created if it is missing.
    ///
    /// # Errors
    /// Fails if the folder can't be used.
    pub(crate) fn open(location: &str) -> anyhow::Result<Self> {
        let folder = location.strip_prefix("file://").unwrap_or(location);
        anyhow::ensure!(!folder.contains("://"), "must be a folder, or file:///a/folder");
        let folder =
            Folder::open(Path::new(folder)).with_context(|| format!("the folder {folder} can't be made"))?;
        Ok(Self { folder, decode_permits: Arc::new(Semaphore::new(CONCURRENT_DECODES_MAX)) })
    }

    /// Decodes a picture, without the bytes after its end; or says why it is refused.
    ///
    /// # Errors
    /// Fails if too many pictures are being decoded.
    pub(crate) async fn decode_picture(
        &self,
        bytes: Bytes,
    ) -> Result<Result<DecodedPicture, PictureError>, Error> {
        let turn = timeout(DECODE_QUEUE_TIMEOUT, self.decode_permits.clone().acquire_owned()).await;
        let turn =
            turn.map_err(|_| Error::unavailable("The picture decoder", &"too many pictures at once"))?;
        let looked = tokio::task::spawn_blocking(move || {
            // Held until decoding ends, even if the request has ended before.
            let _turn = turn;
            let format = image::guess_format(&bytes).ok();
            let end = format
                .and_then(|format| picture_end::find_picture_end(format, &bytes))
                .unwrap_or(bytes.len());
            let bytes = bytes.slice(..end);
            decode(&bytes).map(|form| DecodedPicture { bytes, format: form })
        });
        let picture = looked.await.map_err(|ended| Error::unavailable("The picture decoder", &ended))?;
        count_outcome(match picture {
            Ok(_) => "decoded",
            Err(PictureError::NotAPicture) => "refused",
            Err(PictureError::TooLarge) => "too_large",
        });
        Ok(picture)
    }

    /// Stores a picture under a name.
    ///
    /// # Errors
    /// Fails if the store does not answer.
    pub(crate) async fn put(&self, name: PictureName, picture: DecodedPicture) -> Result<(), Error> {
        let written = timeout(STORE_TIMEOUT, self.folder.write(&name.to_string(), &picture.bytes)).await;
        written.map_err(io::Error::from).flatten().map_err(|error| store_unreachable(&error))
    }

    /// Opens a picture, and returns its size in bytes.
    ///
    /// # Errors
    /// Fails if there is none of that name, or if the store does not answer.
    pub(crate) async fn get(&self, name: PictureName) -> Result<(File, u64), Error> {
        let found = timeout(STORE_TIMEOUT, self.folder.read(&name.to_string())).await;
        found.map_err(io::Error::from).flatten().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::not_found(),
            _ => store_unreachable(&error),
        })
    }

    /// Removes a picture that no answer has named. If that fails, the file stays unused.
    pub(crate) async fn discard(&self, name: PictureName) {
        let removed = timeout(STORE_TIMEOUT, self.folder.remove(&name.to_string())).await;
        if let Err(error) = removed.map_err(io::Error::from).flatten() {
            tracing::warn!(%error, %name, "could not remove an unused picture; the file stays");
        }
    }
}

fn store_unreachable(cause: &dyn std::fmt::Display) -> Error {
    count_outcome("failed");
    tracing::error!(%cause, "the picture store failed");
    Error::new(ErrorCode::Unavailable, "The picture store is not available now. Try again.")
}

fn count_outcome(outcome: &'static str) {
    metrics::counter!(names::PICTURES_TOTAL, "outcome" => outcome).increment(1);
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Cursor;

    use image::{DynamicImage, codecs::gif::GifDecoder};
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    const PALETTE: &[u8] = include_bytes!("../../tests/fuzz/seeds/picture/palette");

    pub(super) const FORMATS: [ImageFormat; 4] = [
        PICTURE_FORMATS[0].image_format,
        PICTURE_FORMATS[1].image_format,
        PICTURE_FORMATS[2].image_format,
        PICTURE_FORMATS[3].image_format,
    ];

    pub(super) fn written(width: u32, height: u32, format: ImageFormat) -> Bytes {
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::new_rgb8(width, height).write_to(&mut bytes, format).expect("a picture");
        bytes.into_inner().into()
    }

    #[test]
    fn picture_is_known_by_its_content() {
        for form in PICTURE_FORMATS {
            assert_eq!(decode(&written(8, 8, form.image_format)), Ok(form));
        }
        for bad in ["", "<svg xmlns='http://www.w3.org/2000/svg'/>", "GIF89a", "\u{89}PNG\r\n\u{1a}\n"] {
            assert_eq!(decode(bad.as_bytes()), Err(PictureError::NotAPicture), "{bad}");
        }
        assert_eq!(decode(PALETTE), Err(PictureError::NotAPicture), "its decoder ends");
        let whole = written(64, 64, ImageFormat::Png);
        assert_eq!(decode(&whole[..whole.len() / 2]), Err(PictureError::NotAPicture), "cut off");
    }

    #[test]
    fn picture_that_needs_too_much_memory_is_refused() {
        // A small file, since all pixels have one colour.
        let bomb = written(10_000, 10_000, ImageFormat::Png);
        assert!(bomb.len() < PICTURE_MAX_BYTES);
        assert_eq!(decode(&bomb), Err(PictureError::TooLarge));
    }

    #[test]
    fn picture_name_round_trips() {
        let bytes = Bytes::from_static(b"abc");
        let picture = DecodedPicture { bytes, format: PICTURE_FORMATS[1] };
        let name = picture.new_name(None);
        assert_ne!(name, picture.new_name(None));
        assert_eq!(PictureName::parse(&name.to_string()), Some(name));
        assert_eq!(picture.new_name(Some(&["ann", "k"])), picture.new_name(Some(&["ann", "k"])));
        assert_ne!(picture.new_name(Some(&["an", "nk"])), picture.new_name(Some(&["ann", "k"])));
        let stem = "0".repeat(32);
        for bad in ["", "x.png", "../a.png", &format!("{stem}.svg"), &format!("+{}.png", &stem[1..])] {
            assert_eq!(PictureName::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn photograph_of_48_megapixels_is_accepted() {
        let photograph = written(8_064, 6_048, ImageFormat::Jpeg);
        assert!(photograph.len() < PICTURE_MAX_BYTES, "{}", photograph.len());
        assert_eq!(decode(&photograph), Ok(PICTURE_FORMATS[0]));
        assert_eq!(decode(&written(16_000, 8_000, ImageFormat::Jpeg)), Err(PictureError::TooLarge));
        assert_eq!(decode(&written(16_385, 1, ImageFormat::Jpeg)), Err(PictureError::TooLarge));
    }

    /// Makes an animation of that many frames, each of one colour.
    fn animation(side: u16, frames: u16) -> Vec<u8> {
        let mut bytes = b"GIF89a".to_vec();
        let size = side.to_le_bytes();
        bytes.extend([size[0], size[1], size[0], size[1], 0x80, 0, 0, 0, 0, 0, 255, 255, 255]);
        for _ in 0..frames {
            bytes.extend([0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x44, 1, 0]);
        }
        bytes.push(0x3b);
        bytes
    }

    #[test]
    fn frames_of_an_animation_are_decoded_up_to_a_bound() {
        assert_eq!(decode(&animation(16, 100)), Ok(PICTURE_FORMATS[2]));
        // A frame of 65,535 by 65,535 pixels in a picture of one pixel.
        let mut huge = animation(1, 1);
        let size = 13 + 6 + 5..13 + 6 + 9;
        huge[size].fill(0xff);
        assert_eq!(decode(&huge), Err(PictureError::TooLarge));
        let mut broken = animation(16, 100);
        let last = broken.len() - 5;
        // A code that the table of the last frame does not have.
        broken[last..last + 2].copy_from_slice(&[2, 0xff]);
        assert_eq!(decode(&broken), Err(PictureError::NotAPicture));
        let frames = |most| {
            let bytes = animation(16, 100);
            decode::decode_frames(GifDecoder::new(Cursor::new(bytes)).expect("a GIF"), (16, 16), most)
        };
        assert!(frames(100 * 16 * 16).is_ok());
        let error = frames(100 * 16 * 16 - 1).expect_err("a pixel too many");
        assert_eq!(PictureError::from(error), PictureError::TooLarge);
        assert_eq!(decode(&animation(8_000, 1)), Err(PictureError::TooLarge), "of four bytes each");
    }

    proptest! {
        #[test]
        fn any_picture_name_round_trips_or_is_refused(text in prop_oneof![".*", "[0-9a-fA-F+]{31,33}[.](png|jpg|gif|webp|svg)"]) {
            if let Some(name) = PictureName::parse(&text) {
                prop_assert_eq!(name.to_string(), text);
            }
        }

        #[test]
        fn damaged_picture_is_decoded_or_refused(form in 0..4_usize, damage in vec((any::<Index>(), any::<u8>()), 0..8), end in any::<Index>()) {
            let mut bytes = written(8, 8, PICTURE_FORMATS[form].image_format).to_vec();
            for (at, byte) in damage {
                *at.get_mut(&mut bytes) = byte;
            }
            let _ = decode(&bytes);
            let _ = decode(&bytes[..end.index(bytes.len())]);
        }
    }
}
