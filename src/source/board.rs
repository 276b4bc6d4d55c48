//! How the sources are, for all who show it, and what people say to them.
//!
//! In memory, each server's own: a source is read by the server that it was given to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{Notify, watch};

use crate::model::Told;

/// Most problems of a source that are told; the first are.
const MAX_TOLD: usize = 100;

/// What a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// A folder on this machine.
    Folder,
    /// A branch of a Git repository.
    Git,
}

/// How a source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SourceStatus {
    /// Its name, by which its objects are known to be its own, such as `folder /etc/fleet`.
    pub name: String,
    /// What it is.
    pub kind: SourceKind,
    /// Which state was read last, where states have names: the id of a commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Which state was applied last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_revision: Option<String>,
    /// When it was last read, whole or not; RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<String>,
    /// When what stands in it was last found to be, or made, what is declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied: Option<String>,
    /// Times that it was read.
    pub reads: u64,
    /// Documents in it when it was last applied.
    pub documents: usize,
    /// What is wrong with it, the first hundred; empty when what stands in it is what is applied.
    pub problems: Vec<SourceProblem>,
    /// Objects that wait for an older one of the same name to go.
    pub waiting: Vec<String>,
    /// What is held because it would delete a lot; it waits for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
}

impl SourceStatus {
    /// One that was not read yet.
    fn new(name: &str, kind: SourceKind) -> SourceStatus {
        SourceStatus {
            name: name.to_owned(),
            kind,
            revision: None,
            applied_revision: None,
            read: None,
            applied: None,
            reads: 0,
            documents: 0,
            problems: Vec::new(),
            waiting: Vec::new(),
            approval: None,
        }
    }
}

/// Something that is wrong with a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SourceProblem {
    /// Where and what it is, and what to do.
    pub message: String,
    /// The line that it is about, and a caret under the place; left out where the line could hold a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
}

impl SourceProblem {
    /// The first of what is wrong, and how much more there is.
    pub(super) fn all(problems: &[Told]) -> Vec<SourceProblem> {
        let told =
            |told: &Told| SourceProblem { message: told.problem.to_string(), excerpt: told.excerpt.clone() };
        let mut all: Vec<SourceProblem> = problems.iter().take(MAX_TOLD).map(told).collect();
        if let Some(more) = problems.len().checked_sub(MAX_TOLD).filter(|more| *more > 0) {
            all.push(SourceProblem { message: format!("and {more} more"), excerpt: None });
        }
        all
    }
}

impl std::fmt::Display for SourceProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        self.excerpt.iter().try_for_each(|excerpt| write!(f, "\n{excerpt}"))
    }
}

/// Deletions that wait for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Approval {
    /// Names exactly these deletions. An approval is for it, and for no others that may have come since.
    pub digest: String,
    /// The objects that would be deleted.
    pub deletes: Vec<String>,
    /// How many objects of the source there are.
    pub of: usize,
}

/// Why people's word is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotApproved {
    /// There is no such source here.
    #[error("there is no source {name:?} on this server; {known}")]
    NoSource {
        /// The name that was given.
        name: String,
        /// Which there are, for people.
        known: String,
    },
    /// It waits for nobody.
    #[error("{name} waits for no approval")]
    NotWaiting {
        /// The source.
        name: String,
    },
    /// What waits is something else.
    #[error("{name} would delete something else by now ({now}, and not {given}); look at it again")]
    Other {
        /// The source.
        name: String,
        /// The digest of what waits.
        now: String,
        /// The digest that was given.
        given: String,
    },
}

/// A bell that wakes who follows a source. Rung while nobody listens, it is heard later.
#[derive(Debug, Clone, Default)]
pub struct Bell {
    rung: Arc<Notify>,
    has_news: Arc<AtomicBool>,
}

impl Bell {
    pub(super) fn ring(&self) {
        self.rung.notify_one();
    }

    /// Rings because somebody says that there is news elsewhere, where nobody looks all the time.
    fn ring_with_news(&self) {
        self.has_news.store(true, Ordering::SeqCst);
        self.ring();
    }

    pub(super) fn has_news(&self) -> bool {
        self.has_news.load(Ordering::SeqCst)
    }

    pub(super) fn take_news(&self) -> bool {
        self.has_news.swap(false, Ordering::SeqCst)
    }

    pub(super) async fn rung(&self) {
        self.rung.notified().await;
    }
}

/// The sources of this server. A handle; clones show the same.
#[derive(Debug, Clone)]
pub struct Board(Arc<watch::Sender<BTreeMap<String, Entry>>>);

#[derive(Debug, Clone)]
struct Entry {
    status: SourceStatus,
    /// The digest that people have approved, until it is taken up.
    approved: Option<String>,
    bell: Bell,
}

impl Default for Board {
    fn default() -> Board {
        Board(Arc::new(watch::Sender::new(BTreeMap::new())))
    }
}

impl Board {
    /// How all of them are, by their names.
    pub fn all(&self) -> Vec<SourceStatus> {
        self.0.borrow().values().map(|entry| entry.status.clone()).collect()
    }

    /// A bell that rings when one of them is no longer as it was.
    pub fn changes(&self) -> Changes {
        Changes(self.0.subscribe())
    }

    /// Lets a source delete what it waits to delete, if that is what the digest names.
    ///
    /// # Errors
    /// When it is not.
    pub fn approve(&self, name: &str, digest: &str) -> Result<Approval, NotApproved> {
        let mut answer = None;
        self.0.send_if_modified(|entries| {
            let approved = approve(entries, name, digest);
            let is_approved = approved.is_ok();
            answer = Some(approved);
            is_approved
        });
        let none = || NotApproved::NotWaiting { name: name.to_owned() };
        answer.unwrap_or_else(|| Err(none()))
    }

    /// Has the sources of a kind look for news now; how many there are.
    pub fn ring(&self, kind: SourceKind) -> usize {
        let entries = self.0.borrow();
        let of_kind = entries.values().filter(|entry| entry.status.kind == kind);
        of_kind.inspect(|entry| entry.bell.ring_with_news()).count()
    }

    /// Puts a source on it; answers what wakes who follows the source.
    pub(super) fn enter(&self, name: &str, kind: SourceKind) -> Bell {
        let bell = Bell::default();
        let entry = Entry { status: SourceStatus::new(name, kind), approved: None, bell: bell.clone() };
        self.0.send_modify(|entries| drop(entries.insert(name.to_owned(), entry)));
        bell
    }

    /// Says how a source is.
    pub(super) fn update(&self, name: &str, change: impl FnOnce(&mut SourceStatus)) {
        self.0.send_modify(|entries| {
            if let Some(entry) = entries.get_mut(name) {
                change(&mut entry.status);
            }
        });
    }

    /// How many sources are so.
    pub(super) fn count(&self, is_so: impl Fn(&SourceStatus) -> bool) -> usize {
        self.0.borrow().values().filter(|entry| is_so(&entry.status)).count()
    }

    /// What people have approved of a source.
    pub(super) fn approved(&self, name: &str) -> Option<String> {
        self.0.borrow().get(name)?.approved.clone()
    }

    /// Takes an approval back: it was taken up, or something else waits by now.
    pub(super) fn forget_approval(&self, name: &str) {
        self.0.send_if_modified(|entries| {
            let approved = entries.get_mut(name).and_then(|entry| entry.approved.take());
            approved.is_some()
        });
    }
}

fn approve(entries: &mut BTreeMap<String, Entry>, name: &str, digest: &str) -> Result<Approval, NotApproved> {
    let known = match entries.len() {
        0 => "it has none".to_owned(),
        _ => format!("there are {}", entries.keys().cloned().collect::<Vec<_>>().join(", ")),
    };
    let name = name.to_owned();
    let Some(entry) = entries.get_mut(&name) else { return Err(NotApproved::NoSource { name, known }) };
    let Some(approval) = entry.status.approval.clone() else { return Err(NotApproved::NotWaiting { name }) };
    if approval.digest != digest {
        return Err(NotApproved::Other { name, now: approval.digest, given: digest.to_owned() });
    }
    entry.approved = Some(approval.digest.clone());
    entry.bell.ring();
    Ok(approval)
}

/// Tells of changes of the board.
#[derive(Debug)]
pub struct Changes(watch::Receiver<BTreeMap<String, Entry>>);

impl Changes {
    /// Counts what is there by now as known.
    pub fn mark_unchanged(&mut self) {
        self.0.mark_unchanged();
    }

    /// Waits for the next change.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody is left who could change it.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Board {
        let board = Board::default();
        board.enter("folder a", SourceKind::Folder);
        board
    }

    fn waits(board: &Board, digest: &str) {
        let approval = Approval { digest: digest.into(), deletes: vec!["Tenant a".into()], of: 1 };
        board.update("folder a", |status| status.approval = Some(approval));
    }

    #[test]
    fn an_approval_is_for_what_was_shown_and_for_nothing_that_came_since() {
        let board = board();
        assert_eq!(
            board.approve("folder b", "1").unwrap_err().to_string(),
            "there is no source \"folder b\" on this server; there are folder a"
        );
        assert!(matches!(board.approve("folder a", "1"), Err(NotApproved::NotWaiting { .. })));
        waits(&board, "2");
        assert!(matches!(board.approve("folder a", "1"), Err(NotApproved::Other { .. })));
        assert_eq!(board.approved("folder a"), None);
        assert_eq!(board.approve("folder a", "2").unwrap().deletes, ["Tenant a"]);
        assert_eq!(board.approved("folder a").as_deref(), Some("2"));
        board.forget_approval("folder a");
        assert_eq!(board.approved("folder a"), None);
    }

    #[test]
    fn only_sources_of_the_kind_are_rung() {
        let board = board();
        assert_eq!((board.ring(SourceKind::Git), board.ring(SourceKind::Folder)), (0, 1));
    }
}
