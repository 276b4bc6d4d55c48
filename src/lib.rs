//! Mainstay keeps services running on plain Linux machines.
pub mod model;
pub mod store;
