//! Samples, and how they are shown.

use std::time::Duration;

/// What one contender took, round by round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// The sample below which this part of all is: 0.5 is the median.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len() - 1;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let at = (last as f64 * part).ceil() as usize;
        sorted[at.min(last)]
    }

    /// The median of the rounds' ratios: what disturbs the machine for longer than a round disturbs both.
    fn ratio(&self, other: &Samples) -> f64 {
        let mut ratios: Vec<f64> =
            self.0.iter().zip(&other.0).map(|(one, other)| one.as_secs_f64() / other.as_secs_f64()).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    }
}

/// A table of contenders; the ratios are the first one's to each.
pub(crate) fn show(title: &str, rows: &[(&str, &Samples)]) {
    let (_, first) = rows[0];
    println!("\n{title}, {} rounds, ms", first.0.len());
    println!("  {:<44} {:>8} {:>8} {:>8} {:>8}   ratio", "", "min", "median", "p99", "max");
    for (name, samples) in rows {
        let [min, median, p99, max] = [0.0, 0.5, 0.99, 1.0].map(|part| ms(samples.quantile(part)));
        let ratio = match first.0.len() == samples.0.len() {
            true => format!("{:.2}", first.ratio(samples)),
            false => String::new(),
        };
        println!("  {name:<44} {min:>8.1} {median:>8.1} {p99:>8.1} {max:>8.1} {ratio:>7}");
    }
}

/// Whether a figure is what it should be, as a line.
pub(crate) fn verdict(what: &str, is: f64, most: f64) {
    println!("  {what}: {is:.2}, wanted at most {most}: {}", if is <= most { "met" } else { "MISSED" });
}

/// The ratio of the first to another, as the table shows it.
pub(crate) fn ratio(one: &Samples, other: &Samples) -> f64 {
    one.ratio(other)
}

pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// How busy the machine is: the load of the last minute.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap();
    text.split(' ').next().unwrap().to_owned()
}
