//! Rings when a folder may have changed: something in it, or what its path names.
//!
//! A folder can be replaced as a whole, by renaming another one or by pointing a link elsewhere, and nothing in the old one tells. So
//! besides the folder everything is watched that decides what its path names: the links on the way, and the last part.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use notify::{Config, Event, RecommendedWatcher, RecursiveMode, Watcher};

use super::super::board::Bell;

/// Most links that a path leads through; the kernel takes no more either.
const MAX_LINKS: usize = 40;

/// The watches of one folder.
#[derive(Default)]
pub(super) struct Watches {
    /// What is watched below the folder, and which folder that is.
    tree: Option<(Option<(u64, u64)>, RecommendedWatcher)>,
    /// What is watched on the way to it.
    way: Option<(BTreeSet<PathBuf>, RecommendedWatcher)>,
    is_told: bool,
}

impl Watches {
    /// Watches what the path names now. To be called before the folder is read, so that a change after that rings.
    pub(super) fn attend(&mut self, root: &Path, bell: &Bell) {
        let way = way(root);
        if self.way.as_ref().is_none_or(|(watched, _)| *watched != way) {
            self.way = self.told(watch_way(&way, bell.clone())).map(|watcher| (way, watcher));
        }
        let identity = identity(root);
        if self.tree.as_ref().is_none_or(|(watched, _)| *watched != identity) {
            // Without a folder there is nothing to watch yet, and its coming is seen from outside.
            self.tree = match identity {
                Some(_) => self.told(watch_tree(root, bell.clone())).map(|watcher| (identity, watcher)),
                None => None,
            };
        }
    }

    /// Says once that a watch can't be had: there is a limit on them.
    fn told(&mut self, watcher: notify::Result<RecommendedWatcher>) -> Option<RecommendedWatcher> {
        let is_told = std::mem::replace(&mut self.is_told, watcher.is_err());
        if let (Err(error), false) = (&watcher, is_told) {
            tracing::warn!(%error, "the manifests folder can't be watched; it is read every 10 s");
        }
        watcher.ok()
    }
}

/// Which folder a path names now; another after it was replaced.
pub(super) fn identity(root: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(root)
        .ok()
        .filter(std::fs::Metadata::is_dir)
        .map(|metadata| (metadata.dev(), metadata.ino()))
}

fn watch_tree(root: &Path, bell: Bell) -> notify::Result<RecommendedWatcher> {
    let ring = move |event: notify::Result<Event>| {
        // Our own reading is no change.
        if event.map_or(true, |event| !event.kind.is_access()) {
            bell.ring();
        }
    };
    // Links lead anywhere; the folders that they name are watched where they stand, if that is within.
    let mut watcher = RecommendedWatcher::new(ring, Config::default().with_follow_symlinks(false))?;
    // By its real path, for the watcher would not go into a link.
    let real = root.canonicalize().map_err(notify::Error::io)?;
    watcher.watch(&real, RecursiveMode::Recursive)?;
    Ok(watcher)
}

fn watch_way(way: &BTreeSet<PathBuf>, bell: Bell) -> notify::Result<RecommendedWatcher> {
    let names = way.clone();
    let ring = move |event: notify::Result<Event>| {
        let is_meant = |event: &Event| {
            event.need_rescan()
                || !event.kind.is_access() && event.paths.iter().any(|path| names.contains(path))
        };
        if event.as_ref().map_or(true, is_meant) {
            bell.ring();
        }
    };
    let mut watcher = RecommendedWatcher::new(ring, Config::default().with_follow_symlinks(false))?;
    let parents: BTreeSet<&Path> = way.iter().filter_map(|name| name.parent()).collect();
    for parent in parents {
        watcher.watch(parent, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

/// The names on which depends what a path names: the links on the way, and the last part, or the first that is not there.
fn way(root: &Path) -> BTreeSet<PathBuf> {
    let mut names = BTreeSet::new();
    let mut left: Vec<PathBuf> = vec![std::path::absolute(root).unwrap_or_else(|_| root.to_owned())];
    let mut at = PathBuf::new();
    let (mut last, mut links) = (None, 0);
    while let Some(path) = left.pop() {
        let mut parts = path.components();
        let Some(part) = parts.next() else { continue };
        let rest = parts.as_path().to_owned();
        if !rest.as_os_str().is_empty() {
            left.push(rest);
        }
        match part {
            Component::RootDir => at = PathBuf::from("/"),
            Component::ParentDir => drop(at.pop()),
            Component::CurDir | Component::Prefix(_) => {}
            Component::Normal(name) => {
                let path = at.join(name);
                match std::fs::symlink_metadata(&path) {
                    Ok(metadata) if metadata.is_symlink() && links < MAX_LINKS => {
                        links += 1;
                        left.extend(std::fs::read_link(&path).ok());
                        names.insert(path);
                    }
                    Ok(_) => {
                        last = Some(path.clone());
                        at = path;
                    }
                    Err(_) => {
                        names.insert(path);
                        return names;
                    }
                }
            }
        }
    }
    names.extend(last);
    names
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_decides_what_a_path_names_is_its_links_and_its_last_part() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(at.join("trees/one/fleet")).unwrap();
        symlink("trees/one", at.join("current")).unwrap();
        let names = |names: &[&str]| names.iter().map(|name| at.join(name)).collect::<BTreeSet<_>>();
        assert_eq!(way(&at.join("current/fleet")), names(&["current", "trees/one/fleet"]));
        assert_eq!(way(&at.join("current/gone/deeper")), names(&["current", "trees/one/gone"]));
        assert_eq!(way(&at.join("trees/../trees")), names(&["trees"]));
        symlink("b", at.join("a")).unwrap();
        symlink("a", at.join("b")).unwrap();
        assert_eq!(way(&at.join("a")), names(&["a", "b"]));
    }

    #[test]
    fn another_folder_under_the_same_name_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        std::fs::create_dir_all(&one).unwrap();
        std::fs::create_dir_all(&two).unwrap();
        let before = identity(&one);
        assert!(before.is_some() && before == identity(&one));
        std::fs::rename(&one, folder.path().join("old")).unwrap();
        assert_eq!(identity(&one), None);
        std::fs::rename(&two, &one).unwrap();
        assert!(identity(&one).is_some_and(|now| Some(now) != before));
    }
}
