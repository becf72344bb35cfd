//! Decodes pictures to check them: every frame completely, within bounds of memory and work.

use std::{io::Cursor, panic::AssertUnwindSafe};

use image::{
    AnimationDecoder, ImageDecoder as _, ImageError, ImageFormat, ImageReader, ImageResult, Limits,
    codecs::{gif::GifDecoder, png::PngDecoder, webp::WebPDecoder},
    error::{LimitError, LimitErrorKind},
};
use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

use super::{PICTURE_FORMATS, PictureFormat};

/// Maximum width and height of a picture.
const SIDE_MAX_PIXELS: u32 = 16_384;
/// Maximum memory of a decoded picture: 32 million pixels of three bytes, or 100 million of grey.
const DECODED_MAX_BYTES: u64 = 96 << 20;
/// Maximum pixels of all frames of an animation together: about a second of work.
const FRAMES_MAX_PIXELS: u64 = 128 << 20;

/// Why bytes are refused as a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PictureError {
    /// They are not a picture, or not a complete one.
    NotAPicture,
    /// The picture has more pixels than the limits allow.
    TooLarge,
}

impl From<ImageError> for PictureError {
    fn from(error: ImageError) -> Self {
        if matches!(error, ImageError::Limits(_)) { Self::TooLarge } else { Self::NotAPicture }
    }
}

/// Returns the format of a picture, found in its content alone, after decoding all of it. A panic of the decoder
/// means that the bytes are no picture: png 0.18.1 panics at a palette of 4 bytes.
pub(crate) fn decode(bytes: &[u8]) -> Result<PictureFormat, PictureError> {
    let format = image::guess_format(bytes).map_err(|_| PictureError::NotAPicture)?;
    let form = PICTURE_FORMATS
        .into_iter()
        .find(|form| form.image_format == format)
        .ok_or(PictureError::NotAPicture)?;
    let decoded = std::panic::catch_unwind(AssertUnwindSafe(|| decode_fully(bytes, format)));
    decoded.unwrap_or_else(|_| {
        tracing::warn!("a picture made its decoder panic; refusing it");
        Err(PictureError::NotAPicture)
    })?;
    Ok(form)
}

fn decoder_limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX_PIXELS);
    limits.max_image_height = Some(SIDE_MAX_PIXELS);
    limits.max_alloc = Some(DECODED_MAX_BYTES);
    limits
}

fn decode_fully(bytes: &[u8], format: ImageFormat) -> Result<(), PictureError> {
    let source = Cursor::new(bytes);
    match format {
        ImageFormat::Jpeg => return decode_jpeg(bytes),
        ImageFormat::Gif => {
            let mut decoder = GifDecoder::new(source)?;
            let size = decoder.dimensions();
            let mut limits = decoder_limits();
            // A frame may claim to be larger than the picture. The decoder holds the picture, a frame and the two
            // combined: at most three times the size of the picture, at four bytes a pixel.
            limits.max_alloc = Some(3 * 4 * u64::from(size.0) * u64::from(size.1));
            decoder.set_limits(limits)?;
            return Ok(decode_frames(decoder, size, FRAMES_MAX_PIXELS)?);
        }
        ImageFormat::Png => {
            decode_still(bytes, format)?;
            let decoder = PngDecoder::with_limits(source, decoder_limits())?;
            if decoder.is_apng()? {
                let size = decoder.dimensions();
                decode_frames(decoder.apng()?, size, FRAMES_MAX_PIXELS)?;
            }
        }
        ImageFormat::WebP => {
            let decoder = WebPDecoder::new(source)?;
            if !decoder.has_animation() {
                return Ok(decode_still(bytes, format)?);
            }
            let size = decoder.dimensions();
            decode_frames(decoder, size, FRAMES_MAX_PIXELS)?;
        }
        _ => return Err(PictureError::NotAPicture),
    }
    Ok(())
}

fn decode_still(bytes: &[u8], format: ImageFormat) -> ImageResult<()> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(decoder_limits());
    reader.decode().map(drop)
}

/// Decodes all frames of an animation in turn, of at most `most` pixels together. Each frame is counted at the size
/// of the whole picture.
pub(super) fn decode_frames<'a>(
    decoder: impl AnimationDecoder<'a>,
    (width, height): (u32, u32),
    most: u64,
) -> ImageResult<()> {
    let too_large = || ImageError::Limits(LimitError::from_kind(LimitErrorKind::InsufficientMemory));
    let pixels = u64::from(width) * u64::from(height);
    if width.max(height) > SIDE_MAX_PIXELS || pixels * 4 > DECODED_MAX_BYTES {
        return Err(too_large());
    }
    let mut decoded = 0;
    for frame in decoder.into_frames() {
        frame?;
        decoded += pixels;
        if decoded > most {
            return Err(too_large());
        }
    }
    if decoded == 0 {
        return Err(ImageError::IoError(std::io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(())
}

/// Decodes a JPEG. Photographs of current phones have 48 million pixels and more, so of common colour spaces only the
/// luminance is kept, one byte a pixel, although all data is decoded.
fn decode_jpeg(bytes: &[u8]) -> Result<(), PictureError> {
    let side = SIDE_MAX_PIXELS as usize;
    let options = DecoderOptions::default().set_strict_mode(false).set_max_width(usize::MAX);
    let options = options.set_max_height(usize::MAX).jpeg_set_out_colorspace(ColorSpace::Luma);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|_| PictureError::NotAPicture)?;
    let info = decoder.info().ok_or(PictureError::NotAPicture)?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    let is_usual = matches!(decoder.input_colorspace(), Some(ColorSpace::YCbCr | ColorSpace::Luma));
    if !info.sof.is_sequential_dct() || !is_usual {
        return Ok(decode_still(bytes, ImageFormat::Jpeg)?);
    }
    if width.max(height) > side || (width * height) as u64 > DECODED_MAX_BYTES {
        return Err(PictureError::TooLarge);
    }
    decoder.decode().map(drop).map_err(|_| PictureError::NotAPicture)
}
