//! Line charts as SVG.

use std::fmt::Write as _;

use super::plan::RANDOM;

/// One line of a chart: a run, a value an epoch.
pub(super) struct Line {
    /// Lines of one series share a colour and an entry in the legend.
    pub(super) series: String,
    /// What pointing at the line says.
    pub(super) title: String,
    /// The value after each epoch; a gap where there is none.
    pub(super) values: Vec<Option<f64>>,
}

/// How many looks the page's style sheet has for series other than [`RANDOM`]: colours after Okabe
/// and Ito (2008), told apart by colour-blind readers too, and dashes for everybody else.
const LOOKS: usize = 6;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 280.0;
/// Room for the axes' labels.
const LEFT: f64 = 52.0;
const BOTTOM: f64 = 36.0;
const TOP: f64 = 28.0;
const RIGHT: f64 = 12.0;

/// A chart over epochs; `None` if no line has a value.
pub(super) fn chart(title: &str, unit: &str, lines: &[Line]) -> Option<String> {
    let values = || lines.iter().flat_map(|line| line.values.iter().flatten().copied());
    let epochs = lines.iter().map(|line| line.values.len()).max()?;
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    if !(low.is_finite() && high.is_finite()) {
        return None;
    }
    let step = step(if high > low { (high - low) / 4.0 } else { high.abs().max(1.0) / 4.0 });
    let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
    let high = if high > low { high } else { low + step };
    // One epoch has no extent; its values stand at the right end.
    let x = |epoch: usize| {
        LEFT + (WIDTH - LEFT - RIGHT) * (epoch as f64 / epochs.saturating_sub(1).max(1) as f64)
    };
    let y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (value - low) / (high - low);

    let title = escape(title);
    let series = series(lines);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}. {}\">\
         <text class=\"title\" x=\"{LEFT}\" y=\"16\">{title}</text>",
        escape(&told(lines, &series, unit)),
    );
    let ticks = ((high - low) / step).round() as usize;
    let decimals = decimals(step);
    for tick in 0..=ticks {
        let value = low + tick as f64 * step;
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"tick\" text-anchor=\"end\" x=\"{}\" y=\"{:.1}\">{value:.decimals$}{unit}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y(value) + 4.0,
            y = y(value),
        );
    }
    let every = epochs.div_ceil(10).max(1);
    for epoch in (0..epochs).filter(|epoch| (epoch + 1) % every == 0) {
        let _ = write!(
            svg,
            "<text class=\"tick\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{}\">{}</text>",
            x(epoch),
            HEIGHT - BOTTOM + 16.0,
            epoch + 1
        );
    }
    let _ = write!(
        svg,
        "<text class=\"tick\" text-anchor=\"middle\" x=\"{}\" y=\"{}\">epoch</text>",
        f64::midpoint(LEFT, WIDTH - RIGHT),
        HEIGHT - 4.0
    );
    for line in lines {
        let class = class(&series, &line.series);
        let points: Vec<String> = (0..)
            .zip(&line.values)
            .filter_map(|(epoch, value)| Some(format!("{:.1},{:.1}", x(epoch), y((*value)?))))
            .collect();
        let _ = write!(svg, "<g class=\"series {class}\"><title>{}</title>", escape(&line.title));
        let _ = write!(svg, "<polyline points=\"{}\"/>", points.join(" "));
        if let Some((x, y)) = points.last().and_then(|point| point.split_once(',')) {
            let _ = write!(svg, "<circle r=\"2.5\" cx=\"{x}\" cy=\"{y}\"/>");
        }
        svg.push_str("</g>");
    }
    svg.push_str("</svg>");
    Some(svg)
}

/// The names of the series in order of appearance.
pub(super) fn series(lines: &[Line]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for line in lines {
        if !names.contains(&line.series.as_str()) {
            names.push(&line.series);
        }
    }
    names
}

/// The class that gives a series its colour and dashes.
pub(super) fn class(series: &[&str], name: &str) -> String {
    if name == RANDOM {
        return "s0".into();
    }
    let mut others = series.iter().filter(|series| **series != RANDOM);
    let place = others.position(|series| *series == name).unwrap_or(0);
    format!("s{}", place % LOOKS + 1)
}

/// Where each series ends, for those who cannot see the lines.
fn told(lines: &[Line], series: &[&str], unit: &str) -> String {
    let ends = series.iter().filter_map(|name| {
        let last = lines.iter().filter(|line| line.series == *name);
        let last: Vec<f64> =
            last.filter_map(|line| line.values.iter().flatten().copied().last()).collect();
        let low = last.iter().copied().reduce(f64::min)?;
        let high = last.iter().copied().reduce(f64::max)?;
        Some(if last.len() > 1 {
            format!("{name} ends between {low:.2}{unit} and {high:.2}{unit}")
        } else {
            format!("{name} ends at {low:.2}{unit}")
        })
    });
    ends.collect::<Vec<_>>().join("; ") + "."
}

/// The decimals that labels a step apart need.
pub(super) fn decimals(step: f64) -> usize {
    (-step.log10().floor()).max(0.0) as usize
}

/// 1, 2 or 5 times a power of ten: the smallest such number that is not below `least`.
pub(super) fn step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|n| n * power)
        .into_iter()
        .find(|step| *step >= least)
        .unwrap_or(power)
}

/// Text that cannot end an element or an attribute.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (least, want) in [(0.3, 0.5), (7.0, 10.0), (1.0, 1.0), (0.012, 0.02), (24.0, 50.0)] {
            assert!((step(least) - want).abs() < 1e-9, "{least}: {}", step(least));
        }
    }

    #[test]
    fn a_chart_has_its_lines() {
        let line = |series: &str, values: &[f64]| Line {
            series: series.into(),
            title: "a <b>".into(),
            values: values.iter().copied().map(Some).collect(),
        };
        let lines = [line("x", &[1.0, 2.0, 3.0]), line("y", &[3.0]), line("x", &[2.0, 2.0])];
        let svg = chart("loss", "", &lines).unwrap();
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert_eq!((svg.matches("series s1").count(), svg.matches("series s2").count()), (2, 1));
        assert!(svg.contains("x ends between 2.00 and 3.00; y ends at 3.00."), "{svg}");
        assert!(svg.contains("a &lt;b&gt;") && !svg.contains("NaN") && !svg.contains("inf"));
        assert_eq!(chart("loss", "", &[]), None);
        assert_eq!(chart("loss", "", &[line("x", &[f64::NAN])]), None);
    }
}
