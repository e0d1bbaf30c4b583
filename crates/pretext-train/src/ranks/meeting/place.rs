//! Where the processes of a run meet: an address of process 0's machine, as the launcher says or as
//! its variables let each of them work out.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::super::launch::Launch;
use crate::error::{Error, Result};

/// An address, and what processes of the same run have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Place {
    /// Names or addresses of process 0's machine; any of them may do.
    pub(super) hosts: Vec<String>,
    pub(super) port: u16,
    /// Tells a run from others that come to the same port.
    pub(super) run: u64,
}

/// Ports that are worked out are from here, below those that systems give to whoever asks for none.
const FIRST: u64 = 10_000;
const PORTS: u64 = 20_000;

/// What tells runs apart, as far as launchers say it, the innermost first: a start of `torchrun`, one
/// of `mpirun`, a step of a Slurm job. Processes of one run may be in different steps by the others.
const RUNS: [&[&str]; 3] = [
    &["TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"],
    &["PMIX_NAMESPACE"],
    &["SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"],
];

impl Place {
    /// `MASTER_ADDR` and `MASTER_PORT`, as `torchrun` sets them, each by itself; else the first node
    /// of Slurm's step, or this machine if Open MPI started all processes here, with a port made of
    /// the job's number.
    ///
    /// `torchrun` itself listens at its `MASTER_PORT`, and says so: then it is the port after that.
    ///
    /// # Errors
    /// [`Error::Processes`] if the variables do not tell it.
    pub(in super::super) fn read(
        launch: Launch,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let hosts = match variable("MASTER_ADDR").filter(|host| !host.is_empty()) {
            Some(host) => vec![host],
            None => machine(launch, &variable)?,
        };
        let known = RUNS.iter().find_map(|names| {
            variable(names[0]).map(|_| names.iter().map(|name| variable(name)).collect::<Vec<_>>())
        });
        // Who sets ranks by hand sets the place, too.
        let known = known
            .filter(|_| variable("TORCHELASTIC_RUN_ID").is_some() || variable("RANK").is_none());
        let mut run = DefaultHasher::new();
        (&known, launch.size).hash(&mut run);
        let run = run.finish();
        let taken = variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|says| says == "True");
        let port = match variable("MASTER_PORT") {
            Some(says) => match says.parse::<u16>() {
                Ok(port) if port > 0 && !(taken && port == u16::MAX) => port + u16::from(taken),
                _ => return refuse(format!("MASTER_PORT is {says:?}, which is no port")),
            },
            None if known.is_some() => (FIRST + run % PORTS) as u16,
            None => return refuse("MASTER_PORT is not set".into()),
        };
        Ok(Self { hosts, port, run })
    }
}

/// Process 0's machine by the launcher's other variables.
fn machine(launch: Launch, variable: &impl Fn(&str) -> Option<String>) -> Result<Vec<String>> {
    let here = variable("OMPI_COMM_WORLD_LOCAL_SIZE").and_then(|says| says.parse().ok());
    if here == Some(launch.size) {
        return Ok(vec!["127.0.0.1".into()]);
    }
    // Open MPI's processes need not be where a step of Slurm's would be.
    if variable("OMPI_COMM_WORLD_SIZE").is_none() {
        // The step first: it may leave the job's first nodes out.
        let lists = ["SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"];
        let node = lists.into_iter().find_map(variable).as_deref().and_then(first_node);
        // Where nodes' names are Slurm's alone, and the job's script, on the first node, started the step.
        let hosts: Vec<String> =
            node.into_iter().chain(variable("SLURM_LAUNCH_NODE_IPADDR")).collect();
        if !hosts.is_empty() {
            return Ok(hosts);
        }
    }
    refuse("MASTER_ADDR is not set".into())
}

/// The first of Slurm's list of nodes, such as `gpu[07-09,12],login` or `n[1-2]r[0-3]`.
fn first_node(list: &str) -> Option<String> {
    let mut node = String::new();
    let mut rest = list.trim();
    while let Some(at) = rest.find(['[', ',']) {
        node.push_str(&rest[..at]);
        if rest[at..].starts_with(',') {
            return Some(node).filter(|node| !node.is_empty());
        }
        let (numbers, after) = rest[at + 1..].split_once(']')?;
        node.push_str(numbers.split(['-', ',']).next()?);
        rest = after;
    }
    node.push_str(rest);
    Some(node).filter(|node| !node.is_empty())
}

fn refuse<T>(problem: String) -> Result<T> {
    let remedy = "set MASTER_ADDR to process 0's machine and MASTER_PORT to a free port there";
    Err(Error::Processes { problem: format!("{problem}; {remedy}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(size: usize, variables: &[(&str, &str)]) -> Result<Place, String> {
        let find = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let launch = Launch { rank: 1, size, local: None };
        Place::read(launch, find).map_err(|error| error.to_string())
    }

    #[test]
    fn torchruns_address_and_the_port_after_its_own() {
        let plain = [("MASTER_ADDR", "node7"), ("MASTER_PORT", "29500")];
        let place = read(4, &plain).unwrap();
        assert_eq!((&place.hosts[..], place.port), (&["node7".into()][..], 29_500));
        let taken = [&plain[..], &[("TORCHELASTIC_USE_AGENT_STORE", "True")]].concat();
        assert_eq!(read(4, &taken).unwrap().port, 29_501);
        let not = [&plain[..], &[("TORCHELASTIC_USE_AGENT_STORE", "False")]].concat();
        assert_eq!(read(4, &not).unwrap().port, 29_500);
    }

    #[test]
    fn slurms_first_node_and_a_port_of_the_job() {
        let job = |id| [("SLURM_JOB_ID", id), ("SLURM_JOB_NODELIST", "gpu[07-09,12],login")];
        let place = read(4, &job("812")).unwrap();
        assert_eq!(place.hosts, ["gpu07"]);
        assert!((10_000..30_000).contains(&place.port), "{}", place.port);
        assert_eq!(read(4, &job("812")).unwrap(), place);
        assert_ne!(read(4, &job("813")).unwrap().port, place.port);
        // A step on other nodes, and steps that run side by side.
        let step = [&job("812")[..], &[("SLURM_STEP_NODELIST", "gpu08"), ("SLURM_STEP_ID", "1")]];
        let step = read(4, &step.concat()).unwrap();
        assert_eq!(step.hosts, ["gpu08"]);
        assert_ne!(step.port, place.port);
        let launch = [("SLURM_LAUNCH_NODE_IPADDR", "10.0.0.3")];
        let both = read(4, &[&job("812")[..], &launch].concat()).unwrap();
        assert_eq!(both.hosts, ["gpu07", "10.0.0.3"]);
        let alone = read(4, &[&launch[..], &[("SLURM_JOB_ID", "812")]].concat()).unwrap();
        assert_eq!(alone.hosts, ["10.0.0.3"]);
    }

    #[test]
    fn open_mpis_processes_meet_here_if_they_all_are() {
        let job = [("PMIX_NAMESPACE", "prterun-7@1"), ("OMPI_COMM_WORLD_SIZE", "2")];
        let here = [&job[..], &[("OMPI_COMM_WORLD_LOCAL_SIZE", "2")]].concat();
        let place = read(2, &here).unwrap();
        assert_eq!(place.hosts, ["127.0.0.1"]);
        assert!(place.port >= 10_000);
        // Else nothing says where process 0 is, whatever the job's nodes are.
        let apart = [&job[..], &[("OMPI_COMM_WORLD_LOCAL_SIZE", "1")]].concat();
        let apart = [&apart[..], &[("SLURM_JOB_NODELIST", "n[1-2]")]].concat();
        assert!(read(2, &apart).unwrap_err().starts_with("MASTER_ADDR is not set; "));
    }

    #[test]
    fn steps_of_slurm_are_nothing_to_an_inner_launcher() {
        let torch = |step| {
            let place = [("MASTER_ADDR", "a"), ("MASTER_PORT", "1234"), ("RANK", "1")];
            let run =
                [("TORCHELASTIC_RUN_ID", "x"), ("SLURM_JOB_ID", "8"), ("SLURM_STEP_ID", step)];
            read(4, &[place, run].concat()).unwrap()
        };
        assert_eq!(torch("1"), torch("2"));
        let by_hand = |step| {
            let place = [("MASTER_ADDR", "a"), ("MASTER_PORT", "1234"), ("RANK", "1")];
            read(4, &[&place[..], &[("SLURM_JOB_ID", "8"), ("SLURM_STEP_ID", step)]].concat())
        };
        assert_eq!(by_hand("1"), by_hand("2"));
    }

    #[test]
    fn lists_of_nodes() {
        for (list, first) in [
            ("login", Some("login")),
            ("a,b", Some("a")),
            ("gpu[07-09,12],login", Some("gpu07")),
            ("gpu[3]", Some("gpu3")),
            ("rack[1-2]node[05,07]", Some("rack1node05")),
            ("n[1-4]-ib,x", Some("n1-ib")),
            ("", None),
            ("n[1", None),
        ] {
            assert_eq!(first_node(list).as_deref(), first, "{list}");
        }
    }

    #[test]
    fn nonsense_is_refused_in_one_line() {
        let alone = read(2, &[("MASTER_ADDR", "x")]).unwrap_err();
        assert!(alone.starts_with("MASTER_PORT is not set; set MASTER_ADDR"), "{alone}");
        for port in ["0", "65536", "x", ""] {
            let error = read(2, &[("MASTER_ADDR", "x"), ("MASTER_PORT", port)]).unwrap_err();
            assert!(error.starts_with("MASTER_PORT is \""), "{error}");
            assert!(!error.contains('\n'));
        }
        let last = [("MASTER_PORT", "65535"), ("TORCHELASTIC_USE_AGENT_STORE", "True")];
        assert!(read(2, &[&last[..], &[("MASTER_ADDR", "x")]].concat()).is_err());
    }
}
