//! Batches are the same for any number of threads, and damage and panics stay where they belong.

mod support;

use std::{
    fs, panic,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use pretext_data::{Batch, Buffers, Dataset, Error, Loader, Pictures};
use support::folder;
use tempfile::TempDir;

/// 50 pictures `a/00.png` to `a/49.png`; the given ones are damaged.
fn pictures(damaged: &[usize]) -> (TempDir, Pictures) {
    let root = folder((0..50).map(|i| format!("a/{i:02}.png")));
    for i in damaged {
        fs::write(root.path().join(format!("a/{i:02}.png")), "").unwrap();
    }
    let pictures = Dataset::open(root.path()).unwrap().train().pictures().clone();
    (root, pictures)
}

fn loader(threads: usize) -> Loader {
    Loader { batch_size: 8, threads, ..Loader::default() }
}

/// Items that tell the picture and take a time of their own, so that threads overtake each other.
fn slowly(id: usize, picture: pretext_data::Picture) -> (usize, u8) {
    thread::sleep(Duration::from_micros((id * 7919 % 13) as u64 * 50));
    (id, picture.pixels[0])
}

fn all<T: Send + 'static>(
    loader: &Loader,
    pictures: &Pictures,
    order: Vec<usize>,
    prepare: impl Fn(usize, pretext_data::Picture) -> T + Send + Sync + 'static,
) -> Vec<Batch<T>> {
    loader.batches(pictures, order, prepare).map(Result::unwrap).collect()
}

#[test]
fn batches_do_not_depend_on_threads_or_prefetch() {
    let (_root, pictures) = pictures(&[3, 4, 24]);
    let order: Vec<_> = (0..50).map(|i| i * 17 % 50).chain([5, 5]).collect();
    let one = all(&loader(1), &pictures, order.clone(), slowly);
    assert_eq!(one.len(), 7);
    let kept: Vec<_> = order.iter().copied().filter(|id| ![3, 4, 24].contains(id)).collect();
    assert_eq!(one.iter().flat_map(|batch| batch.ids.clone()).collect::<Vec<_>>(), kept);
    for batch in &one {
        let told: Vec<_> = batch.ids.iter().map(|&id| (id, id as u8)).collect();
        assert_eq!(batch.items, told);
    }
    for threads in [0, 2, 3, 8, 100] {
        for prefetch in [0, 1, 5] {
            let loader = Loader { prefetch, ..loader(threads) };
            assert_eq!(all(&loader, &pictures, order.clone(), slowly), one, "{threads} {prefetch}");
        }
    }
}

#[test]
fn a_damaged_picture_shortens_its_own_batch() {
    let (_root, pictures) = pictures(&[9, 10]);
    let batches = all(&loader(3), &pictures, (0..50).collect(), |id, _| id);
    assert_eq!(batches.iter().map(|b| b.items.len()).collect::<Vec<_>>(), [8, 6, 8, 8, 8, 8, 2]);
    assert_eq!(batches[1].items, [8, 11, 12, 13, 14, 15]);
    let damaged: Vec<_> = batches.iter().flat_map(|batch| &batch.damaged).collect();
    assert_eq!(damaged.len(), 2);
    assert!(damaged[0].name.ends_with("a/09.png"), "{damaged:?}");
    assert_eq!(damaged[0].reason, "the file is empty");
}

#[test]
fn strict_stops_at_the_first_damaged_picture_of_the_order() {
    let (_root, pictures) = pictures(&[9, 10]);
    for threads in [1, 8] {
        let loader = Loader { strict: true, ..loader(threads) };
        let mut batches = loader.batches(&pictures, (0..50).rev().collect(), |id, _| id);
        for _ in 0..4 {
            assert_eq!(batches.next().unwrap().unwrap().items.len(), 8);
        }
        let error = batches.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("a/10.png: damaged picture: the file is empty"), "{error}");
        assert!(batches.next().is_none());
    }
}

#[test]
fn a_file_that_vanished_is_damaged() {
    let (root, pictures) = pictures(&[]);
    fs::remove_file(root.path().join("a/01.png")).unwrap();
    let batches = all(&loader(2), &pictures, vec![0, 1, 2], |id, _| id);
    assert_eq!(batches[0].ids, [0, 2]);
    assert_eq!(batches[0].damaged[0].reason, "there is no such file");
}

#[test]
fn short_last_batches_can_be_dropped() {
    let (_root, pictures) = pictures(&[]);
    let lengths = |drop_last, count: usize| {
        let loader = Loader { drop_last, ..loader(2) };
        let batches = all(&loader, &pictures, (0..count).collect(), |id, _| id);
        batches.iter().map(|batch| batch.items.len()).collect::<Vec<_>>()
    };
    assert_eq!(lengths(false, 17), [8, 8, 1]);
    assert_eq!(lengths(true, 17), [8, 8]);
    assert_eq!(lengths(true, 16), [8, 8]);
    assert!(lengths(true, 7).is_empty());
    assert!(lengths(false, 0).is_empty());
}

#[test]
fn an_index_outside_is_an_error_even_if_not_strict() {
    let (_root, pictures) = pictures(&[]);
    let mut batches = loader(2).batches(&pictures, vec![0, 50], |id, _| id);
    assert!(matches!(batches.next(), Some(Err(Error::NoSuchPicture { index: 50, len: 50 }))));
    assert!(batches.next().is_none());
}

#[test]
fn a_slow_picture_holds_up_no_other_within_the_window() {
    let (_root, pictures) = pictures(&[]);
    let loader = Loader { batch_size: 4, threads: 2, prefetch: 3, ..Loader::default() };
    let window = loader.ready();
    assert_eq!(window, 12);
    let (others, slow) = std::sync::mpsc::channel::<usize>();
    let slow = std::sync::Mutex::new(slow);
    let mut batches = loader.batches(&pictures, (0..50).collect(), move |id, _| {
        if id == 0 {
            // One thread waits here until the other one has done all the rest of the window.
            let slow = slow.lock().unwrap();
            let done: Vec<_> = (1..window)
                .map(|_| slow.recv_timeout(Duration::from_secs(60)).expect("others go on"))
                .collect();
            assert_eq!(done, (1..window).collect::<Vec<_>>());
        } else if id < window {
            others.send(id).unwrap();
        }
        id
    });
    assert_eq!(batches.next().unwrap().unwrap().items, [0, 1, 2, 3]);
}

#[test]
fn pictures_may_come_reduced() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a.png"), support::bmp(64, 48, 7)).unwrap();
    let pictures = Dataset::open(root.path()).unwrap().unsup().clone();
    for (shortest_side, expected) in [(None, 64), (Some(48), 64), (Some(20), 32), (Some(6), 8)] {
        let loader = Loader { shortest_side, ..loader(1) };
        let batches = all(&loader, &pictures, vec![0], |_, p| (p.width, p.pixels[0]));
        assert_eq!(batches[0].items, [(expected, 7)], "{shortest_side:?}");
    }
}

#[test]
fn memory_is_bounded_by_prefetch() {
    let (_root, pictures) = pictures(&[]);
    let prepared = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&prepared);
    let loader = Loader { batch_size: 4, threads: 8, prefetch: 3, ..Loader::default() };
    let mut batches = loader.batches(&pictures, (0..50).collect(), move |id, _| {
        counter.fetch_add(1, Ordering::SeqCst);
        id
    });
    for taken in 1..=3 {
        batches.next().unwrap().unwrap();
        // However long the threads are left alone, they stop at 3 batches beyond the taken ones.
        thread::sleep(Duration::from_millis(20));
        assert!(prepared.load(Ordering::SeqCst) <= (taken + 3) * 4);
    }
}

/// Takes some batches and drops the rest; `start` gives its threads what it is given.
#[track_caller]
fn joins_when_dropped<B: Iterator>(start: impl Fn(Arc<()>) -> B) {
    for taken in 0..3 {
        let alive = Arc::new(());
        let mut batches = start(Arc::clone(&alive));
        for _ in 0..taken {
            assert!(batches.next().is_some());
        }
        drop(batches);
        // Each thread holds the closure; when they are joined, only this one is left.
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}

#[test]
fn dropping_in_mid_epoch_joins_the_threads() {
    let (_root, pictures) = pictures(&[]);
    joins_when_dropped(|inside| {
        loader(3).batches(&pictures, (0..50).collect(), move |id, picture| {
            let _inside = &inside;
            slowly(id, picture)
        })
    });
}

#[test]
fn a_panic_of_prepare_reaches_the_caller_at_its_batch() {
    let (_root, pictures) = pictures(&[]);
    let quiet = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    for threads in [1, 8] {
        let mut batches = loader(threads).batches(&pictures, (0..50).collect(), |id, _| {
            assert!(id != 20, "picture 20");
            id
        });
        assert_eq!(batches.next().unwrap().unwrap().items.len(), 8);
        assert_eq!(batches.next().unwrap().unwrap().items.len(), 8);
        let payload = panic::catch_unwind(AssertUnwindSafe(|| batches.next())).unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"picture 20"));
        assert!(batches.next().is_none());
    }
    panic::set_hook(quiet);
}

/// Rows of two numbers and of three, which tell the picture; the items do, too.
fn rows(
    loader: &Loader,
    buffers: &Buffers<u16, 2>,
    pictures: &Pictures,
    order: Vec<usize>,
) -> Vec<(Batch<usize>, [Vec<u16>; 2])> {
    let write = |id, picture, [two, three]: [&mut [u16]; 2]| {
        let (id, value) = slowly(id, picture);
        two.copy_from_slice(&[id as u16, value.into()]);
        three.fill(id as u16 + 1000);
        id
    };
    let mut all = Vec::new();
    for batch in loader.rows(buffers, pictures, order, write) {
        let (batch, values) = batch.unwrap();
        all.push((batch, values.clone()));
        // Not every batch's memory comes back.
        if all.len() % 3 > 0 {
            buffers.give_back(values);
        }
    }
    all
}

#[test]
fn rows_are_those_of_the_items_whatever_the_memory_held_before() {
    let (_root, pictures) = pictures(&[3, 4, 24, 49]);
    let order: Vec<_> = (0..50).map(|i| i * 17 % 50).chain([5, 3, 5]).collect();
    let items = all(&loader(1), &pictures, order.clone(), |id, _| id);
    let buffers = Buffers::new([2, 3]);
    for threads in [1, 2, 3, 8, 100] {
        for prefetch in [1, 2, 5] {
            let loader = Loader { prefetch, ..loader(threads) };
            let batches = rows(&loader, &buffers, &pictures, order.clone());
            assert!(batches.iter().map(|(batch, _)| batch).eq(&items), "{threads} {prefetch}");
            for (batch, [two, three]) in batches {
                let told = batch.items.iter().map(|&id| id as u16);
                assert!(two.into_iter().eq(told.clone().flat_map(|id| [id, id])));
                assert!(three.into_iter().eq(told.flat_map(|id| [id + 1000; 3])));
            }
        }
    }
}

#[test]
fn rows_of_a_chunk_without_a_sound_picture_are_none() {
    let (_root, pictures) = pictures(&[0, 1]);
    let loader = Loader { batch_size: 2, ..loader(2) };
    let batches = rows(&loader, &Buffers::new([2, 3]), &pictures, vec![0, 1, 2]);
    assert_eq!(batches[0].0.damaged.len(), 2);
    assert_eq!(batches[0].1, [[0; 0], [0; 0]]);
    assert_eq!(batches[1].1, [vec![2, 2], vec![1002; 3]]);
    assert!(rows(&loader, &Buffers::new([2, 3]), &pictures, vec![]).is_empty());
}

#[test]
fn strict_and_panics_end_rows_as_they_end_items() {
    let (_root, pictures) = pictures(&[9]);
    let buffers = Buffers::<u8, 1>::new([1]);
    let strict = Loader { strict: true, ..loader(3) };
    let mut batches = strict.rows(&buffers, &pictures, (0..50).collect(), |_, _, _| ());
    assert!(batches.next().unwrap().is_ok());
    let error = batches.next().unwrap().unwrap_err().to_string();
    assert!(error.contains("a/09.png: damaged picture: the file is empty"), "{error}");
    assert!(batches.next().is_none());

    let quiet = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let mut batches = loader(3).rows(&buffers, &pictures, (0..50).collect(), |id, _, _| {
        assert!(id != 20, "picture 20");
    });
    assert!(batches.next().unwrap().is_ok());
    assert!(batches.next().unwrap().is_ok());
    let payload = panic::catch_unwind(AssertUnwindSafe(|| batches.next())).unwrap_err();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"picture 20"));
    assert!(batches.next().is_none());
    panic::set_hook(quiet);
}

#[test]
fn rows_may_be_dropped_in_mid_epoch() {
    let (_root, pictures) = pictures(&[]);
    let buffers = Buffers::<u8, 1>::new([1]);
    joins_when_dropped(|inside| {
        loader(3).rows(&buffers, &pictures, (0..50).collect(), move |id, picture, _| {
            let _inside = &inside;
            slowly(id, picture)
        })
    });
}

#[test]
fn parts_are_joined_in_order() {
    let (_root, pictures) = pictures(&[]);
    let root = folder(["x.png", "y.png"]);
    let others = Dataset::open(root.path()).unwrap().unsup().clone();
    let both = Pictures::concat(&[others.clone(), pictures.clone(), others.clone()]);
    assert_eq!(both.len(), 54);
    for (i, part, inside) in
        [(1, &others, 1), (2, &pictures, 0), (51, &pictures, 49), (53, &others, 1)]
    {
        assert_eq!(both.read(i).unwrap(), part.read(inside).unwrap());
    }
    assert!(Pictures::concat(&[]).is_empty());
}
