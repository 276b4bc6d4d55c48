//! The loops: wake, take the snapshot, plan, execute, report. The only place with a clock.
//!
//! One task decides over all nodes which processes exist ([`controller`]); one task a node brings that node there
//! (`node_task`), with its own link, backoff and deadlines, so that a bad node delays only itself. Of several servers on
//! one store, only the one that leads has these tasks ([`leadership`]).
//!
//! **Invariant:** what wakes a loop is never an input of what it decides.

pub mod connected;
pub mod controller;
mod deleting;
pub mod events;
mod gate;
pub mod leadership;
pub mod logs;
mod node_task;
pub mod observed;
pub mod ping;
pub mod placed;
pub mod target;
mod transfer;
