//! `/1.0/instances`.

use super::resource::{self, Resource};
use super::route::Route;
use crate::model::Kind;

static INSTANCES: Resource = Resource {
    kind: Kind::Instance,
    path: "/1.0/instances",
    prefix: Some("IN"),
    reserved: &[],
    gone: "All its services are stopped, and what it holds is removed.",
};

pub(super) fn routes() -> Vec<Route> {
    resource::routes(&INSTANCES)
}
