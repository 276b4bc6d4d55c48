//! Seals all secrets with another key.
//!
//! The key's id in the store says how far it is: `OLD`, then `OLD>NEW` while documents are sealed anew, then `NEW`. Every
//! write of a controller compares it, so that from the first step on none can write what it has sealed with the old key,
//! and none starts until it is done. What was begun is finished by doing it again.

use super::{DOCUMENTS, SEALING_KEY, read};
use crate::model::document::Unreadable;
use crate::model::secret::{Sealer, UnsealError};
use crate::store::{Compare, Item, Store, StoreError, Txn, Write, fitting};

/// Between the ids of the two keys, which are hexadecimal.
pub const ARROW: char = '>';

/// Documents of one transaction.
const BATCH: usize = 50;

/// Bytes of the documents of one transaction; one that is larger has its own.
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
    let mut anew = Vec::new();
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
            anew.push(Item { value: document.to_value().to_string().into_bytes(), ..item });
        }
    }
    let mut rest = &anew[..];
    while !rest.is_empty() {
        let (batch, after) = rest.split_at(fitting(rest, BATCH, BATCH_BYTES, |item| item.value.len()));
        rest = after;
        write(store, batch, between).await?;
    }
    Ok(anew.len())
}

/// Writes documents, unless somebody changed them since.
async fn write(store: &dyn Store, batch: &[Item], between: &str) -> Result<(), RotationError> {
    let mut txn = Txn::default();
    txn.when.push(Compare::Value(SEALING_KEY.into(), between.into()));
    for item in batch {
        txn.when.push(Compare::ModRevision(item.key.clone(), item.mod_revision));
        txn.then.push(Write::Put(item.key.clone(), item.value.clone()));
    }
    if store.txn(txn).await?.succeeded {
        return Ok(());
    }
    match key(store).await? {
        // The conflict is with a document's change, and is seen by the next pass, which finds what is left.
        Some(stored) if stored == between => Ok(()),
        stored => Err(RotationError::OtherKeys { stored: stored.unwrap_or_default() }),
    }
}

#[cfg(test)]
mod tests;
