//! Which of how many processes this one is, as its launcher says in the environment.

use crate::error::{Error, Result};

/// A process among those that were started together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Launch {
    /// From 0.
    pub(super) rank: usize,
    pub(super) size: usize,
}

/// What launchers call the rank and the number of processes, the innermost launcher first: `mpirun`
/// within a Slurm job finds the variables of the job's script, which is one process to Slurm.
const LAUNCHERS: [[&str; 2]; 3] = [
    ["RANK", "WORLD_SIZE"],
    ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"],
    ["SLURM_PROCID", "SLURM_NTASKS"],
];

impl Launch {
    /// Reads the variables of `torchrun`, else Open MPI's, else Slurm's; alone without any.
    ///
    /// The script or shell of a Slurm job has its number of tasks or its own rank, but need not have
    /// both: one without the other is no rank of Slurm's.
    ///
    /// # Errors
    /// [`Error::Processes`] if one of the other launchers' two variables is missing, or what they say
    /// cannot be.
    pub(super) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        for [rank, size] in LAUNCHERS {
            let slurms = rank.starts_with("SLURM");
            match (variable(rank), variable(size)) {
                (None, None) => {}
                (Some(rank_says), Some(size_says)) => {
                    let (r, s) = (number(rank, &rank_says)?, number(size, &size_says)?);
                    if r >= s {
                        return refuse(format!("{rank} is {r}, but {size} is {s}"));
                    }
                    return Ok(Self { rank: r, size: s });
                }
                // A job that never said how many tasks it has, or the shell of an allocation.
                (Some(says), None) if slurms && number(rank, &says)? == 0 => {}
                (None, Some(_)) if slurms => {}
                (Some(_), None) => return refuse(format!("{rank} is set, but {size} is not")),
                (None, Some(_)) => return refuse(format!("{size} is set, but {rank} is not")),
            }
        }
        Ok(Self { rank: 0, size: 1 })
    }
}

fn number(name: &str, says: &str) -> Result<usize> {
    says.trim().parse().or_else(|_| refuse(format!("{name} is {says:?}, which is no number")))
}

fn refuse<T>(problem: String) -> Result<T> {
    let remedy = "set neither for one process, or start all with mpirun or srun";
    Err(Error::Processes { problem: format!("{problem}; {remedy}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<(usize, usize), String> {
        let find = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Launch::read(find).map(|l| (l.rank, l.size)).map_err(|error| error.to_string())
    }

    #[test]
    fn each_launcher_is_understood() {
        assert_eq!(read(&[]), Ok((0, 1)));
        assert_eq!(read(&[("RANK", "3"), ("WORLD_SIZE", "4")]), Ok((3, 4)));
        assert_eq!(read(&[("SLURM_PROCID", "1"), ("SLURM_NTASKS", "2")]), Ok((1, 2)));
        let open_mpi = [("OMPI_COMM_WORLD_RANK", "2"), ("OMPI_COMM_WORLD_SIZE", "3")];
        assert_eq!(read(&open_mpi), Ok((2, 3)));
    }

    #[test]
    fn mpirun_within_a_slurm_job_counts_its_own_processes() {
        let variables = [
            ("SLURM_PROCID", "0"),
            ("SLURM_NTASKS", "1"),
            ("OMPI_COMM_WORLD_RANK", "1"),
            ("OMPI_COMM_WORLD_SIZE", "2"),
        ];
        assert_eq!(read(&variables), Ok((1, 2)));
    }

    #[test]
    fn a_cell_of_a_slurm_array_is_alone() {
        assert_eq!(read(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "1")]), Ok((0, 1)));
        // Without --ntasks a job's script only has a rank, and the shell of an allocation only a size.
        assert_eq!(read(&[("SLURM_PROCID", "0"), ("SLURM_ARRAY_TASK_ID", "7")]), Ok((0, 1)));
        assert_eq!(read(&[("SLURM_NTASKS", "4")]), Ok((0, 1)));
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |variables: &[(&str, &str)], want: &str| {
            let problem = read(variables).unwrap_err();
            assert!(problem.starts_with(want), "{problem}");
            assert!(!problem.contains('\n'), "{problem}");
        };
        refused(&[("RANK", "0")], "RANK is set, but WORLD_SIZE is not; ");
        refused(&[("WORLD_SIZE", "2")], "WORLD_SIZE is set, but RANK is not; ");
        refused(&[("RANK", "2"), ("WORLD_SIZE", "2")], "RANK is 2, but WORLD_SIZE is 2; ");
        refused(&[("RANK", "0"), ("WORLD_SIZE", "0")], "RANK is 0, but WORLD_SIZE is 0; ");
        refused(&[("RANK", "one"), ("WORLD_SIZE", "2")], "RANK is \"one\", which is no number; ");
        refused(&[("SLURM_PROCID", "3")], "SLURM_PROCID is set, but SLURM_NTASKS is not; ");
    }
}
