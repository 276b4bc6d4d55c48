//! `/1.0/instances`.

use axum::Router;

use super::Shared;
use super::resource::{self, Resource};
use crate::model::Kind;

static INSTANCES: Resource =
    Resource { kind: Kind::Instance, path: "/1.0/instances", prefix: Some("IN"), reserved: &[] };

pub(super) fn routes() -> Router<Shared> {
    resource::routes(&INSTANCES)
}
