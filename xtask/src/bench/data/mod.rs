//! `cargo xtask bench data`: pictures from files to tensors, ours and the peers' in turn.

pub(super) mod corpus;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use self::corpus::Corpus;
use self::report::{Row, Speeds};
use super::cores::Cores;
use super::ours;
use super::peer::{Peer, Script};
use super::report::{Machine, replaced};
use super::stepper::{MEASURED, Stepper, interleave};
use crate::mistake;

/// The peers' side.
const SCRIPT: Script = Script {
    text: include_str!("peer.py"),
    requirements: include_str!("requirements.txt"),
    modules: &[
        ("torch", "PyTorch"),
        ("torchvision", "torchvision"),
        ("albumentations", "albumentations"),
        ("cv2", "OpenCV"),
        ("PIL", "Pillow"),
        ("numpy", "NumPy"),
    ],
    folder: "bench-data-venv",
};

/// One kind of work, as both sides know it.
struct Work {
    name: &'static str,
    title: &'static str,
    /// Whether several threads share it.
    shared: bool,
    /// Whether it decodes files, so that a decoder behind a feature makes a difference.
    decodes: bool,
    peers: &'static [Rival],
}

/// Who does the same work, and how.
struct Rival {
    name: &'static str,
    title: &'static str,
    /// Whether it is measured with as many worker processes as we have threads, too.
    workers: bool,
}

const fn rival(name: &'static str, title: &'static str) -> Rival {
    Rival { name, title, workers: false }
}

const WORKS: &[Work] = &[
    Work {
        name: "loader",
        title: "File to tensor: read, decode, RandomResizedCrop, flip, normalise",
        shared: true,
        decodes: true,
        peers: &[
            Rival { name: "decode_image", title: "DataLoader, `decode_image`", workers: true },
            Rival { name: "pil", title: "DataLoader, PIL", workers: true },
        ],
    },
    Work {
        name: "cached",
        title: "Decoded to tensor: RandomResizedCrop, flip, normalise",
        shared: true,
        decodes: false,
        peers: &[
            rival("albumentations", "albumentations"),
            rival("torchvision", "torchvision v2, tensors"),
        ],
    },
    Work {
        name: "simclr",
        title: "SimCLR: the same with jitter, grey and blur",
        shared: false,
        decodes: false,
        peers: &[
            rival("albumentations", "albumentations"),
            rival("torchvision", "torchvision v2, tensors"),
        ],
    },
    Work {
        name: "grey-blur",
        title: "RandomGreyBlur of 4 rectangles",
        shared: false,
        decodes: false,
        peers: &[
            rival("opencv", "OpenCV, by hand"),
            rival("pil", "PIL, by hand"),
            rival("torchvision", "torchvision v2, by hand"),
        ],
    },
];

/// Passes before the measured ones.
const WARM_UP: usize = 1;

/// Whom we are measured beside.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Against {
    /// PyTorch's DataLoader, torchvision, albumentations, OpenCV and PIL
    Python,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Whom to measure beside ours [default: nobody]
    #[arg(long, value_enum)]
    against: Option<Against>,
    /// Kinds of work: loader, cached, simclr, grey-blur [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    works: Vec<String>,
    /// Features of pretext-train, such as turbojpeg: where files are decoded, ours is measured with
    /// them, too
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    features: Vec<String>,
    /// A folder of JPEGs and nothing else [default: photographs of 160 px that this command makes]
    #[arg(long, value_name = "DIR")]
    corpus: Option<PathBuf>,
    /// Photographs to make
    #[arg(long, value_name = "N", default_value_t = 1000, conflicts_with = "corpus")]
    pictures: usize,
    /// Threads where several share the work [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Turns of each process, of three passes, the last two of which are measured
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// An interpreter with the peers [default: one in an environment that this command makes]
    #[arg(long, value_name = "FILE", requires = "against")]
    python: Option<PathBuf>,
    /// The file whose section on data is replaced
    #[arg(long, value_name = "FILE", default_value = "docs/benchmarks.md")]
    out: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    for name in &args.works {
        if !WORKS.iter().any(|work| work.name == name) {
            let known: Vec<&str> = WORKS.iter().map(|work| work.name).collect();
            let known = known.join(", ");
            return Err(mistake(format!("--works: there is no {name}; choose of {known}")));
        }
    }
    if args.rounds == 0 || args.pictures == 0 || args.threads == Some(0) {
        return Err(mistake("--rounds, --pictures and --threads must be at least 1"));
    }
    let own = args.corpus.as_deref().map(Corpus::open).transpose()?;
    let peer = match args.against {
        Some(Against::Python) => Some(Peer::find(&SCRIPT, args.python.as_deref())?),
        None => None,
    };
    let featured = match &args.features[..] {
        [] => None,
        features => Some(Featured::build(features)?),
    };
    let ours = ours::build("data", &[])?;
    let corpus = match own {
        Some(corpus) => corpus,
        None => Corpus::make(&ours, args.pictures)?,
    };
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let side = Side {
        ours: &ours,
        featured: featured.as_ref(),
        peer: peer.as_ref(),
        corpus: &corpus,
        cores: Cores::of_this_machine(),
        threads: args.threads.unwrap_or(all),
        rounds: args.rounds,
    };
    let mut rows = Vec::new();
    for work in WORKS {
        if !args.works.is_empty() && !args.works.iter().any(|wanted| wanted == work.name) {
            continue;
        }
        crate::say(work.title);
        let row = side.measure(work).with_context(|| work.title)?;
        crate::say(row.line());
        rows.push(row);
    }
    let versions = peer.as_ref().map(Peer::versions).transpose()?;
    let machine = Machine::this(side.threads, None, versions);
    let confined = if side.cores.known() {
        "each process confined to as many cores as it has threads"
    } else {
        "processes not confined to cores"
    };
    let setting = format!("{}, {confined}", corpus.describe());
    let section = report::section(&rows, &setting, args.rounds * MEASURED, &machine);
    let out = crate::root().join(&args.out);
    let before = std::fs::read_to_string(&out).unwrap_or_default();
    crate::write_whole(&out, replaced(&before, "data", &section).as_bytes())?;
    crate::say(section);
    crate::say(format!("written to {}", crate::short(&out)));
    Ok(())
}

/// Ours with features.
struct Featured {
    executable: PathBuf,
    title: String,
}

impl Featured {
    fn build(features: &[String]) -> Result<Self> {
        let executable = ours::build("data", features)?;
        Ok(Self { executable, title: format!("`--features {}`", features.join(",")) })
    }
}

/// Everything that is measured side by side.
struct Side<'a> {
    ours: &'a Path,
    featured: Option<&'a Featured>,
    peer: Option<&'a Peer>,
    corpus: &'a Corpus,
    cores: Cores,
    threads: usize,
    rounds: usize,
}

impl Side<'_> {
    /// One kind of work: all of its processes are there at once and take turns.
    fn measure(&self, work: &Work) -> Result<Row> {
        let shared = work.shared && self.threads > 1;
        let mut threads = vec![1];
        let mut steppers = vec![self.start(self.ours, work, 1)?];
        if shared {
            threads.push(self.threads);
            steppers.push(self.start(self.ours, work, self.threads)?);
        }
        let featured = self.featured.filter(|_| work.decodes);
        if let Some(featured) = featured {
            threads.push(1);
            steppers.push(self.start(&featured.executable, work, 1)?);
        }
        let mut titles = Vec::new();
        for rival in self.peer.map_or(&[][..], |_| work.peers) {
            titles.push(rival.title.to_owned());
            threads.push(1);
            steppers.push(self.start_peer(work, rival, 0)?);
            if rival.workers {
                titles.push(format!("{}, workers: {}", rival.title, self.threads));
                threads.push(self.threads);
                steppers.push(self.start_peer(work, rival, self.threads)?);
            }
        }
        let mut turns: Vec<&mut Stepper> = steppers.iter_mut().collect();
        let seconds = interleave(&mut turns, (WARM_UP, self.rounds))?;
        let pictures = self.corpus.pictures as f64;
        let mut speeds = seconds.into_iter().zip(threads).map(|(seconds, threads)| Speeds {
            all: seconds.into_iter().map(|seconds| pictures / seconds).collect(),
            threads,
        });
        let ours = speeds.next().context("nothing was measured")?;
        let shared = if shared { speeds.next() } else { None };
        let featured = featured.and_then(|ours| Some((ours.title.clone(), speeds.next()?)));
        let peers = titles.into_iter().zip(speeds).collect();
        Ok(Row { title: work.title, ours, shared, featured, peers })
    }

    fn start(&self, ours: &Path, work: &Work, threads: usize) -> Result<Stepper> {
        let mut command = self.cores.command(threads, ours);
        command.arg(work.name).arg(&self.corpus.folder).arg(threads.to_string());
        Stepper::start(&mut command)
    }

    fn start_peer(&self, work: &Work, rival: &Rival, workers: usize) -> Result<Stepper> {
        let peer = self.peer.context("there is no peer")?;
        let mut command = peer.command_on(&self.cores, workers.max(1));
        command.args([work.name, rival.name]).arg(&self.corpus.folder).arg(workers.to_string());
        Stepper::start(&mut command)
    }
}
