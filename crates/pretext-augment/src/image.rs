//! Images: RGB, one byte a channel, pixel after pixel, row after row.

use crate::{Error, ImageRef};

/// Width and height, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Size {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Size {
    /// As wide as high.
    pub const fn square(side: u32) -> Self {
        Self { width: side, height: side }
    }

    /// No image has a side of 0: here it counts as 1.
    pub(crate) const fn of_an_image(self) -> Self {
        let width = if self.width == 0 { 1 } else { self.width };
        let height = if self.height == 0 { 1 } else { self.height };
        Self { width, height }
    }

    /// The number of pixels.
    pub const fn area(self) -> u64 {
        self.width as u64 * self.height as u64
    }
}

/// A rectangle of pixels; `x` and `y` are its left and top.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rect {
    /// Pixels to the left of it.
    pub x: u32,
    /// Rows above it.
    pub y: u32,
    /// Its width.
    pub width: u32,
    /// Its height.
    pub height: u32,
}

impl Rect {
    /// All of an image.
    pub const fn whole(size: Size) -> Self {
        Self { x: 0, y: 0, width: size.width, height: size.height }
    }

    /// The part of it that lies inside an image; perhaps nothing.
    pub fn clipped(self, size: Size) -> Self {
        let (x, y) = (self.x.min(size.width), self.y.min(size.height));
        Self {
            x,
            y,
            width: self.width.min(size.width - x),
            height: self.height.min(size.height - y),
        }
    }

    /// The part of it that lies inside an image; all of the image if nothing of it does.
    pub(crate) fn clipped_or_whole(self, size: Size) -> Self {
        let clipped = self.clipped(size);
        if clipped.is_empty() { Self::whole(size) } else { clipped }
    }

    /// Whether it holds no pixel.
    pub const fn is_empty(self) -> bool {
        self.width == 0 || self.height == 0
    }

    /// Its size.
    pub const fn size(self) -> Size {
        Size { width: self.width, height: self.height }
    }
}

/// An RGB image that owns its pixels. There is always at least one.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    size: Size,
    pixels: Vec<u8>,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({} x {})", self.size.width, self.size.height)
    }
}

impl Image {
    /// An image from `[height, width, 3]` bytes.
    ///
    /// ```
    /// use pretext_augment::{Image, Size};
    ///
    /// let image = Image::new(Size { width: 2, height: 1 }, vec![255, 0, 0, 0, 0, 255])?;
    /// assert_eq!(image.pixel(1, 0), [0, 0, 255]);
    /// # Ok::<(), pretext_augment::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there are no pixels, or another number of bytes.
    pub fn new(size: Size, pixels: Vec<u8>) -> Result<Self, Error> {
        if size.area() == 0 {
            return Err(Error::Empty { size });
        }
        if pixels.len() as u64 != 3 * size.area() {
            return Err(Error::Bytes { size, bytes: pixels.len() });
        }
        Ok(Self { size, pixels })
    }

    /// An image of one colour; a side of 0 counts as 1.
    pub fn filled(size: Size, colour: [u8; 3]) -> Self {
        let size = size.of_an_image();
        Self { size, pixels: colour.repeat(size.area() as usize) }
    }

    /// An image of as many bytes as its size takes.
    pub(crate) fn of_bytes(size: Size, pixels: Vec<u8>) -> Self {
        debug_assert_eq!(pixels.len() as u64, 3 * size.area());
        Self { size, pixels }
    }

    /// Its size.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Its bytes, `[height, width, 3]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Its bytes, to change.
    pub fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    /// Its bytes, to keep.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// It, borrowed.
    pub fn view(&self) -> ImageRef<'_> {
        ImageRef::of_bytes(self.size, &self.pixels)
    }

    /// One pixel.
    ///
    /// # Panics
    /// If it lies outside.
    pub fn pixel(&self, x: u32, y: u32) -> [u8; 3] {
        assert!(x < self.size.width && y < self.size.height, "({x}, {y}) is outside of {self:?}");
        let at = 3 * (y as usize * self.size.width as usize + x as usize);
        [self.pixels[at], self.pixels[at + 1], self.pixels[at + 2]]
    }

    /// The bytes of the part of row `y` that a rectangle covers, whose place the caller has
    /// checked.
    pub(crate) fn row(&self, rect: Rect, y: u32) -> &[u8] {
        let at = 3 * (y as usize * self.size.width as usize + rect.x as usize);
        &self.pixels[at..at + 3 * rect.width as usize]
    }

    /// The same, to change.
    pub(crate) fn row_mut(&mut self, rect: Rect, y: u32) -> &mut [u8] {
        let at = 3 * (y as usize * self.size.width as usize + rect.x as usize);
        &mut self.pixels[at..at + 3 * rect.width as usize]
    }

    /// A copy of a rectangle, clipped to the image; `None` if nothing of it lies inside.
    pub fn crop(&self, rect: Rect) -> Option<Self> {
        let rect = rect.clipped(self.size);
        let rows = rect.y..rect.y + rect.height;
        let pixels: Vec<u8> = rows.flat_map(|y| self.row(rect, y)).copied().collect();
        (!rect.is_empty()).then(|| Self { size: rect.size(), pixels })
    }
}

#[cfg(feature = "image")]
mod interop {
    use super::{Image, Size};

    impl TryFrom<image::RgbImage> for Image {
        type Error = crate::Error;

        fn try_from(image: image::RgbImage) -> Result<Self, crate::Error> {
            let size = Size { width: image.width(), height: image.height() };
            Self::new(size, image.into_raw())
        }
    }

    impl From<Image> for image::RgbImage {
        fn from(image: Image) -> Self {
            let Image { size, pixels } = image;
            // Both hold three bytes a pixel, so the buffer always fits.
            Self::from_raw(size.width, size.height, pixels).unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_no_image() {
        let size = Size { width: 2, height: 2 };
        let message = Image::new(size, vec![0; 11]).unwrap_err().to_string();
        assert_eq!(message, "11 bytes are not the 3 x 2 x 2 of an RGB image");
        assert!(Image::new(Size { width: 0, height: 5 }, vec![]).is_err());
    }

    #[cfg(feature = "image")]
    #[test]
    fn an_rgb_image_goes_there_and_back() {
        let rgb = image::RgbImage::from_fn(3, 2, |x, y| image::Rgb([x as u8, y as u8, 9]));
        let ours = Image::try_from(rgb.clone()).unwrap();
        assert_eq!((ours.size(), ours.pixel(2, 1)), (Size { width: 3, height: 2 }, [2, 1, 9]));
        assert_eq!(image::RgbImage::from(ours), rgb);
        assert!(Image::try_from(image::RgbImage::new(0, 4)).is_err());
    }

    #[test]
    fn a_crop_is_clipped() {
        let bytes = (0..27).collect();
        let image = Image::new(Size::square(3), bytes).unwrap();
        let corner = image.crop(Rect { x: 2, y: 1, width: 9, height: 9 }).unwrap();
        assert_eq!(corner.size(), Size { width: 1, height: 2 });
        assert_eq!(corner.pixels(), [15, 16, 17, 24, 25, 26]);
        assert!(image.crop(Rect { x: 3, y: 0, width: 1, height: 1 }).is_none());
    }
}
