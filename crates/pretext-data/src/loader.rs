//! Batches in a given order, read ahead by several threads; the same ones for any number of them.

use std::{
    any::Any,
    collections::VecDeque,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use crate::{Error, Picture, Pictures};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loader {
    /// Pictures in a batch; 0 counts as 1.
    pub batch_size: usize,
    /// Threads that read, decode and prepare; 0 is one for each processor.
    pub threads: usize,
    /// Batches that may be under way or ready before they are asked for; 0 counts as 1. This is
    /// the bound on memory.
    pub prefetch: usize,
    /// Whether a damaged picture is an error. Otherwise it is left out and listed.
    pub strict: bool,
    /// Whether to leave out a last batch that is shorter than the others.
    pub drop_last: bool,
}

impl Default for Loader {
    /// 64 pictures in a batch, a thread for each processor, two batches ahead, not strict, the
    /// last batch kept.
    fn default() -> Self {
        Self { batch_size: 64, threads: 0, prefetch: 2, strict: false, drop_last: false }
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
        mut order: Vec<usize>,
        prepare: impl Fn(usize, Picture) -> T + Send + Sync + 'static,
    ) -> Batches<T> {
        let batch_size = self.batch_size.max(1);
        if self.drop_last {
            order.truncate(order.len() / batch_size * batch_size);
        }
        let window = batch_size.saturating_mul(self.prefetch.max(1));
        let threads = match self.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let shared = Arc::new(Shared {
            pictures: pictures.clone(),
            order,
            window,
            state: Mutex::new(State { next: 0, taken: 0, results: VecDeque::new(), stop: false }),
            room: Condvar::new(),
            ready: Condvar::new(),
        });
        let prepare = Arc::new(prepare);
        let workers = (0..threads.min(window).min(shared.order.len()))
            .map(|_| {
                let (shared, prepare) = (Arc::clone(&shared), Arc::clone(&prepare));
                thread::spawn(move || shared.work(&*prepare))
            })
            .collect();
        Batches { shared, workers, batch_size, strict: self.strict }
    }
}

/// The batches of one [`Loader::batches`]; dropping it stops and joins its threads.
pub struct Batches<T> {
    shared: Arc<Shared<T>>,
    workers: Vec<JoinHandle<()>>,
    batch_size: usize,
    strict: bool,
}

impl<T> Batches<T> {
    /// Results of the next chunk, once all of them are there.
    fn take_chunk(&self) -> Option<(Vec<usize>, Vec<Outcome<T>>)> {
        let mut state = self.shared.lock();
        let start = state.taken;
        let wanted = self.batch_size.min(self.shared.order.len() - start);
        if state.stop || wanted == 0 {
            return None;
        }
        let whole = |state: &State<T>| {
            state.results.len() >= wanted && state.results.iter().take(wanted).all(Option::is_some)
        };
        while !whole(&state) {
            state = self.shared.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let outcomes = state.results.drain(..wanted).flatten().collect();
        state.taken += wanted;
        self.shared.room.notify_all();
        Some((self.shared.order[start..start + wanted].to_vec(), outcomes))
    }

    fn stop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.room.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of what it calls; there is nothing to hear from it.
            let _ = worker.join();
        }
    }
}

impl<T> Iterator for Batches<T> {
    type Item = Result<Batch<T>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (chunk, outcomes) = self.take_chunk()?;
        let mut batch =
            Batch { ids: Vec::new(), items: Vec::with_capacity(chunk.len()), damaged: Vec::new() };
        for (id, outcome) in chunk.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Item(item) => {
                    batch.ids.push(id);
                    batch.items.push(item);
                }
                Outcome::Failed(error) => match Damaged::from_error(&error) {
                    Some(damaged) if !self.strict => batch.damaged.push(damaged),
                    _ => {
                        self.stop();
                        return Some(Err(error));
                    }
                },
                Outcome::Panicked(payload) => {
                    self.stop();
                    panic::resume_unwind(payload);
                }
            }
        }
        Some(Ok(batch))
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
    /// Pictures that may be under way or ready.
    window: usize,
    state: Mutex<State<T>>,
    /// Signalled when a chunk has been taken, or everything is to stop.
    room: Condvar,
    /// Signalled when a result has come in.
    ready: Condvar,
}

struct State<T> {
    /// Place in the order that the next free thread takes.
    next: usize,
    /// Place in the order of the first result that is still here.
    taken: usize,
    /// Results from `taken` to `next`; `None` is still under way.
    results: VecDeque<Option<Outcome<T>>>,
    stop: bool,
}

enum Outcome<T> {
    Item(T),
    Failed(Error),
    Panicked(Box<dyn Any + Send>),
}

impl<T> Shared<T> {
    /// A lock is never held while foreign code runs, so that a poisoned one is still in order.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of one thread.
    fn work(&self, prepare: &impl Fn(usize, Picture) -> T) {
        while let Some(place) = self.claim() {
            let id = self.order[place];
            let outcome = panic::catch_unwind(AssertUnwindSafe(|| match self.pictures.read(id) {
                Ok(picture) => Outcome::Item(prepare(id, picture)),
                Err(error) => Outcome::Failed(error),
            }))
            .unwrap_or_else(Outcome::Panicked);
            let mut state = self.lock();
            let slot = place - state.taken;
            state.results[slot] = Some(outcome);
            drop(state);
            self.ready.notify_one();
        }
    }

    /// The next place in the order, as soon as there is room for its result.
    fn claim(&self) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if state.stop || state.next >= self.order.len() {
                return None;
            }
            if state.next < state.taken + self.window {
                state.next += 1;
                state.results.push_back(None);
                return Some(state.next - 1);
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
