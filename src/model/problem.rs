//! What is wrong with an input: where, what, and what to do.

use std::fmt;

use super::excerpt::excerpt;

/// One thing that is wrong with an input. Never holds the value that is wrong, for that could be a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, when the input was one.
    pub file: Option<String>,
    /// Line and column, from 1, when the input was text.
    pub at: Option<(u64, u64)>,
    /// The field, as `spec.options.port`; empty for the document as a whole.
    pub path: String,
    /// What is wrong and what to do, for people.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
        }
        if let Some((line, column)) = self.at {
            write!(f, "{line}:{column}:")?;
        }
        if self.file.is_some() || self.at.is_some() {
            f.write_str(" ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// A problem, and the line that it is about where that may be shown; see [`super::excerpt`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    /// What is wrong.
    pub problem: Problem,
    /// The line and a caret under the place, as two lines.
    pub excerpt: Option<String>,
}

impl Told {
    /// A problem, with the text of its file if that is at hand.
    pub fn new(problem: Problem, text: Option<&str>) -> Told {
        let excerpt = text.zip(problem.at).and_then(|(text, at)| excerpt(text, at));
        Told { problem, excerpt }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)?;
        self.excerpt.iter().try_for_each(|excerpt| write!(f, "\n{excerpt}"))
    }
}
