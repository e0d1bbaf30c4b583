//! The processes of an MPI world: sums that begin now and are waited for, with a bound, later.
//!
//! Only non-blocking sums are used, so that no wait is longer than the processes' patience. What a
//! sum reads and writes is owned by its [`Pending`]; one that is given up leaves its memory to MPI,
//! which may still write to it.

mod buckets;

use std::ffi::{c_int, c_void};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::time::{Duration, Instant};

use mpi::environment::Universe;
use mpi::ffi;
use mpi::topology::Communicator as _;

pub(super) use buckets::Buckets;

use super::launch::Launch;
use crate::error::{Error, Result};

/// How long a wait asks again and again before it lets others have the processor.
const EAGER: Duration = Duration::from_micros(200);

/// The time between two questions after that.
const NAP: Duration = Duration::from_micros(100);

/// This process's place in the world.
pub(crate) struct World {
    /// Dropping it waits for all others without a bound: only [`leave`](Self::leave) does.
    universe: ManuallyDrop<Universe>,
    patience: Duration,
}

impl World {
    /// Joins the processes that `launch` speaks of.
    ///
    /// # Errors
    /// If MPI knows of others, or cannot be used from any thread.
    pub(super) fn join(launch: Launch, patience: Duration) -> Result<Self> {
        let wanted = mpi::Threading::Serialized;
        let Some((universe, given)) = mpi::initialize_with_threading(wanted) else {
            return Err(Error::Processes { problem: "MPI cannot be started twice".into() });
        };
        let universe = ManuallyDrop::new(universe);
        let (rank, size) = (universe.world().rank(), universe.world().size());
        if given < wanted {
            let problem = "this MPI was built without threads; use another".into();
            return Err(Error::Processes { problem });
        }
        let agree =
            usize::try_from(rank) == Ok(launch.rank) && usize::try_from(size) == Ok(launch.size);
        if !agree {
            return Err(Error::Processes {
                problem: format!(
                    "the environment says process {} of {}, MPI process {rank} of {size}; start all \
                     with mpirun or srun --mpi=pmix",
                    launch.rank, launch.size
                ),
            });
        }
        // SAFETY: MPI was started, and both are constants of its own.
        let code = unsafe {
            ffi::MPI_Comm_set_errhandler(ffi::RSMPI_COMM_WORLD, ffi::RSMPI_ERRORS_RETURN)
        };
        check("MPI_Comm_set_errhandler", code)?;
        Ok(Self { universe, patience })
    }

    /// Begins to sum `values` over all processes, which must all begin the same sums in the same
    /// order.
    pub(super) fn start<T: Number>(&self, values: Vec<T>) -> Result<Pending<T>> {
        let count = c_int::try_from(values.len()).map_err(|_| Error::Peer {
            problem: format!("{} numbers are too many for one sum", values.len()),
        })?;
        let mut pending = Pending {
            sums: ManuallyDrop::new(values.clone()),
            values: ManuallyDrop::new(values),
            // SAFETY: a constant of MPI's.
            request: unsafe { ffi::RSMPI_REQUEST_NULL },
            done: true,
        };
        // SAFETY: both buffers hold `count` numbers of this type, do not overlap, and stay where they
        // are until the request is done; `Pending` leaks them otherwise.
        let code = unsafe {
            ffi::MPI_Iallreduce(
                pending.values.as_ptr().cast::<c_void>(),
                pending.sums.as_mut_ptr().cast::<c_void>(),
                count,
                T::datatype(),
                ffi::RSMPI_SUM,
                ffi::RSMPI_COMM_WORLD,
                &raw mut pending.request,
            )
        };
        check("MPI_Iallreduce", code)?;
        pending.done = false;
        Ok(pending)
    }

    /// The sums, when all processes have given theirs.
    ///
    /// # Errors
    /// [`Error::Peer`] if they have not within this process's patience.
    pub(super) fn wait<T: Number>(&self, mut pending: Pending<T>) -> Result<Vec<T>> {
        let began = Instant::now();
        while !pending.poll()? {
            let waited = began.elapsed();
            if waited > self.patience {
                return Err(Error::Peer {
                    problem: format!(
                        "another process gave no sign of life for {} s: it died, hangs or is far \
                         slower; go on with --resume, or set {} to more seconds",
                        self.patience.as_secs_f64(),
                        super::PATIENCE
                    ),
                });
            }
            if waited < EAGER { std::thread::yield_now() } else { std::thread::sleep(NAP) }
        }
        Ok(pending.into_sums())
    }

    /// Replaces `values` by their sums.
    pub(super) fn sum(&self, values: &mut [f64]) -> Result<()> {
        values.copy_from_slice(&self.wait(self.start(values.to_vec())?)?);
        Ok(())
    }

    /// Parts from the others, who do so at the same time.
    pub(super) fn leave(&self) {
        // SAFETY: MPI was started and no sum is under way; nothing is called after it.
        unsafe { ffi::MPI_Finalize() };
        let _ = &self.universe;
    }
}

/// A sum under way.
pub(super) struct Pending<T> {
    values: ManuallyDrop<Vec<T>>,
    sums: ManuallyDrop<Vec<T>>,
    request: ffi::MPI_Request,
    done: bool,
}

// SAFETY: the request is a handle that any thread may use, one at a time (`Threading::Serialized`).
unsafe impl<T: Send> Send for Pending<T> {}

impl<T> Pending<T> {
    /// Whether it is done; MPI moves it on only while it is asked.
    pub(super) fn poll(&mut self) -> Result<bool> {
        if !self.done {
            let (mut flag, mut status) = (0, MaybeUninit::uninit());
            // SAFETY: the request is under way, and what it writes to is alive.
            let code =
                unsafe { ffi::MPI_Test(&raw mut self.request, &raw mut flag, status.as_mut_ptr()) };
            check("MPI_Test", code)?;
            self.done = flag != 0;
        }
        Ok(self.done)
    }

    /// Once it is done.
    fn into_sums(mut self) -> Vec<T> {
        std::mem::take(&mut *self.sums)
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        if self.done {
            // SAFETY: MPI no longer uses them, and this is the only drop.
            unsafe {
                ManuallyDrop::drop(&mut self.values);
                ManuallyDrop::drop(&mut self.sums);
            }
        }
    }
}

/// A number that MPI can sum.
pub(super) trait Number: Copy + Send {
    fn datatype() -> ffi::MPI_Datatype;
}

impl Number for f32 {
    fn datatype() -> ffi::MPI_Datatype {
        // SAFETY: a constant of MPI's.
        unsafe { ffi::RSMPI_FLOAT }
    }
}

impl Number for f64 {
    fn datatype() -> ffi::MPI_Datatype {
        // SAFETY: a constant of MPI's.
        unsafe { ffi::RSMPI_DOUBLE }
    }
}

fn check(call: &str, code: c_int) -> Result<()> {
    // `MPI_SUCCESS` is 0 by the standard.
    if code == 0 {
        return Ok(());
    }
    Err(Error::Peer {
        problem: format!("{call} failed with {code}: another process died, or the network did"),
    })
}
