//! A model of a GPU with two queues, which shows whether anything comes too early.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;

use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};

use super::Link;

/// Memory, of either side.
pub(super) type Memory = Rc<RefCell<Vec<u8>>>;

/// A queue's number, and how many of its orders are before the mark.
type Mark = (usize, usize);

const COMPUTES: usize = 0;
const COPIES: usize = 1;

enum Order {
    After(Mark),
    Copy { host: Memory, bytes: usize, there: Memory, at: usize },
    Read { there: Memory, want: Vec<u8> },
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Order>,
    told: usize,
    done: usize,
}

#[derive(Default)]
struct State {
    queues: [Queue; 2],
    /// Says how many orders are carried out whenever one is given; `None`: as few as possible.
    eager: Option<StdRng>,
    pinned: usize,
    copied: usize,
    computed: usize,
    wrong: usize,
}

/// A handle to the model.
#[derive(Clone)]
pub(super) struct Model(Rc<RefCell<State>>);

impl Model {
    /// Orders are carried out when chance will have it, or when somebody waits.
    pub(super) fn new(seed: u64) -> Self {
        let eager = (!seed.is_multiple_of(3)).then(|| StdRng::seed_from_u64(seed));
        Self(Rc::new(RefCell::new(State { eager, ..State::default() })))
    }

    /// Orders are carried out when somebody waits for them, and not before.
    pub(super) fn lazy() -> Self {
        Self::new(0)
    }

    /// Tells the computing queue to read memory, which should hold these bytes first.
    pub(super) fn compute_with(&self, there: &Memory, want: &[u8]) {
        let (there, want) = (Rc::clone(there), want.to_vec());
        self.tell(COMPUTES, Order::Read { there, want });
    }

    /// Computations that were carried out, and those that read something else.
    pub(super) fn computed(&self) -> usize {
        self.0.borrow().computed
    }

    /// Copies that were carried out.
    pub(super) fn copied(&self) -> usize {
        self.0.borrow().copied
    }

    pub(super) fn wrong(&self) -> usize {
        self.0.borrow().wrong
    }

    pub(super) fn pinned_in_all(&self) -> usize {
        self.0.borrow().pinned
    }

    pub(super) fn bytes(&self, there: &Memory) -> Vec<u8> {
        there.borrow().clone()
    }

    /// Carries out everything.
    pub(super) fn finish(&self) {
        self.reach_all(COPIES);
        self.compute_all();
    }

    /// Carries out what the computing queue was told, and of the other what that waits for.
    pub(super) fn compute_all(&self) {
        self.reach_all(COMPUTES);
    }

    fn reach_all(&self, queue: usize) {
        let told = self.0.borrow().queues[queue].told;
        self.0.borrow_mut().reach((queue, told));
    }

    fn tell(&self, queue: usize, order: Order) {
        let mut state = self.0.borrow_mut();
        state.queues[queue].waiting.push_back(order);
        state.queues[queue].told += 1;
        let Some(chance) = &mut state.eager else { return };
        let (queue, steps) = (chance.random_range(0..2), chance.random_range(0..4));
        let Queue { told, done, .. } = state.queues[queue];
        state.reach((queue, told.min(done + steps)));
    }

    fn mark(&self, queue: usize) -> Mark {
        (queue, self.0.borrow().queues[queue].told)
    }
}

impl State {
    /// Carries out a queue's orders up to a mark, and whatever they wait for.
    fn reach(&mut self, (queue, mark): Mark) {
        while self.queues[queue].done < mark {
            let order = self.queues[queue].waiting.pop_front().expect("orders before the mark");
            match order {
                Order::After(other) => self.reach(other),
                Order::Copy { host, bytes, there, at } => {
                    there.borrow_mut()[at..at + bytes].copy_from_slice(&host.borrow()[..bytes]);
                    self.copied += 1;
                }
                Order::Read { there, want } => {
                    self.computed += 1;
                    self.wrong += usize::from(there.borrow()[..want.len()] != want);
                }
            }
            self.queues[queue].done += 1;
        }
    }
}

impl Link for Model {
    type Error = Infallible;
    type Host = Memory;
    type There = Memory;
    type Mark = Mark;

    fn pinned(&self, bytes: usize) -> Result<Memory, Infallible> {
        self.0.borrow_mut().pinned += bytes;
        self.memory(bytes)
    }

    fn memory(&self, bytes: usize) -> Result<Memory, Infallible> {
        Ok(Rc::new(RefCell::new(vec![0xEE; bytes])))
    }

    fn write(&self, host: &mut Memory, at: usize, bytes: &[u8]) -> Result<(), Infallible> {
        host.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn copy(
        &self,
        host: &Memory,
        bytes: usize,
        there: &mut Memory,
        at: usize,
    ) -> Result<Mark, Infallible> {
        let (host, there) = (Rc::clone(host), Rc::clone(there));
        self.tell(COPIES, Order::Copy { host, bytes, there, at });
        Ok(self.mark(COPIES))
    }

    fn computed(&self) -> Result<Mark, Infallible> {
        Ok(self.mark(COMPUTES))
    }

    fn copy_after(&self, mark: &Mark) -> Result<(), Infallible> {
        self.tell(COPIES, Order::After(*mark));
        Ok(())
    }

    fn compute_after(&self, mark: &Mark) -> Result<(), Infallible> {
        self.tell(COMPUTES, Order::After(*mark));
        Ok(())
    }

    fn wait(&self, mark: &Mark) -> Result<(), Infallible> {
        self.0.borrow_mut().reach(*mark);
        Ok(())
    }
}

/// Bytes that differ from those of another seed.
pub(super) fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}
