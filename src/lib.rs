//! Mainstay keeps services running on plain Linux machines: people declare what should run, in documents; Mainstay
//! compares that with what it sees on the machines, and starts and stops processes over SSH until the two agree.
//!
//! ```text
//! documents (/1.0 · manifests) → admit → store → snapshot + sightings = World → place, plan → steps → execute
//!     → ssh → sightings;   plan → holds → /1.0, live tree
//! ```
//!
//! The modules in reading order: [`model`], [`plan`], [`store`], [`state`], [`artifact`], [`source`], [`node`], [`reconcile`], [`api`],
//! [`edge`], [`cli`]. Imports point inward only; `tests/architecture.rs` enforces it.

pub mod api;
pub mod artifact;
pub mod cli;
pub mod clock;
pub mod edge;
pub mod home;
pub mod metrics;
pub mod model;
pub mod node;
pub mod plan;
pub mod reconcile;
pub mod source;
pub mod state;
pub mod store;
