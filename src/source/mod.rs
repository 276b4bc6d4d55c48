//! Where documents come from besides `/1.0`: the shipped catalogue, and manifests folders.

mod artifacts;
pub mod catalogue;
pub mod check;
pub mod folder;
