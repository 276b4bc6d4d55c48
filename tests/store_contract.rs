//! The contract of the store: one suite, kept by both engines.
//!
//! [`cases`] holds what the trait promises. It is run on the embedded engine and on a real etcd, one case after the
//! other, because a compaction is the whole store's. What only one engine promises is in its own module.

#[path = "store_contract/cases.rs"]
mod cases;
#[path = "store_contract/embedded.rs"]
mod embedded;
#[path = "store_contract/etcd.rs"]
mod etcd;
#[path = "store_contract/history.rs"]
mod history;
#[path = "store_contract/leases.rs"]
mod leases;
#[path = "store_contract/model.rs"]
mod model;
#[path = "support/properties.rs"]
mod properties;
#[path = "store_contract/tools.rs"]
mod tools;

mod support;
