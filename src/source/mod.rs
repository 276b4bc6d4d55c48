//! Where documents come from besides `/1.0`: the shipped catalogue, manifests folders, and Git repositories.
//!
//! ```text
//! folder, git: reading (a set, whole) → door (admitted, file by file) → follow (applied, told) → state
//! ```

mod artifacts;
pub mod board;
pub mod catalogue;
pub mod check;
mod door;
pub mod folder;
mod follow;
pub mod git;
mod prune;
mod reading;

pub use self::follow::{Parts, follow};
pub use self::prune::PruneLimit;
pub use self::reading::{Manifest, Reading, Refusal, Source, Stamp, Stamps, Text};
