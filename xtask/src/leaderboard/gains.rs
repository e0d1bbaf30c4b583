//! What pretraining brought, as a chart: a dot a row, a line for its 95 % interval.

use std::fmt::Write as _;

use super::chart::{self, escape};
use super::records::Cell;
use super::rows::{self, Row};
use super::stats::Gain;

const WIDTH: f64 = 760.0;
/// Room for the rows' names and for their figures.
const LEFT: f64 = 190.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 44.0;
/// A row's height.
const ROW: f64 = 30.0;

/// The chart; `None` where nothing is compared.
pub(super) fn chart(rows: &[Row<'_>], series: &[&str]) -> Option<String> {
    let gains: Vec<(&Row<'_>, &Gain)> =
        rows.iter().filter_map(|row| Some((row, row.gain.as_ref()?))).collect();
    let all = gains.iter().flat_map(|(_, gain)| {
        let (low, high) = ends(gain);
        [100.0 * low, 100.0 * high]
    });
    // Zero belongs to the picture: it is what the rows are compared with.
    let (low, high) =
        all.fold((0.0, 0.0), |(low, high): (f64, f64), value| (low.min(value), high.max(value)));
    if gains.is_empty() || !(low.is_finite() && high.is_finite()) {
        return None;
    }
    let step = chart::step(if high > low { (high - low) / 6.0 } else { 1.0 });
    let (low, high) = ((low / step).floor() * step, (high / step).ceil().max(1.0) * step);
    let x = |points: f64| LEFT + (WIDTH - LEFT - RIGHT) * (points - low) / (high - low);
    let bottom = TOP + ROW * gains.len() as f64;
    let told: Vec<String> = gains.iter().map(|(row, gain)| told(row, gain)).collect();

    let mut svg = format!(
        "<svg class=\"gains\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{}\">",
        bottom + BOTTOM,
        escape(&format!("Gain over random weights. {}.", told.join("; "))),
    );
    let decimals = chart::decimals(step);
    for tick in 0..=((high - low) / step).round() as usize {
        let value = low + tick as f64 * step;
        let zero = value.abs() < step / 2.0;
        let class = if zero { "zero" } else { "grid" };
        let label = if zero { "0".into() } else { format!("{value:+.decimals$}") };
        let _ = write!(
            svg,
            "<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text class=\"tick\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{}\">{label}</text>",
            bottom + 18.0,
            x = x(value),
        );
    }
    let _ = write!(
        svg,
        "<text class=\"tick\" text-anchor=\"middle\" x=\"{}\" y=\"{}\">gain over random weights, \
         points</text>",
        f64::midpoint(LEFT, WIDTH - RIGHT),
        bottom + 38.0,
    );
    for (i, ((row, gain), told)) in gains.iter().zip(&told).enumerate() {
        let y = TOP + ROW * (i as f64 + 0.5);
        let (from, to) = ends(gain);
        let class = chart::class(series, &row.cell.init);
        let mark = if row.broken.is_empty() { "" } else { " †" };
        let Cell { init, size, epochs, .. } = row.cell;
        let name = format!("{init}, {size} px, {epochs} ep.{mark}");
        let _ = write!(
            svg,
            "<g class=\"series {class}\"><title>{}</title>\
             <text text-anchor=\"end\" x=\"{}\" y=\"{:.1}\">{}</text>",
            escape(told),
            LEFT - 12.0,
            y + 4.0,
            escape(&name),
        );
        if gain.certainty.is_ok() {
            let (from, to) = (x(100.0 * from), x(100.0 * to));
            let _ = write!(
                svg,
                "<path class=\"whisker\" d=\"M{from:.1} {y}H{to:.1}M{from:.1} {0}V{1}M{to:.1} {0}V{1}\"/>",
                y - 5.0,
                y + 5.0,
            );
        }
        let _ = write!(
            svg,
            "<circle r=\"5\" cx=\"{:.1}\" cy=\"{y}\"/><text x=\"{}\" y=\"{:.1}\">{}</text></g>",
            x(100.0 * gain.difference),
            WIDTH - RIGHT + 12.0,
            y + 4.0,
            escape(&figures(gain)),
        );
    }
    Some(svg + "</svg>")
}

/// Where a gain's line begins and ends: at its dot where nobody knows how sure it is.
fn ends(gain: &Gain) -> (f64, f64) {
    let certainty = gain.certainty.as_ref();
    certainty.map_or((gain.difference, gain.difference), |certainty| certainty.interval)
}

fn figures(gain: &Gain) -> String {
    let difference = rows::points(gain.difference);
    match &gain.certainty {
        Ok(_) => format!("{difference}  ({})", rows::points_interval(gain)),
        Err(unknown) => format!("{difference}  ({})", unknown.name()),
    }
}

fn told(row: &Row<'_>, gain: &Gain) -> String {
    let interval = match &gain.certainty {
        Ok(_) => format!(", 95 % interval {}", rows::points_interval(gain)),
        Err(unknown) => format!(", {}", unknown.name()),
    };
    format!(
        "{} at {} px after {}: {} points{interval}{}",
        row.cell.init,
        row.cell.size,
        rows::counted(row.cell.epochs, "epoch"),
        rows::points(gain.difference),
        if row.broken.is_empty() { "" } else { ", breaks a rule" },
    )
}
