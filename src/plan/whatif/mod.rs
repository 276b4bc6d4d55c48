//! What a change of documents does on the nodes.

mod ideal;

pub use ideal::IdealNode;
