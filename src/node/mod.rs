//! One node at a time: the link to it, over SSH or on this machine, and the line protocol that both speak.
//!
//! **Absent here:** any decision. A link carries a batch and tells what the node said.

pub mod helper;
pub mod link;
pub mod local;
pub mod log;
pub mod protocol;
pub mod side;
pub mod ssh;
pub mod visit;
