//! The rules as operations on tensors, for parameters on a GPU: nothing waits for it, and nothing is
//! copied from it. The rules on slices are the definition, which the test holds these against.

use candle_core::{DType, Result, Tensor, Var};

use super::{Common, Rule, lamb, ranger};

/// What a rule remembers of one parameter, each of its shape, or nothing yet.
#[derive(Default)]
pub(super) struct Remembered {
    first: Option<Tensor>,
    second: Option<Tensor>,
    slow: Option<Tensor>,
}

impl Remembered {
    pub(super) fn parts(&mut self) -> [(&'static str, &mut Option<Tensor>); 3] {
        [("first", &mut self.first), ("second", &mut self.second), ("slow", &mut self.slow)]
    }
}

/// One step of one parameter; `scale` is what clipping leaves of gradients.
pub(super) fn step(
    rule: Rule,
    common: &Common,
    scale: Option<&Tensor>,
    weights: &Var,
    gradient: &Tensor,
    state: &mut Remembered,
) -> Result<()> {
    let w = &weights.as_detached_tensor();
    let g = &match scale {
        Some(scale) => gradient.broadcast_mul(scale)?,
        None => gradient.clone(),
    };
    let (keep, rate, steps) = (f64::from(common.keep), common.rate, common.step as f64);
    let stepped = match rule {
        Rule::Sgd { momentum } => {
            let velocity = momentum_of(&mut state.first, g, momentum)?;
            ((w * keep)? - (velocity * rate)?)?
        }
        Rule::Adamw { beta1, beta2, eps } => {
            let first = average(&mut state.first, g, beta1)?;
            let second = average(&mut state.second, &g.sqr()?, beta2)?;
            let pace = rate / (1.0 - beta1.powf(steps));
            let root = (1.0 - beta2.powf(steps)).sqrt().recip();
            ((w * keep)? - ((first * pace)? / ((second.sqrt()? * root)? + eps)?)?)?
        }
        Rule::Ranger { momentum, squared_momentum, eps, every, pull } => {
            // The slow weights start at the weights before the first step.
            let slow = match state.slow.take() {
                Some(slow) => slow,
                None => w.copy()?,
            };
            let first = average(&mut state.first, g, momentum)?;
            let second = average(&mut state.second, &g.sqr()?, squared_momentum)?;
            let pace = rate / (1.0 - momentum.powf(steps));
            let step = match ranger::rectification(steps, squared_momentum) {
                Some(rectification) => {
                    let root = (1.0 - squared_momentum.powf(steps)).sqrt().recip();
                    ((first * (pace * rectification))? / ((second.sqrt()? * root)? + eps)?)?
                }
                None => (first * pace)?,
            };
            let fast = ((w * keep)? - step)?;
            if common.step.is_multiple_of(every) {
                let slow = (&slow + ((&fast - &slow)? * pull)?)?;
                state.slow = Some(slow.clone());
                slow
            } else {
                state.slow = Some(slow);
                fast
            }
        }
        Rule::Lars { momentum, trust } => {
            let update = (g + (w * common.decay)?)?;
            let update = if common.decays {
                let ratio = ratio(w, &update)?;
                let one = Tensor::ones_like(&ratio.value)?;
                update.broadcast_mul(&ratio.or(&(&ratio.value * trust)?, &one)?)?
            } else {
                update
            };
            let velocity = momentum_of(&mut state.first, &update, momentum)?;
            (w - (velocity * rate)?)?
        }
        Rule::Lamb { beta1, beta2, eps } => {
            let first = average(&mut state.first, g, beta1)?;
            let second = average(&mut state.second, &g.sqr()?, beta2)?;
            let start = (1.0 - beta1.powf(steps)).recip();
            let root = (1.0 - beta2.powf(steps)).sqrt().recip();
            let step = ((first * start)? / ((second.sqrt()? * root)? + eps)?)?;
            let w = (w * keep)?;
            let ratio = ratio(&w, &step)?;
            let one = Tensor::ones_like(&ratio.value)?;
            let most = (&one * lamb::MOST)?;
            let stretch = ratio.or(&ratio.value.minimum(&most)?, &one)?;
            (&w - step.broadcast_mul(&(stretch * rate)?)?)?
        }
    };
    weights.set(&stepped)
}

/// `beta average + (1 - beta) value`, which is remembered.
fn average(remembered: &mut Option<Tensor>, value: &Tensor, beta: f64) -> Result<Tensor> {
    let share = (value * (1.0 - beta))?;
    let average = match remembered.take() {
        Some(before) => ((before * beta)? + share)?,
        None => share,
    };
    *remembered = Some(average.clone());
    Ok(average)
}

/// `momentum velocity + value`, which is remembered.
fn momentum_of(remembered: &mut Option<Tensor>, value: &Tensor, momentum: f64) -> Result<Tensor> {
    let velocity = match remembered.take() {
        Some(before) => ((before * momentum)? + value)?,
        // A copy: gradients may share memory.
        None => value.copy()?,
    };
    *remembered = Some(velocity.clone());
    Ok(velocity)
}

/// A ratio of two norms, and whether both are more than 0: scalars.
struct Ratio {
    value: Tensor,
    sound: Tensor,
}

impl Ratio {
    fn or(&self, sound: &Tensor, else_: &Tensor) -> Result<Tensor> {
        self.sound.where_cond(sound, else_)
    }
}

fn ratio(above: &Tensor, below: &Tensor) -> Result<Ratio> {
    let (above, below) = (squares(above)?, squares(below)?);
    let sound = (above.gt(0_f32)? * below.gt(0_f32)?)?;
    Ok(Ratio { value: (above / below)?.sqrt()?, sound })
}

/// The sum of all squares, a scalar: row by row, and then over the rows.
pub(super) fn squares(values: &Tensor) -> Result<Tensor> {
    let rows = values.dims().first().copied().unwrap_or(1).max(1);
    values.sqr()?.reshape((rows, values.elem_count() / rows))?.sum(1)?.sum_all()
}

/// `limit` over the norm whose square is given, at most 1: a scalar.
pub(super) fn clipped(squares: &Tensor, limit: f64) -> Result<Tensor> {
    let least = Tensor::new(f32::MIN_POSITIVE, squares.device())?.to_dtype(DType::F32)?;
    let scale = (squares.sqrt()?.maximum(&least)?.recip()? * limit)?;
    scale.minimum(&Tensor::ones_like(&scale)?)
}
