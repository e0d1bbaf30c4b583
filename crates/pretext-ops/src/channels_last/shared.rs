//! A slice whose parts several threads write at once.

use std::marker::PhantomData;

/// A mutable slice that threads share; each part must be written by one of them alone.
pub(crate) struct Shared<'a, T> {
    start: *mut T,
    length: usize,
    borrow: PhantomData<&'a mut [T]>,
}

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<'_, T> {}

// SAFETY: it is a slice of plain numbers; `part` makes its callers keep the parts apart.
unsafe impl<T: Copy + Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Copy + Send> Sync for Shared<'_, T> {}

impl<'a, T: Copy> Shared<'a, T> {
    pub(crate) fn new(values: &'a mut [T]) -> Self {
        Self { start: values.as_mut_ptr(), length: values.len(), borrow: PhantomData }
    }

    /// `length` numbers from `first` on.
    ///
    /// # Safety
    /// Nobody else may use any of them while the part lives.
    ///
    /// # Panics
    /// If the slice is shorter: a bug of the calling operator.
    #[allow(clippy::mut_from_ref, reason = "the caller vouches that parts do not overlap")]
    pub(crate) unsafe fn part(&self, first: usize, length: usize) -> &'a mut [T] {
        assert!(first + length <= self.length, "a part beyond the end");
        // SAFETY: it lies inside the slice, which is borrowed for 'a; the caller keeps others away.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), length) }
    }
}
