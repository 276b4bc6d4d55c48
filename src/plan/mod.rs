//! The decision: what should be, what was seen → steps, and holds that say why nothing is done.
//!
//! [`place::place`] decides for all nodes together which Process objects should exist, and a [`placer::Placer`] decides the same again
//! and again; [`orders::orders`] what has to wait for what on other nodes; [`node::plan`] decides for one node what to do there now.
//! All are pure, synchronous and total: no I/O, no clock, no randomness, no logging. Time and attempts are inputs. The same world gives
//! the same plan, whatever the order of its documents.
//!
//! **Invariant:** unknown is not absent. What was not seen is neither stopped, started nor deleted.
//! **Absent here:** doing. [`crate::reconcile`] carries steps out and offers no choices.

pub mod availability;
pub mod backoff;
mod ending;
mod lease;
mod member;
mod near;
pub mod node;
pub mod orders;
pub mod place;
pub mod placer;
pub mod render;
pub mod revision;
mod service;
pub mod spread;
pub mod standing;
pub mod step;
pub mod touched;
pub mod whatif;
pub mod world;
pub mod written;
