//! A manifests folder: the whole of it is one desired set.
//!
//! It is read whole and admitted whole: one mistake, and nothing of that state is applied; the last good state stays, and the mistake is
//! said where people look. A change of the folder is a bell; what counts is what is then read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::artifacts::{Manifest, Refusal, admit_all, artifact, fill};
use super::catalogue;
use crate::artifact::Shelf;
use crate::clock::timestamp;
use crate::metrics::Metrics;
use crate::model::admit::{Admitted, Origin, admit_text};
use crate::model::lint::{Known, lint};
use crate::model::meta::{Key, Kind, SOURCE};
use crate::model::secret::Sealer;
use crate::model::{Document, Documents, Problem};
use crate::state::{Commit, State, apply_set};

/// Files of a folder that are read; more are refused.
const MAX_FILES: usize = 20_000;

/// Deepest folder within the folder that is read.
const MAX_DEPTH: usize = 32;

/// How long a folder has to be quiet before it is read, so that one save or checkout is one change; and how long that may be put
/// off by one that never is.
const QUIET: Duration = Duration::from_millis(40);
const LONGEST_WAIT: Duration = Duration::from_millis(400);

/// How often it is read though nothing rang: a watch can be lost with the folder itself.
const BACKSTOP: Duration = Duration::from_secs(10);

/// How the folder is, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderStatus {
    /// Times that it was read.
    pub reads: u64,
    /// What is wrong with it; empty when what stands in it is what is applied.
    pub problems: Vec<Problem>,
    /// Objects that wait for an older one of the same name to go.
    pub waiting: Vec<Key>,
    /// Documents in it when it was last applied.
    pub documents: usize,
}

/// A manifests folder and what it needs to be applied.
pub struct Folder {
    /// The folder.
    pub root: PathBuf,
    /// Where its documents go.
    pub state: Arc<State>,
    /// Seals its secrets.
    pub sealer: Sealer,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Whether a shipped document comes back when the folder no longer overrides it.
    pub catalogue: bool,
}

impl Folder {
    /// The identity under which the folder's objects are owned.
    fn source(&self) -> String {
        let root = self.root.canonicalize().unwrap_or_else(|_| self.root.clone());
        format!("folder {}", root.display())
    }

    /// Applies the folder, and again whenever it changes, for ever.
    pub async fn follow(self, status: watch::Sender<FolderStatus>) {
        let source = self.source();
        let mut snapshots = self.state.changes();
        let mut applied = None;
        let (bell, mut rung) = mpsc::channel(1);
        let mut watcher = None;
        let mut shelf = Shelf::default();
        loop {
            // Before reading, so that a change after it rings.
            let identity = identity(&self.root);
            if watcher.as_ref().is_none_or(|(watched, _)| *watched != identity) {
                watcher = watch_folder(&self.root, bell.clone()).map(|watcher| (identity, watcher));
            }
            let snapshot = snapshots.borrow_and_update().clone();
            let set = match self.read().and_then(|set| self.check(set, &snapshot.documents, &source)) {
                Ok(set) => with_artifacts(set, &mut shelf).await,
                Err(problems) => Err(problems.into()),
            };
            let mut again_in = BACKSTOP;
            let waits = match &set {
                Ok(set) => {
                    let outcome = self.apply(set, &source).await;
                    applied = Some(set.len());
                    status.send_modify(|status| {
                        status.reads += 1;
                        status.documents = set.len();
                        match &outcome {
                            Ok(waiting) => {
                                status.problems = Vec::new();
                                status.waiting.clone_from(waiting);
                            }
                            Err(problems) => status.problems.clone_from(problems),
                        }
                    });
                    outcome.map_or(true, |waiting| !waiting.is_empty())
                }
                Err(Refusal { problems, again_in: soon }) => {
                    let is_news = status.borrow().problems != *problems;
                    for problem in problems.iter().filter(|_| is_news) {
                        match soon {
                            Some(_) => tracing::info!("{problem}"),
                            None => tracing::error!("{problem}"),
                        }
                    }
                    match soon {
                        Some(soon) => again_in = again_in.min(*soon),
                        None => drop(self.metrics.folder_refusals.inc()),
                    }
                    status.send_modify(|status| {
                        status.reads += 1;
                        status.problems.clone_from(problems);
                    });
                    applied.is_none()
                }
            };
            // What waits for others may go on when they change; all else only when the folder does.
            tokio::select! {
                _ = rung.recv() => settle(&mut rung).await,
                () = sleep(again_in) => {}
                changed = snapshots.changed(), if waits => {
                    if changed.is_err() { return; }
                }
            }
        }
    }

    /// Reads every document of the folder, in the order of the paths.
    fn read(&self) -> Result<Vec<Admitted>, Vec<Problem>> {
        self.metrics.folder_reads.inc();
        let mut files = BTreeSet::new();
        list(&self.root, &self.root, 0, &mut files).map_err(|problem| vec![problem])?;
        let mut manifests = Vec::new();
        for path in files {
            let name = path.strip_prefix(&self.root).unwrap_or(&path).display().to_string();
            let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
            manifests.push(Manifest { path: std::path::absolute(&path).unwrap_or(path), name, text });
        }
        admit_all(&manifests, |manifest, text| {
            let directory = manifest.path.parent().map(Path::to_path_buf);
            let origin = Origin { file: Some(manifest.name.clone()), directory };
            admit_text(text, &origin, &self.sealer)
        })
    }

    /// The rules over documents, and over the folder as a whole.
    fn check(
        &self,
        set: Vec<Admitted>,
        documents: &Documents,
        source: &str,
    ) -> Result<Vec<Admitted>, Vec<Problem>> {
        let owned = documents.iter().filter(|(_, document)| is_owned(document, source)).count();
        if set.is_empty() && owned > 0 {
            // An unmounted disk and a cleaned folder look the same.
            let message = format!(
                "the folder holds no documents; the {owned} objects that came from it stay as they are. To remove them, leave one \
                 document in the folder, or delete them through /1.0"
            );
            return Err(vec![about(&self.root.display().to_string(), message)]);
        }
        let problems = lint(&set, &Others { documents, source });
        if problems.is_empty() { Ok(set) } else { Err(problems) }
    }

    async fn apply(&self, set: &[Admitted], source: &str) -> Result<Vec<Key>, Vec<Problem>> {
        let unavailable = |error: &dyn std::error::Error| {
            vec![about(&self.root.display().to_string(), format!("could not be applied: {error}"))]
        };
        for _ in 0..10 {
            let documents = self.state.snapshot().documents;
            let change = apply_set(&documents, source, set, &timestamp())?;
            if change.edits.is_empty() {
                return Ok(change.waiting);
            }
            for edit in &change.edits {
                tracing::info!("{}", described(edit));
            }
            match self.state.commit(&change.edits, None).await {
                Ok(Commit::Done) => {
                    if self.catalogue {
                        catalogue::install(&self.state).await.map_err(|error| unavailable(&error))?;
                    }
                    return Ok(change.waiting);
                }
                Ok(Commit::Conflict) => {}
                Err(error) => return Err(unavailable(&error)),
            }
        }
        Err(vec![about(
            &self.root.display().to_string(),
            "others keep changing the same objects; it will be tried again".into(),
        )])
    }
}

/// The set with what its artifacts hold. On a thread for work that blocks: a large one takes its time to be read.
async fn with_artifacts(mut set: Vec<Admitted>, shelf: &mut Shelf) -> Result<Vec<Admitted>, Refusal> {
    if !set.iter().any(|admitted| artifact(admitted).is_some()) {
        return Ok(set);
    }
    let mut taken = std::mem::take(shelf);
    let read = tokio::task::spawn_blocking(move || {
        let filled = fill(&mut set, &mut taken, SystemTime::now());
        (taken, filled.map(|()| set))
    });
    match read.await {
        Ok((known, filled)) => {
            *shelf = known;
            filled
        }
        // The program is ending.
        Err(error) => Err(vec![about("artifacts", format!("were not read: {error}"))].into()),
    }
}

fn described(edit: &crate::state::Edit) -> String {
    use crate::state::Edit;
    match edit {
        Edit::Create(document) => format!("create {}", document.key()),
        Edit::Replace(document) if document.is_deleting() => format!("delete {}", document.key()),
        Edit::Replace(document) => format!("update {}", document.key()),
        Edit::Remove(document) => format!("delete {}", document.key()),
        Edit::Expect(document) => format!("expect {}", document.key()),
    }
}

fn about(file: &str, message: String) -> Problem {
    Problem { file: Some(file.to_owned()), at: None, path: String::new(), message }
}

fn is_owned(document: &Document, source: &str) -> bool {
    document.metadata.annotations.get(SOURCE).is_some_and(|owner| owner == source)
}

/// What there is besides the folder: its own objects do not count, for those it no longer names are about to go.
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

/// Collects the manifests below a folder. Hidden files and folders are editors' and git's; links that lead out of the root are not
/// followed.
pub(super) fn list(
    root: &Path,
    folder: &Path,
    depth: usize,
    files: &mut BTreeSet<PathBuf>,
) -> Result<(), Problem> {
    let name = |path: &Path| path.display().to_string();
    let unreadable = |error: std::io::Error| about(&name(folder), format!("can't be read: {error}"));
    if depth > MAX_DEPTH {
        return Err(about(&name(folder), format!("is more than {MAX_DEPTH} folders deep")));
    }
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        let file_name = entry.file_name();
        let file_name = file_name.to_string_lossy();
        if file_name.starts_with(['.', '#']) || file_name.ends_with('~') {
            continue;
        }
        let kind = entry.file_type().map_err(unreadable)?;
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) => metadata,
            // Gone since it was listed, or a link to nowhere: its removal rings.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(about(&name(&path), format!("can't be read: {error}"))),
        };
        let is_manifest =
            path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml" || ending == "json");
        if is_manifest && kind.is_symlink() && !stays_within(root, &path) {
            return Err(about(
                &name(&path),
                "is a link out of the manifests folder; copy what it names".into(),
            ));
        }
        if metadata.is_dir() && !kind.is_symlink() {
            list(root, &path, depth + 1, files)?;
        } else if metadata.is_file() && is_manifest {
            files.insert(path);
            if files.len() > MAX_FILES {
                return Err(about(&name(root), format!("holds more than {MAX_FILES} manifests")));
            }
        }
    }
    Ok(())
}

fn stays_within(root: &Path, link: &Path) -> bool {
    match (root.canonicalize(), link.canonicalize()) {
        (Ok(root), Ok(target)) => target.starts_with(root),
        _ => false,
    }
}

/// Which folder the path names now; another after it was replaced.
fn identity(root: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(root).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn watch_folder(root: &Path, bell: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let ring = move |event: Result<notify::Event, notify::Error>| {
        // Our own reading is no change. A full channel has rung already.
        if event.as_ref().map_or(true, |event| !event.kind.is_access()) {
            let _ = bell.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(ring)
        .inspect_err(
            |error| tracing::warn!(%error, "the manifests folder can't be watched; it is read every 10 s"),
        )
        .ok()?;
    match watcher.watch(root, RecursiveMode::Recursive) {
        Ok(()) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "the manifests folder can't be watched; it is read every 10 s");
            None
        }
    }
}

/// Waits until the bell is quiet.
async fn settle(rung: &mut mpsc::Receiver<()>) {
    let latest = Instant::now() + LONGEST_WAIT;
    loop {
        tokio::select! {
            () = sleep_until(latest) => return,
            more = timeout(QUIET, rung.recv()) => if more.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests;
