//! Parcels of bytes that come and go, a few at a time: the next one is copied while the GPU computes
//! with this one.

use super::Link;

/// Memory for a few parcels, on both sides, used again and again.
pub(crate) struct Parcels<L: Link> {
    link: L,
    slots: Vec<Slot<L>>,
    /// The number of the parcel that is being written, counted from 1.
    at: usize,
}

struct Slot<L: Link> {
    /// As large as each other.
    memory: Option<(L::Host, L::There)>,
    room: usize,
    filled: usize,
    /// The end of the copy.
    copied: Option<L::Mark>,
    /// Whether the computing queue was told to wait for it.
    awaited: bool,
    /// The end of the last computation that reads it.
    used: Option<L::Mark>,
}

/// Room is made in whole multiples of so many bytes, and a quarter more than is asked for, so that it
/// is made seldom.
const GRAIN: usize = 1 << 16;

impl<L: Link> Parcels<L> {
    /// So many parcels at a time; they have no memory yet.
    pub(crate) fn new(link: L, count: usize) -> Self {
        let none =
            || Slot { memory: None, room: 0, filled: 0, copied: None, awaited: false, used: None };
        Self { link, slots: (0..count.max(1)).map(|_| none()).collect(), at: 0 }
    }

    /// Begins a parcel of at most so many bytes, in the memory of the oldest one. The host waits for
    /// that one's copy, which was long ago, and for nothing else, unless the memory is too small.
    pub(crate) fn begin(&mut self, bytes: usize) -> Result<(), L::Error> {
        self.at += 1;
        let slot = self.slot();
        let slot = &mut self.slots[slot];
        if let Some(copied) = slot.copied.take() {
            self.link.wait(&copied)?;
        }
        slot.filled = 0;
        if slot.room < bytes {
            if let Some(used) = slot.used.take() {
                self.link.wait(&used)?;
            }
            // The old memory first: both need not fit.
            (slot.memory, slot.room) = (None, 0);
            let room = (bytes + bytes / 4).next_multiple_of(GRAIN);
            slot.memory = Some((self.link.pinned(room)?, self.link.memory(room)?));
            slot.room = room;
        }
        Ok(())
    }

    /// Bytes in the parcel so far: the place of the next one.
    pub(crate) fn len(&self) -> usize {
        self.slots[self.slot()].filled
    }

    /// Adds bytes to the parcel, which was begun for so many.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), L::Error> {
        let slot = self.slot();
        let slot = &mut self.slots[slot];
        if let Some((host, _)) = &mut slot.memory {
            self.link.write(host, slot.filled, bytes)?;
            slot.filled += bytes.len();
        }
        Ok(())
    }

    /// Sends the parcel; whoever computes finds it [`there`](Self::there), under the number that this
    /// returns.
    pub(crate) fn send(&mut self) -> Result<usize, L::Error> {
        let slot = self.slot();
        let slot = &mut self.slots[slot];
        if let Some((host, there)) = &mut slot.memory {
            if let Some(used) = slot.used.take() {
                self.link.copy_after(&used)?;
            }
            slot.copied = Some(self.link.copy(host, slot.filled, there, 0)?);
            slot.awaited = false;
        }
        Ok(self.at)
    }

    fn slot(&self) -> usize {
        self.at % self.slots.len()
    }

    /// The memory of a parcel, for what is told to compute from now on, which waits for its copy, as
    /// nothing before does. `None` if another parcel has its memory by now, or if none was ever begun
    /// with any bytes.
    pub(crate) fn there(&mut self, parcel: usize) -> Result<Option<&L::There>, L::Error> {
        let count = self.slots.len();
        if parcel > self.at || parcel + count <= self.at {
            return Ok(None);
        }
        let slot = &mut self.slots[parcel % count];
        if let (Some(copied), false) = (&slot.copied, slot.awaited) {
            self.link.compute_after(copied)?;
            slot.awaited = true;
        }
        Ok(slot.memory.as_ref().map(|(_, there)| there))
    }

    /// Says that what was told to compute so far reads a parcel: its memory stays until then.
    pub(crate) fn is_read(&mut self, parcel: usize) -> Result<(), L::Error> {
        let slot = parcel % self.slots.len();
        self.slots[slot].used = Some(self.link.computed()?);
        Ok(())
    }
}

impl<L: Link> Drop for Parcels<L> {
    fn drop(&mut self) {
        for slot in &self.slots {
            // Nobody is left to tell of a failure; the memory must outlive what is under way.
            for mark in slot.copied.iter().chain(&slot.used) {
                let _ = self.link.wait(mark);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Model, noise};
    use super::*;

    /// Sends parcels of any size, and reads each once or twice: the last, and, one behind, the last but
    /// one.
    fn run(seed: u64, slots: usize, behind: usize) -> Model {
        let model = Model::new(seed);
        let mut parcels = Parcels::new(model.clone(), slots);
        let mut under_way = std::collections::VecDeque::new();
        for i in 0..30 {
            let bytes = noise(seed + i, (i as usize * 5_003) % 150_001);
            parcels.begin(bytes.len()).unwrap();
            for piece in bytes.chunks(40_000) {
                parcels.put(piece).unwrap();
            }
            assert_eq!(parcels.len(), bytes.len());
            under_way.push_back((parcels.send().unwrap(), bytes));
            while under_way.len() > behind {
                let (parcel, bytes) = under_way.pop_front().unwrap();
                for _ in 0..=i % 2 {
                    if let Some(there) = parcels.there(parcel).unwrap() {
                        model.compute_with(there, &bytes);
                    }
                    parcels.is_read(parcel).unwrap();
                }
            }
        }
        drop(parcels);
        model.finish();
        model
    }

    #[test]
    fn no_parcel_is_written_over_before_it_is_read() {
        for seed in 0..60 {
            for (slots, behind) in [(1, 0), (2, 0), (2, 1), (3, 2), (4, 0)] {
                let model = run(100 * seed, slots, behind);
                assert_eq!(model.wrong(), 0, "seed {seed}, {slots} slots, {behind} behind");
                assert!(model.computed() > 25);
            }
        }
    }

    #[test]
    fn a_computation_does_not_wait_for_the_parcel_after_its_own() {
        let model = Model::lazy();
        let mut parcels = Parcels::new(model.clone(), 2);
        let mut send = |byte: u8| {
            parcels.begin(8).unwrap();
            parcels.put(&[byte; 8]).unwrap();
            let parcel = parcels.send().unwrap();
            let there = (byte == 1).then(|| parcels.there(parcel).unwrap().unwrap().clone());
            if byte == 1 {
                parcels.is_read(parcel).unwrap();
            }
            there
        };
        let first = send(1).unwrap();
        send(2);
        model.compute_with(&first, &[1; 8]);
        model.compute_all();
        assert_eq!((model.computed(), model.wrong(), model.copied()), (1, 0, 1));
    }

    #[test]
    fn a_parcel_whose_memory_another_has_is_gone() {
        let mut parcels = Parcels::new(Model::lazy(), 2);
        let numbers = [1, 2, 3].map(|byte| {
            parcels.begin(4).unwrap();
            parcels.put(&[byte; 4]).unwrap();
            parcels.send().unwrap()
        });
        let there = numbers.map(|number| parcels.there(number).unwrap().is_some());
        assert_eq!(there, [false, true, true]);
        assert!(parcels.there(numbers[2] + 1).unwrap().is_none());
    }

    #[test]
    fn the_host_stays_ahead_of_the_computations_by_two_parcels() {
        let model = Model::lazy();
        let mut parcels = Parcels::new(model.clone(), 2);
        for i in 0..10 {
            let bytes = noise(i, 1000);
            parcels.begin(1000).unwrap();
            parcels.put(&bytes).unwrap();
            let parcel = parcels.send().unwrap();
            model.compute_with(parcels.there(parcel).unwrap().unwrap(), &bytes);
            parcels.is_read(parcel).unwrap();
            // The copy of a parcel waits for the computation of the last but one, and so does the host
            // when it writes the next but one.
            assert!(model.computed() as u64 + 4 > i, "{i}: {}", model.computed());
            assert!(i < 4 || model.computed() as u64 <= i - 2, "{i}: {}", model.computed());
        }
    }
}
