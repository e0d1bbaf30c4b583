//! The segments of a JPEG file (ITU-T T.81, annex B): which are there, and whether that is all.

use std::ops::Range;

use memchr::memchr;

use crate::DecodeError;

/// Markers: end of image, start of scan, EXIF's and other applications' segment.
const END: u8 = 0xD9;
const SCAN: u8 = 0xDA;
const APP1: u8 = 0xE1;
/// Start of a progressive frame.
const PROGRESSIVE: u8 = 0xC2;

/// What a whole file of a kind that we read says of itself.
#[derive(Debug)]
pub(super) struct Examined<'a> {
    bytes: &'a [u8],
    pub(super) frame: Frame,
    /// The TIFF structure of the first EXIF segment.
    pub(super) exif: Option<&'a [u8]>,
    /// Where the coded data of the last scan ends.
    end: usize,
    /// Bytes before it that belong to no segment.
    strays: Vec<Range<usize>>,
}

/// The frame header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) channels: Vec<Channel>,
}

/// A channel of the frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Channel {
    pub(super) name: u8,
    /// Horizontal and vertical.
    pub(super) sampling: (u8, u8),
    /// One bit for each of a progressive frame's 64 coefficients that is not yet known to the last
    /// digit.
    missing: u64,
}

/// Walks through a file without decoding anything.
///
/// # Errors
/// [`DecodeError::Truncated`] if the file stops before its end marker, or lacks progressive scans;
/// [`DecodeError::Unsupported`] names a kind of JPEG that we do not read.
pub(super) fn examine(bytes: &[u8]) -> Result<Examined<'_>, DecodeError> {
    let corrupt = |text: &str| DecodeError::Corrupt(text.into());
    let (mut frame, mut exif, mut strays, mut end) = (None::<Frame>, None, Vec::new(), None);
    let mut at = 2;
    loop {
        let (marker, after) = next_marker(bytes, at).ok_or(DecodeError::Truncated)?;
        if marker == END {
            break;
        }
        // Markers without a segment mean nothing outside of coded data.
        let alone = matches!(marker, 0x01 | 0xD0..=0xD8);
        let start = if alone { after } else { after - 2 };
        if start > at {
            strays.push(at..start);
        }
        at = after;
        if alone {
            continue;
        }
        let length = match bytes.get(at..) {
            Some([high, low, ..]) => usize::from(u16::from_be_bytes([*high, *low])),
            _ => return Err(DecodeError::Truncated),
        };
        if length < 2 {
            return Err(DecodeError::Corrupt(format!("segment {marker:#X} has no length")));
        }
        let segment = bytes.get(at..at + length).ok_or(DecodeError::Truncated)?;
        at += length;
        match marker {
            // Huffman and arithmetic tables share the numbers of frames.
            0xC4 | 0xC8 | 0xCC => {}
            0xC0..=0xCF | 0xF7 => {
                refuse_kind(marker)?;
                if frame.is_some() {
                    return Err(corrupt("it has two frames"));
                }
                frame = Some(Frame::read(marker, segment)?);
            }
            APP1 if exif.is_none() => exif = segment[2..].strip_prefix(b"Exif\0\0"),
            SCAN => {
                let frame = frame.as_mut().ok_or_else(|| corrupt("a scan before the frame"))?;
                frame.strike_out(segment);
                at = coded_end(bytes, at).ok_or(DecodeError::Truncated)?;
                end = Some(at);
            }
            _ => {}
        }
    }
    let (Some(frame), Some(end)) = (frame, end) else { return Err(corrupt("it has no picture")) };
    if frame.channels.iter().any(|channel| channel.missing != 0) {
        return Err(DecodeError::Truncated);
    }
    strays.retain(|stray| stray.end <= end);
    Ok(Examined { bytes, frame, exif, end, strays })
}

impl Examined<'_> {
    /// The file up to the end of its last scan, if nothing in it belongs to no segment.
    #[cfg(all(target_arch = "x86_64", not(feature = "turbojpeg")))]
    pub(super) fn whole(&self) -> Option<&[u8]> {
        self.strays.is_empty().then(|| &self.bytes[..self.end])
    }

    /// Copies what belongs to the picture, then `padding`, then an end marker.
    pub(super) fn tidy(&self, padding: &[u8], copy: &mut Vec<u8>) {
        copy.clear();
        copy.reserve(self.end + padding.len() + 2);
        let mut at = 0;
        for stray in &self.strays {
            copy.extend_from_slice(&self.bytes[at..stray.start]);
            at = stray.end;
        }
        copy.extend_from_slice(&self.bytes[at..self.end]);
        copy.extend_from_slice(padding);
        copy.extend_from_slice(&[0xFF, END]);
    }
}

/// Only baseline, extended and progressive frames with Huffman codes are read (T.81, table B.1).
fn refuse_kind(marker: u8) -> Result<(), DecodeError> {
    let kind = match marker {
        0xC0..=0xC2 => return Ok(()),
        0xC3 => "lossless JPEG",
        0xC5..=0xC7 | 0xCD..=0xCF => "hierarchical JPEG",
        0xF7 => "JPEG-LS",
        _ => "JPEG with arithmetic coding",
    };
    Err(DecodeError::Unsupported(format!("{kind}; save it as baseline or progressive JPEG")))
}

impl Frame {
    fn read(marker: u8, segment: &[u8]) -> Result<Self, DecodeError> {
        let [_, _, precision, h1, h0, w1, w0, count, rest @ ..] = segment else {
            return Err(DecodeError::Corrupt("its frame header is too short".into()));
        };
        if *precision != 8 {
            let text = format!("JPEG of {precision} bits a channel; convert it to 8 bits");
            return Err(DecodeError::Unsupported(text));
        }
        if !matches!(*count, 1 | 3 | 4) {
            return Err(DecodeError::Unsupported(format!("JPEG of {count} channels")));
        }
        let missing = if marker == PROGRESSIVE { u64::MAX } else { 0 };
        let channels: Vec<Channel> = rest
            .chunks_exact(3)
            .take(usize::from(*count))
            .map(|c| Channel { name: c[0], sampling: (c[1] >> 4, c[1] & 15), missing })
            .collect();
        let factor = |factor: u8| (1..=4).contains(&factor);
        let sound = channels.iter().all(|c| factor(c.sampling.0) && factor(c.sampling.1));
        if channels.len() < usize::from(*count) || !sound {
            return Err(DecodeError::Corrupt("its frame header is wrong".into()));
        }
        let side = |high: u8, low: u8| u32::from(u16::from_be_bytes([high, low]));
        Ok(Self { width: side(*w1, *w0), height: side(*h1, *h0), channels })
    }

    /// Takes out what a scan brings: coefficients `first..=last` of some channels, to the last
    /// digit if `low` is 0.
    fn strike_out(&mut self, scan: &[u8]) {
        let [_, _, channels @ .., first, last, low] = scan else { return };
        if low & 15 != 0 || first > last || *last > 63 {
            return;
        }
        let brought = (u64::MAX << first) & (u64::MAX >> (63 - last));
        for named in channels.get(1..).unwrap_or_default().chunks_exact(2) {
            for channel in self.channels.iter_mut().filter(|channel| channel.name == named[0]) {
                channel.missing &= !brought;
            }
        }
    }
}

/// The next marker and where it ends, over stray and fill bytes.
fn next_marker(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += memchr(0xFF, bytes.get(at..)?)? + 1;
        match *bytes.get(at)? {
            0x00 | 0xFF => {}
            marker => return Some((marker, at + 1)),
        }
    }
}

/// Where coded data ends: at the marker behind it; restart markers are part of it.
fn coded_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr(0xFF, bytes.get(at..)?)?;
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

    const PADDING: &[u8] = b"padding";

    fn tidied(file: &[&[u8]]) -> Result<Vec<u8>, DecodeError> {
        let (file, mut copy) = (file.concat(), Vec::new());
        examine(&file)?.tidy(PADDING, &mut copy);
        Ok(copy)
    }

    #[track_caller]
    fn check(file: &[&[u8]], expected: Result<&[&[u8]], DecodeError>) {
        assert_eq!(tidied(file), expected.map(<[&[u8]]>::concat));
    }

    const START: &[u8] = b"\xFF\xD8";
    const FRAME: &[u8] = b"\xFF\xC0\0\x0B\x08\0\x09\0\x11\x01\x01\x11\0";
    const COMMENT: &[u8] = b"\xFF\xFE\0\x03c";
    const CODED: &[u8] = b"\xFF\xDA\0\x08\x01\x01\0\0\x3F\0ab\xFF\0c\xFF\xD0d";
    const STOP: &[u8] = b"\xFF\xD9";

    #[test]
    fn stray_bytes_and_what_follows_the_last_scan_are_left_out() {
        let file = [START, b" stray \xFF\xFF", COMMENT, FRAME, b"\xFF\x01", CODED, COMMENT, STOP];
        check(&file, Ok(&[START, COMMENT, FRAME, CODED, PADDING, STOP]));
        let file = [START, FRAME, CODED, COMMENT, CODED, STOP, b"junk"];
        check(&file, Ok(&[START, FRAME, CODED, COMMENT, CODED, PADDING, STOP]));
    }

    #[test]
    fn the_frame_is_read() {
        let file = [START, FRAME, CODED, STOP].concat();
        let frame = examine(&file).unwrap().frame;
        assert_eq!((frame.width, frame.height), (17, 9));
        assert_eq!(frame.channels, [Channel { name: 1, sampling: (1, 1), missing: 0 }]);
    }

    #[test]
    fn a_picture_inside_a_segment_does_not_end_the_file() {
        check(&[START, b"\xFF\xE1\0\x06\xFF\xD8\xFF\xD9"], Err(DecodeError::Truncated));
    }

    #[test]
    fn every_cut_is_noticed() {
        let file = [START, COMMENT, FRAME, CODED, STOP].concat();
        for length in 2..file.len() {
            check(&[&file[..length]], Err(DecodeError::Truncated));
        }
    }

    #[test]
    fn kinds_that_are_not_read_are_named() {
        for (marker, precision, named) in [
            (0xC1, 12, "12 bits"),
            (0xC3, 8, "lossless"),
            (0xC5, 8, "hierarchical"),
            (0xC9, 8, "arithmetic"),
            (0xCA, 8, "arithmetic"),
            (0xF7, 8, "JPEG-LS"),
        ] {
            let mut frame = FRAME.to_vec();
            (frame[1], frame[4]) = (marker, precision);
            let error = tidied(&[START, &frame, CODED, STOP]).unwrap_err();
            let unsupported =
                matches!(&error, DecodeError::Unsupported(text) if text.contains(named));
            assert!(unsupported, "{marker:#X}: {error:?}");
        }
    }

    #[test]
    fn contradictions_are_corrupt() {
        let no_factor = b"\xFF\xC0\0\x0B\x08\0\x09\0\x11\x01\x01\x01\0".as_slice();
        for file in [
            [START, FRAME, FRAME, CODED, STOP].as_slice(),
            &[START, CODED, FRAME, STOP],
            &[START, FRAME, STOP],
            &[START, no_factor, CODED, STOP],
        ] {
            assert!(matches!(tidied(file), Err(DecodeError::Corrupt(_))), "{file:?}");
        }
    }

    /// A progressive file of the channels 1 and 2 is whole after these scans.
    #[track_caller]
    fn check_scans(scans: &[&[u8]], whole: bool) {
        let frame = b"\xFF\xC2\0\x11\x08\0\x08\0\x08\x03\x01\x11\0\x02\x11\0\x02\x11\0";
        let mut file = [START, frame].concat();
        for scan in scans {
            file.extend([0xFF, SCAN, 0, 2 + scan.len() as u8]);
            file.extend(*scan);
        }
        file.extend(STOP);
        assert_eq!(examine(&file).is_ok(), whole);
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
