//! `/apply` and `/diff`: what a whole set of manifests would change, and the change itself. Decided here, with the placement and the plans that
//! decide it when it is made, so that what is told is what happens.
//!
//! ```text
//! {"manager": "mainstay apply",   who the fields belong to that the set states; with `set` that set
//!  "set": "web",                  the objects are the set's own, and no other's
//!  "prune": true,                 objects of the set that it does not name any more are deleted
//!  "force": false,                fields that others have set to something else are taken from them
//!  "dry-run": false,              nothing is changed
//!  "expect": "…",                 only if what would change is still what this says (`digest` of an earlier answer)
//!  "files": [{"name": "web.yaml", "text": "…"}]}
//! ```

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::body::Parameters;
use super::error::Error;
use super::resource::change_slowly;
use super::route::{Content, Operation, Route};
use super::{Context, Shared};
use crate::clock::timestamp;
use crate::model::admit::{Admitted, Origin, admit_text};
use crate::model::difference::{FieldChange, difference};
use crate::model::id::check_id;
use crate::model::kinds::Object;
use crate::model::lint::lint;
use crate::model::meta::SET;
use crate::model::owners::API;
use crate::model::secret::hex;
use crate::model::{Documents, Problem};
use crate::plan::whatif::{Deed, Foresight, Verb};
use crate::state::{Applier, CATALOGUE, Edit, SetChange, Snapshot, apply_as};

/// Who applies when nobody says who.
const MANAGER: &str = "mainstay apply";

pub(super) fn routes() -> Vec<Route> {
    let said = |id: &str, summary: &str| {
        Operation::new(id, summary)
            .described("A mistake in one document, and nothing is applied. Relative paths are refused: they are relative to nothing here.")
            .takes(Content::of::<Wanted>())
            .answers(StatusCode::OK, Content::of::<Answer>())
            .conflicts()
    };
    vec![
        Route::post("/apply", apply, said("applySet", "Apply a set of manifests")),
        Route::post("/diff", diff, said("diffSet", "Say what applying a set of manifests would change")),
    ]
}

/// A set of manifests, and how it is to be applied.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Wanted {
    /// Who the fields belong to that the set states.
    #[serde(default)]
    manager: Option<String>,
    /// The name of the set that the objects are to belong to.
    #[serde(default)]
    set: Option<String>,
    /// Whether objects of the set that it does not name any more are deleted.
    #[serde(default)]
    prune: bool,
    /// Whether fields that others have set to something else are taken from them.
    #[serde(default)]
    force: bool,
    /// Whether nothing is to be changed.
    #[serde(default)]
    dry_run: bool,
    /// The digest that the answer has to have; else nothing is changed.
    #[serde(default)]
    expect: Option<String>,
    /// The manifests.
    files: Vec<File>,
}

/// A manifest.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct File {
    /// What it is called in what is said of it.
    name: String,
    /// What it says: YAML or JSON, one document or several.
    text: String,
}

/// What changes, or would.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
struct Answer {
    /// Of each object in the set, and each that goes with it, what is changed.
    objects: Vec<Changed>,
    /// How many objects stay as they are.
    unchanged: usize,
    /// Objects that have to wait for an older one of their name to be gone.
    waiting: Vec<String>,
    /// What it does on the nodes.
    foresight: Foresight,
    /// Tells this answer from one in which anything else would change.
    digest: String,
}

/// What is changed of an object.
#[derive(Debug, Serialize, JsonSchema)]
struct Changed {
    /// Such as `Service IN1/SV1`.
    object: String,
    /// `create`, `update` or `delete`.
    action: &'static str,
    /// Field by field; of one that is deleted, what it was.
    fields: Vec<FieldChange>,
}

async fn diff(State(context): State<Shared>, Parameters(given): Parameters) -> Result<Json<Answer>, Error> {
    answer(&context, Wanted { dry_run: true, ..wanted(given)? }).await
}

async fn apply(State(context): State<Shared>, Parameters(given): Parameters) -> Result<Json<Answer>, Error> {
    answer(&context, wanted(given)?).await
}

fn wanted(given: Object) -> Result<Wanted, Error> {
    let wanted: Wanted =
        serde_json::from_value(Value::Object(given)).map_err(|error| Error::BadRequest(error.to_string()))?;
    let names = [(&wanted.set, "set"), (&wanted.manager, "manager")];
    for (name, field) in names.into_iter().filter_map(|(name, field)| Some((name.as_ref()?, field))) {
        check_manager(name).map_err(|why| Error::BadRequest(format!("{field}: {why}")))?;
    }
    if wanted.prune && wanted.set.is_none() {
        let why = "prune: it deletes what a set does not name any more; say which `set` this is";
        return Err(Error::BadRequest(why.into()));
    }
    Ok(wanted)
}

/// A name for people, which is nobody else's.
fn check_manager(name: &str) -> Result<(), String> {
    let is_ours = name == API || name.starts_with("folder ") || name.starts_with("git ") || name == CATALOGUE;
    if is_ours {
        return Err(format!("{name:?} is the name of something else; choose another"));
    }
    name.split(' ').try_for_each(check_id)
}

/// Decides what a set changes, and changes it unless only that is asked.
async fn answer(context: &Context, wanted: Wanted) -> Result<Json<Answer>, Error> {
    let set = admitted(context, &wanted.files)?;
    let source = wanted.set.as_ref().map(|name| format!("{SET}{name}"));
    let manager = source.as_deref().or(wanted.manager.as_deref()).unwrap_or(MANAGER);
    let applier = Applier { manager, keeps: source.is_some(), prunes: wanted.prune, force: wanted.force };
    let (set, wanted) = (&set, &wanted);
    let decide = |snapshot: Snapshot| async move {
        let documents = snapshot.documents.declared();
        check(&documents, set)?;
        let change = apply_as(&documents, applier, set, &timestamp())
            .map_err(|problems| Error::Conflict(listed(&problems)))?;
        let foresight = foreseen(context, snapshot, &change).await?;
        let answer = told(&documents, set, &change, foresight);
        if wanted.expect.as_ref().is_some_and(|expected| *expected != answer.digest) {
            return Err(Error::Conflict(
                "what would change is not what was shown any more; look at a new diff".into(),
            ));
        }
        Ok((if wanted.dry_run { Vec::new() } else { change.edits }, answer))
    };
    change_slowly(context, decide).await.map(|(answer, _)| Json(answer))
}

/// The documents of all files, or all that is wrong with them.
fn admitted(context: &Context, files: &[File]) -> Result<Vec<Admitted>, Error> {
    let mut set = Vec::new();
    let mut problems = Vec::new();
    for File { name, text } in files {
        let origin = Origin { file: Some(name.clone()), directory: None };
        match admit_text(text, &origin, &context.sealer) {
            Ok(found) => set.extend(found),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() { Ok(set) } else { Err(Error::BadRequest(listed(&problems))) }
}

/// What a set's documents have to be to each other and to what there is.
fn check(documents: &Documents, set: &[Admitted]) -> Result<(), Error> {
    let problems = lint(set, documents);
    if problems.is_empty() { Ok(()) } else { Err(Error::BadRequest(listed(&problems))) }
}

/// All that is wrong, a line each.
fn listed(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// What a change does on the nodes, found out where nobody waits for the thread.
async fn foreseen(context: &Context, snapshot: Snapshot, change: &SetChange) -> Result<Foresight, Error> {
    let mut changed = snapshot.documents.clone();
    change.edits.iter().for_each(|edit| edit.make_in(&mut changed, snapshot.revision + 1));
    let outlook = context.outlook.clone();
    let foresee = tokio::task::spawn_blocking(move || outlook.foresee(&snapshot, &changed));
    foresee.await.map_err(|_| Error::Unavailable("the server is ending".into()))
}

/// Who does what to which process: what of a foresight is the same as long as nothing else would happen.
fn deeds(foresight: &Foresight) -> Vec<(&str, &str, &str, Verb)> {
    let processes = foresight.nodes.iter().flat_map(|node| node.processes.iter().map(move |it| (node, it)));
    processes
        .flat_map(|(node, process)| {
            let deed = move |deed: &Deed| {
                (node.instance.as_str(), node.node.as_str(), process.id.as_str(), deed.verb)
            };
            process.deeds.iter().map(deed)
        })
        .collect()
}

fn told(documents: &Documents, set: &[Admitted], change: &SetChange, foresight: Foresight) -> Answer {
    let objects: Vec<Changed> = change
        .edits
        .iter()
        .filter_map(|edit| {
            let after = edit.document();
            let before = documents.get(&after.key()).map(AsRef::as_ref);
            let action = match edit {
                Edit::Create(_) => "create",
                Edit::Replace(document) if document.is_deleting() => "delete",
                Edit::Replace(_) => "update",
                Edit::Remove(_) => "delete",
                Edit::Expect(_) => return None,
            };
            let after = (action != "delete").then_some(after);
            Some(Changed {
                object: edit.document().key().to_string(),
                action,
                fields: difference(before, after),
            })
        })
        .collect();
    let waiting: Vec<String> = change.waiting.iter().map(ToString::to_string).collect();
    let written = objects.iter().filter(|changed| changed.action != "delete").count();
    let unchanged = set.len() - (written + waiting.len()).min(set.len());
    let digest = Sha256::digest(json!([objects, waiting, deeds(&foresight)]).to_string());
    Answer { objects, unchanged, waiting, foresight, digest: hex(&digest) }
}
