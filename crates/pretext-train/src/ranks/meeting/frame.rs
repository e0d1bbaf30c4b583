//! What goes over a connection between two processes of a run: frames, and the hello before them.

use std::io::{self, Read, Write};

/// One thing that one process tells another.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Frame {
    /// It lives.
    Beat,
    /// Its numbers for a sum, or the sum.
    Values(Vec<f64>),
    /// A process is gone, in words.
    Gone(String),
    /// It parts from the others after a run that ended well.
    Leave,
    /// What process 0 has for all.
    Welcome(Vec<u8>),
}

/// The longest frame that is taken: more than any sum, far less than would fill the memory.
const MOST: usize = 1 << 28;

impl Frame {
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let (kind, bytes) = match self {
            Self::Beat => (0, Vec::new()),
            Self::Values(values) => (1, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
            Self::Gone(who) => (2, who.clone().into_bytes()),
            Self::Leave => (3, Vec::new()),
            Self::Welcome(bytes) => (4, bytes.clone()),
        };
        let length = u32::try_from(bytes.len()).map_err(|_| damaged())?;
        // In one piece: several threads write to a connection, each a whole frame at a time.
        let mut frame = vec![kind];
        frame.extend(length.to_le_bytes());
        frame.extend(bytes);
        to.write_all(&frame)
    }

    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut head = [0; 5];
        from.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let length = u32::from_le_bytes(length) as usize;
        if length > MOST {
            return Err(damaged());
        }
        let mut bytes = Vec::new();
        if from.take(length as u64).read_to_end(&mut bytes)? < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match kind {
            0 if length == 0 => Ok(Self::Beat),
            1 if length.is_multiple_of(8) => {
                let value = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().unwrap_or_default());
                Ok(Self::Values(bytes.chunks_exact(8).map(value).collect()))
            }
            2 => Ok(Self::Gone(String::from_utf8_lossy(&bytes).into_owned())),
            3 if length == 0 => Ok(Self::Leave),
            4 => Ok(Self::Welcome(bytes)),
            _ => Err(damaged()),
        }
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a message of this program")
}

/// Who comes to process 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) run: u64,
    pub(super) rank: usize,
    pub(super) size: usize,
}

const GREETING: [u8; 8] = *b"pretext1";

impl Hello {
    pub(super) fn write(self, to: &mut impl Write) -> io::Result<()> {
        let mut bytes = GREETING.to_vec();
        for number in [self.run, self.rank as u64, self.size as u64] {
            bytes.extend(number.to_le_bytes());
        }
        to.write_all(&bytes)
    }

    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut bytes = [0; 32];
        from.read_exact(&mut bytes)?;
        let (greeting, numbers) = bytes.split_at(GREETING.len());
        if greeting != GREETING {
            return Err(damaged());
        }
        let number =
            |i: usize| u64::from_le_bytes(numbers[8 * i..][..8].try_into().unwrap_or_default());
        let index = |i| usize::try_from(number(i)).map_err(|_| damaged());
        Ok(Self { run: number(0), rank: index(1)?, size: index(2)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_as_they_were_sent() {
        let frames = [
            Frame::Beat,
            Frame::Values(vec![1.5, f64::NEG_INFINITY, -0.0]),
            Frame::Gone("process 1".into()),
            Frame::Leave,
            Frame::Welcome(vec![7; 128]),
        ];
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.write(&mut bytes).unwrap());
        let mut rest = &bytes[..];
        for frame in &frames {
            assert_eq!(Frame::read(&mut rest).unwrap(), *frame);
        }
        assert!(rest.is_empty());
        let hello = Hello { run: u64::MAX, rank: 3, size: 4 };
        let mut bytes = Vec::new();
        hello.write(&mut bytes).unwrap();
        assert_eq!(Hello::read(&mut &bytes[..]).unwrap(), hello);
    }

    #[test]
    fn what_is_no_frame_is_refused_without_the_memory_it_claims() {
        let refused = |bytes: &[u8]| assert!(Frame::read(&mut { bytes }).is_err(), "{bytes:?}");
        refused(b"GET / HTTP/1.1\r\n\r\n");
        refused(&[1, 0xff, 0xff, 0xff, 0xff]);
        refused(&[1, 0, 0, 0, 0x0f, 1, 2]);
        let long = Frame::read(&mut &[1, 8, 0, 0, 0x10][..]).unwrap_err();
        assert_eq!(long.kind(), io::ErrorKind::InvalidData, "it would be waited for");
        refused(&[1, 3, 0, 0, 0, 1, 2, 3]);
        refused(&[0, 1, 0, 0, 0, 0]);
        refused(&[9, 0, 0, 0, 0]);
        assert!(Hello::read(&mut &[b'x'; 32][..]).is_err());
        assert!(Hello::read(&mut &GREETING[..]).is_err());
    }
}
