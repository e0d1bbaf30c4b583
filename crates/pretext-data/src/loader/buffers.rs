//! Memory of batches whose rows several threads write, each its own, and that is used again.

use std::{
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

/// Memory for batches of [`Loader::rows`](crate::Loader::rows), `K` buffers a batch; a copy is
/// another handle to the same.
///
/// What is given back is written over by a later batch, without being cleared and without asking
/// the system for fresh pages. What is not is replaced.
#[derive(Clone, Debug)]
pub struct Buffers<T, const K: usize> {
    row: [usize; K],
    spare: Arc<Mutex<Vec<[Vec<T>; K]>>>,
}

impl<T: Copy + Default + Send, const K: usize> Buffers<T, K> {
    /// For rows of so many numbers in each of the `K` buffers; a length may be 0.
    #[must_use]
    pub fn new(row: [usize; K]) -> Self {
        Self { row, spare: Arc::default() }
    }

    /// Numbers in a row of each buffer.
    #[must_use]
    pub fn row(&self) -> [usize; K] {
        self.row
    }

    /// Takes a batch's values back, from whatever loader they are.
    pub fn give_back(&self, values: [Vec<T>; K]) {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(values);
    }

    /// Room for so many rows; what they hold is of no meaning.
    pub(super) fn take(&self, rows: usize) -> [Vec<T>; K] {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut values = spare.unwrap_or([const { Vec::new() }; K]);
        for (values, row) in values.iter_mut().zip(self.row) {
            let wanted = rows * row;
            if values.capacity() < wanted {
                // Not grown: nothing of it is worth a copy.
                *values = vec![T::default(); wanted];
            }
            values.resize(wanted, T::default());
        }
        values
    }
}

/// A vector that is lent to several threads, row by row.
#[derive(Debug)]
pub(super) struct Shared<T>(Arc<Parts<T>>);

/// One row of it, which nobody else can reach.
#[derive(Debug)]
pub(super) struct Row<T> {
    start: *mut T,
    len: usize,
    /// Keeps the memory.
    _whole: Arc<Parts<T>>,
}

/// A vector in its parts, so that no reference to all of it exists while there are rows.
#[derive(Debug)]
struct Parts<T> {
    start: *mut T,
    len: usize,
    capacity: usize,
}

impl<T> Shared<T> {
    /// Lends a vector of `rows` rows of `len` values each.
    pub(super) fn lend(values: Vec<T>, rows: usize, len: usize) -> (Self, Vec<Row<T>>) {
        assert_eq!(values.len(), rows * len, "whole rows");
        let mut values = ManuallyDrop::new(values);
        let (start, all, capacity) = (values.as_mut_ptr(), values.len(), values.capacity());
        let whole = Arc::new(Parts { start, len: all, capacity });
        let row = |i: usize| {
            // SAFETY: `i < rows`, so that the row lies inside of the vector (asserted above).
            let start = unsafe { whole.start.add(i * len) };
            Row { start, len, _whole: Arc::clone(&whole) }
        };
        let rows = (0..rows).map(row).collect();
        (Self(whole), rows)
    }

    /// The vector, if every row of it is gone.
    pub(super) fn take(self) -> Option<Vec<T>> {
        let mut parts = Arc::into_inner(self.0)?;
        Some(parts.vector())
    }
}

impl<T> Parts<T> {
    /// The vector; an empty one stays.
    fn vector(&mut self) -> Vec<T> {
        let empty = Self { start: std::ptr::NonNull::dangling().as_ptr(), len: 0, capacity: 0 };
        let parts = ManuallyDrop::new(std::mem::replace(self, empty));
        // SAFETY: pointer, length and capacity come from one vector that was not dropped, and are
        // given away once: what stays here is the empty vector. Its values are initialised, for rows
        // lend them out as references. No row is left, as each keeps the `Arc` alive.
        unsafe { Vec::from_raw_parts(parts.start, parts.len, parts.capacity) }
    }
}

impl<T> Drop for Parts<T> {
    fn drop(&mut self) {
        drop(self.vector());
    }
}

// SAFETY: it owns values of `T`, as the vector did that it came from.
unsafe impl<T: Send> Send for Parts<T> {}
// SAFETY: a shared one gives access to nothing.
unsafe impl<T: Send> Sync for Parts<T> {}
// SAFETY: it is the only way to its values, as a `&mut [T]` is.
unsafe impl<T: Send> Send for Row<T> {}

impl<T> Deref for Row<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the row lies inside of the vector, whose values are initialised and live as long as
        // `_whole`; rows do not overlap, and none is made twice.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl<T> DerefMut for Row<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; that `self` is borrowed mutably makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_written_by_several_threads_and_come_back_as_one_vector() {
        let (shared, rows) = Shared::lend(vec![0; 12], 4, 3);
        std::thread::scope(|scope| {
            for (i, mut row) in rows.into_iter().enumerate() {
                scope.spawn(move || row.fill(i));
            }
        });
        assert_eq!(shared.take().unwrap(), [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
    }

    #[test]
    fn a_row_outlives_what_it_is_of() {
        let (shared, mut rows) = Shared::lend(vec!["a".to_owned(), "b".to_owned()], 2, 1);
        let row = rows.pop().unwrap();
        drop(rows);
        assert!(shared.take().is_none());
        assert_eq!(*row, ["b"]);
    }

    #[test]
    fn rows_may_be_empty() {
        let (shared, rows) = Shared::lend(Vec::<u8>::new(), 3, 0);
        assert!(rows.iter().all(|row| row.is_empty()));
        drop(rows);
        assert!(shared.take().unwrap().is_empty());
    }

    #[test]
    fn what_is_given_back_is_used_again() {
        let buffers = Buffers::<u32, 2>::new([2, 0]);
        let [mut first, second] = buffers.take(3);
        assert_eq!((first.len(), second.len()), (6, 0));
        first.fill(7);
        first.truncate(2);
        let (place, copy) = (first.as_ptr(), buffers.clone());
        copy.give_back([first, second]);
        let [again, _] = buffers.take(3);
        assert_eq!((again.as_ptr(), &again[..]), (place, &[7, 7, 0, 0, 0, 0][..]));
        buffers.give_back([again, vec![]]);
        assert_eq!(buffers.take(4)[0], [0; 8]);
    }
}
