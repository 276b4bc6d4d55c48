//! `/1.0/integrations`: the catalogue of what tenants can be given access to. Ours: the seed has tenants' integrations only.

use axum::Router;

use super::Shared;
use super::resource::{self, Resource};
use crate::model::Kind;

static INTEGRATIONS: Resource =
    Resource { kind: Kind::Integration, path: "/1.0/integrations", prefix: None, reserved: &[] };

pub(super) fn routes() -> Router<Shared> {
    resource::routes(&INTEGRATIONS)
}
