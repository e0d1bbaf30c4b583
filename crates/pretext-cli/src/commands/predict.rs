//! `pretext predict`.

use std::process::ExitCode;

use anyhow::Result;
use pretext_train::predict::Predictor;

use super::say;
use crate::args::PredictArgs;
use crate::failure;

/// A picture that cannot be read does not keep the others from their answers.
pub(super) fn run(args: &PredictArgs) -> Result<ExitCode> {
    let predictor = Predictor::open(&args.weights)?;
    let mut code = failure::DONE;
    for image in &args.images {
        match predictor.predict(image) {
            Ok(prediction) if args.json => say(serde_json::to_string(&prediction)?)?,
            Ok(prediction) => say(format_args!(
                "{}: {} {:.1} %",
                image.display(),
                prediction.class,
                100.0 * prediction.probability
            ))?,
            Err(error) => code = failure::report(&error.into()),
        }
    }
    Ok(code)
}
