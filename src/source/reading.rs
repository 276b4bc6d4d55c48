//! What a source of manifests is: a set that is read whole, at a revision or at a moment.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::board::{Bell, SourceKind};
use crate::model::{Problem, Told};

/// What tells one content of a file from another without reading it: a blob's id, or what the file system says of it.
pub type Stamp = String;

/// The stamps of files whose documents are known already, by the files' names.
pub type Stamps = Arc<BTreeMap<String, Stamp>>;

/// Where manifests come from.
///
/// **Invariant:** a reading is of one moment. What can't be read so is refused: it is never taken for what is not there.
pub trait Source: Send + 'static {
    /// By what its objects are known to be its own. The same over restarts.
    fn name(&self) -> &str;

    /// What it is.
    fn kind(&self) -> SourceKind;

    /// Whether a reading is all there is to know of a moment that somebody meant. A folder may be read while an editor has taken a file
    /// away that it is about to put back; a commit may not.
    fn is_settled(&self) -> bool;

    /// Takes the bell that it rings when it may have changed. Others ring it, too.
    fn attach(&mut self, bell: Bell);

    /// Reads all of it. The text of what is known by its stamp may be left out.
    ///
    /// # Errors
    /// When it can't be read whole.
    fn read(&mut self, known: Stamps) -> impl Future<Output = Result<Reading, Refusal>> + Send;

    /// Waits after the bell rang until it is worth reading: what comes together is one change.
    fn settle(&mut self) -> impl Future<Output = ()> + Send;

    /// How often it is read though nothing rang.
    fn backstop(&self) -> Duration;
}

/// All manifests of a source, at one moment.
#[derive(Debug)]
pub struct Reading {
    /// Which state it is, where states have names: the id of a commit.
    pub revision: Option<String>,
    /// The files that are called like manifests, in the order of their names.
    pub manifests: Vec<Manifest>,
}

/// A file that is called like a manifest.
#[derive(Debug)]
pub struct Manifest {
    /// As people know it.
    pub name: String,
    /// Where it is on this machine's disk, in full, as artifacts' paths are, if it is there.
    pub path: Option<PathBuf>,
    /// Its stamp; none where a later content could have the same.
    pub stamp: Option<Stamp>,
    /// What it says.
    pub text: Text,
}

impl Manifest {
    /// Something that is wrong with the file as a whole.
    pub(super) fn problem(&self, message: String) -> Problem {
        about(&self.name, message)
    }
}

/// What a file says.
#[derive(Debug, PartialEq, Eq)]
pub enum Text {
    /// This.
    Read(String),
    /// What can't be read, and why.
    Unreadable(String),
    /// What is known already by its stamp.
    Known,
}

/// Text of a file's bytes. The one place where what is written otherwise (sealed with SOPS or age, say) would be turned into text.
///
/// # Errors
/// Why it is none.
pub(super) fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| {
        format!("is no UTF-8 text (after {} bytes); save it as UTF-8", error.utf8_error().valid_up_to())
    })
}

/// Why a set is not to be applied.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong, or still going on.
    pub problems: Vec<Told>,
    /// Which state it is that is refused, where it has a name and was read.
    pub revision: Option<String>,
    /// When to look again, where nothing is wrong but something is still being written.
    pub again_in: Option<Duration>,
}

impl From<Vec<Problem>> for Refusal {
    fn from(problems: Vec<Problem>) -> Refusal {
        let problems = problems.into_iter().map(|problem| Told::new(problem, None)).collect();
        Refusal { problems, ..Refusal::default() }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Refusal {
        vec![problem].into()
    }
}

/// Something that is wrong with a file, a folder or a source as a whole.
pub(super) fn about(name: &str, message: String) -> Problem {
    Problem { file: Some(name.to_owned()), at: None, path: String::new(), message }
}

/// Whether a file or folder of this name is some program's own, and not meant to be read: hidden ones, and what editors and tools
/// leave beside a file while they write it.
pub(super) fn is_passed_over(name: &str) -> bool {
    const ENDINGS: [&str; 5] = ["~", ".swp", ".tmp", "___jb_tmp___", "___jb_old___"];
    name.starts_with(['.', '#']) || ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// Whether a file of this name is a manifest.
pub(super) fn is_manifest(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    !is_passed_over(name) && matches!(ending, Some("yaml" | "yml" | "json"))
}

/// Most files of one source; more are refused.
pub(super) const MAX_FILES: usize = 20_000;

/// Most bytes in all of them.
pub(super) const MAX_BYTES: u64 = 256 * 1024 * 1024;
