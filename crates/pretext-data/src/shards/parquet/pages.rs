//! Unpacked pages: those used last, within a bound on memory.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use parquet::data_type::ByteArray;

/// Bytes of unpacked pages that a data set keeps.
const KEPT: usize = 256 << 20;

/// The rows of a page, or why it cannot be unpacked.
pub(super) type Unpacked = Result<Vec<Option<ByteArray>>, String>;

/// A file and a page of it.
type Key = (usize, usize);

/// Pages of all files of a data set.
pub(crate) struct Pages {
    /// The most bytes that are kept, besides those in use.
    bound: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pages: HashMap<Key, Kept>,
    bytes: usize,
    /// Counts uses.
    clock: u64,
}

struct Kept {
    page: Arc<OnceLock<Unpacked>>,
    /// 0 until it is unpacked.
    bytes: usize,
    used: u64,
}

impl Default for Pages {
    fn default() -> Self {
        Self { bound: KEPT, state: Mutex::default() }
    }
}

impl Pages {
    /// The page of a key, unpacked; if it is not kept, one thread calls `unpack` while others wait.
    pub(super) fn get(
        &self,
        key: Key,
        unpack: impl FnOnce() -> Unpacked,
    ) -> Arc<OnceLock<Unpacked>> {
        let page = {
            let mut state = self.lock();
            state.clock += 1;
            let used = state.clock;
            let new = || Kept { page: Arc::default(), bytes: 0, used };
            let kept = state.pages.entry(key).or_insert_with(new);
            kept.used = used;
            Arc::clone(&kept.page)
        };
        let mut bytes = None;
        page.get_or_init(|| {
            let unpacked = unpack();
            bytes = Some(size(&unpacked));
            unpacked
        });
        if let Some(bytes) = bytes {
            self.charge(key, bytes);
        }
        page
    }

    /// Notes what a page weighs, and drops others that were not used for long.
    fn charge(&self, key: Key, bytes: usize) {
        let mut state = self.lock();
        if let Some(kept) = state.pages.get_mut(&key) {
            kept.bytes = bytes;
            state.bytes += bytes;
        }
        while state.bytes > self.bound {
            let others =
                state.pages.iter().filter(|(other, kept)| **other != key && kept.bytes > 0);
            let Some(oldest) = others.min_by_key(|(_, kept)| kept.used).map(|(key, _)| *key) else {
                break;
            };
            let dropped = state.pages.remove(&oldest).map_or(0, |kept| kept.bytes);
            state.bytes -= dropped;
        }
    }

    /// A lock is never held while foreign code runs, so that a poisoned one is still in order.
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// At least 1, so that a page that was unpacked is told from one that was not.
fn size(unpacked: &Unpacked) -> usize {
    let rows = unpacked.iter().flatten();
    let row = |row: &Option<ByteArray>| row.as_ref().map_or(0, ByteArray::len);
    1 + rows.map(|bytes| size_of::<Option<ByteArray>>() + row(bytes)).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for pages of 100 bytes each; returns how often one was unpacked.
    fn unpackings(pages: &Pages, keys: &[usize]) -> usize {
        let mut count = 0;
        for key in keys {
            let page = pages.get((0, *key), || {
                count += 1;
                Ok(vec![Some(vec![*key as u8; 100].into()), None])
            });
            let rows = page.get().unwrap().as_ref().unwrap();
            assert_eq!(rows[0].as_ref().unwrap().data()[0], *key as u8);
        }
        count
    }

    #[test]
    fn the_pages_used_last_are_kept() {
        let pages = Pages { bound: 600, state: Mutex::default() };
        assert_eq!(unpackings(&pages, &[0, 1, 0, 1]), 2);
        // Three fit: 3 takes the place of 1, which was used before 2 and 0.
        assert_eq!(unpackings(&pages, &[2, 0, 3]), 2);
        assert!(pages.lock().bytes <= 600);
        assert_eq!(unpackings(&pages, &[2, 0, 3]), 0);
        assert_eq!(unpackings(&pages, &[1]), 1);
    }

    #[test]
    fn a_page_larger_than_the_bound_is_kept_alone() {
        let pages = Pages { bound: 10, state: Mutex::default() };
        assert_eq!(unpackings(&pages, &[0, 0, 1, 0]), 3);
        assert_eq!(pages.lock().pages.len(), 1);
    }

    #[test]
    fn a_page_that_cannot_be_unpacked_says_so_each_time() {
        let pages = Pages::default();
        for _ in 0..2 {
            let page = pages.get((0, 0), || Err("broken".into()));
            assert_eq!(page.get().unwrap().as_ref().unwrap_err(), "broken");
        }
    }
}
