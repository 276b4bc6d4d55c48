//! A Git source: the manifests of one commit, that which a branch names now.
//!
//! It is fetched by the program git into a bare mirror below the data folder, every so often and whenever somebody says that there is news.
//! A commit is read whole from there, out of git's own objects; it never changes, so its files need no second look and have their ids
//! for stamps.
//!
//! **Invariant:** nothing that is in a repository is run, and nothing of it is followed out of it: no checkout, no hooks, no filters.
//! **Absent here:** links and submodules. A manifest that is a link is refused, for it could be meant; a linked folder and a submodule
//! are passed over. LFS: a manifest that is kept there is a text that says so, and refused as any other that is no manifest. A limit on what a
//! fetch brings, besides its time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep_until};

pub use self::address::{Address, AddressError};
use self::program::{FETCH_WITHIN, GitError, Program, READ_WITHIN};
use super::board::{Bell, SourceKind};
use super::reading::{
    MAX_BYTES, MAX_FILES, Manifest, Reading, Refusal, Source, Stamps, Text, about, is_manifest,
    is_passed_over, text_of,
};
use crate::metrics::Metrics;
use crate::model::Problem;
use crate::model::locate::MAX_TEXT_BYTES;
use crate::model::secret::hex;

mod address;
mod program;

/// The branch as it was fetched last, in the mirror.
const HEAD: &str = "refs/mainstay/head";

/// Between two fetches that somebody asks for there is at least so much.
const APART: Duration = Duration::from_secs(1);

/// Files that lock the mirror. Only we write to it, so one that is there before we do was left by a git that was killed.
const LOCKS: [&str; 4] = ["shallow.lock", "config.lock", "packed-refs.lock", "refs/mainstay/head.lock"];

/// A branch of a Git repository, or a folder in it.
pub struct Git {
    address: Address,
    name: String,
    interval: Duration,
    program: Program,
    metrics: Arc<Metrics>,
    bell: Bell,
    /// When it was fetched last, and what was wrong with that.
    fetched: Option<(Instant, Option<String>)>,
}

impl Git {
    /// A source that is fetched this often, into a mirror below the data folder.
    pub fn new(address: Address, data_dir: &Path, interval: Duration, metrics: Arc<Metrics>) -> Git {
        let name = format!("git {address}");
        let digest = Sha256::digest(name.as_bytes());
        let mirror = data_dir.join("git").join(hex(&digest[..8]));
        // git is run from elsewhere.
        let mirror = std::path::absolute(&mirror).unwrap_or(mirror);
        Git {
            address,
            name,
            interval,
            program: Program::new(mirror),
            metrics,
            bell: Bell::default(),
            fetched: None,
        }
    }

    /// Brings the branch as it is now, if it is time for that, or somebody has asked.
    async fn fetch(&mut self) -> Result<(), String> {
        let is_news = self.bell.take_news();
        if let Some((at, failed)) = &self.fetched
            && !is_news
            && at.elapsed() < self.interval
        {
            return failed.clone().map_or(Ok(()), Err);
        }
        self.metrics.git_fetches.inc();
        let fetched = self.try_fetch().await.map_err(|error| said(&error));
        if fetched.is_err() {
            self.metrics.git_failures.inc();
        }
        self.fetched = Some((Instant::now(), fetched.clone().err()));
        fetched
    }

    async fn try_fetch(&self) -> Result<(), GitError> {
        let mirror = self.program.mirror();
        if !mirror.join("HEAD").exists() {
            std::fs::create_dir_all(mirror).map_err(GitError::Broken)?;
            self.program.answer(&["init", "--quiet", "--bare", "--template="], READ_WITHIN).await?;
        }
        for lock in LOCKS {
            // Most often there is none.
            let _ = std::fs::remove_file(mirror.join(lock));
        }
        let branch = match &self.address.branch {
            Some(branch) => format!("+refs/heads/{branch}:{HEAD}"),
            None => format!("+HEAD:{HEAD}"),
        };
        let fetch = [
            "fetch",
            "--quiet",
            "--force",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
            "--depth=1",
            "--",
            &self.address.url,
            &branch,
        ];
        self.program.answer(&fetch, FETCH_WITHIN).await.map(drop)
    }

    /// The id of the commit that was fetched last.
    async fn head(&self) -> Result<String, GitError> {
        let commit = format!("{HEAD}^{{commit}}");
        let id = self.program.answer(&["rev-parse", "--verify", "--quiet", &commit], READ_WITHIN).await?;
        let id = String::from_utf8_lossy(&id).trim().to_owned();
        match is_id(&id) {
            true => Ok(id),
            false => Err(GitError::Strange { what: "a commit has no id" }),
        }
    }

    /// All manifests of a commit.
    async fn manifests(&self, commit: &str, known: &Stamps) -> Result<Vec<Manifest>, Problem> {
        let failed = |error: GitError| about(&self.name, format!("could not be read: {}", said(&error)));
        let path = &self.address.path;
        let tree = if path.is_empty() { commit.to_owned() } else { format!("{commit}:{path}") };
        let list = ["ls-tree", "-r", "-z", "-l", "--full-tree", &tree];
        let listed = match self.program.answer(&list, READ_WITHIN).await {
            Ok(listed) => listed,
            Err(GitError::Refused { .. }) if !path.is_empty() => {
                return Err(about(path, "is no folder of the repository".into()));
            }
            Err(error) => return Err(failed(error)),
        };
        let files = files(&listed, path)?;
        let is_known = |file: &File| known.get(&file.name).is_some_and(|stamp| *stamp == file.blob);
        let unread: Vec<&str> =
            files.iter().filter(|file| !is_known(file)).map(|file| file.blob.as_str()).collect();
        let mut texts = self.program.blobs(&unread, MAX_TEXT_BYTES).await.map_err(failed)?.into_iter();
        let mut manifest = |file: File| {
            let text = if is_known(&file) {
                Text::Known
            } else {
                match texts.next() {
                    Some(Some(bytes)) => text_of(bytes).map_or_else(Text::Unreadable, Text::Read),
                    Some(None) | None => Text::Unreadable(format!(
                        "is over {MAX_TEXT_BYTES} bytes; split it into several files"
                    )),
                }
            };
            Manifest { name: file.name, path: None, stamp: Some(file.blob), text }
        };
        Ok(files.into_iter().map(&mut manifest).collect())
    }
}

impl Source for Git {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> SourceKind {
        SourceKind::Git
    }

    fn is_settled(&self) -> bool {
        true
    }

    fn attach(&mut self, bell: Bell) {
        self.bell = bell;
    }

    async fn read(&mut self, known: Stamps) -> Result<Reading, Refusal> {
        self.fetch()
            .await
            .map_err(|why| Refusal::from(about(&self.name, format!("could not be fetched: {why}"))))?;
        let failed = |error: GitError| about(&self.name, format!("could not be read: {}", said(&error)));
        let commit = self.head().await.map_err(failed)?;
        match self.manifests(&commit, &known).await {
            Ok(manifests) => Ok(Reading { revision: Some(commit), manifests }),
            Err(problem) => Err(Refusal { revision: Some(commit), ..problem.into() }),
        }
    }

    /// Waits until it may be fetched again, if that is what the bell is about.
    async fn settle(&mut self) {
        if let (true, Some((at, _))) = (self.bell.has_news(), &self.fetched) {
            sleep_until(*at + APART).await;
        }
    }

    fn backstop(&self) -> Duration {
        self.interval
    }
}

/// A manifest as a commit lists it.
#[derive(Debug, PartialEq, Eq)]
struct File {
    /// From the top of the repository.
    name: String,
    /// The id of what it holds.
    blob: String,
}

/// The manifests in what `git ls-tree -r -z -l` says of a folder: `MODE TYPE ID SIZE<TAB>PATH<NUL>` for each file.
fn files(listed: &[u8], folder: &str) -> Result<Vec<File>, Problem> {
    let strange = || about(folder, "can't be read: git lists it in a way that is not known".into());
    let mut files = Vec::new();
    let mut size = 0_u64;
    for entry in listed.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()) {
        let tab = entry.iter().position(|byte| *byte == b'\t').ok_or_else(strange)?;
        let (head, path) =
            (String::from_utf8_lossy(&entry[..tab]), String::from_utf8_lossy(&entry[tab + 1..]));
        let words: Vec<&str> = head.split_ascii_whitespace().collect();
        let [mode, kind, id, bytes] = words.as_slice() else { return Err(strange()) };
        let mut parts: Vec<&str> = path.split('/').collect();
        let is_ours = parts.pop().is_some_and(is_manifest) && !parts.iter().any(|part| is_passed_over(part));
        if !is_ours || *kind != "blob" {
            continue;
        }
        let name = if folder.is_empty() { path.into_owned() } else { format!("{folder}/{path}") };
        if *mode == "120000" {
            return Err(about(
                &name,
                "is a link, and no links of a repository are followed; commit what it names".into(),
            ));
        }
        if !is_id(id) {
            return Err(strange());
        }
        size = size.saturating_add(bytes.parse().map_err(|_| strange())?);
        files.push(File { name, blob: (*id).to_owned() });
        if files.len() > MAX_FILES || size > MAX_BYTES {
            let what = format!("holds more than {MAX_FILES} manifests, or {MAX_BYTES} bytes of them");
            return Err(about(if folder.is_empty() { "the repository" } else { folder }, what));
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

/// Whether a text is an object's id: SHA-1 or SHA-256, in hex.
fn is_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// An error with its cause.
fn said(error: &GitError) -> String {
    use std::error::Error;
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "a2c25f1c145e3b1236ad7ed6d623c24e75b69ae2";

    fn listed(entries: &[(&str, &str, &str)]) -> Vec<u8> {
        let entry = |(mode, kind, path): &(&str, &str, &str)| format!("{mode} {kind} {ID}       8\t{path}\0");
        entries.iter().map(entry).collect::<String>().into_bytes()
    }

    #[test]
    fn the_manifests_of_a_commit_are_those_that_a_folder_would_have() {
        let listed = listed(&[
            ("100644", "blob", "b.yaml"),
            ("100755", "blob", "a/c.json"),
            ("100644", "blob", ".github/x.yaml"),
            ("100644", "blob", "a/.b.yaml"),
            ("100644", "blob", "README.md"),
            ("120000", "blob", "linked-folder"),
            ("160000", "commit", "sub.yaml"),
        ]);
        let names: Vec<String> =
            files(&listed, "deploy").unwrap().into_iter().map(|file| file.name).collect();
        assert_eq!(names, ["deploy/a/c.json", "deploy/b.yaml"]);
    }

    #[test]
    fn a_manifest_that_is_a_link_is_refused_and_so_is_what_git_would_not_say() {
        let link = files(&listed(&[("120000", "blob", "a.yaml")]), "").unwrap_err();
        assert!(link.to_string().starts_with("a.yaml: is a link, and no links"), "{link}");
        for strange in ["x", "100644 blob", "100644 blob x 8\ta.yaml", "100644 blob a2 -\ta.yaml"] {
            assert!(files(strange.as_bytes(), "").is_err(), "{strange}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_git_says_makes_it_panic(said in proptest::collection::vec(proptest::num::u8::ANY, 0..99)) {
            let _ = files(&said, "");
        }
    }
}
