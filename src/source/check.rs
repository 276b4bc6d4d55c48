//! Documents checked where they lie, without a store: each by itself, then all of them against each other and the shipped ones.
//!
//! **Invariant:** what is fine here is refused by no new store, but for what only the store and the machine know: which objects are
//! another source's, and what artifacts hold.
//! **Absent here:** the artifacts' content. It may be made later, or on another machine.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::artifacts::admit_all;
use super::catalogue;
use super::folder::read_once;
use super::reading::{self, Manifest, about};
use crate::model::admit::{Admitted, Origin, admit_text};
use crate::model::lint::lint;
use crate::model::locate::MAX_TEXT_BYTES;
use crate::model::secret::Sealer;
use crate::model::{Documents, Problem};

/// A text that documents are looked for in.
#[derive(Debug, Clone)]
pub struct Text {
    /// Its name in problems: the path as people wrote it.
    pub name: String,
    /// Where it lies, if it is a file: relative paths in it are relative to that.
    pub path: Option<PathBuf>,
    /// What it says, or why that can't be read.
    pub text: Result<String, String>,
}

/// What came of checking.
#[derive(Debug, Default)]
pub struct Checked {
    /// The documents; none when one of them is wrong in itself.
    pub set: Vec<Admitted>,
    /// Everything that is wrong, in the order of the texts. Nothing is said of documents against each other while one of them is
    /// wrong in itself, for it would be missed everywhere.
    pub problems: Vec<Problem>,
}

/// How much is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Each document by itself: what it names may be elsewhere.
    Each,
    /// Also against each other: what is named has to be among them, or shipped.
    Whole,
}

/// The texts at a path: a file's, or those of all manifests below a folder, in the order of their paths.
///
/// # Errors
/// When there is nothing that could be read, or a folder is too large, has a link out of it or never stands still.
pub fn texts(root: &Path) -> Result<Vec<Text>, Problem> {
    let shown = root.display().to_string();
    let metadata =
        std::fs::metadata(root).map_err(|error| about(&shown, format!("can't be read: {error}")))?;
    if !metadata.is_dir() {
        let text = std::fs::File::open(root).map_err(|error| error.to_string()).and_then(read);
        let path = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        return Ok(vec![Text { name: shown, path: Some(path), text }]);
    }
    let manifests = read_once(root)?;
    if manifests.is_empty() {
        return Err(about(&shown, "holds no manifests: files that end in .yaml, .yml or .json".into()));
    }
    let text = |manifest: Manifest| Text {
        name: root.join(&manifest.name).display().to_string(),
        path: manifest.path,
        text: match manifest.text {
            reading::Text::Read(text) => Ok(text),
            reading::Text::Unreadable(why) => Err(why),
            reading::Text::Known => Err("was not read".into()),
        },
    };
    Ok(manifests.into_iter().map(text).collect())
}

/// Reads a text, and of one that is too long no more than what shows that.
///
/// # Errors
/// A sentence that says why it can't be read.
pub fn read(from: impl Read) -> Result<String, String> {
    let mut text = String::new();
    let most = MAX_TEXT_BYTES as u64 + 1;
    from.take(most).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// Checks documents. Passwords in them are sealed with the sealer at once.
pub fn check(texts: &[Text], extent: Extent, sealer: &Sealer) -> Checked {
    let manifests: Vec<Manifest> = texts
        .iter()
        .map(|text| Manifest {
            name: text.name.clone(),
            path: text.path.clone(),
            stamp: None,
            text: match &text.text {
                Ok(text) => reading::Text::Read(text.clone()),
                Err(why) => reading::Text::Unreadable(why.clone()),
            },
        })
        .collect();
    let admitted = admit_all(&manifests, |manifest| {
        let text = match &manifest.text {
            reading::Text::Read(text) => text,
            reading::Text::Unreadable(why) => {
                return Err(vec![manifest.problem(format!("can't be read: {why}"))]);
            }
            reading::Text::Known => return Ok(Vec::new()),
        };
        let directory = manifest.path.as_deref().and_then(Path::parent).map(Path::to_owned);
        let origin = Origin { file: Some(manifest.name.clone()), directory };
        admit_text(text, &origin, sealer)
    });
    let in_order = |mut problems: Vec<Problem>| {
        let place =
            |problem: &Problem| texts.iter().position(|text| Some(&text.name) == problem.file.as_ref());
        problems.sort_by_cached_key(|problem| (place(problem), problem.at));
        problems
    };
    let set = match admitted {
        Ok(set) => set,
        Err(problems) => return Checked { set: Vec::new(), problems: in_order(problems) },
    };
    if extent == Extent::Each {
        return Checked { set, problems: Vec::new() };
    }
    // The shipped ones are admitted by a test.
    let shipped: Documents =
        catalogue::documents().into_iter().flatten().map(|admitted| admitted.document).collect();
    let problems = in_order(lint(&set, &shipped));
    Checked { set, problems }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::secret::KEY_BYTES;

    fn checked(text: &str, extent: Extent) -> Vec<String> {
        let texts = [Text { name: "x.yaml".into(), path: None, text: Ok(text.into()) }];
        let checked = check(&texts, extent, &Sealer::new([0; KEY_BYTES]));
        checked.problems.iter().map(ToString::to_string).collect()
    }

    const SERVICE: &str = "apiVersion: mainstay.dev/v1\nkind: Service\nmetadata: {name: SV1, namespace: IN1}\n\
                           spec: {name: a, type: auth, command: [a]}\n";

    #[test]
    fn shipped_types_are_known_and_what_is_elsewhere_may_be_left_out() {
        assert_eq!(
            checked(SERVICE, Extent::Whole),
            ["x.yaml:3:34: metadata.namespace: Instance IN1 does not exist; there is no Instance yet"]
        );
        assert_eq!(checked(SERVICE, Extent::Each), [""; 0]);
        let wrong = SERVICE.replace("type: auth", "type: auht");
        assert!(checked(&wrong, Extent::Whole)[1].contains("did you mean auth?"));
    }

    #[test]
    fn one_that_is_wrong_in_itself_is_not_missed_by_the_others() {
        let text = format!("{SERVICE}---\n{}", SERVICE.replace("kind: Service", "kind: Srvice"));
        let found = checked(&text, Extent::Whole);
        assert!(found.len() == 1 && found[0].contains("did you mean Service?"), "{found:?}");
    }

    #[test]
    fn no_more_is_read_of_a_text_than_shows_that_it_is_too_long() {
        let text = read(std::io::repeat(b'a')).unwrap();
        assert!(checked(&text, Extent::Whole)[0].contains("split it into several files"));
    }
}
