//! The segments of a JPEG file (ITU-T T.81, annex B): which are there, and whether that is all.

use crate::DecodeError;

/// Longest Huffman code (16 bits) and longest value (16 bits), four times over.
const PADDING: [u8; 32] = {
    let mut stuffed = [0xFF; 32];
    let mut i = 1;
    while i < stuffed.len() {
        // In coded data, a 0xFF byte is written as 0xFF 0x00.
        stuffed[i] = 0;
        i += 2;
    }
    stuffed
};

/// Markers: end of image, start of scan, start of a progressive frame.
const END: u8 = 0xD9;
const SCAN: u8 = 0xDA;
const PROGRESSIVE: u8 = 0xC2;

/// A copy of a whole file's well-formed segments, without stray bytes and whatever follows the end
/// marker.
///
/// Behind the last scan it has a run of 1 bits, which is no Huffman code (T.81, annex C): a decoder
/// that needs more data than the file has must stumble over it.
///
/// # Errors
/// [`DecodeError::Truncated`] if the file stops before its end marker, or lacks progressive scans.
pub(super) fn tidy(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut copy = Vec::with_capacity(bytes.len() + PADDING.len());
    let mut rest = bytes.get(2..).ok_or(DecodeError::Truncated)?;
    copy.extend([0xFF, 0xD8]);
    let mut missing = Vec::new();
    let mut scan_end = copy.len();
    loop {
        let marker;
        (marker, rest) = next_marker(rest).ok_or(DecodeError::Truncated)?;
        match marker {
            END => break,
            // Markers without a segment: nothing to copy outside of coded data.
            0x01 | 0xD0..=0xD8 => continue,
            _ => {}
        }
        let length = match rest {
            [high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
            _ => return Err(DecodeError::Truncated),
        };
        if length < 2 {
            return Err(DecodeError::Corrupt(format!("segment {marker:#X} has no length")));
        }
        let segment = rest.get(..length).ok_or(DecodeError::Truncated)?;
        copy.extend([0xFF, marker]);
        copy.extend(segment);
        rest = &rest[length..];
        if marker == PROGRESSIVE {
            missing = all_missing(segment);
        }
        if marker == SCAN {
            let end = coded_length(rest).ok_or(DecodeError::Truncated)?;
            copy.extend(&rest[..end]);
            rest = &rest[end..];
            scan_end = copy.len();
            strike_out(&mut missing, segment);
        }
    }
    if missing.iter().any(|(_, coefficients)| *coefficients != 0) {
        return Err(DecodeError::Truncated);
    }
    copy.splice(scan_end..scan_end, PADDING);
    copy.extend([0xFF, END]);
    Ok(copy)
}

/// The channels of a progressive frame, with one bit for each of their 64 coefficients that is not
/// yet known to the last digit.
fn all_missing(frame: &[u8]) -> Vec<(u8, u64)> {
    let channels = frame.get(8..).unwrap_or_default().chunks_exact(3);
    channels.map(|channel| (channel[0], u64::MAX)).collect()
}

/// Takes out what a scan brings: coefficients `first..=last` of some channels, to the last digit if
/// `low` is 0.
fn strike_out(missing: &mut [(u8, u64)], scan: &[u8]) {
    let [_, _, channels @ .., first, last, low] = scan else { return };
    if low & 15 != 0 || first > last || *last > 63 {
        return;
    }
    let brought = (u64::MAX << first) & (u64::MAX >> (63 - last));
    for channel in channels.get(1..).unwrap_or_default().chunks_exact(2) {
        for (name, coefficients) in missing.iter_mut() {
            if *name == channel[0] {
                *coefficients &= !brought;
            }
        }
    }
}

/// The next marker and what follows it, over stray and fill bytes.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let mut at = 0;
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xFF)? + 1;
        match *bytes.get(at)? {
            0x00 | 0xFF => {}
            marker => return Some((marker, &bytes[at + 1..])),
        }
    }
}

/// Bytes of coded data up to the marker that ends it; restart markers are part of it.
fn coded_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xFF)?;
        match *bytes.get(at + 1)? {
            0x00 | 0xD0..=0xD7 => at += 2,
            0xFF => at += 1,
            _ => return Some(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(file: &[&[u8]], tidied: Result<&[&[u8]], DecodeError>) {
        assert_eq!(tidy(&file.concat()), tidied.map(<[&[u8]]>::concat));
    }

    const START: &[u8] = b"\xFF\xD8";
    const COMMENT: &[u8] = b"\xFF\xFE\0\x03c";
    const CODED: &[u8] = b"\xFF\xDA\0\x02ab\xFF\0c\xFF\xD0d";
    const STOP: &[u8] = b"\xFF\xD9";

    #[test]
    fn stray_bytes_and_what_follows_the_end_are_left_out() {
        let file = [START, b" stray \xFF\xFF", COMMENT, CODED, STOP, b"junk"];
        check(&file, Ok(&[START, COMMENT, CODED, &PADDING, STOP]));
    }

    #[test]
    fn padding_stands_behind_the_last_scan() {
        let file = [START, CODED, CODED, COMMENT, STOP];
        check(&file, Ok(&[START, CODED, CODED, &PADDING, COMMENT, STOP]));
    }

    #[test]
    fn a_picture_inside_a_segment_does_not_end_the_file() {
        check(&[START, b"\xFF\xE1\0\x06\xFF\xD8\xFF\xD9"], Err(DecodeError::Truncated));
    }

    #[test]
    fn every_cut_is_noticed() {
        let file = [START, COMMENT, CODED, STOP].concat();
        for length in 0..file.len() {
            check(&[&file[..length]], Err(DecodeError::Truncated));
        }
    }

    /// A progressive file of the channels 1 and 2 is whole after these scans.
    #[track_caller]
    fn check_scans(scans: &[&[u8]], whole: bool) {
        let mut file = [START, b"\xFF\xC2\0\x0E\x08\0\x08\0\x08\x02\x01\x11\0\x02\x11\0"].concat();
        for scan in scans {
            file.extend([0xFF, SCAN, 0, 2 + scan.len() as u8]);
            file.extend(*scan);
        }
        file.extend(STOP);
        assert_eq!(tidy(&file).is_ok(), whole);
    }

    #[test]
    fn progressive_files_need_every_coefficient_to_the_last_digit() {
        // Number of channels, name and tables of each, first and last coefficient, digits.
        let rough: &[u8] = &[2, 1, 0, 2, 0, 0, 0, 0x01];
        let steady: &[u8] = &[2, 1, 0, 2, 0, 0, 0, 0x10];
        let first: &[u8] = &[1, 1, 0, 1, 63, 0];
        let (low, high): (&[u8], &[u8]) = (&[1, 2, 0, 1, 5, 0], &[1, 2, 0, 6, 63, 0]);
        check_scans(&[rough, steady, first, low, high], true);
        check_scans(&[rough, first, low, high], false);
        check_scans(&[rough, steady, low, high], false);
        check_scans(&[rough, steady, first, high], false);
        check_scans(&[rough, steady, first, low], false);
        check_scans(&[], false);
    }
}
