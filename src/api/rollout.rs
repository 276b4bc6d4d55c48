//! `/1.0/instances/{instance}/services/{id}/rollout`, and what people do to a rollout: restart, pause, resume, roll back. Ours: the seed has
//! no such things.
//!
//! What people say here is written beside the service's document, in annotations, or into the revision that it concerns. So the spec
//! stays as it is declared, and a manifests folder and people do not undo each other's changes.
//!
//! **Invariant:** whatever is said raises the service's generation, so that `observed-generation` tells when it was taken up.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::body::{Maybe, Place, only};
use super::error::Error;
use super::resource::{change, spoken_of, visible};
use super::route::{Content, Operation, Route};
use super::{Context, Shared};
use crate::clock::{rfc3339, timestamp};
use crate::model::difference::of_revisions;
use crate::model::kinds::{Object, RevisionSpec};
use crate::model::meta::{PAUSED, RESTARTED};
use crate::model::{Document, Documents, Key, Kind, Spec};
use crate::plan::revision::find_declared;
use crate::plan::standing::{self, ServiceStatus, Truth};
use crate::reconcile::placed::{Decided, Since};
use crate::state::Edit;

const PATH: &str = "/1.0/instances/{instance}/services/{id}";

pub(super) fn routes() -> Vec<Route> {
    let read = Operation::new("retrieveRollout", "Retrieve how far a change of a service has come")
        .described("How many of its processes run from which revision, whether the service does its work, and what was before.");
    let said = |id: &str, summary: &str, about: &'static str| {
        Operation::new(id, summary)
            .described(about)
            .answers(StatusCode::OK, Content::of::<Rollout>())
            .conflicts()
    };
    let verb = |word: Word| {
        move |State(context): State<Shared>, place: Place| async move {
            say(&context, &place.key(Kind::Service), word).await.map(Json)
        }
    };
    vec![
        Route::get(
            format!("{PATH}/rollout"),
            rollout,
            read.answers(StatusCode::OK, Content::of::<Rollout>()),
        ),
        Route::post(
            format!("{PATH}/restart"),
            verb(Word::Restart),
            said(
                "restartService",
                "Start all processes of a service anew",
                "Some at a time, as its `update` says. What is declared stays as it is.",
            ),
        ),
        Route::post(
            format!("{PATH}/pause"),
            verb(Word::Pause),
            said(
                "pauseRollout",
                "Keep changes of a service from its processes",
                "What runs goes on as it is, until the rollout is resumed.",
            ),
        ),
        Route::post(
            format!("{PATH}/resume"),
            verb(Word::Resume),
            said(
                "resumeRollout",
                "Go on with a rollout",
                "Also with one that has failed or was rolled back: what is declared is tried again.",
            ),
        ),
        Route::post(
            format!("{PATH}/rollback"),
            roll_back,
            said(
                "rollBackService",
                "Have a service's processes run from an earlier revision",
                "Without a number, from the last one before that all processes did their work with. It lasts until the service is changed, or the rollout resumed; what is declared stays as it is.",
            )
            .may_take(Content::of::<RollBack>()),
        ),
    ]
}

/// How far a change of a service has come.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
struct Rollout {
    /// The service.
    id: String,
    /// Counts the changes of the service, and what was said of its rollouts.
    generation: u64,
    /// The generation that the rest was decided on; 0 before the first decision.
    observed_generation: u64,
    /// The revision that the processes are to run from; 0 when there is none.
    revision: u64,
    /// The revision that is declared: another one when it was rolled back, or has failed and is to be. 0 before it was recorded.
    declared_revision: u64,
    /// How many processes should run.
    desired: u32,
    /// How many of them there are.
    placed: u32,
    /// How many of these run from `revision`, as far as is seen.
    updated: u32,
    /// How many do their work.
    available: u32,
    /// How many are on nodes that are not seen.
    unknown: u32,
    /// `Available`, `Progressing`, `Degraded`.
    conditions: Vec<Condition>,
    /// Whether people have paused it.
    paused: bool,
    /// What the processes are or were started with, the oldest first.
    revisions: Vec<Revision>,
}

/// Whether something is so, and why.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
struct Condition {
    /// What: `Available`, enough processes do their work; `Progressing`, a change is on its way; `Degraded`, something needs people.
    #[serde(rename = "type")]
    kind: &'static str,
    /// `True`, `False`, or `Unknown`.
    status: String,
    /// Why, in one word.
    reason: &'static str,
    /// The same for people.
    message: String,
    /// Since when the status is what it is, as far as the server that leads has seen it; RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_transition_time: Option<String>,
}

/// What a service's processes are started with, as it was at one time.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
struct Revision {
    /// Counts the service's revisions from 1.
    revision: u64,
    /// Of all that makes a process start anew when it changes.
    hash: String,
    /// When it was recorded; RFC 3339.
    created: String,
    /// Whether all processes have once done their work with it.
    completed: bool,
    /// Why it is not rolled out any further.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
    /// The revision that runs instead of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced_by: Option<u64>,
    /// Which fields differ from the revision before: those of the service, `type.…` of its type, `instance.…` of its instance, and
    /// `restarted` where people asked for that. No values.
    changes: Vec<String>,
}

/// Where to go back to.
#[derive(JsonSchema)]
struct RollBack {
    /// The number of a revision that is there. Without one, the last that all processes did their work with.
    #[schemars(range(min = 1))]
    #[expect(dead_code, reason = "it is read by hand, for its messages")]
    revision: Option<u64>,
}

async fn rollout(State(context): State<Shared>, place: Place) -> Result<Json<Rollout>, Error> {
    let key = place.key(Kind::Service);
    shown(&context, &key).map(Json)
}

fn shown(context: &Context, key: &Key) -> Result<Rollout, Error> {
    let documents = context.documents();
    let document = visible(&documents, key)?;
    Ok(Rollout::of(&documents, document, &context.placed.last()))
}

impl Rollout {
    fn of(documents: &Documents, document: &Document, decided: &Decided) -> Rollout {
        let key = document.key();
        // One that waits is not the one that was decided on.
        let status = decided.services.get(&key).filter(|_| !document.metadata.waiting);
        let count = |of: fn(&ServiceStatus) -> u32| status.map_or(0, of);
        let all: Vec<_> = if document.metadata.waiting {
            Vec::new()
        } else {
            documents.revisions_of(&key).map(|(document, revision)| (document.as_ref(), revision)).collect()
        };
        Rollout {
            id: key.name.clone(),
            generation: document.metadata.generation,
            observed_generation: status.map_or(0, |status| status.observed_generation),
            revision: status.map_or(0, |status| status.revision),
            declared_revision: declared(documents, document).map_or(0, |(_, revision)| revision.number),
            desired: count(|status| status.desired),
            placed: count(|status| status.placed),
            updated: count(|status| status.updated),
            available: count(|status| status.available),
            unknown: count(|status| status.unknown),
            conditions: conditions(status, decided.since.get(&key)),
            paused: document.metadata.annotations.contains_key(PAUSED),
            revisions: revisions(&all),
        }
    }
}

fn conditions(status: Option<&ServiceStatus>, since: Option<&Since>) -> Vec<Condition> {
    let undecided = standing::Condition {
        status: Truth::Unknown,
        reason: "NotDecided",
        message: "the server that leads has not looked at it yet".to_owned(),
    };
    let of = |kind, said: Option<&standing::Condition>, since_ms: Option<u64>| {
        let said = said.unwrap_or(&undecided);
        Condition {
            kind,
            status: said.status.to_string(),
            reason: said.reason,
            message: said.message.clone(),
            last_transition_time: since_ms.map(rfc3339),
        }
    };
    let since = status.and(since);
    vec![
        of("Available", status.map(|status| &status.is_available), since.map(|since| since.available_ms)),
        of("Progressing", status.map(|status| &status.progressing), since.map(|since| since.progressing_ms)),
        of("Degraded", status.map(|status| &status.degraded), since.map(|since| since.degraded_ms)),
    ]
}

fn revisions(all: &[(&Document, &RevisionSpec)]) -> Vec<Revision> {
    let mut before: Option<&RevisionSpec> = None;
    let mut shown = Vec::new();
    for (document, revision) in all {
        shown.push(Revision {
            revision: revision.number,
            hash: revision.hash.clone(),
            created: document.metadata.creation_timestamp.clone(),
            completed: revision.completed,
            failed: revision.failed.clone(),
            replaced_by: revision.replaced_by,
            changes: before.map_or_else(Vec::new, |before| of_revisions(before, revision)),
        });
        before = Some(revision);
    }
    shown
}

/// The revision that a service is as it is declared, if it was recorded.
fn declared<'a>(documents: &'a Documents, document: &Document) -> Option<(&'a Document, &'a RevisionSpec)> {
    let service = documents.service(&document.key())?;
    if document.metadata.waiting {
        return None;
    }
    let all: Vec<_> = documents.revisions_of(&document.key()).collect();
    let found = find_declared(documents, document, service, &all);
    found.map(|(document, revision)| (document.as_ref(), revision))
}

/// What people say of a rollout.
#[derive(Debug, Clone, Copy)]
enum Word {
    Restart,
    Pause,
    Resume,
}

async fn say(context: &Context, key: &Key, word: Word) -> Result<Rollout, Error> {
    change(context, |documents| {
        let document = spoken_of(documents, key)?;
        let edits = match word {
            Word::Restart => {
                refuse_paused(document)?;
                vec![restarted(document)]
            }
            Word::Pause if document.metadata.annotations.contains_key(PAUSED) => Vec::new(),
            Word::Pause => vec![annotated(document, |annotations| {
                annotations.insert(PAUSED.into(), timestamp());
            })],
            Word::Resume => resumed(context, documents, document),
        };
        Ok((edits, ()))
    })
    .await?;
    shown(context, key)
}

fn refuse_paused(document: &Document) -> Result<(), Error> {
    match document.metadata.annotations.get(PAUSED) {
        None => Ok(()),
        Some(since) => Err(Error::Conflict(format!(
            "{}: its rollouts are paused since {since}, so nothing would happen; resume them first",
            document.key()
        ))),
    }
}

/// The service with something said of it.
fn annotated(document: &Document, say: impl FnOnce(&mut BTreeMap<String, String>)) -> Edit {
    let mut document = document.clone();
    say(&mut document.metadata.annotations);
    document.metadata.generation += 1;
    Edit::Replace(document)
}

fn restarted(document: &Document) -> Edit {
    annotated(document, |annotations| {
        annotations.insert(RESTARTED.into(), again());
    })
}

/// A restart, unlike all others. The time is for people; two within a second are two.
fn again() -> String {
    format!("{} {}", timestamp(), Uuid::new_v4())
}

/// Takes the pause away, and has the declared revision tried again if it failed or was replaced.
fn resumed(context: &Context, documents: &Documents, document: &Document) -> Vec<Edit> {
    let is_paused = document.metadata.annotations.contains_key(PAUSED);
    let marked = declared(documents, document)
        .filter(|(_, revision)| revision.failed.is_some() || revision.replaced_by.is_some());
    let Some((recorded, revision)) = marked else {
        return if is_paused { vec![annotated(document, unpause)] } else { Vec::new() };
    };
    let key = document.key();
    let views = context.observed.all();
    let fails = documents.processes_of(&key.namespace, &key.name).any(|(process, spec)| {
        let place = (key.namespace.clone(), spec.node.clone());
        let view = views.get(&place).filter(|view| view.sighting.complete);
        process.metadata.revision == revision.number
            && view.is_some_and(|view| !view.is_up(&process.metadata.name))
    });
    let mut retried = recorded.clone();
    retried.spec = Spec::Revision(RevisionSpec { failed: None, replaced_by: None, ..revision.clone() });
    let said = annotated(document, |annotations| {
        unpause(annotations);
        // What has failed with it goes on failing until it is started anew, and so would the rollout.
        if fails {
            annotations.insert(RESTARTED.into(), again());
        }
    });
    vec![said, Edit::Replace(retried)]
}

fn unpause(annotations: &mut BTreeMap<String, String>) {
    annotations.remove(PAUSED);
}

async fn roll_back(
    State(context): State<Shared>,
    place: Place,
    Maybe(given): Maybe,
) -> Result<Json<Rollout>, Error> {
    let key = place.key(Kind::Service);
    let wish = wish(&given).map_err(Error::BadRequest)?;
    change(&context, |documents| {
        let document = spoken_of(documents, &key)?;
        refuse_paused(document)?;
        Ok((rolled_back(documents, document, wish).map_err(Error::Conflict)?, ()))
    })
    .await?;
    shown(&context, &key).map(Json)
}

/// The number in a body, if there is one.
fn wish(given: &Object) -> Result<Option<u64>, String> {
    only(given, "revision")?;
    let Some(value) = given.get("revision") else { return Ok(None) };
    // 3.0 is a whole number, too.
    let whole = value.as_u64().or_else(|| {
        let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
        format!("{number:.0}").parse().ok()
    });
    match whole {
        Some(number) if number > 0 => Ok(Some(number)),
        // Larger than any number that can be there.
        None if value.as_f64().is_some_and(|number| number.fract() == 0.0 && number > 0.0) => {
            Ok(Some(u64::MAX))
        }
        Some(_) | None => Err("revision: write the number of a revision, from 1".into()),
    }
}

/// The edits after which the processes run from another revision than the declared one; or why that can't be.
fn rolled_back(documents: &Documents, document: &Document, wish: Option<u64>) -> Result<Vec<Edit>, String> {
    let key = document.key();
    let Some((recorded, declared)) = declared(documents, document) else {
        return Err(format!("{key}: its revision is not recorded yet; try again"));
    };
    let all: Vec<&RevisionSpec> = documents.revisions_of(&key).map(|(_, revision)| revision).collect();
    let runs = declared.replaced_by.unwrap_or(declared.number);
    let to = match wish {
        Some(number) if all.iter().any(|revision| revision.number == number) => number,
        Some(number) => {
            let known: Vec<String> = all.iter().map(|revision| revision.number.to_string()).collect();
            return Err(format!(
                "{key} has no revision {number}; it has {}, as its rollout says",
                known.join(", ")
            ));
        }
        None => {
            let good = all.iter().rev().find(|revision| revision.number < runs && revision.completed);
            good.map(|revision| revision.number).ok_or_else(|| {
                format!(
                    "{key} has no revision before {runs} that all its processes did their work with; name one"
                )
            })?
        }
    };
    if to == runs {
        return Err(format!("{key} is to run from revision {to} already"));
    }
    let mark = if to == declared.number {
        RevisionSpec { failed: None, replaced_by: None, ..declared.clone() }
    } else {
        let failed = Some(RevisionSpec::ROLLED_BACK.to_owned());
        RevisionSpec { failed, replaced_by: Some(to), ..declared.clone() }
    };
    let mut marked = recorded.clone();
    marked.spec = Spec::Revision(mark);
    Ok(vec![annotated(document, |_| {}), Edit::Replace(marked)])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::Metadata;
    use crate::model::id::revision_name;
    use crate::model::kinds::ServiceSpec;

    /// A service of which these revisions are recorded, the last one as it is declared; each with whether it was completed.
    fn documents(completed: &[bool], replaced_by: Option<u64>) -> Documents {
        let metadata = |namespace: &str, name: &str| Metadata {
            name: name.into(),
            namespace: namespace.into(),
            ..Metadata::default()
        };
        let service = |number: usize| ServiceSpec {
            kind: "web".into(),
            command: Some(vec!["web".into(), number.to_string()]),
            ..ServiceSpec::default()
        };
        let last = completed.len();
        let mut all: Documents = [
            Document { metadata: metadata("", "IN1"), spec: Spec::Instance(Default::default()) },
            Document { metadata: metadata("", "web"), spec: Spec::ServiceType(Default::default()) },
            Document { metadata: metadata("IN1", "SV1"), spec: Spec::Service(service(last)) },
        ]
        .into_iter()
        .collect();
        for (at, completed) in completed.iter().enumerate() {
            let number = at as u64 + 1;
            let spec = RevisionSpec {
                service: "SV1".into(),
                number,
                template: Box::new(service(at + 1)),
                completed: *completed,
                replaced_by: replaced_by.filter(|_| at + 1 == last),
                ..RevisionSpec::default()
            };
            let metadata = metadata("IN1", &revision_name("SV1", number));
            all.insert(Document { metadata, spec: Spec::Revision(spec) });
        }
        all
    }

    /// The mark of the declared revision after a rollback.
    fn mark(documents: &Documents, wish: Option<u64>) -> Result<(Option<String>, Option<u64>), String> {
        let document = documents.get(&Key::within(Kind::Service, "IN1", "SV1")).unwrap();
        let edits = rolled_back(documents, document, wish)?;
        assert_eq!(edits[0].document().metadata.generation, 1);
        let Spec::Revision(revision) = &edits[1].document().spec else { panic!("{edits:?}") };
        Ok((revision.failed.clone(), revision.replaced_by))
    }

    #[test]
    fn a_rollback_goes_to_the_last_revision_that_did_its_work_or_to_the_one_that_is_named() {
        let by_people = |number| Ok((Some("rolled back by people".to_owned()), Some(number)));
        assert_eq!(mark(&documents(&[true, false, true], None), None), by_people(1));
        assert_eq!(mark(&documents(&[true, true, false], None), None), by_people(2));
        assert_eq!(mark(&documents(&[true, true, false], None), Some(1)), by_people(1));
        assert_eq!(mark(&documents(&[true, true, true], Some(2)), None), by_people(1));
        assert_eq!(mark(&documents(&[true, true], Some(1)), Some(2)), Ok((None, None)));
    }

    #[test]
    fn a_rollback_that_leads_nowhere_says_why() {
        let why = |completed: &[bool], wish| mark(&documents(completed, None), wish).unwrap_err();
        assert!(why(&[true], None).contains("no revision before 1"));
        assert!(why(&[false, true], None).contains("no revision before 2"));
        assert!(why(&[true, true], Some(7)).contains("no revision 7; it has 1, 2"));
        assert!(why(&[true, true], Some(2)).contains("from revision 2 already"));
        assert!(why(&[], None).contains("not recorded yet"));
    }

    #[test]
    fn a_number_is_whole_and_from_one() {
        let wish = |body: Value| wish(body.as_object().unwrap());
        assert_eq!(wish(json!({})), Ok(None));
        assert_eq!(wish(json!({"revision": 3})), Ok(Some(3)));
        assert_eq!(wish(json!({"revision": 3.0})), Ok(Some(3)));
        for body in [
            json!({"revision": 0}),
            json!({"revision": -1}),
            json!({"revision": 1.5}),
            json!({"revision": "1"}),
            json!({"revision": null}),
            json!({"revison": 1}),
        ] {
            assert!(wish(body.clone()).is_err(), "{body}");
        }
    }
}
