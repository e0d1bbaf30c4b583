//! Borrowed pictures: pixels that stay where they are, be it an image, a decoder's buffer or a
//! memory-mapped file.

use crate::{Error, Image, Rect, Size};

/// An RGB picture whose pixels belong to someone else. There is always at least one.
///
/// ```
/// use pretext_augment::{ImageRef, Rect, Size};
///
/// let bytes: Vec<u8> = (0..27).collect();
/// let picture = ImageRef::new(Size::square(3), &bytes)?;
/// let corner = picture.crop(Rect { x: 1, y: 2, width: 9, height: 9 }).unwrap(); // copies nothing
/// assert_eq!(corner.row(0), [21, 22, 23, 24, 25, 26]);
/// # Ok::<(), pretext_augment::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct ImageRef<'a> {
    size: Size,
    stride: usize,
    pixels: &'a [u8],
}

impl std::fmt::Debug for ImageRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ImageRef({} x {})", self.size.width, self.size.height)
    }
}

impl<'a> ImageRef<'a> {
    /// A picture of `[height, width, 3]` bytes.
    ///
    /// # Errors
    /// If there are no pixels, or another number of bytes.
    pub fn new(size: Size, pixels: &'a [u8]) -> Result<Self, Error> {
        if size.area() == 0 {
            return Err(Error::Empty { size });
        }
        if pixels.len() as u64 != 3 * size.area() {
            return Err(Error::Bytes { size, bytes: pixels.len() });
        }
        Ok(Self { size, stride: 3 * size.width as usize, pixels })
    }

    /// A picture whose rows begin `stride` bytes after one another; what lies between them is not
    /// looked at, and may be missing after the last one.
    ///
    /// # Errors
    /// If there are no pixels, rows overlap, or there are too few bytes.
    pub fn with_stride(size: Size, stride: usize, pixels: &'a [u8]) -> Result<Self, Error> {
        if size.area() == 0 {
            return Err(Error::Empty { size });
        }
        let row = 3 * u128::from(size.width);
        let least = stride as u128 * u128::from(size.height - 1) + row;
        if row > stride as u128 || least > pixels.len() as u128 {
            return Err(Error::Stride { size, stride, bytes: pixels.len() });
        }
        Ok(Self { size, stride, pixels })
    }

    /// A picture of at least as many bytes as its size takes.
    pub(crate) fn of_bytes(size: Size, pixels: &'a [u8]) -> Self {
        debug_assert!(pixels.len() as u64 >= 3 * size.area());
        Self { size, stride: 3 * size.width as usize, pixels }
    }

    /// Its size.
    pub fn size(&self) -> Size {
        self.size
    }

    /// The bytes of a row, `[width, 3]`.
    ///
    /// # Panics
    /// If there is no such row.
    #[inline(always)]
    pub fn row(&self, y: u32) -> &'a [u8] {
        assert!(y < self.size.height, "row {y} is outside of {self:?}");
        &self.pixels[y as usize * self.stride..][..3 * self.size.width as usize]
    }

    /// Its bytes in pieces that follow one another: all of them, or row by row if something lies between
    /// the rows.
    #[cfg(any(test, feature = "cuda"))]
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let row = 3 * self.size.width as usize;
        let (count, length) = match self.stride == row {
            true => (1, row * self.size.height as usize),
            false => (self.size.height as usize, row),
        };
        let (pixels, stride) = (self.pixels, self.stride);
        (0..count).map(move |i| &pixels[i * stride..][..length])
    }

    /// What lies inside of a rectangle, clipped to the picture; `None` if nothing does. Copies
    /// nothing.
    pub fn crop(&self, rect: Rect) -> Option<Self> {
        let rect = rect.clipped(self.size);
        let at = rect.y as usize * self.stride + 3 * rect.x as usize;
        (!rect.is_empty()).then(|| Self { size: rect.size(), pixels: &self.pixels[at..], ..*self })
    }

    /// A copy that owns its pixels.
    pub fn to_image(&self) -> Image {
        let mut image = Image::filled(self.size, [0; 3]);
        let rows = image.pixels_mut().chunks_exact_mut(3 * self.size.width as usize);
        for (out, y) in rows.zip(0..) {
            out.copy_from_slice(self.row(y));
        }
        image
    }
}

impl<'a> From<&'a Image> for ImageRef<'a> {
    fn from(image: &'a Image) -> Self {
        Self::of_bytes(image.size(), image.pixels())
    }
}

#[cfg(feature = "image")]
impl<'a> TryFrom<&'a image::RgbImage> for ImageRef<'a> {
    type Error = Error;

    fn try_from(image: &'a image::RgbImage) -> Result<Self, Error> {
        let size = Size { width: image.width(), height: image.height() };
        Self::new(size, image.as_raw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_with_a_gap() {
        let bytes: Vec<u8> = (0..18).collect();
        let size = Size { width: 2, height: 2 };
        let picture = ImageRef::with_stride(size, 10, &bytes).unwrap();
        assert_eq!(picture.to_image().pixels(), [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15]);
        assert_eq!(picture.pieces().collect::<Vec<_>>().concat(), picture.to_image().pixels());
        let whole = ImageRef::new(size, &bytes[..12]).unwrap();
        assert_eq!(whole.pieces().collect::<Vec<_>>(), [&bytes[..12]]);
        assert!(ImageRef::with_stride(size, 13, &bytes).is_err());
        let message = ImageRef::with_stride(size, 5, &bytes).unwrap_err().to_string();
        assert_eq!(message, "18 bytes in rows of 5 are too few for an RGB picture of 2 x 2");
    }

    #[test]
    fn a_crop_of_a_crop() {
        let image = Image::new(Size::square(4), (0..48).collect()).unwrap();
        let rect = |x, y, width, height| Rect { x, y, width, height };
        let crop = image.view().crop(rect(1, 1, 3, 9)).unwrap();
        assert_eq!(crop.to_image(), image.crop(rect(1, 1, 3, 3)).unwrap());
        let inner = crop.crop(rect(2, 1, 1, 1)).unwrap();
        assert_eq!(inner.row(0), image.pixel(3, 2));
        assert!(crop.crop(rect(3, 0, 1, 1)).is_none());
    }
}
