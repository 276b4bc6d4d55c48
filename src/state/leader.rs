//! Who leads: of all servers on one store one reconciles, and what is stored about it.
//!
//! A server leads for as long as its key is there, which goes with its lease. The key and a higher epoch come in one
//! transaction, so that the nodes can tell a later leader from an earlier one.
//!
//! **Invariant:** at any revision there is one leader at most, and its epoch is the highest that there was.
//! **Invariant:** what a leader writes compares when its key was made, so an earlier leader's write is a conflict, whatever the
//! earlier one believes.
//! **Absent here:** time. When a lease is renewed, and when it is no longer acted on, is the loop's to decide.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{EPOCH, Epoch, LEADER, State, StateError};
use crate::store::{Change, Compare, Kept, Lease, LeaseId, Revision, StoreError, Txn, Write};

/// Who stands for election.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Tells one run of a server from all others.
    pub server: String,
    /// Where its API is, for the others: `http://HOST:PORT`. None when nobody could say.
    pub address: Option<String>,
}

/// A leader, as everybody sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// Which run of a server it is.
    pub server: String,
    /// Where its API is.
    pub address: Option<String>,
    /// Its epoch.
    pub epoch: Epoch,
    /// Since when it leads; RFC 3339, by its own clock.
    pub since: String,
    /// The revision at which it was elected.
    pub revision: Revision,
}

/// One leader's time, as its writes and commands prove it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// Goes to the nodes, which refuse a lower one.
    pub epoch: Epoch,
    /// When the leader's key was made; goes into every write.
    pub revision: Revision,
}

/// How an election ended for one who stood.
#[must_use = "not to be elected is an answer"]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Election {
    /// It leads.
    Won(Leader),
    /// Somebody else was faster.
    Lost,
}

impl Leader {
    /// What its writes and commands prove themselves with.
    pub fn term(&self) -> Term {
        Term { epoch: self.epoch, revision: self.revision }
    }
}

/// Who leads at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// None when nobody does.
    pub leader: Option<Leader>,
    /// The store's revision that this is of.
    pub revision: Revision,
}

/// The value of the leader's key.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Claim {
    server: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    epoch: u64,
    since: String,
}

/// A claim that can't be read is one all the same: whoever wrote it leads.
fn leader(value: &[u8], revision: Revision) -> Leader {
    let Claim { server, address, epoch, since } = serde_json::from_slice(value).unwrap_or_default();
    Leader { server, address, epoch: Epoch(epoch), since, revision }
}

/// Whether a value is what this version writes as the leader's key.
pub(super) fn is_claim(value: &[u8]) -> bool {
    serde_json::from_slice::<Claim>(value).is_ok_and(|claim| !claim.server.is_empty())
}

impl State {
    /// Who leads now.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn leader(&self) -> Result<Known, StateError> {
        let listing = self.store.list(LEADER, None).await?;
        let found = listing.items.iter().find(|item| item.key == LEADER);
        let leader = found.map(|item| leader(&item.value, item.create_revision));
        Ok(Known { leader, revision: listing.revision })
    }

    /// Tells who leads, from a revision on, until the store's watch ends; why it ended.
    pub async fn watch_leader(&self, from: Revision, mut tell: impl FnMut(Known)) -> StateError {
        let mut watch = match self.store.watch(LEADER, from).await {
            Ok(watch) => watch,
            Err(error) => return error.into(),
        };
        loop {
            match watch.next().await {
                Ok(changes) => match changes.changes.last() {
                    Some(Change::Put(item)) if item.key == LEADER => {
                        let leader = Some(leader(&item.value, item.create_revision));
                        tell(Known { leader, revision: changes.revision });
                    }
                    Some(Change::Delete { key, .. }) if key == LEADER => {
                        tell(Known { leader: None, revision: changes.revision });
                    }
                    Some(Change::Put(_) | Change::Delete { .. }) | None => {}
                },
                Err(error) => return error.into(),
            }
        }
    }

    /// Stands for election, under a lease: leads from now on if nobody does.
    ///
    /// # Errors
    /// When the store did not take it, or can't say: then the lease has to be ended, for it may hold the leader's key.
    pub async fn stand(
        &self,
        candidate: &Candidate,
        lease: LeaseId,
        now: &str,
    ) -> Result<Election, StateError> {
        let found = self.get(EPOCH).await?;
        let last = found.as_ref().and_then(|(value, _)| String::from_utf8_lossy(value).parse::<u64>().ok());
        let epoch = last.unwrap_or(0) + 1;
        let Candidate { server, address } = candidate.clone();
        let claim = Claim { server, address, epoch, since: now.to_owned() };
        let value = serde_json::json!(claim).to_string().into_bytes();
        let read = found.map_or(0, |(_, revision)| revision);
        let mut when = vec![Compare::Absent(LEADER.into()), Compare::ModRevision(EPOCH.into(), read)];
        // Who could write nothing is not to keep others from leading.
        when.extend(self.key_is_ours());
        let txn = Txn {
            when,
            then: vec![
                Write::Put(EPOCH.into(), epoch.to_string().into_bytes()),
                Write::PutLeased(LEADER.into(), value.clone(), lease),
            ],
        };
        match self.store.txn(txn).await {
            Ok(reply) if reply.succeeded => Ok(Election::Won(leader(&value, reply.revision))),
            Ok(_) => {
                self.check_key().await?;
                Ok(Election::Lost)
            }
            // Nobody else stands as this server for this epoch, so that what is there tells which of the two it was.
            Err(StoreError::Unknown(why)) => match self.leader().await?.leader {
                Some(leader) if leader.server == candidate.server && leader.epoch.0 == epoch => {
                    Ok(Election::Won(leader))
                }
                Some(_) => Ok(Election::Lost),
                None => Err(StoreError::Unknown(why).into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Whether this is still the present leader's term.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn is_present(&self, term: Term) -> Result<bool, StateError> {
        let when = vec![Compare::CreateRevision(LEADER.into(), term.revision)];
        Ok(self.store.txn(Txn { when, then: Vec::new() }).await?.succeeded)
    }

    /// A lease to stand for election under.
    ///
    /// # Errors
    /// When the store did not take it.
    pub async fn grant(&self, ttl: Duration) -> Result<Lease, StateError> {
        Ok(self.store.grant(ttl).await?)
    }

    /// Has a lease last for its whole time again.
    ///
    /// # Errors
    /// When the store did not take it, or can't say.
    pub async fn keep_alive(&self, lease: Lease) -> Result<Kept, StateError> {
        Ok(self.store.keep_alive(lease).await?)
    }

    /// Ends a lease, and with it the leader's key if that is under it.
    ///
    /// # Errors
    /// When the store did not take it, or can't say.
    pub async fn revoke(&self, lease: LeaseId) -> Result<(), StateError> {
        Ok(self.store.revoke(lease).await?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::metrics::Metrics;
    use crate::model::{Document, Metadata, Spec};
    use crate::state::{Commit, Edit};
    use crate::store::embedded::Embedded;

    const LONG: Duration = Duration::from_secs(3600);

    fn candidate(server: &str) -> Candidate {
        Candidate { server: server.into(), address: Some(format!("http://{server}")) }
    }

    fn instance(name: &str) -> [Edit; 1] {
        let metadata = Metadata { name: name.into(), ..Metadata::default() };
        [Edit::Create(Document { metadata, spec: Spec::Instance(Default::default()) })]
    }

    async fn elected(state: &State, server: &str) -> (Lease, Leader) {
        let lease = state.grant(LONG).await.unwrap();
        match state.stand(&candidate(server), lease.id, "2026-01-01T00:00:00Z").await.unwrap() {
            Election::Won(leader) => (lease, leader),
            Election::Lost => panic!("{server} is not elected"),
        }
    }

    #[tokio::test]
    async fn one_leads_at_a_time_and_an_earlier_ones_writes_are_conflicts() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Embedded::open(directory.path()).unwrap());
        let state = State::open(store, Arc::new(Metrics::default())).await.unwrap();
        let (lease, first) = elected(&state, "a").await;
        assert_eq!(state.leader().await.unwrap().leader.as_ref(), Some(&first));
        let other = state.grant(LONG).await.unwrap();
        let again = state.stand(&candidate("b"), other.id, "").await.unwrap();
        assert_eq!(again, Election::Lost);
        assert_eq!(state.commit(&instance("IN1"), Some(first.term())).await.unwrap(), Commit::Done);

        state.revoke(lease.id).await.unwrap();
        assert_eq!(state.leader().await.unwrap().leader, None);
        assert!(!state.is_present(first.term()).await.unwrap());
        assert_eq!(state.commit(&instance("IN2"), Some(first.term())).await.unwrap(), Commit::Conflict);

        // The same server again is another leader.
        let (_, second) = elected(&state, "a").await;
        assert_eq!(second.epoch, Epoch(first.epoch.0 + 1));
        assert_eq!(state.commit(&instance("IN2"), Some(first.term())).await.unwrap(), Commit::Conflict);
        assert_eq!(state.commit(&instance("IN2"), Some(second.term())).await.unwrap(), Commit::Done);
        // Who knows nothing of leaders writes on: documents are anybody's.
        assert_eq!(state.commit(&instance("IN3"), None).await.unwrap(), Commit::Done);
    }

    #[test]
    fn a_claim_of_another_version_is_a_claim() {
        let leader = leader(b"{\"server\": \"x\", \"epoch\": 7, \"more\": true}", 9);
        assert_eq!((leader.epoch, leader.address, leader.revision), (Epoch(7), None, 9));
        assert_eq!(super::leader(b"?", 9).revision, 9);
    }
}
