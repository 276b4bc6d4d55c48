//! `/status`: one page on the controller itself: who leads, how the store is, what of all that is declared runs. Ours; for
//! people, by `mainstay status`.
//!
//! Each server tells of itself. What only the leader sees, another one has it say; what nobody can say is left out.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::forward::{SENT_ON, STALE};
use super::route::{Content, Operation, Route};
use super::running::{self, ServiceStanding};
use super::{Context, Shared};
use crate::model::{Documents, Kind, Spec};
use crate::reconcile::leadership::Role;
use crate::reconcile::observed::Views;
use crate::source::board::SourceStatus;

const PATH: &str = "/status";

/// How long the store may take to answer before it is said not to.
const STORE_WITHIN: Duration = Duration::from_secs(3);

pub(super) fn routes() -> Vec<Route> {
    let operation =
        Operation::new("status", "Who leads, how the store is, and what of all that is declared runs");
    vec![Route::get(PATH, status, operation.answers(StatusCode::OK, Content::of::<Status>()))]
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
struct Status {
    server: Server,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<Leader>,
    store: Store,
    /// How many nodes are in each state; left out when nobody sees them.
    #[serde(skip_serializing_if = "Value::is_null")]
    nodes: Value,
    /// How many services are `running`, `stopped`, not yet as they are asked to be (`changing`), or `unknown`.
    #[serde(skip_serializing_if = "Value::is_null")]
    services: Value,
    /// Where this server's manifests come from, and how that is.
    sources: Vec<SourceStatus>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Server {
    /// Tells one run of a server from all others.
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// `leads`, `follows`, or `waits` for somebody to lead.
    role: &'static str,
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Leader {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<String>,
    pub(super) epoch: u64,
    /// RFC 3339, by its own clock.
    pub(super) since: String,
    /// The store's revision at which it was elected.
    pub(super) revision: u64,
    /// How many seconds ago that was known, where the store has not been heard since.
    #[serde(skip_serializing_if = "Option::is_none")]
    heard_seconds_ago: Option<u64>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
struct Store {
    answers: bool,
    /// The revision of the snapshot.
    revision: u64,
    /// For how long the snapshot is not known to be current.
    age_seconds: u64,
}

/// What a role of this server is called, and who leads in it.
pub(super) fn leader(context: &Context, role: &Role) -> (&'static str, Option<Leader>) {
    let age = context.state.age();
    let shown = |leader: &crate::state::leader::Leader, is_own: bool| Leader {
        heard_seconds_ago: (!is_own && age >= STALE).then_some(age.as_secs()),
        address: leader.address.clone(),
        epoch: leader.epoch.0,
        since: leader.since.clone(),
        revision: leader.revision,
    };
    match role {
        Role::Leads(leader) => ("leads", Some(shown(leader, true))),
        Role::Follows(leader) => ("follows", Some(shown(leader, false))),
        Role::Nobody => ("waits", None),
    }
}

async fn status(State(context): State<Shared>, headers: HeaderMap) -> Json<Status> {
    let checked = tokio::time::timeout(STORE_WITHIN, context.state.check()).await;
    let snapshot = context.state.snapshot();
    let age = context.state.age();
    let store = Store {
        answers: matches!(checked, Ok(Ok(()))),
        revision: snapshot.revision,
        age_seconds: if age < STALE { 0 } else { age.as_secs() },
    };
    let standing = context.standing.role();
    let (role, leader) = leader(&context, &standing);
    let (nodes, services) = match standing {
        Role::Leads(_) => {
            let views = context.observed.all();
            (json(&nodes(&snapshot.documents, &views)), json(&services(&snapshot.documents, &views)))
        }
        Role::Follows(leader) if !headers.contains_key(&SENT_ON) => {
            let page = context.forwarder.page(PATH, &headers, context.standing.clone(), &leader).await;
            let part = |name: &str| page.as_ref().map_or(Value::Null, |page| page[name].clone());
            (part("nodes"), part("services"))
        }
        Role::Follows(_) | Role::Nobody => (Value::Null, Value::Null),
    };
    let candidate = context.standing.candidate();
    let server = Server { id: candidate.server.clone(), address: candidate.address.clone(), role };
    Json(Status { server, leader, store, nodes, services, sources: context.sources.all() })
}

fn json(counts: &BTreeMap<&'static str, u64>) -> Value {
    counts.iter().map(|(name, count)| ((*name).to_owned(), Value::from(*count))).collect()
}

/// How many nodes are in each state.
fn nodes(documents: &Documents, views: &Views) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    for (key, _) in documents.of_kind(Kind::Node).filter(|(_, document)| !document.is_deleting()) {
        let view = views.get(&(key.namespace.clone(), key.name.clone()));
        *counts.entry(view.map_or("connecting", |view| view.link.name())).or_default() += 1;
    }
    counts
}

/// How many services stand in which way to what they are asked.
fn services(documents: &Documents, views: &Views) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    for (instance, _) in documents.of_kind(Kind::Instance) {
        let mut asked = Vec::new();
        for (key, document) in documents.within(Kind::Service, &instance.name) {
            if let Spec::Service(spec) = &document.spec
                && !document.is_deleting()
            {
                asked.push((key.name.clone(), spec.running.unwrap_or(true)));
            }
        }
        let standings = running::services(documents, views, &instance.name, &asked);
        for (standing, (_, asked)) in standings.iter().zip(&asked) {
            *counts.entry(word(standing, *asked)).or_default() += 1;
        }
    }
    counts
}

fn word(standing: &ServiceStanding, asked: bool) -> &'static str {
    match (standing.doubt().is_some(), standing.running, asked) {
        (true, _, _) => "unknown",
        (false, true, true) => "running",
        (false, false, false) => "stopped",
        (false, _, _) => "changing",
    }
}
