//! The loops: wake, take the snapshot, plan, execute, report. The only place with a clock.
//!
//! One task decides over all nodes which processes exist ([`controller`]); one task a node brings that node there
//! (`node_task`), with its own link, backoff and deadlines, so that a bad node delays only itself. Of several servers on
//! one store, only the one that leads has these tasks ([`leadership`]).
//!
//! **Invariant:** what wakes a loop is never an input of what it decides.
//! **Invariant:** what a loop does follows from what it is told and when, and from nothing else, so that a simulator can run it twice.
//! So each `select!` here is `biased`. Nothing is starved by that: what comes first is ready once, or at a time that was set, and
//! what a bell that comes last has to say is read in every round.

pub mod connected;
pub mod controller;
mod deleting;
pub mod events;
mod gate;
pub mod leadership;
pub mod logs;
mod node_task;
pub mod observed;
pub mod outlook;
pub mod ping;
pub mod placed;
pub mod target;
mod transfer;
mod tries;
