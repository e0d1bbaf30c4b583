//! Downloads that go on where they were cut off.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Read, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use crate::short;

/// Attempts before a cut connection is given up.
const ATTEMPTS: u32 = 5;

/// Downloads `url` into `part`, from where an earlier download ended.
pub(super) fn download(url: &str, part: &Path, length: Option<u64>) -> Result<()> {
    let config = Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(30)))
        .http_status_as_error(false)
        .build();
    let agent = Agent::new_with_config(config);
    let keep =
        || format!("what was fetched is kept in {}; repeat the command to go on", short(part));
    let mut last = None;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            std::thread::sleep(Duration::from_millis(200 * u64::from(attempt)));
        }
        let have = std::fs::metadata(part).map_or(0, |metadata| metadata.len());
        if length.is_some_and(|length| have == length) {
            return Ok(());
        }
        match once(&agent, url, part, have) {
            Ok(Ended::Whole) => return Ok(()),
            Ok(Ended::Refused(problem)) => bail!("{url}: {problem}"),
            Ok(Ended::Cut(problem)) => last = Some(problem),
            Err(error) => return Err(error).with_context(keep),
        }
    }
    bail!("{url}: {}; {}", last.unwrap_or_else(|| "the connection was cut".into()), keep())
}

enum Ended {
    Whole,
    /// It is of no use to try again.
    Refused(String),
    /// It is.
    Cut(String),
}

fn once(agent: &Agent, url: &str, part: &Path, have: u64) -> Result<Ended> {
    let mut request = agent.get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let response = match request.call() {
        Ok(response) => response,
        Err(error) => return Ok(Ended::Cut(error.to_string())),
    };
    let from = match response.status() {
        StatusCode::OK => 0,
        StatusCode::PARTIAL_CONTENT if starts_at(&response) == Some(have) => have,
        StatusCode::PARTIAL_CONTENT => {
            return Ok(Ended::Refused("the server sent another part than asked for".into()));
        }
        // Nothing is left to send: the part is the whole, as far as the server knows.
        StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => return Ok(Ended::Whole),
        StatusCode::NOT_FOUND => {
            return Ok(Ended::Refused("not found (404); check the address or give --from".into()));
        }
        status if status.is_server_error() => {
            return Ok(Ended::Cut(format!("the server answered {status}")));
        }
        status => return Ok(Ended::Refused(format!("the server answered {status}"))),
    };
    let whole = response.body().content_length().map(|rest| from + rest);
    let file = OpenOptions::new().create(true).write(true).truncate(from == 0).open(part);
    let mut file = file.with_context(|| format!("cannot write {}", short(part)))?;
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(from))?;
    copy(response.into_body().into_reader(), &mut file, from, whole)
        .with_context(|| format!("cannot write {}", short(part)))
}

fn copy(mut body: impl Read, file: &mut File, from: u64, whole: Option<u64>) -> Result<Ended> {
    let bar = bar(whole);
    let mut buffer = vec![0; 1 << 16];
    let mut have = from;
    loop {
        bar.set_position(have);
        match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                file.write_all(&buffer[..count])?;
                have += count as u64;
            }
            Err(error) => {
                file.sync_all()?;
                return Ok(Ended::Cut(format!("cut off after {have} bytes ({error})")));
            }
        }
    }
    file.sync_all()?;
    bar.finish_and_clear();
    match whole {
        Some(whole) if have < whole => {
            Ok(Ended::Cut(format!("cut off after {have} of {whole} bytes")))
        }
        _ => Ok(Ended::Whole),
    }
}

/// Where the part that the server sends begins.
fn starts_at(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get("content-range")?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn bar(whole: Option<u64>) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template(
        "{wide_bar:.cyan} {bytes}/{total_bytes}  {bytes_per_sec}  ETA {eta}",
    );
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─");
    ProgressBar::with_draw_target(whole, target).with_style(style)
}
