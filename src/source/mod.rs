//! Where documents come from besides `/1.0`: the shipped catalogue, and manifests folders.

pub mod catalogue;
pub mod folder;
