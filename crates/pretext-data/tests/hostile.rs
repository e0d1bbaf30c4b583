//! Odd pictures show what they should, damaged ones are refused with the right reason.

use std::{collections::BTreeSet, fs, path::PathBuf};

use pretext_data::{DecodeError, Picture, decode};

fn folder(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../data/hostile", name].iter().collect()
}

fn names(of: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder(of)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn bytes(of: &str, name: &str) -> Vec<u8> {
    fs::read(folder(of).join(name)).unwrap()
}

/// Largest and mean difference of two pictures of the same size, in steps of 1/255.
#[track_caller]
fn difference(a: &Picture, b: &Picture) -> (u8, f64) {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let steps = || a.pixels.iter().zip(&b.pixels).map(|(a, b)| a.abs_diff(*b));
    let sum: u64 = steps().map(u64::from).sum();
    (steps().max().unwrap(), sum as f64 / a.pixels.len() as f64)
}

/// The most that a JPEG's pixel and the mean over them may differ from libjpeg-turbo's, in levels.
const JPEG_DIFFERENCE: (u8, f64) = (4, 0.5);

/// Samplings that no camera writes, and that the default decoder refuses instead of guessing.
fn only_libjpeg_decodes(name: &str) -> bool {
    let refused = name.starts_with("sampling_3x1") || name.starts_with("sampling_finer_colour");
    refused && pretext_data::jpeg_decoder() == "zune-jpeg"
}

#[test]
fn odd_pictures_show_what_they_should() {
    let good = names("good");
    assert!(good.len() > 40);
    for name in good {
        let picture = match decode(&bytes("good", &name)) {
            Err(DecodeError::Unsupported(text)) if only_libjpeg_decodes(&name) => {
                assert!(text.starts_with("channels sampled "), "{name}: {text}");
                continue;
            }
            picture => picture.unwrap_or_else(|e| panic!("{name}: {e}")),
        };
        let expected = decode(&bytes("expected", &format!("{name}.png"))).unwrap();
        let (largest, mean) = difference(&picture, &expected);
        // JPEG leaves rounding and the interpolation of colour to the decoder; what is expected is
        // libjpeg-turbo's.
        let (most, most_mean) = if name.ends_with(".jpg") { JPEG_DIFFERENCE } else { (0, 0.0) };
        assert!(
            largest <= most && mean <= most_mean,
            "{name}: off by {largest}, {mean:.3} in mean"
        );
    }
}

#[test]
fn reduced_pictures_are_means_of_squares() {
    let mut decoder = pretext_data::Decoder::reducing_to(Some(12));
    let sampled = ["plain.jpg", "progressive_restart.jpg", "full_chroma.jpg", "orientation_6.jpg"];
    for name in sampled.iter().chain(&["grey.jpg", "cmyk.jpg", "plain.bmp"]) {
        let reduced = decoder.decode(&bytes("good", name)).unwrap();
        let whole = decode(&bytes("expected", &format!("{name}.png"))).unwrap();
        assert_eq!((reduced.width, reduced.height), (whole.width / 4, whole.height / 4), "{name}");
        let (mut sum, row) = (0.0, 3 * whole.width as usize);
        for (i, value) in reduced.pixels.iter().enumerate() {
            let (y, x) = (i / (row / 4), i % (row / 4));
            let start = 4 * y * row + 12 * (x / 3) + x % 3;
            let square = (0..16).map(|k| f64::from(whole.pixels[start + k / 4 * row + k % 4 * 3]));
            sum += (square.sum::<f64>() / 16.0 - f64::from(*value)).abs();
        }
        let mean = sum / reduced.pixels.len() as f64;
        assert!(mean < 2.0, "{name}: {mean:.3} in mean");
    }
}

#[test]
fn all_orientations_show_the_same_picture() {
    let upright = decode(&bytes("good", "orientation_1.jpg")).unwrap();
    for orientation in 2..=8 {
        let name = format!("orientation_{orientation}.jpg");
        let (largest, mean) = difference(&decode(&bytes("good", &name)).unwrap(), &upright);
        assert!(largest <= 6 && mean < 0.5, "{name}: off by {largest}, {mean:.3} in mean");
    }
}

#[test]
fn damaged_files_are_refused_with_the_reason() {
    let huge = |side| DecodeError::TooManyPixels { width: side, height: side };
    let corrupt = || DecodeError::Corrupt(String::new());
    let unsupported = |text: &str| DecodeError::Unsupported(text.into());
    let arithmetic =
        || unsupported("JPEG with arithmetic coding; save it as baseline or progressive JPEG");
    let reasons = [
        ("arithmetic.jpg", arithmetic()),
        ("arithmetic_progressive.jpg", arithmetic()),
        ("bomb.jpg", huge(65535)),
        ("bomb.png", huge(60000)),
        ("empty.jpg", DecodeError::Empty),
        ("header_only.jpg", DecodeError::Truncated),
        ("lossless.jpg", unsupported("lossless JPEG; save it as baseline or progressive JPEG")),
        ("magic_only.jpg", DecodeError::Truncated),
        ("marker_inside.jpg", corrupt()),
        ("overwritten.jpg", corrupt()),
        ("overwritten.png", corrupt()),
        ("text.jpg", DecodeError::UnknownFormat),
        ("truncated.bmp", DecodeError::Truncated),
        ("truncated.gif", corrupt()),
        ("truncated.jpg", DecodeError::Truncated),
        ("truncated.png", DecodeError::Truncated),
        ("truncated.webp", DecodeError::Truncated),
        ("truncated_and_ended.jpg", corrupt()),
        ("truncated_and_ended_progressive.jpg", DecodeError::Truncated),
        ("truncated_lossless.webp", DecodeError::Truncated),
        ("truncated_progressive.jpg", DecodeError::Truncated),
        ("truncated_with_thumbnail.jpg", DecodeError::Truncated),
        ("twelve_bits.jpg", unsupported("JPEG of 12 bits a channel; convert it to 8 bits")),
        ("without_end_marker.jpg", DecodeError::Truncated),
    ];
    assert_eq!(names("damaged"), reasons.iter().map(|(name, _)| (*name).to_owned()).collect());
    for (name, reason) in reasons {
        let error = decode(&bytes("damaged", name)).expect_err(name);
        assert_eq!(error.to_string().lines().count(), 1, "{name}: {error}");
        // The words of a corrupt file are the decoder's.
        let corrupt =
            matches!((&error, &reason), (DecodeError::Corrupt(_), DecodeError::Corrupt(_)));
        assert!(corrupt || error == reason, "{name}: {error:?}");
    }
}

#[test]
fn a_jpeg_without_a_picture_is_refused() {
    for bytes in [b"\xFF\xD8\xFF\xD9".as_slice(), b"\xFF\xD8\xFF\xFE\0\x03c\xFF\xD9"] {
        assert!(decode(bytes).is_err());
    }
}

#[test]
fn no_cut_of_a_file_shows_another_picture() {
    for name in names("good") {
        let file = bytes("good", &name);
        let Ok(whole) = decode(&file) else { continue };
        for length in 0..file.len() {
            if let Ok(picture) = decode(&file[..length]) {
                assert!(picture == whole, "{name} cut to {length} of {} bytes", file.len());
            }
        }
    }
}

#[test]
fn a_jpeg_without_its_end_is_refused_at_every_cut() {
    for name in names("good").iter().filter(|name| name.ends_with(".jpg")) {
        // One of them has junk behind its end marker; it may lose that.
        let end = if name == "stray_bytes.jpg" { 10 } else { 0 };
        let file = bytes("good", name);
        for length in 0..file.len() - end {
            assert!(decode(&file[..length]).is_err(), "{name} cut to {length} of {}", file.len());
        }
    }
}

#[test]
fn changed_bytes_never_panic() {
    let mut state = 1_u64;
    let mut random = move || {
        // Knuth's MMIX generator: enough for choosing bytes.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for name in names("good").iter().chain(&names("good")) {
        let file = bytes("good", name);
        for _ in 0..40 {
            let mut changed = file.clone();
            for _ in 0..1 + random() % 4 {
                let at = random() % changed.len();
                changed[at] = random() as u8;
            }
            let result = decode(&changed);
            let panicked = DecodeError::Corrupt("the decoder failed on it".into());
            assert_ne!(result.as_ref().err(), Some(&panicked), "{name}");
            if let Ok(Picture { width, height, pixels }) = result {
                assert_eq!(pixels.len(), width as usize * height as usize * 3, "{name}");
            }
        }
    }
}
