//! Create, retrieve, update, delete and list, for every kind the same.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::Value;

use super::body::{Parameters, Place};
use super::error::Error;
use super::flat::{Flat, admitted, merged, password, reseal};
use super::{Context, Shared};
use crate::clock::timestamp;
use crate::model::kinds::Object;
use crate::model::meta::{FILE, SOURCE};
use crate::model::{Document, Documents, Key, Kind, Spec};
use crate::state::{self, Commit, Edit};

/// How often a change is decided anew because somebody else was faster.
const ATTEMPTS: u32 = 8;
/// How long the snapshot may take to show what somebody else did.
const CATCH_UP: Duration = Duration::from_secs(1);
/// How long the store may take to answer.
const STORE_TIME: Duration = Duration::from_secs(30);

/// A kind of objects that people create, retrieve, update, delete and list under one path.
pub(super) struct Resource {
    /// The kind.
    pub(super) kind: Kind,
    /// Where its list is; `{instance}` stands for the instance of kinds that live in one.
    pub(super) path: &'static str,
    /// What numbered ids start with.
    pub(super) prefix: &'static str,
    /// Ids that paths below the list have already.
    pub(super) reserved: &'static [&'static str],
}

/// The five verbs.
pub(super) fn routes(resource: &'static Resource) -> Router<Shared> {
    let kind = resource.kind;
    let list = move |State(context): State<Shared>, place: Place| async move {
        let documents = context.state.snapshot().documents;
        let objects = listed(&documents, kind, &place.instance)?;
        Ok::<_, Error>(Json(objects.into_iter().map(|it| Flat::of(it, context.opener())).collect::<Vec<_>>()))
    };
    let create = move |State(context): State<Shared>, place: Place, Parameters(given): Parameters| async move {
        let created = create(&context, resource, &place.instance, given).await?;
        Ok::<_, Error>((StatusCode::CREATED, Json(Flat::of(&created, context.opener()))))
    };
    let retrieve = move |State(context): State<Shared>, place: Place| async move {
        let documents = context.state.snapshot().documents;
        let found = visible(&documents, &place.key(kind))?;
        Ok::<_, Error>(Json(Flat::of(found, context.opener())))
    };
    let update = move |State(context): State<Shared>, place: Place, Parameters(given): Parameters| async move {
        let updated = update(&context, &place.key(kind), given).await?;
        Ok::<_, Error>(Json(Flat::of(&updated, context.opener())))
    };
    let delete = move |State(context): State<Shared>, place: Place| async move {
        delete(&context, &place.key(kind)).await?;
        Ok::<_, Error>(StatusCode::NO_CONTENT)
    };
    Router::new()
        .route(resource.path, get(list).post(create))
        .route(&format!("{}/{{id}}", resource.path), get(retrieve).put(update).delete(delete))
}

/// The object, as long as neither it nor anything it can't be without is being deleted.
pub(super) fn visible<'a>(documents: &'a Documents, key: &Key) -> Result<&'a Arc<Document>, Error> {
    if key.kind.is_namespaced() {
        visible(documents, &Key::cluster(Kind::Instance, key.namespace.as_str()))?;
    }
    documents
        .live(key)
        .filter(|document| has_all(documents, document))
        .ok_or_else(|| Error::NotFound(format!("{key} does not exist")))
}

/// Whether there is all that an object goes with: a process goes with its service and its node.
fn has_all(documents: &Documents, document: &Document) -> bool {
    let Spec::Process(process) = &document.spec else { return true };
    let instance = document.metadata.namespace.as_str();
    documents.live(&Key::within(Kind::Service, instance, process.service.as_str())).is_some()
        && documents.live(&Key::within(Kind::Node, instance, process.node.as_str())).is_some()
}

/// The objects of a kind in an instance, in the order of their ids' numbers.
pub(super) fn listed<'a>(
    documents: &'a Documents,
    kind: Kind,
    instance: &'a str,
) -> Result<Vec<&'a Arc<Document>>, Error> {
    if kind.is_namespaced() {
        visible(documents, &Key::cluster(Kind::Instance, instance))?;
    }
    let mut found: Vec<_> = documents
        .within(kind, instance)
        .map(|(_, document)| document)
        .filter(|document| !document.is_deleting() && has_all(documents, document))
        .collect();
    found.sort_by(|a, b| natural(&a.metadata.name, &b.metadata.name));
    Ok(found)
}

/// The order of people: SV9 before SV10.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    fn split(id: &str) -> (&str, &str) {
        let digits = id.len() - id.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        id.split_at(id.len() - digits)
    }
    let ((word_a, number_a), (word_b, number_b)) = (split(a), split(b));
    let (number_a, number_b) = (number_a.trim_start_matches('0'), number_b.trim_start_matches('0'));
    word_a.cmp(word_b).then(number_a.len().cmp(&number_b.len())).then(number_a.cmp(number_b)).then(a.cmp(b))
}

/// Decides on the present snapshot and commits, and does so again when somebody else was faster.
pub(super) async fn change<T>(
    context: &Context,
    decide: impl Fn(&Documents) -> Result<(Vec<Edit>, T), Error>,
) -> Result<T, Error> {
    let mut bell = context.state.changes();
    for _ in 0..ATTEMPTS {
        let documents = bell.borrow_and_update().documents.clone();
        let (edits, decided) = decide(&documents)?;
        if edits.is_empty() {
            return Ok(decided);
        }
        match commit(context, &edits).await? {
            Commit::Done => return Ok(decided),
            // Without news of it there is nothing else to decide on, but the next try costs little.
            Commit::Conflict => drop(tokio::time::timeout(CATCH_UP, bell.changed()).await),
        }
    }
    Err(Error::Conflict("others change the same object at this moment; try again".into()))
}

async fn commit(context: &Context, edits: &[Edit]) -> Result<Commit, Error> {
    in_time(context.state.commit(edits, None)).await
}

/// Waits for the store, but not for ever.
pub(super) async fn in_time<T>(
    answer: impl Future<Output = Result<T, state::StateError>>,
) -> Result<T, Error> {
    match tokio::time::timeout(STORE_TIME, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Error::Unavailable(
            "the store did not answer in time; what was asked may or may not have been done: look again"
                .into(),
        )),
    }
}

async fn create(
    context: &Context,
    resource: &Resource,
    instance: &str,
    mut given: Object,
) -> Result<Document, Error> {
    let kind = resource.kind;
    let documents = context.state.snapshot().documents;
    if kind.is_namespaced() {
        visible(&documents, &Key::cluster(Kind::Instance, instance))?;
    }
    given.retain(|_, value| !value.is_null());
    let chosen = given.remove("id");
    if kind == Kind::Service {
        // What is created here is started here.
        given.entry("running").or_insert(false.into());
    }
    let id = chosen.clone().unwrap_or_else(|| format!("{}1", resource.prefix).into());
    if let Some(taken) = resource.reserved.iter().find(|name| id == **name) {
        return Err(Error::BadRequest(format!(
            "id: `{taken}` can't be an id: it stands for something else in paths; choose another"
        )));
    }
    let document = admitted(kind, &instance.into(), &id, given, &documents, &context.sealer)?;
    let document = state::born(document, &timestamp());
    if chosen.is_some() {
        return create_chosen(context, &documents, document).await;
    }
    let clear = password(&document, &context.sealer)?;
    let bind = |document: &mut Document| reseal(document, clear.as_ref(), &context.sealer);
    in_time(context.state.create_numbered(resource.prefix, document, bind)).await
}

/// Creates an object under the name that it has.
pub(super) async fn create_chosen(
    context: &Context,
    documents: &Documents,
    document: Document,
) -> Result<Document, Error> {
    let key = document.key();
    match documents.get(&key) {
        Some(old) if old.is_deleting() => {
            return Err(Error::Conflict(format!(
                "{key} is still being deleted; wait until it is gone, or choose another id"
            )));
        }
        Some(_) => return Err(Error::Conflict(format!("{key} exists already; choose another id"))),
        None => {}
    }
    let edit = Edit::Create(document);
    match commit(context, std::slice::from_ref(&edit)).await? {
        Commit::Done => {
            let (Edit::Create(document) | Edit::Replace(document) | Edit::Remove(document)) = edit;
            Ok(document)
        }
        Commit::Conflict => Err(Error::Conflict(format!("{key} exists already; choose another id"))),
    }
}

async fn update(context: &Context, key: &Key, mut given: Object) -> Result<Document, Error> {
    if given.remove("id").is_some_and(|id| id != key.name.as_str()) {
        return Err(Error::BadRequest(format!("id: the id of {key} can't be changed; leave it out")));
    }
    if key.kind == Kind::Service && given.get("running").is_some_and(Value::is_null) {
        given.insert("running".into(), false.into());
    }
    change(context, |documents| {
        let current = visible(documents, key)?;
        refuse_owned(current)?;
        let fields = merged(current, &given, &context.sealer)?;
        let (instance, id) = (key.namespace.as_str().into(), key.name.as_str().into());
        let wanted = admitted(key.kind, &instance, &id, fields, documents, &context.sealer)?;
        let updated = Document { metadata: current.metadata.clone(), spec: wanted.spec.clone() };
        Ok((Vec::from_iter(state::update(current, wanted.spec)), updated))
    })
    .await
}

/// Decides that an object goes.
pub(super) async fn delete(context: &Context, key: &Key) -> Result<(), Error> {
    change(context, |documents| {
        let current = visible(documents, key)?;
        refuse_owned(current)?;
        refuse_placed(documents, current)?;
        Ok((vec![state::deletion(current, &timestamp())], ()))
    })
    .await
}

/// The file that an object stands in, when a manifests folder keeps it as it is there.
pub(super) fn file(document: &Document) -> Option<&str> {
    let annotations = &document.metadata.annotations;
    let source = annotations.get(SOURCE).filter(|source| *source != state::CATALOGUE)?;
    Some(annotations.get(FILE).unwrap_or(source))
}

fn refuse_owned(document: &Document) -> Result<(), Error> {
    match file(document) {
        None => Ok(()),
        Some(file) => Err(Error::Conflict(format!(
            "{} stands in {file}; change it there, for the folder would put it back",
            document.key()
        ))),
    }
}

fn refuse_placed(documents: &Documents, document: &Document) -> Result<(), Error> {
    let instance = document.metadata.namespace.as_str();
    let owner = document.metadata.owner_references.iter().find(|owner| {
        let key = Key::within(owner.kind, instance, owner.name.as_str());
        documents.live(&key).is_some()
    });
    match owner {
        None => Ok(()),
        Some(owner) => Err(Error::Conflict(format!(
            "{}'s placement would make it again; change the service",
            owner.name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ordered_as_people_count() {
        let mut ids = ["SV10", "web", "SV9", "SV1", "a-2", "10", "9", "SV01", "a-10"];
        ids.sort_by(|a, b| natural(a, b));
        assert_eq!(ids, ["9", "10", "SV01", "SV1", "SV9", "SV10", "a-2", "a-10", "web"]);
    }
}
