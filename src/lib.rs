//! Mainstay keeps services running on plain Linux machines.
pub mod metrics;
pub mod model;
pub mod node;
pub mod plan;
pub mod state;
pub mod store;
