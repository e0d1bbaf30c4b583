//! One large piece of a GPU's memory, filled through two small ones of the host's.

use super::Link;

/// Memory that is being filled, from its beginning. On the host there are never more than two chunks
/// of it.
pub(crate) struct Bulk<L: Link> {
    // Dropped first, which waits for the copies into the memory.
    chunks: Chunks<L>,
    there: L::There,
    /// Bytes in a chunk.
    chunk: usize,
    /// Whose turn it is, and the bytes in it.
    turn: usize,
    filled: usize,
    /// Bytes that were sent.
    sent: usize,
}

impl<L: Link> Bulk<L> {
    /// Memory of so many bytes, and chunks of at most `chunk`.
    pub(crate) fn new(link: L, bytes: usize, chunk: usize) -> Result<Self, L::Error> {
        let there = link.memory(bytes)?;
        let chunk = chunk.min(bytes).max(1);
        let pinned = [(link.pinned(chunk)?, None), (link.pinned(chunk)?, None)];
        Ok(Self { chunks: Chunks { link, pinned }, there, chunk, turn: 0, filled: 0, sent: 0 })
    }

    /// Bytes so far: the place of the next one.
    pub(crate) fn len(&self) -> usize {
        self.sent + self.filled
    }

    /// Adds bytes; whoever asked for the memory knows that there is room.
    pub(crate) fn put(&mut self, mut bytes: &[u8]) -> Result<(), L::Error> {
        while !bytes.is_empty() {
            if self.filled == self.chunk {
                self.send()?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.chunk - self.filled));
            let Chunks { link, pinned } = &mut self.chunks;
            link.write(&mut pinned[self.turn].0, self.filled, now)?;
            self.filled += now.len();
            bytes = later;
        }
        Ok(())
    }

    /// Sends what is in the chunk, and turns to the other one.
    fn send(&mut self) -> Result<(), L::Error> {
        let Chunks { link, pinned } = &mut self.chunks;
        let (host, copied) = &mut pinned[self.turn];
        *copied = Some(link.copy(host, self.filled, &mut self.there, self.sent)?);
        self.sent += self.filled;
        self.filled = 0;
        self.turn = 1 - self.turn;
        match &pinned[self.turn] {
            (_, Some(copied)) => link.wait(copied),
            _ => Ok(()),
        }
    }

    /// The memory, once all bytes are in it.
    pub(crate) fn finish(mut self) -> Result<L::There, L::Error> {
        if self.filled > 0 {
            self.send()?;
        }
        self.chunks.wait()?;
        Ok(self.there)
    }
}

/// Pinned memory in turn, with the end of the last copy from it.
struct Chunks<L: Link> {
    link: L,
    pinned: [(L::Host, Option<L::Mark>); 2],
}

impl<L: Link> Chunks<L> {
    /// Waits until all copies were made.
    fn wait(&self) -> Result<(), L::Error> {
        let marks = self.pinned.iter().filter_map(|(_, copied)| copied.as_ref());
        marks.into_iter().try_for_each(|copied| self.link.wait(copied))
    }
}

impl<L: Link> Drop for Chunks<L> {
    fn drop(&mut self) {
        // Nobody is left to tell of a failure; the memory must outlive what is under way.
        let _ = self.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Model, noise};
    use super::*;

    #[test]
    fn all_bytes_arrive_in_their_places() {
        for (seed, chunk) in (0..40).flat_map(|seed| [1, 3, 16, 1000].map(|chunk| (seed, chunk))) {
            let model = Model::new(seed);
            let bytes = noise(seed, 100 + seed as usize);
            let mut bulk = Bulk::new(model.clone(), bytes.len() + 8, chunk).unwrap();
            for (i, piece) in bytes.chunks(7).enumerate() {
                assert_eq!(bulk.len(), 7 * i);
                bulk.put(piece).unwrap();
            }
            assert!(model.pinned_in_all() <= 2 * chunk.min(bytes.len() + 8));
            let there = bulk.finish().unwrap();
            assert_eq!(model.bytes(&there)[..bytes.len()], bytes, "{seed}, {chunk}");
        }
    }

    #[test]
    fn no_bytes_are_no_copy() {
        let model = Model::new(0);
        let there = Bulk::new(model.clone(), 0, 16).unwrap().finish().unwrap();
        assert!(model.bytes(&there).is_empty());
    }
}
