//! `cargo xtask fetch-data`: download, check, unpack; each step can be interrupted and repeated.

mod archive;
mod connect;
mod content_range;
mod download;
mod lock;
mod names;
mod no_proxy;
mod pace;
mod proxy;
mod sets;
mod tree;
mod unpack;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};

use self::names::{ARCHIVE, PART, REFUSED, is_archive, is_plain, stem};
use crate::{mistake, say, sha256_of, short};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Data sets: imagewang-160, imagewang-320, imagewang, and imagenette2 or imagewoof2 with or
    /// without -160 or -320 [default: imagewang-160, or what --from holds]
    #[arg(value_name = "SET")]
    sets: Vec<String>,
    /// A mirror (the archive's name is added), an archive's URL, or a local archive
    #[arg(long, value_name = "URL|FILE")]
    from: Option<String>,
    /// Folder to unpack into [default: data/ of this checkout]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// What the archive's SHA-256 must be
    #[arg(long, value_name = "HEX", value_parser = parse_sha256)]
    sha256: Option<String>,
    #[command(flatten)]
    patience: download::Patience,
}

/// One data set to fetch.
struct Job {
    /// The folder's name, if it is known before the archive is.
    name: Option<String>,
    source: Source,
    /// What the archive must be: length and SHA-256.
    length: Option<u64>,
    sha256: Option<String>,
}

enum Source {
    Url(String),
    File(PathBuf),
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let into = args.into.clone().unwrap_or_else(|| crate::root().join("data"));
    for job in jobs(args)? {
        fetch(&job, &into, &args.patience)?;
    }
    Ok(())
}

fn jobs(args: &Args) -> Result<Vec<Job>> {
    let archive = args.from.as_deref().filter(|from| is_archive(from));
    if let Some(from) = archive
        && !is_plain(stem(from))
    {
        // What an archive is called names files and folders here.
        return Err(mistake(format!("--from {from} names no archive; give one called NAME.tgz")));
    }
    if let Some(name) = args.sets.iter().find(|name| !is_plain(name)) {
        return Err(mistake(format!(
            "no data set can be called {name:?}: it would be the folder's name; give a plain one"
        )));
    }
    if args.sets.is_empty()
        && let Some(from) = archive
    {
        // A stranger's archive: its own folder names it.
        let name = sets::by_name(stem(from)).map(|set| set.name.to_owned());
        return Ok(vec![job(name, source(from, None), args)?]);
    }
    if archive.is_some() && args.sets.len() > 1 {
        let told = format!(
            "--from names one archive, but {} sets are asked for; name one",
            args.sets.len()
        );
        return Err(mistake(told));
    }
    let default = ["imagewang-160".to_owned()];
    let names = if args.sets.is_empty() { &default[..] } else { &args.sets };
    names
        .iter()
        .map(|name| {
            if sets::by_name(name).is_none() && archive.is_none() {
                let known: Vec<_> = sets::SETS.iter().map(|set| set.name).collect();
                let known = known.join(", ");
                return Err(mistake(format!(
                    "no data set is called {name:?}; choose one of: {known}"
                )));
            }
            let from = args.from.as_deref().unwrap_or(sets::HOME);
            job(Some(name.clone()), source(from, Some(name)), args)
        })
        .collect()
}

fn job(name: Option<String>, source: Source, args: &Args) -> Result<Job> {
    let known = name.as_deref().and_then(sets::by_name).and_then(|set| set.known);
    let (length, sha256) = match (&args.sha256, known) {
        // The caller's word goes before the table's: mirrors may pack anew.
        (Some(sha256), _) => (None, Some(sha256.clone())),
        (None, Some((length, sha256))) => (Some(length), Some(sha256.to_owned())),
        (None, None) => (None, None),
    };
    Ok(Job { name, source, length, sha256 })
}

fn source(from: &str, name: Option<&str>) -> Source {
    let whole = match name {
        Some(name) if !is_archive(from) => format!("{}/{name}.tgz", from.trim_end_matches('/')),
        _ => from.to_owned(),
    };
    if whole.starts_with("http://") || whole.starts_with("https://") {
        Source::Url(whole)
    } else {
        Source::File(whole.strip_prefix("file://").unwrap_or(&whole).into())
    }
}

fn fetch(job: &Job, into: &Path, patience: &download::Patience) -> Result<()> {
    if already_there(job, into)? {
        return Ok(());
    }
    fs::create_dir_all(into).map_err(|error| {
        mistake(format!("cannot create {}: {error}; give another --into", short(into)))
    })?;
    let _lock = lock::lock(into)?;
    // Another fetch may have brought it in the meantime.
    if already_there(job, into)? {
        return Ok(());
    }
    let (archive, downloaded) = match &job.source {
        Source::File(path) => {
            fs::File::open(path).map_err(|error| {
                mistake(format!("cannot read {}: {error}; give another --from", short(path)))
            })?;
            (path.clone(), false)
        }
        Source::Url(url) => {
            let part = into.join(format!("{}{ARCHIVE}.{PART}", stem(url)));
            download::download(url, &part, job.length, patience)?;
            (part, true)
        }
    };
    let sha256 = match check(&archive, job) {
        Ok(sha256) => sha256,
        Err(problem) if downloaded => return Err(put_aside(&archive, &problem)),
        Err(problem) => return Err(mistake(format!("{problem:#}; give another --from"))),
    };
    let unpacked = unpack::unpack(&archive, into, job.name.as_deref(), &sha256);
    let folder = match unpacked {
        Err(problem) if downloaded => {
            let kept = short(&archive);
            bail!("{problem:#}; the archive is kept in {kept}, repeat the command to go on")
        }
        other => other?,
    };
    if downloaded {
        // Unpacked: the archive is no longer needed.
        let _ = fs::remove_file(&archive);
    }
    say(format_args!("{}: SHA-256 of the archive {sha256}{}", short(&folder), verdict(job)));
    Ok(())
}

/// Whether the data set is there already, from the archive that is asked for.
fn already_there(job: &Job, into: &Path) -> Result<bool> {
    let name = match (&job.name, &job.source) {
        (Some(name), _) => name,
        (None, Source::Url(url)) => stem(url),
        // Which folder a local archive makes is known once it is read, which takes no download.
        (None, Source::File(_)) => return Ok(false),
    };
    let folder = into.join(name);
    let Some(stamp) = stamp_of(&folder) else {
        not_in_the_way(&folder)?;
        return Ok(false);
    };
    if job.sha256.as_ref().is_some_and(|wanted| *wanted != stamp) {
        return Err(mistake(format!(
            "{} is there, but from an archive of SHA-256 {stamp}; delete it to fetch the other",
            short(&folder)
        )));
    }
    say(format_args!("{}: already there", short(&folder)));
    Ok(true)
}

fn not_in_the_way(folder: &Path) -> Result<()> {
    if folder.exists() {
        let told = format!("{} is in the way; delete it or give another --into", short(folder));
        return Err(mistake(told));
    }
    Ok(())
}

/// Renames a downloaded archive that is not what it should be, so that the next fetch begins anew
/// and a person can look at it.
fn put_aside(part: &Path, problem: &anyhow::Error) -> anyhow::Error {
    let aside = part.with_extension(REFUSED);
    match fs::rename(part, &aside) {
        Ok(()) => anyhow!("{problem:#}; it is kept as {}, fetch again", short(&aside)),
        Err(error) => anyhow!("{problem:#}; delete it and fetch again ({error})"),
    }
}

/// A file that cannot be written, why, and what helps.
fn cannot_write(path: &Path, error: &io::Error) -> anyhow::Error {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "; free some space or give another --into"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            return mistake(format!("cannot write {}: {error}; give another --into", short(path)));
        }
        _ => "",
    };
    anyhow!("cannot write {}: {error}{remedy}", short(path))
}

fn verdict(job: &Job) -> &'static str {
    if job.sha256.is_some() { " (as it should be)" } else { " (nothing to compare it with)" }
}

/// The archive's SHA-256, if it is what it should be and can be unpacked.
fn check(archive: &Path, job: &Job) -> Result<String> {
    let shown = short(archive);
    let length = fs::metadata(archive).with_context(|| format!("cannot read {shown}"))?.len();
    if let Some(wanted) = job.length
        && length != wanted
    {
        bail!("{shown} has {length} bytes, it should have {wanted}")
    }
    let sha256 = sha256_of(archive).with_context(|| format!("cannot read {shown}"))?;
    match &job.sha256 {
        Some(wanted) if *wanted != sha256 => {
            bail!("{shown} has SHA-256 {sha256}, it should have {wanted}")
        }
        _ => unpack::inspect(archive, job.name.as_deref()).map(|()| sha256),
    }
}

/// The file that says that a folder is whole, and from which archive.
const STAMP: &str = ".fetched";

fn stamp_of(folder: &Path) -> Option<String> {
    let stamp = fs::read_to_string(folder.join(STAMP)).ok()?;
    Some(stamp.trim().to_owned())
}

fn parse_sha256(text: &str) -> Result<String, String> {
    let fine = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if fine { Ok(text.to_ascii_lowercase()) } else { Err("give 64 hexadecimal digits".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_archives_come_from() {
        let url = |source| match source {
            Source::Url(url) => url,
            Source::File(path) => path.display().to_string(),
        };
        assert_eq!(url(source("http://m/x/", Some("imagewang"))), "http://m/x/imagewang.tgz");
        assert_eq!(url(source("http://m/a.tgz", Some("imagewang"))), "http://m/a.tgz");
        assert_eq!(url(source("file:///d/a.tgz", None)), "/d/a.tgz");
        assert_eq!(url(source("/mirror", Some("imagewang"))), "/mirror/imagewang.tgz");
    }

    #[test]
    fn sha256_is_64_digits() {
        assert!(parse_sha256(&"aB".repeat(32)).is_ok_and(|sha| sha == "ab".repeat(32)));
        assert!(parse_sha256("abc").is_err());
        assert!(parse_sha256(&"xy".repeat(32)).is_err());
    }
}
