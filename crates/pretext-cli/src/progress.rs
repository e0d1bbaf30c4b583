//! What a run looks like: a bar on a terminal, one line an epoch anywhere else.

use std::io::{IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pretext_train::control::Event;
use pretext_train::record::Epoch;

/// Damaged files that are named; after so many, they are only counted.
const NAMED: usize = 10;

/// Shows events on standard error.
pub(crate) struct Progress {
    bar: ProgressBar,
    epochs: u32,
    steps: u64,
    damaged: usize,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        Self { bar, epochs: 0, steps: 0, damaged: 0 }
    }

    pub(crate) fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Begin { recipe, epochs, steps, pictures, parameters } => {
                (self.epochs, self.steps) = (*epochs, *steps as u64);
                self.line(recipe);
                self.line(&format!(
                    "{pictures} pictures, {} an epoch, {:.1} million parameters",
                    counted(*steps, "step"),
                    *parameters as f64 / 1e6
                ));
                self.bar.set_length(self.steps * u64::from(self.epochs));
                self.bar.set_style(style());
            }
            Event::Resume { epoch, step } => {
                self.line(&format!("going on in epoch {epoch} after step {step}"));
                let done = u64::from(epoch - 1) * self.steps + *step as u64;
                self.bar.set_position(done);
                self.bar.reset_eta();
            }
            Event::Resident { which, pictures, bytes } => self.line(&format!(
                "{pictures} {which}, decoded {:.2} GB, stay in the GPU's memory, which makes views of them",
                *bytes as f64 / 1e9
            )),
            Event::Streamed { which, bytes, room } => self.line(&format!(
                "the {which} take about {:.1} GB decoded and may have {:.1} GB of the GPU's memory (all pictures \
                 together half of what is free): they go there batch by batch, and it makes views of them",
                *bytes as f64 / 1e9,
                *room as f64 / 1e9
            )),
            Event::Processor { why } => self.line(&format!("computing on the cpu: {why}")),
            Event::Step { epoch, step, loss, images_per_second, data_wait } => {
                self.bar.set_position(u64::from(epoch - 1) * self.steps + *step as u64);
                self.bar.set_message(format!(
                    "epoch {epoch}/{}  loss {loss:.4}  {images_per_second:.0} images/s{}",
                    self.epochs,
                    waiting(*data_wait)
                ));
            }
            Event::Epoch(epoch) => self.line(&epoch_line(epoch, self.epochs)),
            Event::Damaged { name, reason } => {
                self.damaged += 1;
                if self.damaged <= NAMED {
                    self.line(&format!("warning: {name}: left out ({reason})"));
                } else if self.damaged == NAMED + 1 {
                    self.line("warning: more damaged pictures are left out and only counted");
                }
            }
            Event::Waiting { path, who } => {
                self.line(&format!("{}: {who} works on it; waiting", path.display()));
            }
            _ => {}
        }
    }

    /// Ends the bar; what was printed stays.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// One line above the bar; a closed standard error is no reason to stop training.
    pub(crate) fn line(&self, text: &str) {
        self.bar.suspend(|| {
            let _ = writeln!(std::io::stderr(), "{text}");
        });
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{wide_bar:.cyan} {pos}/{len}  {msg}  ETA {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
}

/// How much of the time passes waiting for the loader.
fn waiting(share: f64) -> String {
    format!("  data {:.0} %", 100.0 * share)
}

fn epoch_line(epoch: &Epoch, epochs: u32) -> String {
    let mut line = format!("epoch {}/{epochs}  train loss {:.4}", epoch.epoch, epoch.train_loss);
    if let Some(loss) = epoch.val_loss {
        line += &format!("  val loss {loss:.4}");
    }
    if let Some(accuracy) = epoch.val_accuracy {
        line += &format!("  val accuracy {:.2} %", 100.0 * accuracy);
    }
    line += &format!("  {:.0} images/s  {:.1} s", epoch.images_per_second, epoch.seconds);
    line += &waiting(epoch.data_wait);
    match epoch.damaged {
        0 => line,
        1 => line + "  1 damaged picture left out",
        n => line + &format!("  {n} damaged pictures left out"),
    }
}

/// `1 step`, `2 steps`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_one_line() {
        let epoch = Epoch {
            epoch: 2,
            train_loss: 0.5,
            val_loss: Some(0.25),
            val_accuracy: Some(0.5),
            learning_rate: 1e-3,
            seconds: 2.0,
            images: 100,
            images_per_second: 80.0,
            data_wait: 0.5,
            damaged: 1,
        };
        assert_eq!(
            epoch_line(&epoch, 5),
            "epoch 2/5  train loss 0.5000  val loss 0.2500  val accuracy 50.00 %  80 images/s  \
             2.0 s  data 50 %  1 damaged picture left out"
        );
    }
}
