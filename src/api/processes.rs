//! `/1.0/processes`. Their ids are unique over the platform, so no instance stands in the path.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use uuid::Uuid;

use super::body::{Parameters, Patience, Place};
use super::error::Error;
use super::etag::Conditions;
use super::flat::{Flat, admitted};
use super::resource::{Shown, create_chosen, delete, listed, retrieve, visible};
use super::running::{self, ProcessStanding};
use super::{Shared, switch};
use crate::clock::timestamp;
use crate::model::{Documents, Key, Kind, Spec};
use crate::state::born;

pub(super) fn routes() -> Router<Shared> {
    let switch = |asked: bool| {
        post(move |State(context): State<Shared>, place: Place, patience: Patience| async move {
            let key = find(&context.documents(), &place.id)?;
            switch::process(&context, &key, asked, patience).await.map(Json)
        })
    };
    Router::new()
        .route("/1.0/processes", get(list).post(create))
        .route("/1.0/processes/{id}", get(get_one).delete(remove))
        .route("/1.0/processes/{id}/start", switch(true))
        .route("/1.0/processes/{id}/stop", switch(false))
        .route("/1.0/processes/{id}/status", get(status))
}

/// The process of this id, in whatever instance it is.
pub(super) fn find(documents: &Documents, id: &str) -> Result<Key, Error> {
    documents
        .of_kind(Kind::Instance)
        .map(|(instance, _)| Key::within(Kind::Process, instance.name.as_str(), id))
        .find(|key| visible(documents, key).is_ok())
        .ok_or_else(|| Error::NotFound(format!("Process {id} does not exist")))
}

async fn create(State(context): State<Shared>, Parameters(mut given): Parameters) -> Result<Shown, Error> {
    given.retain(|_, value| !value.is_null());
    if given.contains_key("id") {
        return Err(Error::BadRequest("id: a process is given its id; leave it out".into()));
    }
    let Some(instance) = given.remove("instance") else {
        return Err(Error::BadRequest("`instance` is missing".into()));
    };
    // What is created here is started here.
    given.entry("running").or_insert(false.into());
    let documents = context.documents();
    let id = Uuid::new_v4().to_string().into();
    let process = admitted(Kind::Process, &instance, &id, given, &documents, &context.sealer)?;
    if let Spec::Process(spec) = &process.spec {
        refuse_cordoned(&documents, &Key::within(Kind::Node, &*process.metadata.namespace, &*spec.node))?;
    }
    let created = create_chosen(&context, born(process, &timestamp())).await?;
    Ok(Shown::created(&documents, &created, &context))
}

/// Whoever names a node that is not to be deployed against has not seen that; a start would only wait.
fn refuse_cordoned(documents: &Documents, node: &Key) -> Result<(), Error> {
    match documents.node(node) {
        Some(spec) if spec.status == Some(false) => Err(Error::Conflict(format!(
            "node: {node} is cordoned (`status: false`): nothing new is placed there; set its `status` to true, or name another node"
        ))),
        Some(_) | None => Ok(()),
    }
}

async fn list(State(context): State<Shared>) -> Result<Json<Vec<Flat>>, Error> {
    let documents = context.documents();
    let mut all = Vec::new();
    for instance in listed(&documents, Kind::Instance, "")? {
        let processes = listed(&documents, Kind::Process, &instance.metadata.name)?;
        all.extend(processes.into_iter().map(|process| Flat::of(process, context.opener())));
    }
    Ok(Json(all))
}

async fn get_one(
    State(context): State<Shared>,
    place: Place,
    conditions: Conditions,
) -> Result<Response, Error> {
    let key = find(&context.documents(), &place.id)?;
    retrieve(&context, &key, &conditions)
}

async fn remove(
    State(context): State<Shared>,
    place: Place,
    conditions: Conditions,
) -> Result<StatusCode, Error> {
    let key = find(&context.documents(), &place.id)?;
    delete(&context, &key, &conditions).await
}

async fn status(State(context): State<Shared>, place: Place) -> Result<Json<ProcessStanding>, Error> {
    let documents = context.documents();
    let key = find(&documents, &place.id)?;
    let document = visible(&documents, &key)?;
    let Spec::Process(spec) = &document.spec else {
        return Err(Error::NotFound(format!("{key} does not exist")));
    };
    let asked = switch::wanted(&documents, &key, spec);
    Ok(Json(running::process(&documents, &context.observed.changes().borrow(), document, spec, asked)))
}
