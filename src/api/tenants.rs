//! `/1.0/tenants`: the tenants, which instance serves each, what it may use, and who may use it.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use serde_json::Value;

use super::body::{Parameters, Place};
use super::error::Error;
use super::etag::UNCONDITIONAL;
use super::flat::Flat;
use super::relation::{self, Relation};
use super::resource::{self, Resource, change_one, get_one, visible};
use super::{Context, Shared};
use crate::model::id::did_you_mean;
use crate::model::kinds::{Object, TenantSpec};
use crate::model::{Document, Documents, Key, Kind, Spec};

static TENANTS: Resource = Resource { kind: Kind::Tenant, path: "/1.0/tenants", prefix: None, reserved: &[] };

static INTEGRATIONS: Relation =
    Relation { from: Kind::Tenant, to: Kind::Integration, path: "/1.0/tenants/{id}/integrations/{other}" };

pub(super) fn routes() -> Router<Shared> {
    resource::routes(&TENANTS)
        .merge(relation::routes(&INTEGRATIONS))
        .route("/1.0/tenants/{id}/users", get(users))
        .route("/1.0/tenants/{id}/instance", get(instance).post(set_instance).delete(leave_instance))
        .route("/1.0/tenants/{id}/integrations", get(integrations))
        .route("/1.0/instances/{id}/tenants", get(of_instance))
        // The seed's examples spell the first two like this; its definitions do not.
        .route("/1.0/tenant/{id}", get_one(Kind::Tenant))
        .route("/1.0/tenant/{id}/instance", get(instance))
        .route("/1.0/tenant/{id}/users", get(users))
        .route("/1.0/tenant/{id}/integrations", get(integrations))
}

/// The tenant, as long as it is there.
fn tenant<'a>(documents: &'a Documents, key: &Key) -> Result<&'a TenantSpec, Error> {
    visible(documents, key)?;
    documents.tenant(key).ok_or_else(|| Error::NotFound(format!("{key} does not exist")))
}

/// The instance that serves a tenant now.
fn current_instance<'a>(documents: &'a Documents, key: &Key) -> Result<&'a Document, Error> {
    let none = || Error::NotFound(format!("{key} is on no instance"));
    let id = tenant(documents, key)?.instance.as_ref().ok_or_else(none)?;
    visible(documents, &Key::cluster(Kind::Instance, id.as_str())).map(AsRef::as_ref).map_err(|_| none())
}

async fn users(State(context): State<Shared>, place: Place) -> Result<Json<Vec<String>>, Error> {
    let documents = context.documents();
    let key = place.key(Kind::Tenant);
    visible(&documents, &key)?;
    Ok(Json(documents.users_of(&key.name).map(|(user, _)| user.name.clone()).collect()))
}

/// Those that are in the catalogue, in the order in which they were given.
async fn integrations(State(context): State<Shared>, place: Place) -> Result<Json<Vec<String>>, Error> {
    let documents = context.documents();
    let mut ids = tenant(&documents, &place.key(Kind::Tenant))?.integrations.clone();
    ids.retain(|id| documents.live(&Key::cluster(Kind::Integration, id.as_str())).is_some());
    Ok(Json(ids))
}

async fn of_instance(State(context): State<Shared>, place: Place) -> Result<Json<Vec<Flat>>, Error> {
    let documents = context.documents();
    let key = place.key(Kind::Instance);
    visible(&documents, &key)?;
    let tenants = documents.tenants_of(&key.name).filter_map(|(tenant, _)| documents.live(tenant));
    Ok(Json(tenants.map(|tenant| Flat::of(tenant, context.opener())).collect()))
}

async fn instance(State(context): State<Shared>, place: Place) -> Result<Json<Flat>, Error> {
    let documents = context.documents();
    let found = current_instance(&documents, &place.key(Kind::Tenant))?;
    Ok(Json(Flat::of(found, context.opener())))
}

/// Which instance a tenant is on.
#[derive(Serialize)]
struct Seat {
    tenant: String,
    instance: String,
}

/// The seed calls it an upsert: whatever instance the tenant was on, it is on this one then.
async fn set_instance(
    State(context): State<Shared>,
    place: Place,
    Parameters(given): Parameters,
) -> Result<(StatusCode, Json<Seat>), Error> {
    let key = place.key(Kind::Tenant);
    visible(&context.documents(), &key)?;
    let instance = only_id(&given)?;
    put(&context, &key, |documents, _| {
        visible(documents, &Key::cluster(Kind::Instance, instance))?;
        Ok(Some(instance.to_owned()))
    })
    .await?;
    Ok((StatusCode::CREATED, Json(Seat { tenant: key.name, instance: instance.to_owned() })))
}

async fn leave_instance(State(context): State<Shared>, place: Place) -> Result<StatusCode, Error> {
    let key = place.key(Kind::Tenant);
    put(&context, &key, |documents, key| current_instance(documents, key).map(|_| None)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Puts a tenant on an instance, or on none.
async fn put(
    context: &Context,
    key: &Key,
    decide: impl Fn(&Documents, &Key) -> Result<Option<String>, Error>,
) -> Result<(), Error> {
    let put = change_one(context, key, &UNCONDITIONAL, |documents, current| {
        let instance = decide(documents, key)?;
        let mut spec = current.spec.clone();
        if let Spec::Tenant(tenant) = &mut spec {
            tenant.instance = instance;
        }
        Ok(spec)
    });
    put.await.map(drop)
}

/// The one parameter `id` of a body.
fn only_id(given: &Object) -> Result<&str, Error> {
    if let Some(unknown) = given.keys().find(|name| *name != "id") {
        let fix = did_you_mean(unknown, ["id"]).map_or("the only one here is `id`", |_| "did you mean `id`?");
        return Err(Error::BadRequest(format!("{unknown}: unknown field `{unknown}`; {fix}")));
    }
    match given.get("id") {
        Some(Value::String(id)) => Ok(id),
        Some(_) => Err(Error::BadRequest("id: it has to be the id of an instance, a string".into())),
        None => Err(Error::BadRequest("`id` is missing: the id of an instance".into())),
    }
}
