//! Learning curves for TensorBoard: event files in a run's out folder, one a sitting.
//!
//! The format is TensorFlow's: records with checksums (`tfrecord`), each an `Event` as a protocol
//! buffer. A run that is resumed says from which step on it goes; what an earlier sitting wrote
//! behind that step is then dropped by TensorBoard, so that no step is drawn twice.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc};

use crate::error::{AtPath as _, Error, Result};
use crate::progress::Progress;
use crate::record::Epoch;

/// CRC-32C, by Castagnoli's polynomial.
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// How long values may wait before they can be seen from outside.
const FLUSH_EVERY: Duration = Duration::from_secs(2);

/// The event file of this sitting.
pub(crate) struct Curves {
    /// `None` where another process writes them.
    file: Option<(PathBuf, BufWriter<File>)>,
    /// Steps in an epoch.
    steps: usize,
    flushed: Instant,
}

impl Curves {
    /// Opens a file in `out`, if there is one, to go on behind the steps that are done.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub(crate) fn new(out: Option<&Path>, progress: &Progress, steps: usize) -> Result<Self> {
        let seconds = now() as u64;
        let open = |out: &Path| {
            let name = format!("events.out.tfevents.{seconds}.pretext.{}", std::process::id());
            let path = out.join(name);
            let file = BufWriter::new(File::create(&path).at(&path)?);
            Ok::<_, Error>((path, file))
        };
        let file = out.map(open).transpose()?;
        let mut curves = Self { file, steps, flushed: Instant::now() };
        curves.write(&event(0, &Message::text(3, "brain.Event:2")))?;
        let next = curves.count(progress) + 1;
        // `SessionLog` with the status `START`.
        curves.write(&event(next, &Message::inner(7, &Message::integer(1, 1))))?;
        curves.flush()?;
        Ok(curves)
    }

    /// Notes the step that was just taken.
    ///
    /// # Errors
    /// If the file cannot be written to.
    pub(crate) fn step(&mut self, progress: &Progress, loss: Option<f32>, rate: f64) -> Result<()> {
        let step = self.count(progress);
        let values = [("loss/train", loss.map(f64::from)), ("learning rate", Some(rate))];
        self.values(step, &values)?;
        if self.flushed.elapsed() > FLUSH_EVERY { self.flush() } else { Ok(()) }
    }

    /// Notes the epoch that just ended.
    ///
    /// # Errors
    /// If the file cannot be written to.
    pub(crate) fn epoch(&mut self, epoch: &Epoch) -> Result<()> {
        let step = u64::from(epoch.epoch) * self.steps as u64;
        self.values(
            step,
            &[
                ("loss/val", epoch.val_loss),
                ("accuracy/val", epoch.val_accuracy),
                ("speed/images per second", Some(epoch.images_per_second)),
                ("speed/share of time waiting for data", Some(epoch.data_wait)),
            ],
        )?;
        self.flush()
    }

    /// Steps that are done in all epochs.
    fn count(&self, progress: &Progress) -> u64 {
        u64::from(progress.epoch()) * self.steps as u64 + progress.step as u64
    }

    fn values(&mut self, step: u64, values: &[(&str, Option<f64>)]) -> Result<()> {
        let mut summary = Message::default();
        for (tag, value) in values {
            if let Some(value) = value {
                let one = Message::text(1, tag).and(&Message::float(2, *value as f32));
                summary = summary.and(&Message::inner(1, &one));
            }
        }
        self.write(&event(step, &Message::inner(5, &summary)))
    }

    fn write(&mut self, message: &Message) -> Result<()> {
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        file.write_all(&framed(&message.0)).at(path)
    }

    fn flush(&mut self) -> Result<()> {
        self.flushed = Instant::now();
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        file.flush().at(path)
    }
}

/// An `Event`: when, at which step, and what.
fn event(step: u64, what: &Message) -> Message {
    Message::double(1, now()).and(&Message::integer(2, step)).and(what)
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// A record: its length and its bytes, each with a checksum behind it.
fn framed(bytes: &[u8]) -> Vec<u8> {
    // A checksum of bytes that hold checksums would be weak: they are stored in disguise.
    let masked = |bytes: &[u8]| CRC.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8);
    let length = (bytes.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked(&length).to_le_bytes());
    record.extend(bytes);
    record.extend(masked(bytes).to_le_bytes());
    record
}

/// Fields of a protocol buffer.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn integer(field: u8, value: u64) -> Self {
        let mut bytes = vec![field << 3];
        varint(value, &mut bytes);
        Self(bytes)
    }

    fn double(field: u8, value: f64) -> Self {
        Self([&[field << 3 | 1][..], &value.to_le_bytes()].concat())
    }

    fn float(field: u8, value: f32) -> Self {
        Self([&[field << 3 | 5][..], &value.to_le_bytes()].concat())
    }

    fn text(field: u8, text: &str) -> Self {
        Self::bytes(field, text.as_bytes())
    }

    fn inner(field: u8, message: &Self) -> Self {
        Self::bytes(field, &message.0)
    }

    fn bytes(field: u8, bytes: &[u8]) -> Self {
        let mut all = vec![field << 3 | 2];
        varint(bytes.len() as u64, &mut all);
        all.extend(bytes);
        Self(all)
    }

    fn and(mut self, more: &Self) -> Self {
        self.0.extend(&more.0);
        self
    }
}

/// Seven bits a byte, the lowest first.
fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_castagnolis() {
        // The check value of the catalogue, and 32 zeros as RFC 3720 has them.
        assert_eq!(CRC.checksum(b"123456789"), 0xe306_9283);
        assert_eq!(CRC.checksum(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn bytes_are_those_that_tensorflow_writes() {
        let mut bytes = Vec::new();
        varint(300, &mut bytes);
        assert_eq!(bytes, [0xac, 0x02]);
        // tf.train.Event(wall_time=1.5, step=300, summary with loss = 0.25).SerializeToString()
        let value = Message::text(1, "loss").and(&Message::float(2, 0.25));
        let summary = Message::inner(5, &Message::inner(1, &value));
        let event = Message::double(1, 1.5).and(&Message::integer(2, 300)).and(&summary);
        let expected =
            b"\x09\0\0\0\0\0\0\xf8\x3f\x10\xac\x02\x2a\x0d\x0a\x0b\x0a\x04loss\x15\0\0\x80\x3e";
        assert_eq!(event.0, expected);
    }
}
