//! `/1.0/integrations`: the catalogue of what tenants can be given access to. Ours: the seed has tenants' integrations only.

use super::resource::{self, Resource};
use super::route::Route;
use crate::model::Kind;

static INTEGRATIONS: Resource = Resource {
    kind: Kind::Integration,
    path: "/1.0/integrations",
    prefix: None,
    reserved: &[],
    gone: "Tenants that had access to it have none any more.",
};

pub(super) fn routes() -> Vec<Route> {
    resource::routes(&INTEGRATIONS)
}
