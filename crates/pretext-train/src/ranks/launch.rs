//! Which of how many processes this one is, as its launcher says in the environment.

use crate::error::{Error, Result};

/// A process among those that were started together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Launch {
    /// From 0.
    pub(super) rank: usize,
    pub(super) size: usize,
    /// The rank among those on this machine, if the launcher says it.
    pub(super) local: Option<usize>,
}

/// What launchers call the rank, the number of processes and the rank on a machine, the innermost
/// launcher first: `mpirun` within a Slurm job finds the variables of the job's script, which is one
/// process to Slurm.
const LAUNCHERS: [[&str; 3]; 3] = [
    ["RANK", "WORLD_SIZE", "LOCAL_RANK"],
    ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"],
    ["SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"],
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
        for [rank, size, local] in LAUNCHERS {
            let slurms = rank.starts_with("SLURM");
            match (variable(rank), variable(size)) {
                (None, None) => {}
                (Some(rank_says), Some(size_says)) => {
                    let (r, s) = (number(rank, &rank_says)?, number(size, &size_says)?);
                    if r >= s {
                        return refuse(format!("{rank} is {r}, but {size} is {s}"));
                    }
                    let local = variable(local).map(|says| number(local, &says)).transpose()?;
                    return Ok(Self { rank: r, size: s, local });
                }
                // A job that never said how many tasks it has, or the shell of an allocation.
                (Some(says), None) if slurms && number(rank, &says)? == 0 => {}
                (None, Some(_)) if slurms => {}
                (Some(_), None) => return refuse(format!("{rank} is set, but {size} is not")),
                (None, Some(_)) => return refuse(format!("{size} is set, but {rank} is not")),
            }
        }
        Ok(Self { rank: 0, size: 1, local: None })
    }

    /// Which of the `gpus` GPUs that this process sees is its own: that of its rank on the machine, or
    /// the only one. Where several processes see the same single one, NCCL refuses them.
    ///
    /// # Errors
    /// [`Error::Processes`] if the launcher does not say the rank there, or there are too few.
    #[cfg(any(feature = "cuda", test))]
    pub(super) fn gpu(&self, gpus: usize) -> Result<usize> {
        match self.local {
            _ if self.size == 1 || gpus == 1 => Ok(0),
            Some(local) if local < gpus => Ok(local),
            Some(local) => {
                let problem = format!(
                    "this is process {local} of its machine, from 0, and sees {gpus} GPUs; start no \
                     more processes on a machine than it has GPUs"
                );
                Err(Error::Processes { problem })
            }
            None => {
                let problem = "which GPU is this process's? The launcher sets none of LOCAL_RANK, \
                               OMPI_COMM_WORLD_LOCAL_RANK and SLURM_LOCALID; give --device cuda:N";
                Err(Error::Processes { problem: problem.into() })
            }
        }
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
    fn each_process_of_a_machine_has_a_gpu() {
        let gpu = |local, gpus| {
            Launch { rank: 5, size: 8, local }.gpu(gpus).map_err(|error| error.to_string())
        };
        assert_eq!(gpu(Some(3), 4), Ok(3));
        assert_eq!(gpu(Some(3), 1), Ok(0), "the only one that the launcher shows it");
        assert!(gpu(Some(4), 4).unwrap_err().starts_with("this is process 4 of its machine"));
        assert!(gpu(None, 4).unwrap_err().contains("--device cuda:N"));
        assert_eq!(Launch { rank: 0, size: 1, local: None }.gpu(4).unwrap(), 0);
    }

    #[test]
    fn the_rank_on_a_machine_is_the_same_launchers() {
        let local = |variables: &[(&str, &str)]| {
            let find = |name: &str| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            };
            Launch::read(find).map(|launch| launch.local).map_err(|error| error.to_string())
        };
        let torch = [("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")];
        assert_eq!(local(&torch), Ok(Some(1)));
        let slurm = [("SLURM_PROCID", "5"), ("SLURM_NTASKS", "8"), ("SLURM_LOCALID", "2")];
        assert_eq!(local(&slurm), Ok(Some(2)));
        // Slurm's, of the script that `mpirun` is in, is not that of one of its processes.
        let open_mpi = [("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "2")];
        assert_eq!(local(&[&open_mpi[..], &slurm].concat()), Ok(None));
        let wrong = [("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "x")];
        assert!(local(&wrong).unwrap_err().starts_with("LOCAL_RANK is \"x\""));
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
