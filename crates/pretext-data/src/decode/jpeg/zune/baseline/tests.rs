//! The same as `zune-jpeg` to the bit, whatever a file is like.

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};

use super::super::super::segments;
use super::super::{PADDING, decode};
use super::Decoder;
use crate::DecodeError;

type Pixels = Result<Vec<u8>, DecodeError>;

/// What this decoder and `zune-jpeg` make of a file, if it is examined successfully.
fn both(decoder: &mut Decoder, file: &[u8]) -> Option<(Option<Vec<u8>>, Pixels)> {
    let examined = segments::examine(file).ok()?;
    let mut room = Vec::new();
    let quick = decoder.decode(&examined, &mut room);
    examined.tidy(PADDING, &mut room);
    Some((quick, decode(&room, &examined.frame)))
}

/// A picture that is neither smooth nor noise, or one of both, or of nothing but extremes.
fn pixels(width: usize, height: usize, rng: &mut StdRng) -> Vec<u8> {
    let kind = rng.random_range(0..4);
    let slopes: [usize; 3] = std::array::from_fn(|_| rng.random_range(0..9));
    (0..3 * width * height)
        .map(|i| {
            let (x, y) = (i / 3 % width, i / 3 / width);
            match kind {
                0 => (x * slopes[i % 3] + y * slopes[(i + 1) % 3]) as u8,
                1 => rng.random(),
                2 => 255 * rng.random_range(0..2),
                _ => ((x / 5 + y / 7) * slopes[i % 3] * 16) as u8 ^ rng.random_range(0..16),
            }
        })
        .collect()
}

/// A file of a random kind that cameras and programs write.
fn file(rng: &mut StdRng) -> Vec<u8> {
    let widest = if rng.random_range(0..10) == 0 { 400 } else { 80 };
    let (width, height) = (rng.random_range(1..widest), rng.random_range(1..80));
    let mut file = Vec::new();
    // Coarser, and factors have 16 bits.
    let mut encoder = Encoder::new(&mut file, rng.random_range(30..=100));
    let samplings = [SamplingFactor::F_1_1, SamplingFactor::F_2_1, SamplingFactor::F_2_2];
    encoder.set_sampling_factor(samplings[rng.random_range(0..3)]);
    if rng.random() {
        encoder.set_restart_interval(rng.random_range(1..20));
    }
    let pixels = pixels(width, height, rng);
    let size = (width as u16, height as u16);
    if rng.random_range(0..5) == 0 {
        let grey: Vec<u8> = pixels.chunks_exact(3).map(|pixel| pixel[1]).collect();
        encoder.encode(&grey, size.0, size.1, ColorType::Luma).unwrap();
    } else {
        encoder.encode(&pixels, size.0, size.1, ColorType::Rgb).unwrap();
    }
    file
}

#[test]
fn whole_files_are_decoded_as_defined() {
    let (mut decoder, mut rng) = (Decoder::default(), StdRng::seed_from_u64(1));
    for i in 0..2000 {
        let (quick, defined) = both(&mut decoder, &file(&mut rng)).unwrap();
        assert!(quick == Some(defined.unwrap()), "picture {i}");
    }
}

#[test]
fn damaged_files_are_refused_or_decoded_as_defined() {
    let (mut decoder, mut rng) = (Decoder::default(), StdRng::seed_from_u64(2));
    let (mut decoded, mut refused) = (0, 0);
    for i in 0..4000 {
        let mut file = file(&mut rng);
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(2..file.len());
            match rng.random_range(0..4) {
                0 => file[at] = rng.random(),
                1 => file[at] ^= 1 << rng.random_range(0..8),
                2 => drop(file.remove(at)),
                _ => file.insert(at, rng.next_u32() as u8),
            }
        }
        match both(&mut decoder, &file) {
            Some((Some(quick), defined)) => {
                assert!(defined == Ok(quick), "file {i}");
                decoded += 1;
            }
            _ => refused += 1,
        }
    }
    assert!(decoded > 400 && refused > 400, "{decoded} decoded, {refused} refused");
}

/// The same file with its segments in another order, some of them twice, and some more between them.
fn rearranged(file: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let (mut segments, mut at) = (Vec::new(), 2);
    while file[at + 1] != 0xDA {
        let end = at + 2 + usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]]));
        segments.push(file[at..end].to_vec());
        at = end;
    }
    for _ in 0..rng.random_range(0..4) {
        let (marker, content): (u8, &[u8]) = match rng.random_range(0..12) {
            0 => (0xEE, b"Adobe\0\x64\0\0\0\0\x01"),
            1 => (0xEE, b"Adobe\0\x64\0\0\0\0\0"),
            2 => (0xEE, b"Adobe"),
            3 => (0xDD, &[0, 0]),
            4 => (0xDD, &[0, 7]),
            5 => (0xE0, b"JFXX\0\x10"),
            6 => (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"),
            7 => (0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
            8 => (0xE2, b"ICC_PROFILE\0\x01\x01abc"),
            9 => (0xED, b"Photoshop 3.0\08BIM"),
            10 => (0xFE, b"a comment"),
            _ => ([0xE3, 0xEC, 0xEF, 0xE2, 0xE1][rng.random_range(0..5)], b"MPF\0 or another"),
        };
        let length = (content.len() as u16 + 2).to_be_bytes();
        segments.push([&[0xFF, marker, length[0], length[1]], content].concat());
    }
    if rng.random_range(0..3) == 0 {
        segments.push(segments[rng.random_range(0..segments.len())].clone());
    }
    for last in (1..segments.len()).rev() {
        segments.swap(last, rng.random_range(0..=last));
    }
    [&file[..2], &segments.concat(), &file[at..]].concat()
}

#[test]
fn segments_in_any_order_are_read_as_defined() {
    let (mut decoder, mut rng) = (Decoder::default(), StdRng::seed_from_u64(3));
    let (mut decoded, mut refused) = (0, 0);
    for i in 0..4000 {
        let file = rearranged(&file(&mut rng), &mut rng);
        match both(&mut decoder, &file) {
            Some((Some(quick), defined)) => {
                assert!(defined == Ok(quick), "file {i}");
                decoded += 1;
            }
            _ => refused += 1,
        }
    }
    assert!(decoded > 400 && refused > 400, "{decoded} decoded, {refused} refused");
}

#[test]
fn photographs_are_common_enough() {
    let good = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/hostile/good/");
    let mut decoder = Decoder::default();
    for name in ["plain", "full_chroma", "sampling_422", "grey", "restart", "orientation_6"] {
        let file = std::fs::read(format!("{good}{name}.jpg")).unwrap();
        let (quick, defined) = both(&mut decoder, &file).unwrap();
        assert!(quick == Some(defined.unwrap()), "{name}");
    }
    for name in ["progressive", "cmyk", "rgb", "three_scans", "sampling_411", "stray_bytes"] {
        let file = std::fs::read(format!("{good}{name}.jpg")).unwrap();
        let (quick, _) = both(&mut decoder, &file).unwrap();
        assert!(quick.is_none(), "{name}");
    }
}

/// The content of the first segment with this marker.
fn segment(file: &mut [u8], marker: u8) -> &mut [u8] {
    let at = file.windows(2).position(|pair| pair == [0xFF, marker]).unwrap() + 2;
    let length = usize::from(u16::from_be_bytes([file[at], file[at + 1]]));
    &mut file[at + 2..at + length]
}

#[test]
fn what_is_unusual_is_left_to_the_definition() {
    let good = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/hostile/good/");
    let read = |name: &str| std::fs::read(format!("{good}{name}.jpg")).unwrap();
    let mut decoder = Decoder::default();
    let mut left = |file: &[u8], what: &str| {
        let (quick, _) = both(&mut decoder, file).unwrap();
        assert!(quick.is_none(), "{what}");
    };
    // Channels of other names, and channels that share one.
    for names in [*b"RGB", [1, 1, 1]] {
        let mut file = read("full_chroma");
        for (i, name) in names.into_iter().enumerate() {
            segment(&mut file, 0xC0)[6 + 3 * i] = name;
            segment(&mut file, 0xDA)[1 + 2 * i] = name;
        }
        left(&file, &format!("{names:?}"));
    }
    let mut file = read("plain");
    file.splice(file.len() - 2..file.len() - 2, [0x55, 0x55]);
    left(&file, "more data than blocks");
    let mut file = read("restart");
    let second = file.windows(2).position(|pair| pair == [0xFF, 0xD1]).unwrap();
    file[second + 1] = 0xD2;
    left(&file, "restart markers in disorder");
}

/// A grey file of 8 x 8 pixels whose only coefficient has 15 bits, multiplied by a factor.
fn lone_coefficient(value: u16, factor: u8) -> Vec<u8> {
    let mut file = vec![0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0, factor];
    file.extend([1; 63]);
    file.extend([0xFF, 0xC0, 0, 11, 8, 0, 8, 0, 8, 1, 1, 0x11, 0]);
    // One code each, a 0: for a value of 15 bits, and for the end of a block.
    for (class, symbol) in [(0, 15), (0x10, 0)] {
        file.extend([0xFF, 0xC4, 0, 20, class, 1]);
        file.extend([0; 15]);
        file.push(symbol);
    }
    file.extend([0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0]);
    for byte in [(value >> 8) as u8, value as u8, 0x7F] {
        file.push(byte);
        if byte == 0xFF {
            file.push(0);
        }
    }
    file.extend([0xFF, 0xD9]);
    file
}

#[test]
fn coefficients_beyond_all_pictures_make_no_difference() {
    let (mut decoder, mut decoded) = (Decoder::default(), 0);
    for factor in [1, 2, 3, 4, 5, 64, 255] {
        for value in [0, 1, 0x2000, 0x3FFF, 0x4000, 0x5555, 0x7FFF] {
            let file = lone_coefficient(value, factor);
            let (quick, defined) = both(&mut decoder, &file).unwrap();
            if let Some(quick) = quick {
                assert!(defined == Ok(quick), "{factor} times {value:x}");
                decoded += 1;
            }
        }
    }
    assert!(decoded > 0);
}
