//! What was tried on nodes and did not help, as it is kept beside the documents: a leader that begins goes on waiting where the one before
//! it was, and what fails is not tried anew each time that a server is started.
//!
//! One key a node, `tries/INSTANCE/NODE`. It is there only while something fails: written when a try has failed, taken out when that is over
//! or the node is gone. So a world at rest has none and writes none.
//!
//! **Invariant:** only the present leader writes it, and nobody decides anything by it but when to try again. It is under no watch, so
//! writing it wakes nobody.
//! **Invariant:** a time that was kept is only ever used for how much of a wait is over, and no wait is longer than its longest, however
//! the clocks were set meanwhile.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::leader::Term;
use super::{BATCH, BATCH_BYTES, Commit, LEADER, State, StateError, TRIES};
use crate::store::{Compare, Item, Txn, Write, fitting};

/// A node, as (instance, node).
pub type Place = (String, String);

/// What was tried several times, or once and failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tried {
    /// How often so far.
    pub tries: u32,
    /// When it was tried last, by the time of day of who led; milliseconds since 1970.
    pub at_ms: u64,
    /// When it may be tried again, by the same clock.
    pub next_ms: u64,
    /// What was said, for people; never a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Tried {
    /// How many milliseconds of the wait are left at this time of day. A clock that is set back, or another server's that is behind, begins
    /// the wait anew: that is the longest it can take.
    pub fn left_ms(&self, time_of_day_ms: u64, longest_ms: u64) -> u64 {
        let wait = self.next_ms.saturating_sub(self.at_ms).min(longest_ms);
        wait.saturating_sub(time_of_day_ms.saturating_sub(self.at_ms))
    }
}

/// A step that was tried, and what it was to reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StepTried {
    /// The aim, in words; trying something else does not wait.
    pub aim: String,
    /// The tries.
    #[serde(flatten)]
    pub tried: Tried,
}

/// A login that the node refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LoginTried {
    /// The generation of the node's document; one that was changed since is tried at once.
    pub generation: u64,
    /// The tries.
    #[serde(flatten)]
    pub tried: Tried,
}

/// All that fails on one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NodeTries {
    /// The uid of the node's document: a later node of that name is another one.
    pub uid: String,
    /// That it can't be logged in to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<LoginTried>,
    /// By process, by address for an artifact, and by nothing for the bundle.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<String, StepTried>,
}

impl NodeTries {
    /// Whether nothing fails.
    pub fn is_empty(&self) -> bool {
        self.login.is_none() && self.steps.is_empty()
    }
}

/// A node's new state; none when nothing fails there any more.
pub type TriesChange = (Place, Option<NodeTries>);

fn path((instance, node): &Place) -> String {
    format!("{TRIES}{instance}/{node}")
}

/// The node that a key is for, and what it says; none for what this version would not have written.
pub(super) fn read(item: &Item) -> Option<(Place, NodeTries)> {
    let (instance, node) = item.key.strip_prefix(TRIES)?.split_once('/')?;
    let tries = serde_json::from_slice(&item.value).ok()?;
    Some(((instance.to_owned(), node.to_owned()), tries))
}

impl State {
    /// What fails on nodes, as the last leader has left it. What can't be read is passed over: that is tried at once.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn tries(&self) -> Result<BTreeMap<Place, NodeTries>, StateError> {
        Ok(self.store.list(TRIES, None).await?.items.iter().filter_map(read).collect())
    }

    /// Keeps what fails on these nodes, while this is the present leader's term.
    ///
    /// # Errors
    /// When the store did not take it, or can't say; to do it again does no harm.
    pub async fn keep_tries(&self, changes: &[TriesChange], term: Term) -> Result<Commit, StateError> {
        let writes: Vec<Write> = changes
            .iter()
            .map(|(place, tries)| match tries {
                Some(tries) => Write::Put(path(place), serde_json::json!(tries).to_string().into_bytes()),
                None => Write::Delete(path(place)),
            })
            .collect();
        let bytes = |write: &Write| match write {
            Write::Put(key, value) | Write::PutLeased(key, value, _) => key.len() + value.len(),
            Write::Delete(key) => key.len(),
        };
        let mut rest = writes.as_slice();
        while !rest.is_empty() {
            let (part, after) = rest.split_at(fitting(rest, BATCH, BATCH_BYTES, bytes));
            rest = after;
            let when = vec![Compare::CreateRevision(LEADER.into(), term.revision)];
            if self.write_beside(Txn { when, then: part.to_vec() }).await?.is_none() {
                return Ok(Commit::Conflict);
            }
        }
        Ok(Commit::Done)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::metrics::Metrics;
    use crate::state::leader::{Candidate, Election};
    use crate::store::embedded::Embedded;

    const HOUR: u64 = 3_600_000;
    const AT: u64 = 1_800_000_000_000;
    const LONGEST: u64 = 60_000;

    fn tried(wait_ms: u64) -> Tried {
        Tried { tries: 5, at_ms: AT, next_ms: AT + wait_ms, why: Some("no".into()) }
    }

    #[test]
    fn a_wait_goes_on_and_is_never_longer_than_the_longest_whatever_the_clocks_say() {
        let wait = tried(16_000);
        assert_eq!(wait.left_ms(AT, LONGEST), 16_000);
        assert_eq!(wait.left_ms(AT + 10_000, LONGEST), 6_000);
        assert_eq!(wait.left_ms(AT + 16_000, LONGEST), 0);
        assert_eq!(wait.left_ms(AT + HOUR, LONGEST), 0, "the clock was set on");
        assert_eq!(wait.left_ms(AT - HOUR, LONGEST), 16_000, "the clock was set back");
        assert_eq!(tried(HOUR).left_ms(AT, LONGEST), LONGEST, "nobody waits for so long any more");
        let backwards = Tried { next_ms: AT - 1, ..tried(0) };
        assert_eq!(backwards.left_ms(AT, LONGEST), 0);
        assert_eq!(Tried { next_ms: u64::MAX, at_ms: 0, ..tried(0) }.left_ms(u64::MAX, LONGEST), 0);
    }

    fn of_a_node() -> NodeTries {
        let step = StepTried { aim: "running 0a".into(), tried: tried(8_000) };
        let login = LoginTried { generation: 3, tried: Tried { why: None, ..tried(5_000) } };
        NodeTries { uid: "u".into(), login: Some(login), steps: [("p".to_owned(), step)].into() }
    }

    #[tokio::test]
    async fn what_fails_is_kept_by_who_leads_alone_and_is_no_change_of_the_documents() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Embedded::open(directory.path()).unwrap());
        let state = State::open(store, Arc::new(Metrics::default())).await.unwrap();
        let candidate = Candidate { server: "a".into(), address: None };
        let lease = state.grant(Duration::from_secs(3600)).await.unwrap();
        let Election::Won(leader) = state.stand(&candidate, lease.id, "").await.unwrap() else {
            panic!("nobody else stands")
        };
        let before = state.revision();
        let changes = state.changes();
        let place = |number: usize| ("IN1".to_owned(), format!("ND{number}"));
        let all: Vec<TriesChange> = (0..150).map(|number| (place(number), Some(of_a_node()))).collect();
        assert_eq!(state.keep_tries(&all, leader.term()).await.unwrap(), Commit::Done);
        let kept = state.tries().await.unwrap();
        assert_eq!((kept.len(), &kept[&place(149)]), (150, &of_a_node()));
        let over: Vec<TriesChange> = (1..150).map(|number| (place(number), None)).collect();
        assert_eq!(state.keep_tries(&over, leader.term()).await.unwrap(), Commit::Done);
        assert_eq!(state.tries().await.unwrap().into_keys().collect::<Vec<_>>(), [place(0)]);
        assert_eq!((state.revision(), changes.has_changed().unwrap()), (before, false), "it wakes nobody");

        state.revoke(lease.id).await.unwrap();
        let late = [(place(0), None)];
        assert_eq!(state.keep_tries(&late, leader.term()).await.unwrap(), Commit::Conflict);
        assert_eq!(state.tries().await.unwrap().len(), 1);
    }

    #[test]
    fn what_can_not_be_read_is_nothing() {
        let item = |key: &str, value: &str| Item {
            key: key.into(),
            value: value.into(),
            create_revision: 1,
            mod_revision: 1,
        };
        let text = serde_json::json!(of_a_node()).to_string();
        assert_eq!(read(&item("tries/IN1/ND1", &text)).map(|(_, tries)| tries), Some(of_a_node()));
        for (key, value) in [("tries/IN1", text.as_str()), ("tries/IN1/ND1", "{"), ("tries/IN1/ND1", "{}")] {
            assert_eq!(read(&item(key, value)), None, "{key} {value}");
        }
    }
}
