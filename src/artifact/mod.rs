//! Files and folders that are sent to nodes: what is in them, their address, and the tar that they are sent as.
//!
//! An artifact is always sent as a tar with one thing at its top, called as on the nodes: one way for a file and a folder, and
//! the address, which is the SHA-256 of that tar, covers all that makes a difference there: content, names, and whether
//! something can be executed. Nothing else is in it, no times and no owners, so the same content has the same address on
//! every machine.
//!
//! **Invariant:** an artifact is streamed; none is ever held in memory.
//! **Absent here:** sending. [`crate::reconcile`] does that.

mod pack;
mod shelf;
mod tree;

pub use pack::{PackError, pack};
pub use shelf::{Content, Shelf, Unread};
