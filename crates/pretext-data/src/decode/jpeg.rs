//! JPEG, strictly: what libraries usually fill up with grey is an error here.
//!
//! [`segments`] examines the file for any decoder: which segments there are, whether that is all,
//! and whether it is a kind of JPEG that we read. What it leaves of the file goes to `zune-jpeg`,
//! or to libjpeg-turbo with the feature `turbojpeg`.

mod segments;
#[cfg(feature = "turbojpeg")]
mod turbo;
#[cfg(not(feature = "turbojpeg"))]
mod zune;

use image::{DynamicImage, RgbImage, metadata::Orientation};

#[cfg(feature = "turbojpeg")]
use turbo as backend;
#[cfg(not(feature = "turbojpeg"))]
use zune as backend;

use super::{DecodeError, check_size};

pub(crate) use backend::NAME;
pub(super) use backend::REDUCES;

/// What is kept from file to file.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Of the file, what belongs to its picture.
    tidy: Vec<u8>,
    backend: backend::Decoder,
}

/// Width and height as they are stored.
pub(super) fn sides(bytes: &[u8]) -> Result<(u32, u32), DecodeError> {
    let frame = segments::examine(bytes)?.frame;
    Ok((frame.width, frame.height))
}

/// The picture as it is stored, and how to turn it upright. A decoder that can reduce it on the way
/// does so, and the sides tell.
pub(super) fn decode(
    bytes: &[u8],
    shortest_side: Option<u32>,
    memory: &mut Memory,
) -> Result<(DynamicImage, Orientation), DecodeError> {
    let examined = segments::examine(bytes)?;
    let frame = &examined.frame;
    check_size(frame.width, frame.height)?;
    // A broken orientation tag is no reason to lose the picture.
    let orientation =
        examined.exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms);
    let tidy = &mut memory.tidy;
    let (width, height, pixels) = memory.backend.decode(&examined, tidy, shortest_side)?;
    let image = RgbImage::from_raw(width, height, pixels)
        .ok_or_else(|| DecodeError::Corrupt("too few pixels".into()))?;
    Ok((image.into(), orientation))
}
