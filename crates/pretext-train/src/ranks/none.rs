//! A build that knows of no other processes: there is no world to join.

use std::time::Duration;

use super::launch::Launch;
use crate::error::{Error, Result};

/// Nobody is in it.
pub(crate) enum World {}

impl World {
    pub(super) fn join(launch: Launch, _: Duration) -> Result<Self> {
        Err(Error::Processes {
            problem: format!(
                "this is process {} of {}, but this build knows one only: it would train {} copies of \
                 the same run; build with --features mpi, or start one process",
                launch.rank, launch.size, launch.size
            ),
        })
    }

    pub(super) fn start<T>(&self, _: Vec<T>) -> Result<Pending<T>> {
        match *self {}
    }

    pub(super) fn wait<T>(&self, _: Pending<T>) -> Result<Vec<T>> {
        match *self {}
    }

    pub(super) fn leave(&self) {
        match *self {}
    }
}

/// No sum is ever under way.
pub(super) struct Pending<T>(std::marker::PhantomData<T>, World);

impl<T> Pending<T> {
    pub(super) fn poll(&mut self) -> Result<bool> {
        match self.1 {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_processes_are_refused_in_one_line() {
        let launch = Launch { rank: 1, size: 4 };
        let Err(error) = World::join(launch, Duration::from_secs(1));
        assert!(error.is_users_mistake());
        let error = error.to_string();
        assert!(error.starts_with("this is process 1 of 4, but this build knows one"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
