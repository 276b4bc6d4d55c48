//! Seals all secrets with another key.
//!
//! The key's id in the store says how far it is: `OLD`, then `OLD>NEW` while documents are sealed anew, then `NEW`. Every
//! write of a controller compares it, so that from the first step on none can write what it has sealed with the old key,
//! and none starts until it is done. What was begun is finished by doing it again.

use super::{DOCUMENTS, SEALING_KEY, read};
use crate::model::document::Unreadable;
use crate::model::secret::{Sealer, UnsealError};
use crate::store::{Compare, Store, StoreError, Txn, Write};

/// Between the ids of the two keys, which are hexadecimal.
pub const ARROW: char = '>';

/// Documents of one transaction.
const BATCH: usize = 50;

/// Bytes of one transaction, so that it fits in [`crate::store::MAX_TXN_BYTES`] with its keys and compares.
const BATCH_BYTES: usize = 512 * 1024;

/// Why secrets can't be sealed anew.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The store did not take it.
    #[error("the store can't be used")]
    Store(#[from] StoreError),
    /// A document can't be read.
    #[error("the store holds something unreadable")]
    Unreadable(#[from] Unreadable),
    /// There is no key in the store, so no secret either.
    #[error("this store has no key yet: start mainstay with the key it shall have")]
    NoKey,
    /// The keys given are not those of the store.
    #[error(
        "the secrets in this store are sealed with the key {stored}; give its key file, and for an unfinished \
             rotation OLD>NEW both"
    )]
    OtherKeys {
        /// What the store says.
        stored: String,
    },
    /// A secret is damaged.
    #[error("{place}")]
    Secret {
        /// Where it stands.
        place: String,
        /// What is wrong.
        #[source]
        source: UnsealError,
    },
}

/// Seals every secret with a new key. Answers how many documents were changed.
///
/// # Errors
/// When it can't be done or finished; do it again then.
pub async fn rotate(store: &dyn Store, old: &Sealer, new: &Sealer) -> Result<usize, RotationError> {
    let between = format!("{}{ARROW}{}", old.id(), new.id());
    match key(store).await?.ok_or(RotationError::NoKey)? {
        done if done == new.id() => return Ok(0),
        stored if stored == old.id() => replace(store, old.id(), &between).await?,
        stored if stored == between => {}
        stored => return Err(RotationError::OtherKeys { stored }),
    }
    let mut count = 0;
    loop {
        let changed = seal_anew(store, old, new, &between).await?;
        if changed == 0 {
            break;
        }
        count += changed;
    }
    replace(store, &between, new.id()).await?;
    // What was sealed with the old key is history, and history can be read.
    let now = store.list(SEALING_KEY, None).await?.revision;
    match store.compact(now).await {
        Ok(()) | Err(StoreError::Compacted { .. }) => Ok(count),
        Err(error) => Err(error.into()),
    }
}

async fn key(store: &dyn Store) -> Result<Option<String>, StoreError> {
    let listing = store.list(SEALING_KEY, None).await?;
    let item = listing.items.into_iter().find(|item| item.key == SEALING_KEY);
    Ok(item.map(|item| String::from_utf8_lossy(&item.value).into_owned()))
}

async fn replace(store: &dyn Store, from: &str, to: &str) -> Result<(), RotationError> {
    let txn = Txn {
        when: vec![Compare::Value(SEALING_KEY.into(), from.into())],
        then: vec![Write::Put(SEALING_KEY.into(), to.into())],
    };
    if store.txn(txn).await?.succeeded {
        return Ok(());
    }
    Err(RotationError::OtherKeys { stored: key(store).await?.unwrap_or_default() })
}

/// One pass. A document that somebody else changes meanwhile is left to the next.
async fn seal_anew(
    store: &dyn Store,
    old: &Sealer,
    new: &Sealer,
    between: &str,
) -> Result<usize, RotationError> {
    let mut changed = 0;
    let mut batch = Batch::new(between);
    for item in store.list(DOCUMENTS, None).await?.items {
        let mut document = read(&item.key, &item.value, item.mod_revision)?;
        let mut is_changed = false;
        for (place, sealed) in document.secrets_mut() {
            if sealed.sealed_with() == Some(new.id()) {
                continue;
            }
            let clear = old
                .open(&place, sealed)
                .map_err(|source| RotationError::Secret { place: place.clone(), source })?;
            *sealed = new.seal(&place, &clear);
            is_changed = true;
        }
        if is_changed {
            changed += 1;
            batch.add(item.key, item.mod_revision, document.to_value().to_string().into_bytes());
            if batch.is_full() {
                batch.write(store).await?;
            }
        }
    }
    batch.write(store).await?;
    Ok(changed)
}

struct Batch<'a> {
    between: &'a str,
    txn: Txn,
    bytes: usize,
}

impl Batch<'_> {
    fn new(between: &str) -> Batch<'_> {
        Batch { between, txn: Txn::default(), bytes: 0 }
    }

    fn add(&mut self, key: String, revision: u64, value: Vec<u8>) {
        self.bytes += value.len();
        self.txn.when.push(Compare::ModRevision(key.clone(), revision));
        self.txn.then.push(Write::Put(key, value));
    }

    fn is_full(&self) -> bool {
        self.txn.then.len() >= BATCH || self.bytes >= BATCH_BYTES
    }

    async fn write(&mut self, store: &dyn Store) -> Result<(), RotationError> {
        self.bytes = 0;
        let mut txn = std::mem::take(&mut self.txn);
        if txn.then.is_empty() {
            return Ok(());
        }
        txn.when.push(Compare::Value(SEALING_KEY.into(), self.between.into()));
        // A conflict is seen by the next pass, which finds what is left.
        let _conflict = store.txn(txn).await?;
        match key(store).await? {
            Some(stored) if stored == self.between => Ok(()),
            stored => Err(RotationError::OtherKeys { stored: stored.unwrap_or_default() }),
        }
    }
}

#[cfg(test)]
mod tests;
