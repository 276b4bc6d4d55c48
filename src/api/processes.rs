//! `/1.0/processes`. Their ids are unique over the platform, so no instance stands in the path.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use uuid::Uuid;

use super::body::{PATIENCE, Parameters, Patience, Place};
use super::error::Error;
use super::etag::Conditions;
use super::flat::{Flat, admitted, check_names};
use super::resource::{Shown, create_chosen, delete, everywhere, retrieve, visible};
use super::route::{Content, Operation, Route, Version};
use super::running::{self, ProcessStanding};
use super::{Shared, switch};
use crate::clock::timestamp;
use crate::model::{Documents, Key, Kind, Spec};
use crate::state::born_of_api;

pub(super) fn routes() -> Vec<Route> {
    let switch = |asked: bool| {
        move |State(context): State<Shared>, place: Place, patience: Patience| async move {
            let key = find(&context.documents(), &place.id)?;
            switch::process(&context, &key, asked, patience).await.map(Json)
        }
    };
    let switched = |id: &str, summary: &str| {
        Operation::new(id, summary)
            .described(switch::WAITED)
            .asks(&PATIENCE)
            .answers(StatusCode::OK, Content::of::<ProcessStanding>())
            .conflicts()
    };
    let list_all = Operation::new("listProcesses", "List all processes of all instances");
    let create_one = Operation::new("createProcess", "Create a process: a service on a node")
        .described("Its id is given to it. It does not run before it is started.")
        .takes(Content::New(Kind::Process))
        .versioned(Version::Answered)
        .answers(StatusCode::CREATED, Content::Object(Kind::Process))
        .conflicts();
    let retrieve_one = Operation::new("retrieveProcess", "Retrieve a process")
        .versioned(Version::Read)
        .answers(StatusCode::OK, Content::Object(Kind::Process));
    let delete_one = Operation::new("deleteProcess", "Delete a process")
        .described(
            "It is stopped and removed from its node. What a service's placement makes is not deleted here.",
        )
        .versioned(Version::Deleted)
        .conflicts();
    let status_of_one = Operation::new("retrieveProcessStatus", "Retrieve whether a process runs");
    vec![
        Route::get("/1.0/processes", list, list_all.answers(StatusCode::OK, Content::Objects(Kind::Process))),
        Route::post("/1.0/processes", create, create_one),
        Route::get("/1.0/processes/{id}", get_one, retrieve_one),
        Route::delete("/1.0/processes/{id}", remove, delete_one),
        Route::post("/1.0/processes/{id}/start", switch(true), switched("startProcess", "Start a process")),
        Route::post("/1.0/processes/{id}/stop", switch(false), switched("stopProcess", "Stop a process")),
        Route::get(
            "/1.0/processes/{id}/status",
            status,
            status_of_one.answers(StatusCode::OK, Content::of::<ProcessStanding>()),
        ),
    ]
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
    if given.contains_key("id") {
        return Err(Error::BadRequest("id: a process is given its id; leave it out".into()));
    }
    check_names(Kind::Process, &given, &[])?;
    given.retain(|_, value| !value.is_null());
    let Some(instance) = given.remove("instance") else {
        return Err(Error::BadRequest("`instance` is missing".into()));
    };
    let names: Vec<String> = given.keys().cloned().collect();
    // What is created here is started here.
    given.entry("running").or_insert(false.into());
    let documents = context.documents();
    let id = Uuid::new_v4().to_string().into();
    let process = admitted(Kind::Process, &instance, &id, given, &documents, &context.sealer)?;
    if let Spec::Process(spec) = &process.spec {
        refuse_cordoned(&documents, &Key::within(Kind::Node, &*process.metadata.namespace, &*spec.node))?;
    }
    let created = create_chosen(&context, born_of_api(process, &names, &timestamp())).await?;
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
    let all = everywhere(&documents, Kind::Process)?;
    Ok(Json(all.into_iter().map(|process| Flat::of(process, context.opener())).collect()))
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
