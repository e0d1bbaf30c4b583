//! Batches whose pictures become numbers in one piece of memory, which is used again.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
};

use super::{
    Batch, Batches, Loader,
    buffers::{Buffers, Row, Shared},
    queue::lock,
};
use crate::{Error, Picture, Pictures};

impl Loader {
    /// Reads the pictures of `order` and lets `write` bring each to rows of numbers, one in each of
    /// `K` buffers: `write(id, picture, rows)`, with the lengths of [`Buffers::row`], on the thread
    /// that decoded it. What it returns is the picture's item in the batch.
    ///
    /// A batch comes with its values: `K` vectors of as many rows as it has items, in their order.
    /// They are the caller's; [`Buffers::give_back`] makes them memory of a later batch. So rows hold
    /// something of another picture when `write` gets them, and it must write every number.
    ///
    /// Everything else is as in [`Loader::batches`]: a damaged picture has no row, strictness, panics
    /// and the last batch are the same, and nothing depends on the number of threads. In memory there
    /// are `prefetch` batches, besides the one that was handed out and what was given back.
    ///
    /// ```no_run
    /// use pretext_data::{Buffers, Dataset, Loader};
    /// let data = Dataset::open("imagewang-160".as_ref())?;
    /// let (pictures, buffers) = (data.unsup(), Buffers::new([3])); // [N, 3]
    /// let order = (0..pictures.len()).collect();
    /// let mean_colour = |_, picture: pretext_data::Picture, [row]: [&mut [f32]; 1]| {
    ///     row.fill(0.0);
    ///     for pixel in picture.pixels.chunks_exact(3) {
    ///         for (sum, value) in row.iter_mut().zip(pixel) {
    ///             *sum += f32::from(*value) / (picture.width * picture.height) as f32;
    ///         }
    ///     }
    /// };
    /// for batch in Loader::default().rows(&buffers, pictures, order, mean_colour) {
    ///     let (batch, [colours]) = batch?;
    ///     assert_eq!(colours.len(), 3 * batch.ids.len());
    ///     buffers.give_back([colours]);
    /// }
    /// # Ok::<(), pretext_data::Error>(())
    /// ```
    pub fn rows<T, U, const K: usize>(
        &self,
        buffers: &Buffers<T, K>,
        pictures: &Pictures,
        order: Vec<usize>,
        write: impl Fn(usize, Picture, [&mut [T]; K]) -> U + Send + Sync + 'static,
    ) -> Rows<T, U, K>
    where
        T: Copy + Default + Send + 'static,
        U: Send + 'static,
    {
        let order = self.kept(order);
        let queue = self.queue(order.len());
        let ring = Arc::new(Ring {
            buffers: buffers.clone(),
            rows: (0..queue.window()).map(|_| Mutex::new(None)).collect(),
        });
        let lent = queue.chunks_ahead().map(|places| ring.lend(places)).collect();
        let inside = Arc::clone(&ring);
        let prepare = move |place: usize, id, picture| {
            let mut rows = inside.take(place);
            let item = write(id, picture, rows.each_mut().map(|row| &mut **row));
            (place, item)
        };
        Rows { batches: self.start(queue, pictures, order, prepare), ring, lent }
    }
}

/// The batches of one [`Loader::rows`]; dropping it stops and joins its threads.
pub struct Rows<T, U, const K: usize> {
    /// Items with their places in the order.
    batches: Batches<(usize, U)>,
    ring: Arc<Ring<T, K>>,
    /// The memory of the chunks under way, the next one first.
    lent: std::collections::VecDeque<[Shared<T>; K]>,
}

impl<T: Copy + Default + Send, U, const K: usize> Iterator for Rows<T, U, K> {
    type Item = Result<(Batch<U>, [Vec<T>; K]), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (places, batch) = self.batches.take_next()?;
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return Some(Err(error)),
        };
        for place in places.clone() {
            // Nobody took those of damaged pictures.
            self.ring.clear(place);
        }
        let mut values = self.lent.pop_front()?.map(|shared| {
            shared.take().expect("a chunk that is complete has returned all of its rows")
        });
        if let Some(next) = self.batches.room_after(&places) {
            self.lent.push_back(self.ring.lend(next));
        }
        self.batches.advance(&places);
        let mut items = Vec::with_capacity(batch.items.len());
        for (place, item) in batch.items {
            // Over the gaps that damaged pictures left.
            let (from, to) = (place - places.start, items.len());
            for (values, row) in values.iter_mut().zip(self.ring.buffers.row()) {
                if from != to {
                    values.copy_within(from * row..(from + 1) * row, to * row);
                }
            }
            items.push(item);
        }
        for (values, row) in values.iter_mut().zip(self.ring.buffers.row()) {
            values.truncate(items.len() * row);
        }
        Some(Ok((Batch { ids: batch.ids, items, damaged: batch.damaged }, values)))
    }
}

/// What is there for one thread.
type Slot<T> = Mutex<Option<T>>;

/// Rows for the places that have room.
struct Ring<T, const K: usize> {
    buffers: Buffers<T, K>,
    /// Those of place `i` are at `i % rows.len()`.
    rows: Box<[Slot<[Row<T>; K]>]>,
}

impl<T: Copy + Default + Send, const K: usize> Ring<T, K> {
    /// Puts memory for a chunk into the ring.
    fn lend(&self, places: Range<usize>) -> [Shared<T>; K] {
        let count = places.len();
        let mut lengths = self.buffers.row().into_iter();
        let lent = self.buffers.take(count).map(|values| {
            let (shared, rows) = Shared::lend(values, count, lengths.next().unwrap_or(0));
            (shared, rows.into_iter())
        });
        let mut rows = Vec::with_capacity(K);
        let shared = lent.map(|(shared, each)| {
            rows.push(each);
            shared
        });
        for place in places {
            let row = std::array::from_fn(|k| rows[k].next().expect("a row for each place"));
            *lock(&self.rows[place % self.rows.len()]) = Some(row);
        }
        shared
    }

    /// The rows of a place, which is taken once.
    fn take(&self, place: usize) -> [Row<T>; K] {
        self.clear(place).expect("a place with room has its rows")
    }

    fn clear(&self, place: usize) -> Option<[Row<T>; K]> {
        lock(&self.rows[place % self.rows.len()]).take()
    }
}
