//! Randomness that a seed decides: SplitMix64 (Steele, Lea, Flood 2014), which is short, and good enough to choose faults by. Or none, for
//! a world whose runs are enumerated: then each draw is a point of choice between two, the quickest and the slowest, the first and the last.

use std::collections::BTreeSet;

/// A stream of numbers.
#[derive(Debug, Clone)]
pub(crate) struct Rng {
    state: u64,
    choices: Option<Choices>,
}

/// What an enumerated run chooses.
#[derive(Debug, Clone, Default)]
struct Choices {
    /// Points at which it takes the other one.
    others: BTreeSet<u64>,
    /// How many points there were so far, while they count.
    points: u64,
    counts: bool,
    /// Whether it takes the other one where they do not.
    is_other: bool,
}

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng { state: seed, choices: None }
    }

    /// One that takes the quickest and the first, but for these points.
    pub(crate) fn enumerated(others: impl IntoIterator<Item = u64>) -> Rng {
        let choices = Choices { others: others.into_iter().collect(), ..Choices::default() };
        Rng { state: 0, choices: Some(choices) }
    }

    /// Whether the runs are enumerated and points count at present.
    pub(crate) fn counts(&self) -> bool {
        self.choices.as_ref().is_some_and(|choices| choices.counts)
    }

    /// Points count from here on, or no longer.
    pub(crate) fn count(&mut self, counts: bool) {
        if let Some(choices) = &mut self.choices {
            choices.counts = counts;
        }
    }

    /// Takes the other one at each point that does not count, from here on, or no longer.
    pub(crate) fn lean(&mut self, is_other: bool) {
        if let Some(choices) = &mut self.choices {
            choices.is_other = is_other;
        }
    }

    /// How many points there were.
    pub(crate) fn points(&self) -> u64 {
        self.choices.as_ref().map_or(0, |choices| choices.points)
    }

    /// Which of two it is, where the runs are enumerated.
    pub(crate) fn other(&mut self) -> Option<bool> {
        let choices = self.choices.as_mut()?;
        if !choices.counts {
            return Some(choices.is_other);
        }
        choices.points += 1;
        Some(choices.others.contains(&(choices.points - 1)))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        match self.other() {
            Some(is_other) => {
                if is_other {
                    high
                } else {
                    low
                }
            }
            None => low + self.next() % (high - low + 1),
        }
    }

    /// True once in so many times.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.other().unwrap_or_else(|| self.next().is_multiple_of(times))
    }

    /// One of them; none of nothing.
    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        if of.is_empty() { None } else { of.get(self.between(0, of.len() as u64 - 1) as usize).cloned() }
    }
}
