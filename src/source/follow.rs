//! Follows a source: reads it, admits it, applies it, says how it is; and again whenever it may have changed.
//!
//! It is read whole and admitted whole: one mistake, and nothing of that state is applied; the last good state stays, and the mistake is
//! said where people look. A change of the source is a bell; what counts is what is then read.
//!
//! **Invariant:** nothing is deleted but what this source applied, on a complete reading, and, where files can be caught between two
//! writes, one that said the same twice.
//! **Invariant:** more deletions than [`PruneLimit`] wait for people, and all of the change with them.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};

use super::artifacts::{artifact, fill};
use super::board::{Approval, Board, SourceProblem};
use super::catalogue;
use super::door::Door;
use super::prune::{self, Deletions, PruneLimit, deletions, digest};
use super::reading::{Manifest, Reading, Refusal, Source, Text, about};
use crate::artifact::Shelf;
use crate::clock::{Clock, timestamp};
use crate::metrics::Metrics;
use crate::model::admit::Admitted;
use crate::model::lint::{Known, lint};
use crate::model::meta::{Key, Kind, SOURCE};
use crate::model::secret::Sealer;
use crate::model::{Document, Documents, Problem, Told};
use crate::reconcile::events::{Events, Said};
use crate::state::{Commit, Edit, State, apply_set};

/// For how long an object has to be missing before it is deleted. A tool that replaces a file in two steps, and is slow between them, is
/// taken by its word only after that.
const MISSED_FOR: Duration = Duration::from_millis(250);

/// Most problems that one event tells.
const MAX_SAID: usize = 10;

/// What a source needs to be applied.
#[derive(Clone)]
pub struct Parts {
    /// Where its documents go.
    pub state: Arc<State>,
    /// Seals its secrets.
    pub sealer: Sealer,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Whether a shipped document comes back when the source no longer overrides it.
    pub catalogue: bool,
    /// Where is told what was applied.
    pub events: Events,
    /// When that was.
    pub clock: Clock,
    /// Where is told how the source is.
    pub board: Board,
    /// How much it may delete unasked.
    pub prune: PruneLimit,
}

/// What became of a reading.
enum Outcome {
    /// It is what is declared, but for what waits for older objects.
    Applied { waiting: Vec<Key> },
    /// It would delete a lot.
    Held(Approval),
    /// It would delete what may only have been away for a moment; look again after this long.
    Missed(Duration),
    /// It can't be applied.
    Refused(Refusal),
}

/// Applies a source, and again whenever it changes, for ever.
pub async fn follow(source: impl Source, parts: Parts) {
    let name = source.name().to_owned();
    let bell = parts.board.enter(&name, source.kind());
    let mut source = source;
    source.attach(bell.clone());
    let mut snapshots = parts.state.changes();
    let mut follower =
        Follower { name, parts, examiner: Examiner::default(), missed: None, last: Last::Nothing };
    let mut was_applied = false;
    loop {
        let documents = snapshots.borrow_and_update().documents.clone();
        let (outcome, found) = follower.turn(&mut source, documents).await;
        let (waits, again_in) = match &outcome {
            Outcome::Applied { waiting } => (!waiting.is_empty(), None),
            Outcome::Held(_) => (false, None),
            Outcome::Missed(wait) => (false, Some(*wait)),
            // What it names may come from elsewhere.
            Outcome::Refused(refusal) => (!was_applied, refusal.again_in),
        };
        was_applied |= matches!(outcome, Outcome::Applied { .. });
        follower.tell(outcome, found);
        let again_in = again_in.unwrap_or(Duration::MAX).min(source.backstop());
        // What waits for others may go on when they change; all else only when the source does.
        tokio::select! {
            () = bell.rung() => source.settle().await,
            () = sleep(again_in) => {}
            changed = snapshots.changed(), if waits => if changed.is_err() { return },
        }
    }
}

/// What a turn has found, besides what became of it.
#[derive(Default)]
struct Found {
    revision: Option<String>,
    documents: usize,
    /// How many objects were made, changed, deleted.
    made: usize,
    changed: usize,
    deleted: usize,
}

/// What was told last, so that it is told once.
#[derive(PartialEq, Eq)]
enum Last {
    Nothing,
    Refused(Vec<Told>),
    Held(String),
}

struct Follower {
    name: String,
    parts: Parts,
    examiner: Examiner,
    /// What a reading would have deleted, and since when readings have said the same.
    missed: Option<(String, Instant)>,
    last: Last,
}

impl Follower {
    /// Reads and applies.
    async fn turn(&mut self, source: &mut impl Source, documents: Documents) -> (Outcome, Found) {
        self.parts.metrics.source_reads.inc();
        loop {
            let Reading { revision, manifests } = match source.read(self.examiner.door.stamps()).await {
                Ok(reading) => reading,
                Err(refusal) => {
                    let found = Found { revision: refusal.revision.clone(), ..Found::default() };
                    return (Outcome::Refused(refusal), found);
                }
            };
            let mut found = Found { revision, ..Found::default() };
            let (manifests, set) = self.examine(manifests, documents.clone()).await;
            let outcome = match set {
                Ok(set) => {
                    found.documents = set.len();
                    // A commit is not being written.
                    let empty = if source.is_settled() { Vec::new() } else { empty(&manifests) };
                    self.apply(&set, source.is_settled(), &empty, &mut found).await
                }
                Err(refusal) => Outcome::Refused(refusal),
            };
            let Outcome::Refused(refusal) = outcome else { return (outcome, found) };
            let refusal = explained(refusal, &manifests);
            // To show the line, its file has to be at hand.
            let mut is_unread = false;
            for told in refusal.problems.iter().filter(|told| told.problem.at.is_some()) {
                let name = told.problem.file.as_deref().unwrap_or_default();
                let is_known = manifests.iter().any(|it| it.name == name && it.text == Text::Known);
                is_unread |= is_known && self.examiner.door.forget(name);
            }
            if !is_unread {
                return (Outcome::Refused(refusal), found);
            }
        }
    }

    /// Admits a reading. On a thread for work that blocks: a large one takes its time.
    async fn examine(
        &mut self,
        manifests: Vec<Manifest>,
        documents: Documents,
    ) -> (Vec<Manifest>, Result<Vec<Admitted>, Refusal>) {
        let mut examiner = std::mem::take(&mut self.examiner);
        let (name, sealer) = (self.name.clone(), self.parts.sealer.clone());
        let work = tokio::task::spawn_blocking(move || {
            let set = examiner.examine(&manifests, &documents, &name, &sealer);
            (examiner, manifests, set)
        });
        match work.await {
            Ok((examiner, manifests, set)) => {
                self.examiner = examiner;
                (manifests, set)
            }
            // The program is ending.
            Err(error) => (Vec::new(), Err(self.unavailable(&error))),
        }
    }

    async fn apply(
        &mut self,
        set: &[Admitted],
        is_settled: bool,
        empty: &[&Manifest],
        found: &mut Found,
    ) -> Outcome {
        // What people have let go, for as long as others get between.
        let mut granted: Option<Deletions> = None;
        for _ in 0..10 {
            let documents = self.parts.state.snapshot().documents;
            let change = match apply_set(&documents, &self.name, set, &timestamp()) {
                Ok(change) => change,
                Err(problems) => return Outcome::Refused(problems.into()),
            };
            let deleted = deletions(&change.edits);
            if !deleted.is_empty() && !empty.is_empty() {
                return Outcome::Refused(emptied(empty, deleted.len()).into());
            }
            if let Some(wait) = self.missed_for(&deleted, is_settled) {
                return Outcome::Missed(wait);
            }
            let of = documents.iter().filter(|(_, document)| is_present(document, &self.name)).count();
            if let Some(approval) = prune::limited(self.parts.prune, set.len(), of, &deleted)
                && !granted.as_ref().is_some_and(|granted| deleted.is_subset(granted))
            {
                if self.parts.board.approved(&self.name).as_ref() != Some(&approval.digest) {
                    return Outcome::Held(approval);
                }
                self.say("Prune", "Approved", format!("{} deletions were approved", deleted.len()));
                granted = Some(deleted);
            }
            if change.edits.is_empty() {
                return Outcome::Applied { waiting: change.waiting };
            }
            for edit in &change.edits {
                tracing::info!("{}", described(edit));
            }
            match self.parts.state.commit(&change.edits, None).await {
                Ok(Commit::Done) => {
                    found.count(&change.edits);
                    if self.parts.catalogue
                        && let Err(error) = catalogue::install(&self.parts.state).await
                    {
                        return Outcome::Refused(self.unavailable(&error));
                    }
                    return Outcome::Applied { waiting: change.waiting };
                }
                Ok(Commit::Conflict) => {}
                Err(error) => return Outcome::Refused(self.unavailable(&error)),
            }
        }
        let why = "others keep changing the same objects; it will be tried again";
        Outcome::Refused(about(&self.name, why.into()).into())
    }

    /// How long it takes until what would be deleted has been missing for long enough; none when it has been.
    fn missed_for(&mut self, deletions: &Deletions, is_settled: bool) -> Option<Duration> {
        if deletions.is_empty() || is_settled {
            self.missed = None;
            return None;
        }
        let digest = digest(deletions);
        let now = Instant::now();
        let since = match &self.missed {
            Some((missed, since)) if *missed == digest => *since,
            Some(_) | None => now,
        };
        self.missed = Some((digest, since));
        MISSED_FOR.checked_sub(now - since).filter(|wait| !wait.is_zero())
    }

    fn unavailable(&self, error: &dyn std::error::Error) -> Refusal {
        let mut why = format!("could not be applied: {error}");
        let mut cause = error.source();
        while let Some(inner) = cause {
            let _ = write!(why, ": {inner}");
            cause = inner.source();
        }
        about(&self.name, why).into()
    }

    /// Tells what became of a reading: the board, the log, the events, the counters.
    fn tell(&mut self, outcome: Outcome, found: Found) {
        let Parts { board, metrics, .. } = &self.parts;
        let now = timestamp();
        board.update(&self.name, |status| {
            status.reads += 1;
            status.read = Some(now.clone());
            if found.revision.is_some() {
                status.revision.clone_from(&found.revision);
            }
            match &outcome {
                Outcome::Applied { waiting } => {
                    status.applied = Some(now.clone());
                    status.applied_revision.clone_from(&found.revision);
                    status.documents = found.documents;
                    status.problems = Vec::new();
                    status.waiting = waiting.iter().map(ToString::to_string).collect();
                    status.approval = None;
                }
                Outcome::Held(approval) => {
                    status.problems = Vec::new();
                    status.approval = Some(approval.clone());
                }
                Outcome::Refused(refusal) => {
                    status.problems = SourceProblem::all(&refusal.problems);
                    // What waited is no longer what stands there.
                    status.approval = None;
                }
                Outcome::Missed(_) => {}
            }
        });
        if !matches!(outcome, Outcome::Missed(_)) {
            // Taken up, or meant for what waits no more.
            let held = match &outcome {
                Outcome::Held(approval) => Some(&approval.digest),
                Outcome::Applied { .. } | Outcome::Refused(_) | Outcome::Missed(_) => None,
            };
            if board.approved(&self.name).as_ref() != held {
                board.forget_approval(&self.name);
            }
        }
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        metrics.sources_refused.set(gauge(board.count(|status| !status.problems.is_empty())));
        metrics.sources_waiting.set(gauge(board.count(|status| status.approval.is_some())));
        let at = found.revision.as_ref().map(|revision| format!(" at {revision}")).unwrap_or_default();
        match outcome {
            Outcome::Applied { .. } => {
                self.last = Last::Nothing;
                if let Some(counts) = found.counts() {
                    self.say("Apply", "Changed", format!("{counts}{at}"));
                }
            }
            Outcome::Held(approval) => self.tell_held(approval, &at),
            Outcome::Refused(refusal) => self.tell_refused(refusal, &at),
            Outcome::Missed(_) => {}
        }
    }

    fn tell_held(&mut self, approval: Approval, at: &str) {
        let last = Last::Held(approval.digest.clone());
        if std::mem::replace(&mut self.last, last) == Last::Held(approval.digest.clone()) {
            return;
        }
        let message = format!(
            "it would delete {} of the {} objects that came from it{at}; nothing of it is applied until `mainstay source approve` ({})",
            approval.deletes.len(),
            approval.of,
            approval.digest,
        );
        tracing::warn!("{}: {message}", self.name);
        self.say("Prune", "LimitExceeded", message);
    }

    fn tell_refused(&mut self, refusal: Refusal, at: &str) {
        let is_mistake = refusal.again_in.is_none();
        if is_mistake {
            self.parts.metrics.source_refusals.inc();
        }
        let last = Last::Refused(refusal.problems.clone());
        if std::mem::replace(&mut self.last, last) == Last::Refused(refusal.problems.clone()) {
            return;
        }
        for told in &refusal.problems {
            match is_mistake {
                true => tracing::error!("{}{at}: {told}", self.name),
                false => tracing::info!("{}{at}: {told}", self.name),
            }
        }
        if is_mistake {
            let mut said: Vec<String> =
                refusal.problems.iter().take(MAX_SAID).map(|told| told.problem.to_string()).collect();
            if let Some(more) = refusal.problems.len().checked_sub(MAX_SAID).filter(|more| *more > 0) {
                said.push(format!("and {more} more"));
            }
            self.say("Read", "Refused", format!("{}{at}", said.join("; ")));
        }
    }

    fn say(&self, action: &'static str, reason: &'static str, message: String) {
        let said = Said { regarding: format!("Source {}", self.name), action, reason, message };
        self.parts.events.say(said, self.parts.clock.now_ms());
    }
}

impl Found {
    fn count(&mut self, edits: &[Edit]) {
        self.deleted = deletions(edits).len();
        self.made = edits.iter().filter(|edit| matches!(edit, Edit::Create(_))).count();
        self.changed = edits.iter().filter(|edit| matches!(edit, Edit::Replace(_))).count();
        self.changed -= self.deleted - edits.iter().filter(|edit| matches!(edit, Edit::Remove(_))).count();
    }

    /// What was done, for people; none when there was nothing to do.
    fn counts(&self) -> Option<String> {
        let all = [(self.made, "created"), (self.changed, "updated"), (self.deleted, "deleted")];
        let some = all.iter().filter(|(count, _)| *count > 0);
        let said: Vec<String> = some.map(|(count, what)| format!("{count} {what}")).collect();
        (!said.is_empty()).then(|| said.join(", "))
    }
}

/// What makes a set of a reading, and what it remembers.
#[derive(Default)]
struct Examiner {
    door: Door,
    shelf: Shelf,
}

impl Examiner {
    /// The documents of a reading, if nothing is wrong with any.
    fn examine(
        &mut self,
        manifests: &[Manifest],
        documents: &Documents,
        source: &str,
        sealer: &Sealer,
    ) -> Result<Vec<Admitted>, Refusal> {
        let mut set = self.door.admit(manifests, sealer)?;
        let problems = lint(&set, &Others { documents, source });
        if !problems.is_empty() {
            return Err(problems.into());
        }
        if set.iter().any(|admitted| artifact(admitted).is_some()) {
            fill(&mut set, &mut self.shelf, SystemTime::now())?;
        }
        Ok(set)
    }
}

/// Files without a word. Whoever writes a file from a slow program (`generate > web.yaml`) empties it first.
fn empty(manifests: &[Manifest]) -> Vec<&Manifest> {
    let is_empty =
        |manifest: &&Manifest| matches!(&manifest.text, Text::Read(text) if text.trim().is_empty());
    manifests.iter().filter(is_empty).collect()
}

/// Why nothing is deleted while there are such.
fn emptied(empty: &[&Manifest], count: usize) -> Vec<Problem> {
    let told = |manifest: &&Manifest| {
        manifest.problem(format!(
            "is empty, as a file is that is still being written, so {count} objects that stand nowhere are not deleted; write it, or \
             remove it"
        ))
    };
    empty.iter().map(told).collect()
}

/// The same with the lines that the problems are about, where their files are at hand.
fn explained(refusal: Refusal, manifests: &[Manifest]) -> Refusal {
    let text = |problem: &Problem| {
        let file = problem.file.as_deref()?;
        match &manifests.iter().find(|manifest| manifest.name == file)?.text {
            Text::Read(text) => Some(text.as_str()),
            Text::Unreadable(_) | Text::Known => None,
        }
    };
    let explained = |told: Told| match text(&told.problem) {
        Some(text) => Told::new(told.problem, Some(text)),
        None => told,
    };
    Refusal { problems: refusal.problems.into_iter().map(explained).collect(), ..refusal }
}

fn described(edit: &Edit) -> String {
    match edit {
        Edit::Create(document) => format!("create {}", document.key()),
        Edit::Replace(document) if document.is_deleting() => format!("delete {}", document.key()),
        Edit::Replace(document) => format!("update {}", document.key()),
        Edit::Remove(document) => format!("delete {}", document.key()),
        Edit::Expect(document) => format!("expect {}", document.key()),
    }
}

fn is_owned(document: &Document, source: &str) -> bool {
    document.metadata.annotations.get(SOURCE).is_some_and(|owner| owner == source)
}

/// Whether an object is a source's, and is to stay as far as is known.
fn is_present(document: &Document, source: &str) -> bool {
    is_owned(document, source) && !document.is_deleting()
}

/// What there is besides the source: its own objects do not count, for those it no longer names are about to go.
struct Others<'a> {
    documents: &'a Documents,
    source: &'a str,
}

impl Known for Others<'_> {
    fn find(&self, key: &Key) -> Option<Arc<Document>> {
        self.documents.find(key).filter(|document| !is_owned(document, self.source))
    }

    fn names(&self, kind: Kind, namespace: &str) -> Vec<String> {
        let mut names = self.documents.names(kind, namespace);
        names.retain(|name| {
            let key = Key { kind, namespace: namespace.to_owned(), name: name.clone() };
            self.find(&key).is_some()
        });
        names
    }
}
