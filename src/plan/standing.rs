//! How a service stands: how many of its processes there are and do their work, and what that comes to.

use std::fmt;

/// How often a process has to have ended for that to be said of it: that it does so again and again, and that an update of it has failed.
pub const CRASHES: u64 = 3;

/// How a service stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceStatus {
    /// The generation of the service that this was decided on.
    pub observed_generation: u64,
    /// The revision that its processes are to run from; 0 when there is none, for its type does not exist.
    pub revision: u64,
    /// How many processes should run.
    pub desired: u32,
    /// How many of them there are.
    pub placed: u32,
    /// How many of these run from that revision, as far as is seen.
    pub updated: u32,
    /// How many do their work.
    pub available: u32,
    /// How many are on nodes that are not seen.
    pub unknown: u32,
    /// Enough of them do their work.
    pub is_available: Condition,
    /// A change is on its way, or has arrived.
    pub progressing: Condition,
    /// Something needs people.
    pub degraded: Condition,
}

/// Whether something is so, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Whether it is.
    pub status: Truth,
    /// Why, in one word.
    pub reason: &'static str,
    /// The same for people.
    pub message: String,
}

/// Whether something is so. Unknown is neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// It is.
    True,
    /// It is not.
    False,
    /// It can't be seen.
    Unknown,
}

impl fmt::Display for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Truth::True => "True",
            Truth::False => "False",
            Truth::Unknown => "Unknown",
        })
    }
}

impl Condition {
    /// It is so.
    pub fn yes(reason: &'static str, message: impl Into<String>) -> Condition {
        Condition { status: Truth::True, reason, message: message.into() }
    }

    /// It is not so.
    pub fn no(reason: &'static str, message: impl Into<String>) -> Condition {
        Condition { status: Truth::False, reason, message: message.into() }
    }
}
