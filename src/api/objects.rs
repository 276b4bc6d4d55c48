//! `/apis/mainstay.dev/v1`: the documents themselves, each with what is observed of it as its status; for `mainstay get` and what else wants
//! more than the flat form says. Paths, lists, selectors and watches are shaped as Kubernetes' are.
//!
//! **Invariant:** no answer has a secret in clear. A node's password is shown sealed, and only to who may see it.
//! **Invariant:** what is shown can be applied again, and changes no field; who applies it owns all of them then.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::body::{Place, pairs, unasked};
use super::error::Error;
use super::etag::Conditions;
use super::resource::{self, everywhere, listed, visible};
use super::route::{Asked, Content, Operation, Route};
use super::switch::wanted;
use super::{Context, Secrets, Shared, nodes, rollout, running};
use crate::clock::rfc3339;
use crate::model::meta::API_VERSION;
use crate::model::{Document, Documents, Key, Kind, Metadata, Spec};

/// Where all is.
pub(super) const ROOT: &str = "/apis/mainstay.dev/v1";

/// How long what has changed is gathered before a watch tells it.
const GATHERED: Duration = Duration::from_millis(100);

/// How often a watch says that it goes on though nothing changes; clients may take a minute of silence for a lost connection.
const SIGN_OF_LIFE: Duration = Duration::from_secs(20);

/// The kinds that are served, and what they are called in paths. Events are at `/1.0/events`.
const PLURALS: [(Kind, &str); 9] = [
    (Kind::Instance, "instances"),
    (Kind::Integration, "integrations"),
    (Kind::ServiceType, "servicetypes"),
    (Kind::Tenant, "tenants"),
    (Kind::User, "users"),
    (Kind::Node, "nodes"),
    (Kind::Service, "services"),
    (Kind::Process, "processes"),
    (Kind::Revision, "revisions"),
];

static QUERY: [Asked; 2] = [
    Asked {
        name: "labelSelector",
        about: "Only objects with these labels: `a=b`, `a!=b`, `a` (there is one), `!a` (there is none), separated by commas.",
        schema: r#"{"type": "string"}"#,
    },
    Asked {
        name: "watch",
        about: "Goes on: each object, and then what changes, a line of JSON each, `{\"type\": \"ADDED\" | \"MODIFIED\" | \"DELETED\" | \"BOOKMARK\", \"object\": …}`. What is there is told first, and its end by a `BOOKMARK`, which also comes now and then while nothing changes.",
        schema: r#"{"type": "boolean", "default": false}"#,
    },
];

pub(super) fn routes() -> Vec<Route> {
    PLURALS.into_iter().flat_map(|(kind, plural)| routes_of(kind, plural)).collect()
}

fn routes_of(kind: Kind, plural: &str) -> Vec<Route> {
    let name = kind.name();
    let listed = |id: String, summary: String| {
        Operation::new(id, summary).asks(&QUERY).answers(StatusCode::OK, Content::AnyJson)
    };
    let list = move |State(context): State<Shared>, place: Place, wish: Wish| {
        std::future::ready(list(context, kind, place.instance, wish))
    };
    let get = move |State(context): State<Shared>, place: Place| {
        std::future::ready(get(&context, &place.key(kind)))
    };
    let delete = move |State(context): State<Shared>, place: Place, conditions: Conditions| async move {
        resource::delete(&context, &place.key(kind), &conditions).await
    };
    let mut routes = vec![Route::get(
        format!("{ROOT}/{plural}"),
        list,
        listed(format!("listDocumentsOf{name}"), format!("List the documents of kind {name}")),
    )];
    let mut one = format!("{ROOT}/{plural}/{{id}}");
    if kind.is_namespaced() {
        let within = format!("{ROOT}/namespaces/{{instance}}/{plural}");
        one = format!("{within}/{{id}}");
        routes.push(Route::get(
            within,
            list,
            listed(
                format!("listDocumentsOf{name}InInstance"),
                format!("List an instance's documents of kind {name}"),
            ),
        ));
    }
    let retrieve =
        Operation::new(format!("retrieveDocumentOf{name}"), format!("Retrieve a document of kind {name}"));
    routes.push(Route::get(one.as_str(), get, retrieve.answers(StatusCode::OK, Content::AnyJson)));
    if kind != Kind::Revision {
        let remove =
            Operation::new(format!("deleteDocumentOf{name}"), format!("Delete a document of kind {name}"));
        routes.push(Route::delete(one, delete, remove.conflicts()));
    }
    routes
}

/// What a list asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wish {
    selector: Vec<Requirement>,
    watch: bool,
}

/// What a label has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    Is(String, String),
    IsNot(String, String),
    Exists(String),
    IsMissing(String),
}

impl Requirement {
    fn parse(text: &str) -> Result<Requirement, String> {
        let text = text.trim();
        let named = |name: &str| match name.trim() {
            "" => Err(format!("labelSelector: {text:?} names no label; write a=b, a!=b, a or !a")),
            name => Ok(name.to_owned()),
        };
        if let Some((name, value)) = text.split_once("!=") {
            return Ok(Requirement::IsNot(named(name)?, value.trim().to_owned()));
        }
        if let Some((name, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
            return Ok(Requirement::Is(named(name)?, value.trim().to_owned()));
        }
        match text.strip_prefix('!') {
            Some(name) => Ok(Requirement::IsMissing(named(name)?)),
            None => Ok(Requirement::Exists(named(text)?)),
        }
    }

    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Requirement::Is(name, value) => labels.get(name) == Some(value),
            Requirement::IsNot(name, value) => labels.get(name) != Some(value),
            Requirement::Exists(name) => labels.contains_key(name),
            Requirement::IsMissing(name) => !labels.contains_key(name),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Wish {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Wish, Error> {
        wish(&parts.uri).map_err(Error::BadRequest)
    }
}

fn wish(uri: &Uri) -> Result<Wish, String> {
    let mut wish = Wish::default();
    for (name, value) in pairs(uri)? {
        match (name.as_str(), value.as_str()) {
            ("labelSelector", "") => {}
            ("labelSelector", text) => {
                wish.selector = text.split(',').map(Requirement::parse).collect::<Result<_, _>>()?;
            }
            ("watch", "true" | "1") => wish.watch = true,
            ("watch", "false" | "0") => wish.watch = false,
            ("watch", _) => return Err("watch: write true or false".into()),
            (other, _) => return Err(unasked(other, &QUERY)),
        }
    }
    Ok(wish)
}

fn get(context: &Context, key: &Key) -> Result<Json<Value>, Error> {
    let documents = context.documents();
    let document = visible(&documents, key)?;
    Ok(Json(shown(context, &documents, document)))
}

fn list(context: Shared, kind: Kind, instance: String, wish: Wish) -> Result<Response, Error> {
    let snapshot = context.state.snapshot();
    let documents = snapshot.documents.declared();
    let found = found(&documents, kind, &instance, &wish)?;
    if wish.watch {
        return Ok(watch(context, kind, instance, wish));
    }
    let items: Vec<Value> = found.into_iter().map(|document| shown(&context, &documents, document)).collect();
    let revision = snapshot.revision.to_string();
    Ok(Json(json!({
        "apiVersion": API_VERSION,
        "kind": format!("{}List", kind.name()),
        "metadata": { "resourceVersion": revision },
        "items": items,
    }))
    .into_response())
}

/// The objects of a kind, in one instance or in all, in the order of people.
fn found<'a>(
    documents: &'a Documents,
    kind: Kind,
    instance: &'a str,
    wish: &Wish,
) -> Result<Vec<&'a Arc<Document>>, Error> {
    let mut found =
        if instance.is_empty() { everywhere(documents, kind)? } else { listed(documents, kind, instance)? };
    found.retain(|document| wish.selector.iter().all(|must| must.holds(&document.metadata.labels)));
    Ok(found)
}

/// Tells all objects, and then what changes of them.
fn watch(context: Shared, kind: Kind, instance: String, wish: Wish) -> Response {
    let bells = (context.state.changes(), context.observed.changes(), context.placed.changes());
    let start = (context, bells, None::<BTreeMap<Key, Value>>);
    let lines = unfold(start, move |(context, mut bells, told)| {
        let (instance, wish) = (instance.clone(), wish.clone());
        async move {
            if told.is_some() {
                let rang = tokio::select! {
                    biased;
                    rang = bells.0.changed() => rang.is_ok(),
                    rang = bells.1.changed() => rang.is_ok(),
                    rang = bells.2.changed() => rang.is_ok(),
                    () = sleep(SIGN_OF_LIFE) => {
                        let text = line("BOOKMARK", &json!({ "kind": kind.name() }));
                        return Some((Ok::<_, Infallible>(Bytes::from(text)), (context, bells, told)));
                    }
                };
                if !rang {
                    return None;
                }
                sleep(GATHERED).await;
            }
            bells.0.mark_unchanged();
            bells.1.mark_unchanged();
            bells.2.mark_unchanged();
            let documents = context.documents();
            // With its instance all of a list is gone.
            let now: BTreeMap<Key, Value> = found(&documents, kind, &instance, &wish)
                .unwrap_or_default()
                .into_iter()
                .map(|document| (document.key(), shown(&context, &documents, document)))
                .collect();
            let text = news(kind, told.as_ref(), &now);
            Some((Ok(Bytes::from(text)), (context, bells, Some(now))))
        }
    });
    ([(CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response()
}

/// What has changed, a line each; the first time all that is there, and that this is all.
fn news(kind: Kind, before: Option<&BTreeMap<Key, Value>>, now: &BTreeMap<Key, Value>) -> String {
    let mut text = String::new();
    for (key, object) in now {
        match before.and_then(|before| before.get(key)) {
            None => text.push_str(&line("ADDED", object)),
            Some(old) if old != object => text.push_str(&line("MODIFIED", object)),
            Some(_) => {}
        }
    }
    match before {
        None => text.push_str(&line("BOOKMARK", &json!({ "kind": kind.name() }))),
        Some(before) => {
            for (_, object) in before.iter().filter(|(key, _)| !now.contains_key(*key)) {
                text.push_str(&line("DELETED", object));
            }
        }
    }
    text
}

fn line(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({ "type": kind, "object": object }))
}

/// A document as it is shown: what it is, what is wanted, what is observed.
fn shown(context: &Context, documents: &Documents, document: &Document) -> Value {
    let mut spec = document.spec.to_value();
    if let Value::Object(fields) = &mut spec {
        for name in ["password-hash", "client-secret-hash"] {
            fields.remove(name);
        }
        if context.secrets == Secrets::LeftOut {
            fields.remove("password");
        }
    }
    json!({
        "apiVersion": API_VERSION,
        "kind": document.spec.kind().name(),
        "metadata": public(&document.metadata),
        "spec": spec,
        "status": status(context, documents, document),
    })
}

/// The metadata that people write, or are told of.
fn public(metadata: &Metadata) -> Metadata {
    Metadata {
        waiting: false,
        revision: 0,
        revised_ms: 0,
        lease: 0,
        lease_bound_ms: 0,
        given_up: false,
        last_call: None,
        ..metadata.clone()
    }
}

/// What is observed of an object, by the server that leads.
fn status(context: &Context, documents: &Documents, document: &Document) -> Value {
    let key = document.key();
    let instance = key.namespace.as_str();
    match &document.spec {
        Spec::Node(_) => json!(nodes::status_of(context, documents, document)),
        Spec::Service(service) => {
            let asked = [(key.name.clone(), service.running.unwrap_or(true))];
            let views = context.observed.all();
            let standing = running::services(documents, &views, instance, &asked);
            let mut status = rollout::status(context, documents, document);
            if let (Value::Object(fields), Some(standing)) = (&mut status, standing.first()) {
                fields.insert("running".into(), standing.running.into());
                fields.insert("processes".into(), json!(standing.processes));
                fields
                    .extend(standing.reason.as_ref().map(|reason| ("reason".into(), reason.as_str().into())));
                fields.extend(standing.doubt().map(|doubt| ("unknown-because".into(), doubt.into())));
            }
            status
        }
        Spec::Process(process) => {
            let asked = wanted(documents, &key, process);
            let views = context.observed.all();
            let standing = running::process(documents, &views, document, process, asked);
            let mut status = json!(standing);
            let view = views.get(&(key.namespace.clone(), process.node.clone()));
            if let (Value::Object(fields), Some(view)) = (&mut status, view) {
                fields.remove("id");
                fields.insert("desired".into(), asked.into());
                fields.insert("seen".into(), view.sighting.complete.into());
                if document.metadata.revision > 0 {
                    fields.insert("revision".into(), document.metadata.revision.into());
                }
                if let Some(seen) = view.sighting.processes.get(&key.name) {
                    fields.insert("phase".into(), seen.phase.name().into());
                    fields.insert("since".into(), rfc3339(seen.since_ms).into());
                    fields.insert("restarts".into(), seen.restarts.into());
                    fields.extend(seen.pid.map(|pid| ("pid".into(), pid.into())));
                    fields.extend(seen.exit.map(|exit| ("last-exit".into(), exit.into())));
                }
            }
            status
        }
        Spec::Instance(_)
        | Spec::Tenant(_)
        | Spec::User(_)
        | Spec::Integration(_)
        | Spec::ServiceType(_)
        | Spec::Revision(_)
        | Spec::Event(_) => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_says_what_labels_have_to_be() {
        let labels = [("zone".to_owned(), "east".to_owned())].into_iter().collect();
        let holds = |text: &str| {
            let uri = format!("/?labelSelector={text}").parse().unwrap();
            wish(&uri).map(|wish| wish.selector.iter().all(|must| must.holds(&labels)))
        };
        for text in ["", "zone=east", "zone==east", "zone", "!disk", "disk!=ssd", "zone,%20zone!=west"] {
            assert_eq!(holds(text), Ok(true), "{text}");
        }
        for text in ["zone=west", "!zone", "zone!=east", "zone=east,disk"] {
            assert_eq!(holds(text), Ok(false), "{text}");
        }
        for text in ["=east", ",", "!"] {
            assert!(holds(text).is_err(), "{text}");
        }
        assert!(wish(&"/?labels=x".parse().unwrap()).is_err());
    }

    #[test]
    fn a_watch_tells_what_is_there_and_then_what_changes() {
        let key = |name: &str| Key::cluster(Kind::Tenant, name);
        let first = BTreeMap::from([(key("a"), json!(1)), (key("b"), json!(2))]);
        let second = BTreeMap::from([(key("b"), json!(3)), (key("c"), json!(4))]);
        let types = |text: &str| {
            let of = |line: &str| {
                serde_json::from_str::<Value>(line).unwrap()["type"].as_str().unwrap().to_owned()
            };
            text.lines().map(of).collect::<Vec<_>>()
        };
        assert_eq!(types(&news(Kind::Tenant, None, &first)), ["ADDED", "ADDED", "BOOKMARK"]);
        assert_eq!(types(&news(Kind::Tenant, Some(&first), &second)), ["MODIFIED", "ADDED", "DELETED"]);
        assert_eq!(news(Kind::Tenant, Some(&second), &second), "");
    }
}
