//! `pretext evaluate`.

use std::process::ExitCode;

use anyhow::Result;
use pretext_train::evaluate::{Evaluation, evaluate};
use pretext_train::record::{ClassScore, Score};
use serde_json::json;

use super::{say, train};
use crate::args::EvaluateArgs;
use crate::failure;

pub(super) fn run(args: &EvaluateArgs) -> Result<ExitCode> {
    let evaluation = train::quietly(&args.machine, args.data.strict, |control| {
        evaluate(&args.weights, &args.data.path, control)
    })?;
    if args.json {
        say(match &evaluation {
            Evaluation::Classifier(score) => json!({ "classifier": score }),
            Evaluation::Encoder { neighbours, linear } => {
                json!({ "nearest_neighbours": neighbours, "linear": linear })
            }
        })?;
        return Ok(failure::DONE);
    }
    match &evaluation {
        Evaluation::Classifier(score) => {
            total("val accuracy", score)?;
            let width = score.per_class.iter().map(|class| class.class.len()).max().unwrap_or(0);
            for class in &score.per_class {
                let share = 100.0 * class.correct as f64 / class.total as f64;
                let (name, correct, total) = (&class.class, class.correct, class.total);
                let taken = mostly_taken_for(class);
                say(format_args!("  {name:width$}  {share:6.2} %  ({correct} of {total}{taken})"))?;
            }
        }
        Evaluation::Encoder { neighbours, linear } => {
            total("val accuracy of the 20 nearest neighbours", neighbours)?;
            total("val accuracy of a softmax regression     ", linear)?;
        }
    }
    Ok(failure::DONE)
}

/// The class that is answered most often in place of the right one.
fn mostly_taken_for(class: &ClassScore) -> String {
    let others = class.answers.iter().filter(|(answer, _)| **answer != class.class);
    // Of equally frequent ones the first by name.
    let most = others.rev().max_by_key(|(_, count)| **count);
    most.map_or(String::new(), |(answer, count)| format!("; {count} taken for {answer}"))
}

fn total(what: &str, score: &Score) -> Result<()> {
    let accuracy = 100.0 * score.accuracy.unwrap_or_default();
    let (correct, total) = (score.correct.unwrap_or_default(), score.total.unwrap_or_default());
    say(format_args!("{what} {accuracy:.2} % ({correct} of {total})"))
}
