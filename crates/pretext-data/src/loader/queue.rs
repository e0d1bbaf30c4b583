//! What a loader's threads and its consumer share: places of the order, and results in a ring.
//!
//! Each thread takes the next place that nobody has taken, so that a slow picture holds up no other
//! before the ring is full. Nothing is locked that two of them would want at the same time: a place
//! is one step of an atomic counter, a result has a slot of its own, and the consumer hears only of
//! whole chunks. A thread that finds the ring full sleeps until its own place has room.

use std::{
    ops::Range,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, Thread},
};

pub(super) struct Queue<R> {
    /// Places altogether.
    len: usize,
    /// Places in a chunk; the last one may have fewer.
    chunk: usize,
    /// The next place to be taken by a thread.
    next: AtomicUsize,
    /// Places before this one were handed to the consumer; a multiple of `chunk`, or `len`.
    given: AtomicUsize,
    /// The result of place `i` is in slot `i % slots.len()`.
    slots: Box<[Mutex<Option<R>>]>,
    /// Results that chunk `i` still lacks, at `i % missing.len()`.
    missing: Box<[AtomicUsize]>,
    stop: AtomicBool,
    /// Threads whose places have no room yet.
    asleep: Mutex<Vec<(usize, Thread)>>,
    /// Guards nothing: it orders the end of a chunk and the consumer's falling asleep.
    ending: Mutex<()>,
    ended: Condvar,
}

impl<R> Queue<R> {
    /// A queue of `len` places in chunks, of which `ahead` fit into the ring.
    pub(super) fn new(len: usize, chunk: usize, ahead: usize) -> Self {
        let chunk = chunk.clamp(1, len.max(1));
        let ahead = ahead.clamp(1, len.div_ceil(chunk).max(1));
        let queue = Self {
            len,
            chunk,
            next: AtomicUsize::new(0),
            given: AtomicUsize::new(0),
            slots: (0..chunk * ahead).map(|_| Mutex::new(None)).collect(),
            missing: (0..ahead).map(|_| AtomicUsize::new(0)).collect(),
            stop: AtomicBool::new(false),
            asleep: Mutex::new(Vec::new()),
            ending: Mutex::new(()),
            ended: Condvar::new(),
        };
        for (i, missing) in queue.missing.iter().enumerate() {
            missing.store(queue.chunk_len(i), Ordering::Relaxed);
        }
        queue
    }

    /// Results that the ring holds at most.
    pub(super) fn window(&self) -> usize {
        self.slots.len()
    }

    fn chunk_len(&self, chunk: usize) -> usize {
        self.len.saturating_sub(chunk * self.chunk).min(self.chunk)
    }

    /// The next place, as soon as there is room for its result; `None` if there is nothing left.
    pub(super) fn take_place(&self) -> Option<usize> {
        // Asked once too often by each thread: far from overflow.
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        if place >= self.len {
            return None;
        }
        let mut listed = false;
        loop {
            if self.stop.load(Ordering::Acquire) {
                return None;
            }
            if self.has_room(place) {
                return Some(place);
            }
            if listed {
                thread::park();
                continue;
            }
            // Looked at again under the lock: what changes afterwards wakes whoever is listed.
            let mut asleep = lock(&self.asleep);
            if !self.has_room(place) && !self.stop.load(Ordering::Acquire) {
                asleep.push((place, thread::current()));
                listed = true;
            }
        }
    }

    fn has_room(&self, place: usize) -> bool {
        place - self.given.load(Ordering::Acquire).min(place) < self.window()
    }

    /// Leaves the result of a place.
    pub(super) fn put(&self, place: usize, result: R) {
        *lock(&self.slots[place % self.window()]) = Some(result);
        let missing = &self.missing[place / self.chunk % self.missing.len()];
        if missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            drop(lock(&self.ending));
            self.ended.notify_one();
        }
    }

    /// The results of the next chunk, once all of them are there; `None` after the last one. Its room
    /// stays closed until [`Queue::advance`].
    pub(super) fn take_chunk(&self) -> Option<(Range<usize>, Vec<R>)> {
        let start = self.given.load(Ordering::Relaxed);
        if start >= self.len || self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let chunk = start / self.chunk;
        let places = self.places(chunk);
        let missing = &self.missing[chunk % self.missing.len()];
        let mut ending = lock(&self.ending);
        while missing.load(Ordering::Acquire) > 0 {
            ending = self.ended.wait(ending).unwrap_or_else(PoisonError::into_inner);
        }
        drop(ending);
        let results = places.clone().filter_map(|i| lock(&self.slots[i % self.window()]).take());
        let results = results.collect();
        missing.store(self.chunk_len(chunk + self.missing.len()), Ordering::Relaxed);
        Some((places, results))
    }

    /// Opens the room that a chunk took, which [`Queue::take_chunk`] gave.
    pub(super) fn advance(&self, places: &Range<usize>) {
        self.given.store(places.end, Ordering::Release);
        self.wake(|place| place < places.end + self.window());
    }

    /// The chunks that have room at the beginning.
    pub(super) fn chunks_ahead(&self) -> impl Iterator<Item = Range<usize>> {
        (0..self.missing.len()).map(|chunk| self.places(chunk)).filter(|places| !places.is_empty())
    }

    /// The chunk that has room as soon as another one has been given.
    pub(super) fn room_after(&self, places: &Range<usize>) -> Option<Range<usize>> {
        let chunk = self.places(places.start / self.chunk + self.missing.len());
        (!chunk.is_empty()).then_some(chunk)
    }

    fn places(&self, chunk: usize) -> Range<usize> {
        let start = chunk * self.chunk;
        start..start + self.chunk_len(chunk)
    }

    /// Wakes every thread and gives out nothing more.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake(|_| true);
    }

    fn wake(&self, whom: impl Fn(usize) -> bool) {
        lock(&self.asleep).retain(|(place, thread)| {
            let wake = whom(*place);
            if wake {
                thread.unpark();
            }
            !wake
        });
    }
}

/// No foreign code runs under a lock, so that a poisoned one is still in order.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next chunk, whose room is open again.
    fn next<R>(queue: &Queue<R>) -> Option<(Range<usize>, Vec<R>)> {
        let chunk = queue.take_chunk();
        if let Some((places, _)) = &chunk {
            queue.advance(places);
        }
        chunk
    }

    #[test]
    fn one_thread_alone_fills_and_empties_the_ring() {
        let queue = Queue::new(7, 2, 2);
        assert_eq!(queue.window(), 4);
        for expected in [0..2, 2..4, 4..6, 6..7] {
            for place in expected.clone() {
                assert_eq!(queue.take_place(), Some(place));
                queue.put(place, place * 10);
            }
            let results = expected.clone().map(|place| place * 10).collect();
            assert_eq!(next(&queue), Some((expected, results)));
        }
        assert_eq!((queue.take_place(), queue.take_chunk()), (None, None));
    }

    #[test]
    fn sizes_that_make_no_sense_are_made_to() {
        assert_eq!(Queue::<()>::new(0, 0, 0).take_chunk(), None);
        assert_eq!(Queue::<()>::new(5, usize::MAX, usize::MAX).window(), 5);
        assert_eq!(Queue::<()>::new(5, 2, usize::MAX).window(), 6);
    }

    #[test]
    fn chunks_have_their_room_one_ring_after_another() {
        let queue = Queue::<()>::new(7, 2, 2);
        assert_eq!(queue.chunks_ahead().collect::<Vec<_>>(), [0..2, 2..4]);
        assert_eq!(queue.room_after(&(0..2)), Some(4..6));
        assert_eq!(queue.room_after(&(2..4)), Some(6..7));
        assert_eq!(queue.room_after(&(4..6)), None);
        assert_eq!(Queue::<()>::new(0, 2, 2).chunks_ahead().count(), 0);
    }

    #[test]
    fn whoever_sleeps_is_woken_by_room_or_by_the_end() {
        let queue = Queue::new(3, 1, 1);
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let mut places = Vec::new();
                while let Some(place) = queue.take_place() {
                    queue.put(place, place);
                    places.push(place);
                }
                places
            });
            assert_eq!(next(&queue), Some((0..1, vec![0])));
            assert_eq!(next(&queue), Some((1..2, vec![1])));
            queue.stop();
            let places = worker.join().unwrap();
            assert!(places.starts_with(&[0, 1]), "{places:?}");
        });
        assert_eq!(queue.take_chunk(), None);
    }
}
