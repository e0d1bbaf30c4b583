//! A folder of photographs of 160 px on the shorter side, made of the embedded sample's: the same on
//! every machine, without a download.

use std::error::Error;
use std::path::Path;

use image::imageops::{self, FilterType};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use pretext_data::{Dataset, Pictures};

/// The shorter side, in pixels.
const SIDE: u32 = 160;

/// Writes `count` JPEGs: baseline, quality 90, 4:2:0. The pictures of `sample`, of 96 px, are
/// enlarged so little that there are still 2.4 bits to decode a pixel, as in a photograph that was
/// reduced to this size.
pub(crate) fn make(sample: &Path, folder: &Path, count: usize) -> Result<(), Box<dyn Error>> {
    let sample = Dataset::open(sample)?;
    let (train, val) = (sample.train().pictures(), sample.val().pictures());
    let pictures = Pictures::concat(&[train.clone(), val.clone(), sample.unsup().clone()]);
    if count > pictures.len() {
        return Err(format!("the sample has no more than {} pictures", pictures.len()).into());
    }
    std::fs::create_dir_all(folder)?;
    for i in 0..count {
        // From all over the sample, so that every class is there.
        let picture = pictures.read(i * pictures.len() / count)?;
        let small =
            image::RgbImage::from_raw(picture.width, picture.height, picture.pixels.into_vec());
        let small = small.ok_or("a picture has three bytes for each of its pixels")?;
        let shorter = picture.width.min(picture.height);
        let enlarged = |side: u32| (side * SIDE + shorter / 2) / shorter;
        let (width, height) = (enlarged(picture.width), enlarged(picture.height));
        let image = imageops::resize(&small, width, height, FilterType::CatmullRom);
        let mut file = Vec::new();
        let mut encoder = Encoder::new(&mut file, 90);
        encoder.set_sampling_factor(SamplingFactor::F_2_2);
        encoder.encode(&image, width as u16, height as u16, ColorType::Rgb)?;
        std::fs::write(folder.join(format!("{i:05}.jpg")), file)?;
    }
    Ok(())
}
