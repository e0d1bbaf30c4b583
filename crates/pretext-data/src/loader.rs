//! Batches in a given order, read ahead by several threads; the same ones for any number of them.

mod buffers;
mod queue;
mod rows;

use std::{
    any::Any,
    ops::Range,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    thread::{self, JoinHandle},
};

use crate::{Decoder, Error, Picture, Pictures};
pub use buffers::Buffers;
use queue::Queue;
pub use rows::Rows;

/// How to make batches.
///
/// ```no_run
/// use pretext_data::{Dataset, Loader};
/// let data = Dataset::open("imagewang-160".as_ref())?;
/// let order = (0..data.train().len()).collect(); // shuffle this: chance is the caller's
/// let loader = Loader { batch_size: 64, drop_last: true, ..Loader::default() };
/// for batch in loader.batches(data.train().pictures(), order, |_id, picture| picture.width) {
///     let batch = batch?;
///     for (id, width) in batch.ids.iter().zip(&batch.items) {
///         assert!(*width > 0 && data.train().label(*id) < 20);
///     }
/// }
/// # Ok::<(), pretext_data::Error>(())
/// ```
///
/// # Memory
/// At any time there are at most [`Loader::ready`] results of `prepare`, besides those of the batch
/// that was handed out; and for each thread one picture under way, its file, and its decoder's
/// memory: no more than `MAX_BYTES + 3 * MAX_PIXELS` bytes and 1 GiB, and for photographs of 500 x
/// 375 pixels about 1 MB. For 128 x 128 pixels of `f32`, two batches of 64 are 25 MB. What
/// [`Loader::rows`] writes lies in as many batches' memory, whether it is written already or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loader {
    /// Pictures in a batch; 0 counts as 1.
    pub batch_size: usize,
    /// Threads that read, decode and prepare; 0 is one for each processor.
    pub threads: usize,
    /// Batches that may be under way or ready before they are asked for; 0 counts as 1. This is
    /// the bound on memory.
    pub prefetch: usize,
    /// The shorter side that pictures keep at least, if they may come at a half, a quarter or an
    /// eighth of their size: see [`Decoder::reducing_to`]. `None` keeps every pixel.
    pub shortest_side: Option<u32>,
    /// Whether a damaged picture is an error. Otherwise it is left out and listed.
    pub strict: bool,
    /// Whether to leave out a last batch that is shorter than the others.
    pub drop_last: bool,
}

impl Default for Loader {
    /// 64 pictures in a batch, a thread for each processor, two batches ahead, every pixel, not
    /// strict, the last batch kept.
    fn default() -> Self {
        let (batch_size, threads, prefetch, shortest_side) = (64, 0, 2, None);
        Self { batch_size, threads, prefetch, shortest_side, strict: false, drop_last: false }
    }
}

/// What became of one chunk of the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<T> {
    /// Index of each item's picture.
    pub ids: Vec<usize>,
    /// What `prepare` made of each picture, in the order asked for.
    pub items: Vec<T>,
    /// Pictures of this chunk that are missing in `items`, in the order asked for.
    pub damaged: Vec<Damaged>,
}

/// A picture that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// The file.
    pub name: String,
    /// What is wrong with it, in one line.
    pub reason: String,
}

impl Loader {
    /// The most results that are ready or under way at a time: `prefetch` batches.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.batch_size.max(1).saturating_mul(self.prefetch.max(1))
    }

    /// Reads the pictures of `order`, passes each with its index to `prepare`, and gathers the
    /// results in chunks of `batch_size`.
    ///
    /// A damaged picture makes its own chunk shorter and no other, so that batches depend neither
    /// on the number of threads nor on their speed. With `strict`, the first damaged picture of a
    /// chunk is returned as the error in place of that chunk, and nothing follows. An index
    /// outside of `pictures` is such an error in any case.
    ///
    /// If `prepare` panics, so does [`Batches::next`], with the same payload, when it comes to
    /// that picture's chunk.
    pub fn batches<T: Send + 'static>(
        &self,
        pictures: &Pictures,
        order: Vec<usize>,
        prepare: impl Fn(usize, Picture) -> T + Send + Sync + 'static,
    ) -> Batches<T> {
        let order = self.kept(order);
        let queue = self.queue(order.len());
        self.start(queue, pictures, order, move |_, id, picture| prepare(id, picture))
    }

    /// The part of an order that is read.
    fn kept(&self, mut order: Vec<usize>) -> Vec<usize> {
        if self.drop_last {
            let batch_size = self.batch_size.max(1);
            order.truncate(order.len() / batch_size * batch_size);
        }
        order
    }

    fn queue<R>(&self, len: usize) -> Queue<R> {
        Queue::new(len, self.batch_size, self.prefetch)
    }

    /// Starts the threads; `prepare` gets a picture's place in the order, too.
    fn start<T: Send + 'static>(
        &self,
        queue: Queue<Outcome<T>>,
        pictures: &Pictures,
        order: Vec<usize>,
        prepare: impl Fn(usize, usize, Picture) -> T + Send + Sync + 'static,
    ) -> Batches<T> {
        let threads = match self.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let threads = threads.min(queue.window()).min(order.len());
        let shared = Arc::new(Shared {
            pictures: pictures.clone(),
            order,
            shortest_side: self.shortest_side,
            queue,
        });
        let prepare = Arc::new(prepare);
        let workers = (0..threads)
            .map(|_| {
                let (shared, prepare) = (Arc::clone(&shared), Arc::clone(&prepare));
                thread::spawn(move || shared.work(&*prepare))
            })
            .collect();
        Batches { shared, workers, strict: self.strict }
    }
}

type BatchResult<T> = Result<Batch<T>, Error>;

/// The batches of one [`Loader::batches`]; dropping it stops and joins its threads.
pub struct Batches<T> {
    shared: Arc<Shared<T>>,
    workers: Vec<JoinHandle<()>>,
    strict: bool,
}

impl<T> Batches<T> {
    fn stop(&mut self) {
        self.shared.queue.stop();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of what it calls; there is nothing to hear from it.
            let _ = worker.join();
        }
    }
}

impl<T> Iterator for Batches<T> {
    type Item = BatchResult<T>;

    fn next(&mut self) -> Option<Self::Item> {
        let (places, batch) = self.take_next()?;
        self.advance(&places);
        Some(batch)
    }
}

impl<T> Batches<T> {
    /// The next batch and its places in the order, whose room stays closed until
    /// [`Batches::advance`].
    fn take_next(&mut self) -> Option<(Range<usize>, BatchResult<T>)> {
        let (places, outcomes) = self.shared.queue.take_chunk()?;
        let (ids, items) = (Vec::with_capacity(places.len()), Vec::with_capacity(places.len()));
        let mut batch = Batch { ids, items, damaged: Vec::new() };
        for (place, outcome) in places.clone().zip(outcomes) {
            let id = self.shared.order[place];
            match outcome {
                Outcome::Item(item) => {
                    batch.ids.push(id);
                    batch.items.push(item);
                }
                Outcome::Failed(error) => match Damaged::from_error(&error) {
                    Some(damaged) if !self.strict => batch.damaged.push(damaged),
                    _ => {
                        self.stop();
                        return Some((places, Err(error)));
                    }
                },
                Outcome::Panicked(payload) => {
                    self.stop();
                    panic::resume_unwind(payload);
                }
            }
        }
        Some((places, Ok(batch)))
    }

    /// Opens the room that a batch took.
    fn advance(&self, places: &Range<usize>) {
        self.shared.queue.advance(places);
    }

    /// The places that get room by this.
    fn room_after(&self, places: &Range<usize>) -> Option<Range<usize>> {
        self.shared.queue.room_after(places)
    }
}

impl<T> Drop for Batches<T> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Damaged {
    /// A file's fault as an entry of a list; `None` if it is the caller's.
    fn from_error(error: &Error) -> Option<Self> {
        let (path, reason) = match error {
            Error::Damaged { path, reason } => (path, reason.to_string()),
            Error::Read { path, source } => (path, source.to_string()),
            Error::Missing { path } => (path, "there is no such file".to_owned()),
            _ => return None,
        };
        Some(Self { name: path.display().to_string(), reason })
    }
}

/// What threads and consumer have in common.
struct Shared<T> {
    pictures: Pictures,
    order: Vec<usize>,
    shortest_side: Option<u32>,
    queue: Queue<Outcome<T>>,
}

enum Outcome<T> {
    Item(T),
    Failed(Error),
    Panicked(Box<dyn Any + Send>),
}

impl<T> Shared<T> {
    /// The life of one thread.
    fn work(&self, prepare: &impl Fn(usize, usize, Picture) -> T) {
        let mut decoder = Decoder::reducing_to(self.shortest_side);
        while let Some(place) = self.queue.take_place() {
            let id = self.order[place];
            let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
                match self.pictures.read_with(id, &mut decoder) {
                    Ok(picture) => Outcome::Item(prepare(place, id, picture)),
                    Err(error) => Outcome::Failed(error),
                }
            }))
            .unwrap_or_else(Outcome::Panicked);
            self.queue.put(place, outcome);
        }
    }
}
