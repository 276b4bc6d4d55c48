//! A manifests folder: the whole of it is one desired set.
//!
//! **Absent here:** what becomes of what is read: [`super::follow()`].

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use self::bell::Watches;
use self::collect::{Unread, collect};
use super::board::{Bell, SourceKind};
use super::reading::{Manifest, Reading, Refusal, Source, Stamps, about};
use crate::model::Problem;

mod bell;
mod collect;

/// How long a folder has to be quiet before it is read, so that one save or checkout is one change; and how long that may be put
/// off by one that never is.
const QUIET: Duration = Duration::from_millis(40);
const LONGEST_WAIT: Duration = Duration::from_millis(400);

/// How often it is read though nothing rang: a watch can be lost.
const BACKSTOP: Duration = Duration::from_secs(10);

/// When a folder that did not stand still is read again.
const AGAIN: Duration = Duration::from_millis(200);

/// A manifests folder.
pub struct Folder {
    root: PathBuf,
    name: String,
    bell: Bell,
    watches: Watches,
}

impl Folder {
    /// The folder at a path. What the path names may change: it can be a link that is pointed elsewhere, and may come later.
    pub fn new(root: &Path) -> Folder {
        let root = full(root);
        let name = format!("folder {}", root.display());
        Folder { root, name, bell: Bell::default(), watches: Watches::default() }
    }
}

/// The manifests of a folder as they stand now.
///
/// # Errors
/// What is wrong with the folder, or that it never stood still.
pub(super) fn read_once(root: &Path) -> Result<Vec<Manifest>, Problem> {
    collect(root, &Stamps::default()).map_err(|unread| match unread {
        Unread::Flaw(problem) => problem,
        Unread::Moving => about(
            &root.display().to_string(),
            "never stood still while it was read; wait until nobody writes to it".into(),
        ),
    })
}

/// The path from `/`, without going through links: what it is called stays the same when they change.
fn full(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut full = PathBuf::new();
    for part in absolute.components() {
        match part {
            // Behind a link it may be another folder than by name.
            Component::ParentDir if !full.is_symlink() => drop(full.pop()),
            Component::CurDir => {}
            Component::ParentDir | Component::Normal(_) | Component::RootDir | Component::Prefix(_) => {
                full.push(part);
            }
        }
    }
    full
}

impl Source for Folder {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> SourceKind {
        SourceKind::Folder
    }

    fn is_settled(&self) -> bool {
        false
    }

    fn attach(&mut self, bell: Bell) {
        self.bell = bell;
    }

    async fn read(&mut self, known: Stamps) -> Result<Reading, Refusal> {
        self.watches.attend(&self.root, &self.bell);
        let root = self.root.clone();
        let name = root.display().to_string();
        match tokio::task::spawn_blocking(move || collect(&root, &known)).await {
            Ok(Ok(manifests)) => Ok(Reading { revision: None, manifests }),
            Ok(Err(Unread::Flaw(problem))) => Err(problem.into()),
            Ok(Err(Unread::Moving)) => {
                let moving = about(&name, "is being changed; it is read once it stands still".into());
                Err(Refusal { again_in: Some(AGAIN), ..moving.into() })
            }
            // The program is ending.
            Err(error) => Err(about(&name, format!("was not read: {error}")).into()),
        }
    }

    /// Waits until the bell is quiet.
    async fn settle(&mut self) {
        let latest = Instant::now() + LONGEST_WAIT;
        loop {
            tokio::select! {
                () = sleep_until(latest) => return,
                more = timeout(QUIET, self.bell.rung()) => if more.is_err() { return },
            }
        }
    }

    fn backstop(&self) -> Duration {
        BACKSTOP
    }
}

#[cfg(test)]
mod tests;
