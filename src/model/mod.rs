//! The nouns: documents of every kind, their metadata, and [`admit`], the only door from text to meaning.
//!
//! **Invariant:** nothing here does I/O, reads a clock or is random; the same text is always the same document.
//! **Absent here:** what the documents cause. [`crate::plan`] decides that.

pub mod admit;
pub mod amount;
pub mod artifact;
pub mod difference;
pub mod document;
pub mod documents;
pub mod excerpt;
pub mod id;
mod index;
pub mod kinds;
pub mod lint;
pub mod locate;
pub mod meta;
pub mod owners;
pub mod problem;
pub mod secret;
pub mod template;

pub use document::{Document, Spec};
pub use documents::{Change, Documents};
pub use meta::{Key, Kind, Metadata};
pub use problem::{Problem, Told};
