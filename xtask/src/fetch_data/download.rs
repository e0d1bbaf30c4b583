//! Downloads that go on where they were cut off.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use super::{cannot_write, proxy};
use crate::short;

/// How long a server is waited for, and how often it is asked again.
#[derive(Clone, clap::Args)]
pub(super) struct Patience {
    /// How long to wait for a connection, and for each piece of an answer
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    timeout: Duration,
    /// Attempts in a row that may bring nothing new before a download is given up
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    attempts: u32,
    /// How long to wait before asking again; doubled each time, up to a minute
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    retry_wait: Duration,
}

/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0.0);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "give seconds above 0".into())
}

/// Downloads `url` into `part`, from where an earlier download ended.
pub(super) fn download(
    url: &str,
    part: &Path,
    length: Option<u64>,
    patience: &Patience,
) -> Result<()> {
    let environment = |name: &str| std::env::var(name).ok();
    let timeout = Some(patience.timeout);
    let config = Agent::config_builder()
        .timeout_resolve(timeout)
        .timeout_connect(timeout)
        .timeout_per_read(timeout)
        .timeout_per_write(timeout)
        .proxy(proxy::of(url, environment)?)
        .http_status_as_error(false)
        .build();
    let request = Request { agent: Agent::new_with_config(config), url, part, length, patience };
    let (mut failures, mut most) = (0, 0);
    loop {
        let have = have(part);
        if length.is_some_and(|length| have == length) {
            return Ok(());
        }
        let (problem, asked) = match request.send(have)? {
            Ended::Whole => return Ok(()),
            Ended::Cut { problem, wait } => (problem, wait),
        };
        let now = self::have(part);
        // Only bytes that no earlier attempt brought are progress: a server without ranges that
        // cuts each answer would be asked for ever.
        failures = if now > most.max(have) { 0 } else { failures + 1 };
        most = most.max(now);
        if failures >= patience.attempts {
            let kept = if now > 0 {
                format!("what was fetched is kept in {}; ", short(part))
            } else {
                String::new()
            };
            bail!("{url}: {problem}; {kept}repeat the command to go on")
        }
        let wait = patience.retry_wait.saturating_mul(1 << failures.saturating_sub(1).min(16));
        std::thread::sleep(wait.max(asked.unwrap_or_default()).min(LONGEST_WAIT));
    }
}

/// How many bytes an earlier attempt left.
fn have(part: &Path) -> u64 {
    fs::metadata(part).map_or(0, |metadata| metadata.len())
}

enum Ended {
    Whole,
    /// Another attempt may bring the rest.
    Cut {
        problem: String,
        /// How long the server asks to be left alone.
        wait: Option<Duration>,
    },
}

impl Ended {
    fn cut(problem: String) -> Self {
        Self::Cut { problem, wait: None }
    }
}

struct Request<'a> {
    agent: Agent,
    url: &'a str,
    part: &'a Path,
    length: Option<u64>,
    patience: &'a Patience,
}

impl Request<'_> {
    /// Asks once for what is missing.
    ///
    /// # Errors
    /// If it is of no use to try again.
    fn send(&self, have: u64) -> Result<Ended> {
        let url = self.url;
        let have = if self.length.is_some_and(|length| have > length) { 0 } else { have };
        let mut request = self.agent.get(url);
        if have > 0 {
            request = request.header("Range", format!("bytes={have}-"));
        }
        let response = match request.call() {
            Ok(response) => response,
            Err(
                error @ (ureq::Error::BadUri(_)
                | ureq::Error::Http(_)
                | ureq::Error::TooManyRedirects),
            ) => {
                bail!("{url}: {error}; check the address or give --from")
            }
            Err(error) => return Ok(Ended::cut(self.told(&error))),
        };
        let from = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT if range(&response).0 == Some(have) => have,
            StatusCode::PARTIAL_CONTENT => {
                bail!("{url}: the server sent another part than asked for; give --from")
            }
            StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => {
                // Nothing is left to send: the part is the whole, unless the server's is shorter.
                if range(&response).1.is_none_or(|whole| whole == have) {
                    return Ok(Ended::Whole);
                }
                File::create(self.part).map_err(|error| cannot_write(self.part, &error))?;
                return Ok(Ended::cut("the server's archive is shorter than what is here".into()));
            }
            StatusCode::NOT_FOUND => {
                bail!("{url}: not found (404); check the address or give --from")
            }
            status if status.is_server_error() || RETRIED.contains(&status) => {
                let wait = asked_wait(&response);
                return Ok(Ended::Cut { problem: format!("the server answered {status}"), wait });
            }
            status => bail!("{url}: the server answered {status}; give --from"),
        };
        let whole = response.body().content_length().map(|rest| from + rest);
        if let (Some(whole), Some(length)) = (whole, self.length)
            && whole != length
        {
            bail!("{url}: the server offers {whole} bytes, it should be {length}; give --from")
        }
        self.copy(response.into_body().into_reader(), from, whole)
    }

    fn copy(&self, mut body: impl Read, from: u64, whole: Option<u64>) -> Result<Ended> {
        let full = |error: io::Error| cannot_write(self.part, &error);
        let file = OpenOptions::new().create(true).write(true).truncate(from == 0).open(self.part);
        let mut file = file.map_err(full)?;
        io::Seek::seek(&mut file, io::SeekFrom::Start(from)).map_err(full)?;
        let bar = bar(whole);
        let mut buffer = vec![0; 1 << 16];
        let mut have = from;
        // More than there should be is as wrong as less; there is no need to fetch all of it.
        while self.length.is_none_or(|length| have <= length) {
            bar.set_position(have);
            match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    file.write_all(&buffer[..count]).map_err(full)?;
                    have += count as u64;
                }
                Err(error) => {
                    file.sync_all().map_err(full)?;
                    let cause = error.get_ref().and_then(|error| error.downcast_ref());
                    let problem = cause.map_or_else(|| error.to_string(), |error| self.told(error));
                    return Ok(Ended::cut(format!("cut off after {have} bytes ({problem})")));
                }
            }
        }
        file.sync_all().map_err(full)?;
        bar.finish_and_clear();
        match whole {
            Some(whole) if have < whole => {
                Ok(Ended::cut(format!("cut off after {have} of {whole} bytes")))
            }
            _ => Ok(Ended::Whole),
        }
    }

    /// What went wrong, in words.
    fn told(&self, error: &ureq::Error) -> String {
        match error {
            ureq::Error::Timeout(_) => {
                format!("nothing came for {} s", self.patience.timeout.as_secs_f64())
            }
            other => other.to_string(),
        }
    }
}

/// What else is worth another attempt.
const RETRIED: [StatusCode; 2] = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];

fn asked_wait(response: &Response<Body>) -> Option<Duration> {
    let seconds = response.headers().get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Where the part that the server sends begins, and how long the whole is: of
/// `bytes 100-199/200` 100 and 200, of `bytes */200` 200.
fn range(response: &Response<Body>) -> (Option<u64>, Option<u64>) {
    let header = response.headers().get("content-range").and_then(|value| value.to_str().ok());
    let Some((part, whole)) = header
        .and_then(|range| range.trim().strip_prefix("bytes "))
        .and_then(|range| range.split_once('/'))
    else {
        return (None, None);
    };
    (part.split('-').next().and_then(|start| start.parse().ok()), whole.parse().ok())
}

fn bar(whole: Option<u64>) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
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
