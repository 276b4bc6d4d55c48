//! `/1.0/tenants`: the tenants, which instance serves each, what it may use, and who may use it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::body::{Parameters, Place};
use super::error::Error;
use super::etag::UNCONDITIONAL;
use super::flat::Flat;
use super::relation::{self, Relation};
use super::resource::{self, Resource, change_one, get_one, natural, visible};
use super::route::{Content, Operation, Route};
use super::{Context, Shared};
use crate::model::id::did_you_mean;
use crate::model::kinds::{Object, TenantSpec};
use crate::model::{Document, Documents, Key, Kind, Spec};

static TENANTS: Resource = Resource {
    kind: Kind::Tenant,
    path: "/1.0/tenants",
    prefix: None,
    reserved: &[],
    gone: "Its events are not processed any more, and nobody has access to it.",
};

static INTEGRATIONS: Relation = Relation {
    from: Kind::Tenant,
    to: Kind::Integration,
    path: "/1.0/tenants/{id}/integrations/{other}",
    about: [
        ("addIntegrationToTenant", "Give a tenant access to an integration"),
        ("removeIntegrationFromTenant", "Take the access to an integration from a tenant"),
    ],
};

pub(super) fn routes() -> Vec<Route> {
    let set = Operation::new("addTenantToInstance", "Put a tenant on an instance")
        .described("It leaves the one that it was on, and loses its state there.")
        .takes(Content::of::<InstanceId>())
        .answers(StatusCode::CREATED, Content::Ids(Kind::Tenant, Kind::Instance))
        .conflicts();
    let leave = Operation::new("removeTenantFromInstance", "Take a tenant from its instance")
        .described("It loses its state there.")
        .conflicts();
    let tenants_of = Operation::new("listTenantsOfInstance", "List the tenants on an instance");
    let mut routes = resource::routes(&TENANTS);
    routes.extend(relation::routes(&INTEGRATIONS));
    routes.extend([
        Route::post("/1.0/tenants/{id}/instance", set_instance, set),
        Route::delete("/1.0/tenants/{id}/instance", leave_instance, leave),
        Route::get(
            "/1.0/instances/{id}/tenants",
            of_instance,
            tenants_of.answers(StatusCode::OK, Content::Objects(Kind::Tenant)),
        ),
        get_one("/1.0/tenant/{id}", Kind::Tenant, singular(resource::retrieved(Kind::Tenant))),
    ]);
    routes.extend(reads("/1.0/tenants/{id}", |operation| operation));
    routes.extend(reads("/1.0/tenant/{id}", singular));
    routes
}

/// What is read of a tenant, under either spelling of its path.
fn reads(path: &str, said: impl Fn(Operation) -> Operation) -> [Route; 3] {
    let read = |id: &str, summary: &str, answer: Content| {
        said(Operation::new(id, summary).answers(StatusCode::OK, answer))
    };
    let ids = Content::of::<Vec<String>>();
    [
        Route::get(
            format!("{path}/users"),
            users,
            read("listUsersOfTenant", "List the users with access to a tenant", ids),
        ),
        Route::get(
            format!("{path}/instance"),
            instance,
            read(
                "retrieveInstanceOfTenant",
                "Retrieve the instance that a tenant is on",
                Content::Object(Kind::Instance),
            ),
        ),
        Route::get(
            format!("{path}/integrations"),
            integrations,
            read("listIntegrationsOfTenant", "List the integrations that a tenant may use", ids),
        ),
    ]
}

/// The seed's examples spell two paths like this, and its definitions do not; so it is served, and recommended to nobody.
fn singular(operation: Operation) -> Operation {
    Operation { id: format!("{}Singular", operation.id), ..operation }
        .described("A spelling in the Platform API's examples of what is at `/1.0/tenants/{id}`.")
}

/// The instance that a tenant is to be on, as it is described.
#[derive(JsonSchema)]
#[expect(
    dead_code,
    reason = "only its shape is used: what is wrong with one is said in the words of the flat form"
)]
struct InstanceId {
    /// Its id.
    id: String,
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
    let mut users: Vec<String> = documents.users_of(&key.name).map(|(user, _)| user.name.clone()).collect();
    users.sort_by(|a, b| natural(a, b));
    Ok(Json(users))
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
    let mut tenants: Vec<_> = tenants.collect();
    tenants.sort_by(|a, b| natural(&a.metadata.name, &b.metadata.name));
    Ok(Json(tenants.into_iter().map(|tenant| Flat::of(tenant, context.opener())).collect()))
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
