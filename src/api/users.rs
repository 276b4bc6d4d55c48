//! `/1.0/users`: who has access to which tenants, and with which credentials.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};

use super::Shared;
use super::body::Place;
use super::credentials::{CLIENT_SECRET, Credentials};
use super::error::Error;
use super::etag::UNCONDITIONAL;
use super::relation::{self, Relation};
use super::resource::{self, Resource, Shown, change_one, visible};
use crate::model::{Key, Kind};

static USERS: Resource = Resource { kind: Kind::User, path: "/1.0/users", prefix: None, reserved: &[] };

static TENANTS: Relation =
    Relation { from: Kind::User, to: Kind::Tenant, path: "/1.0/users/{id}/tenants/{other}" };

pub(super) fn routes() -> Router<Shared> {
    resource::routes(&USERS)
        .merge(relation::routes(&TENANTS))
        .route("/1.0/users/{id}/tenants", get(tenants))
        .route("/1.0/users/{id}/client-secret", post(new_secret))
}

/// The ids of the tenants that a user has access to. Ours: the seed has them in the user's object only.
async fn tenants(State(context): State<Shared>, place: Place) -> Result<Json<Vec<String>>, Error> {
    let documents = context.documents();
    let key = place.key(Kind::User);
    visible(&documents, &key)?;
    let mut tenants = documents.user(&key).map(|user| user.tenants.clone()).unwrap_or_default();
    tenants.retain(|id| documents.live(&Key::cluster(Kind::Tenant, id.as_str())).is_some());
    Ok(Json(tenants))
}

/// Makes another client secret, and shows it this once. The one before is not valid any more. Ours: the seed has no such thing.
async fn new_secret(State(context): State<Shared>, place: Place) -> Result<Shown, Error> {
    let key = place.key(Kind::User);
    let (credentials, secret) = Credentials::new_secret()?;
    let changed = change_one(&context, &key, &UNCONDITIONAL, |_, current| {
        let mut spec = current.spec.clone();
        credentials.put_into(&mut spec)?;
        Ok(spec)
    });
    let once = Some((CLIENT_SECRET, secret.expose().to_owned()));
    Ok(Shown::of(StatusCode::OK, &changed.await?, &context).with(once))
}
