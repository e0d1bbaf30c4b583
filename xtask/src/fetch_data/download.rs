//! Downloads that go on where they were cut off.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ureq::http::{Response, StatusCode, Uri};
use ureq::{Agent, Body, Timeout};

use super::content_range::ContentRange;
use super::pace::{Pace, SLOWEST};
use super::{cannot_write, connect};
use crate::{mistake, say_error, short};

/// How long a server is waited for, and how often it is asked again.
#[derive(Clone, clap::Args)]
pub(super) struct Patience {
    /// How long to wait for a connection, for an answer, and for each piece of it; less than 1000
    /// bytes a second over that time are as good as nothing
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
    let uri: Uri = url.parse().map_err(|error| {
        mistake(format!("{url}: {error}; check the address or give another --from"))
    })?;
    let agent = connect::client(&uri, patience.timeout)?;
    let mut request = Request { agent, url, part, length, patience, whole: None };
    let (mut failures, mut most) = (0, 0);
    loop {
        let have = have(part);
        if length.is_some_and(|length| have == length) {
            return Ok(());
        }
        let ended = request.send(have)?;
        let now = self::have(part);
        // What trickled in before it was noticed is no progress, nor are bytes that an earlier attempt
        // brought: a server without ranges that cuts each answer would be asked for ever.
        let least = match &ended {
            Ended::Slow(_) => (SLOWEST * patience.timeout.as_secs_f64()) as u64,
            _ => 0,
        };
        let failed = !matches!(ended, Ended::Partial);
        failures = if now > most.max(have) + least { 0 } else { failures + u32::from(failed) };
        most = most.max(now);
        let (problem, asked) = match ended {
            Ended::Whole => return Ok(()),
            Ended::Partial => continue,
            Ended::Cut { problem, wait } => (problem, wait),
            Ended::Slow(problem) => (problem, None),
        };
        if failures >= patience.attempts {
            let kept = if now > 0 {
                format!("what was fetched is kept in {}; ", short(part))
            } else {
                String::new()
            };
            bail!("{url}: {problem}; {kept}repeat the command to go on")
        }
        let wait = patience.retry_wait.saturating_mul(1 << failures.saturating_sub(1).min(16));
        let wait = wait.max(asked.unwrap_or_default()).min(LONGEST_WAIT);
        say_error(&format!("{url}: {problem}; asked again in {} s", wait.as_secs_f64()));
        std::thread::sleep(wait);
    }
}

/// How many bytes an earlier attempt left.
fn have(part: &Path) -> u64 {
    fs::metadata(part).map_or(0, |metadata| metadata.len())
}

enum Ended {
    Whole,
    /// The server sent less than the rest, and said so.
    Partial,
    /// The connection brought too little.
    Slow(String),
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
    /// Bytes of the whole archive, as the server last told them.
    whole: Option<u64>,
}

impl Request<'_> {
    /// Asks once for what is missing.
    ///
    /// # Errors
    /// If it is of no use to try again.
    fn send(&mut self, have: u64) -> Result<Ended> {
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
        let length = response.body().content_length();
        let range = content_range(&response);
        let (from, end, whole) = match response.status() {
            StatusCode::OK => (0, length, length),
            StatusCode::PARTIAL_CONTENT => match range {
                Some(ContentRange { part: Some((from, end)), whole })
                    if from == have && length.is_none_or(|length| length == end - from) =>
                {
                    (from, Some(end), whole)
                }
                _ => {
                    let anew = match have {
                        0 => String::new(),
                        _ => format!(" or delete {} to begin anew", short(self.part)),
                    };
                    bail!("{url}: the server sent another part than asked for; give --from{anew}")
                }
            },
            StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => {
                // Nothing is left to send: the part is the whole, unless the server's is shorter.
                if range.and_then(|range| range.whole).is_none_or(|whole| whole == have) {
                    return Ok(Ended::Whole);
                }
                return self.anew("the server's archive is shorter than what is here");
            }
            StatusCode::NOT_FOUND => {
                bail!("{url}: not found (404); check the address or give --from")
            }
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => bail!(
                "{url}: the proxy wants to know who asks (407); name it as http://USER:PASSWORD@HOST:PORT"
            ),
            status if status.is_server_error() || RETRIED.contains(&status) => {
                let wait = asked_wait(&response);
                return Ok(Ended::Cut { problem: format!("the server answered {status}"), wait });
            }
            status => bail!("{url}: the server answered {status}; give --from"),
        };
        if let (Some(whole), Some(length)) = (whole, self.length)
            && whole != length
        {
            bail!("{url}: the server offers {whole} bytes, it should be {length}; give --from")
        }
        if let (Some(before), Some(whole)) = (self.whole, whole)
            && before != whole
            && from > 0
        {
            return self.anew("the server's archive has changed");
        }
        self.whole = whole;
        self.copy(response.into_body().into_reader(), from, end)
    }

    /// Drops what is here.
    fn anew(&mut self, problem: &str) -> Result<Ended> {
        File::create(self.part).map_err(|error| cannot_write(self.part, &error))?;
        self.whole = None;
        Ok(Ended::cut(format!("{problem}, it is fetched anew")))
    }

    /// Writes an answer's bytes from `from` on, up to `end` where that is known.
    fn copy(&self, mut body: impl Read, from: u64, end: Option<u64>) -> Result<Ended> {
        let full = |error: io::Error| cannot_write(self.part, &error);
        let file = OpenOptions::new().create(true).write(true).truncate(from == 0).open(self.part);
        let mut file = file.map_err(full)?;
        io::Seek::seek(&mut file, io::SeekFrom::Start(from)).map_err(full)?;
        let bar = bar(self.whole);
        let mut buffer = vec![0; 1 << 16];
        let mut have = from;
        let mut pace = Pace::over(self.patience.timeout);
        let is_whole = |have| end.is_some_and(|end| have >= end);
        // More than there should be is as wrong as less; there is no need to fetch all of it.
        let ended = loop {
            if self.length.is_some_and(|length| have > length) {
                break None;
            }
            bar.set_position(have);
            let asked = Instant::now();
            let got = body.read(&mut buffer);
            let waited = asked.elapsed();
            match got {
                // An answer may hold more than the part that it announced.
                Ok(0) => break None,
                Ok(_) if is_whole(have) => break None,
                Ok(count) => {
                    let room = end.map_or(u64::MAX, |end| end - have);
                    let count = usize::try_from(room).map_or(count, |room| room.min(count));
                    file.write_all(&buffer[..count]).map_err(full)?;
                    have += count as u64;
                    if pace.is_too_slow(count, waited) && !is_whole(have) {
                        let within = self.patience.timeout.as_secs_f64();
                        break Some(Ended::Slow(format!(
                            "too slow after {have} bytes (less than {SLOWEST} bytes a second for {within} s)"
                        )));
                    }
                }
                Err(error) => {
                    let cause = error.get_ref().and_then(|error| error.downcast_ref());
                    let problem = cause.map_or_else(|| error.to_string(), |error| self.told(error));
                    break Some(Ended::cut(format!("cut off after {have} bytes ({problem})")));
                }
            }
        };
        file.sync_all().map_err(full)?;
        bar.finish_and_clear();
        Ok(ended.unwrap_or_else(|| match (end, self.whole) {
            (Some(end), _) if have < end => {
                Ended::cut(format!("cut off after {have} of {} bytes", self.whole.unwrap_or(end)))
            }
            // Whether something is missing, the server knows.
            (Some(_), None) => Ended::Partial,
            (Some(_), Some(whole)) if have < whole => Ended::Partial,
            _ => Ended::Whole,
        }))
    }

    /// What went wrong, in words.
    fn told(&self, error: &ureq::Error) -> String {
        match error {
            ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
                format!("no connection came about in {} s", self.patience.timeout.as_secs_f64())
            }
            ureq::Error::Timeout(Timeout::RecvResponse) => {
                format!("no answer came in {} s", self.patience.timeout.as_secs_f64())
            }
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

fn content_range(response: &Response<Body>) -> Option<ContentRange> {
    ContentRange::parse(response.headers().get("content-range")?.to_str().ok()?)
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
