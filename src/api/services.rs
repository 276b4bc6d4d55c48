//! `/1.0/instances/{instance}/services`, and what is done with services.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;

use super::body::{Patience, Place};
use super::error::Error;
use super::flat::Flat;
use super::resource::{self, Resource, listed, visible};
use super::running::{self, ServiceStanding};
use super::{Context, Shared, switch};
use crate::model::{Documents, Key, Kind};

static SERVICES: Resource = Resource {
    kind: Kind::Service,
    path: "/1.0/instances/{instance}/services",
    prefix: Some("SV"),
    reserved: &["start", "stop", "status"],
};

pub(super) fn routes() -> Router<Shared> {
    let switch_one = |asked: bool| {
        post(move |State(context): State<Shared>, place: Place, patience: Patience| async move {
            switch::service(&context, &place.key(Kind::Service), asked, patience).await.map(Json)
        })
    };
    let switch_all = |asked: bool| {
        post(move |State(context): State<Shared>, place: Place, patience: Patience| async move {
            let ids = newest_first(&context.documents(), &place.instance)?;
            let ids: Vec<String> = ids.into_iter().map(|(id, _)| id).collect();
            switch::services(&context, &place.instance, &ids, asked, patience).await.map(Json)
        })
    };
    resource::routes(&SERVICES)
        .route("/1.0/instances/{instance}/services/start", switch_all(true))
        .route("/1.0/instances/{instance}/services/stop", switch_all(false))
        .route("/1.0/instances/{instance}/services/status", get(status_of_all))
        .route("/1.0/instances/{instance}/services/{id}/start", switch_one(true))
        .route("/1.0/instances/{instance}/services/{id}/stop", switch_one(false))
        .route("/1.0/instances/{instance}/services/{id}/status", get(status))
        .route("/1.0/instances/{instance}/services/{id}/processes", get(processes))
}

/// The answer to "does it run", with the id where it is one of several.
#[derive(Serialize)]
struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

async fn status(State(context): State<Shared>, place: Place) -> Result<Json<Status>, Error> {
    let documents = context.documents();
    let instance = place.instance.clone();
    let key = place.key(Kind::Service);
    visible(&documents, &key)?;
    let mut found = standings(&context, &documents, &instance, &[asked(&documents, &key)]);
    let standing = found.pop().ok_or_else(|| Error::NotFound("the service does not exist".into()))?;
    Ok(Json(Status { id: None, running: standing.running, reason: standing.doubt().map(str::to_owned) }))
}

async fn status_of_all(State(context): State<Shared>, place: Place) -> Result<Json<Vec<Status>>, Error> {
    let documents = context.documents();
    let services = newest_first(&documents, &place.instance)?;
    let found = standings(&context, &documents, &place.instance, &services);
    let status = |standing: ServiceStanding| Status {
        running: standing.running,
        reason: standing.doubt().map(str::to_owned),
        id: Some(standing.id),
    };
    Ok(Json(found.into_iter().map(status).collect()))
}

async fn processes(State(context): State<Shared>, place: Place) -> Result<Json<Vec<Flat>>, Error> {
    let documents = context.documents();
    let instance = place.instance.clone();
    let service = place.key(Kind::Service);
    visible(&documents, &service)?;
    let belongs = |key: &Key| documents.process(key).is_some_and(|process| process.service == service.name);
    let all = listed(&documents, Kind::Process, &instance)?;
    let all = all.into_iter().filter(|document| belongs(&document.key()));
    Ok(Json(all.map(|document| Flat::of(document, context.opener())).collect()))
}

/// A service and what it is asked to do.
fn asked(documents: &Documents, key: &Key) -> (String, bool) {
    let running = documents.service(key).and_then(|service| service.running);
    (key.name.clone(), running.unwrap_or(true))
}

/// The services and what they are asked to do, in the seed's order: SV3, SV2, SV1.
fn newest_first(documents: &Documents, instance: &str) -> Result<Vec<(String, bool)>, Error> {
    let services = listed(documents, Kind::Service, instance)?;
    Ok(services.into_iter().rev().map(|document| asked(documents, &document.key())).collect())
}

fn standings(
    context: &Context,
    documents: &Documents,
    instance: &str,
    asked: &[(String, bool)],
) -> Vec<ServiceStanding> {
    running::services(documents, &context.observed.changes().borrow(), instance, asked)
}
