//! For tests: a store that does what another does, but for what a test has it do otherwise.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::embedded::Embedded;
use super::{Kept, Lease, LeaseId, Listing, Revision, Store, StoreError, Txn, TxnReply, Watch};

/// What is done otherwise; by default nothing.
pub(crate) trait Otherwise: Send + Sync + 'static {
    fn store(&self) -> &Arc<Embedded>;

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnReply, StoreError>> {
        self.store().txn(txn)
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        from: Revision,
    ) -> BoxFuture<'a, Result<Box<dyn Watch>, StoreError>> {
        self.store().watch(prefix, from)
    }
}

/// The store over the other.
pub(crate) struct Over<O>(pub(crate) O);

impl<O: Otherwise> Store for Over<O> {
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnReply, StoreError>> {
        self.0.txn(txn)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        at: Option<Revision>,
    ) -> BoxFuture<'a, Result<Listing, StoreError>> {
        self.0.store().list(prefix, at)
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        from: Revision,
    ) -> BoxFuture<'a, Result<Box<dyn Watch>, StoreError>> {
        self.0.watch(prefix, from)
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        self.0.store().compact(revision)
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease, StoreError>> {
        self.0.store().grant(ttl)
    }

    fn keep_alive(&self, lease: Lease) -> BoxFuture<'_, Result<Kept, StoreError>> {
        self.0.store().keep_alive(lease)
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.0.store().revoke(lease)
    }
}
