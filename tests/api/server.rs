//! A server of `/1.0` over an embedded store, a client of it, and the seed's objects.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use mainstay::api::{Parts, Secrets};
use mainstay::clock::Clock;
use mainstay::edge::{Edge, Hosts, Origins};
use mainstay::metrics::Metrics;
use mainstay::model::admit::{Origin, admit_text};
use mainstay::model::secret::{KEY_BYTES, Sealer};
use mainstay::model::{Document, Key, Kind};
use mainstay::plan::world::Freeze;
use mainstay::reconcile::connected::Connected;
use mainstay::reconcile::events::Events;
use mainstay::reconcile::leadership::Standing;
use mainstay::reconcile::logs::Logs;
use mainstay::reconcile::observed::Observed;
use mainstay::reconcile::outlook::Outlook;
use mainstay::reconcile::ping::{Pinger, TrustError};
use mainstay::reconcile::placed::Placed;
use mainstay::source::board::Board;
use mainstay::state::{self, Commit, Edit, State};
use mainstay::store::embedded::Embedded;
use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::http::{Request, Response};

const NOW: &str = "2026-01-01T00:00:00Z";

/// Logs in to ND1 and to nothing else.
struct OnlyNd1;

impl Pinger for OnlyNd1 {
    fn ping(&self, node: Key) -> BoxFuture<'_, Result<(), String>> {
        let answer = if node.name == "ND1" { Ok(()) } else { Err(format!("{node}: auth failed")) };
        Box::pin(std::future::ready(answer))
    }

    fn trust(&self, node: &Key) -> Result<(), TrustError> {
        Err(TrustError::Refused(format!("{node}: its host key has not changed")))
    }
}

#[allow(dead_code, reason = "each test uses a part")]
pub(crate) struct Api {
    base: String,
    agent: ureq::Agent,
    pub(crate) state: Arc<State>,
    pub(crate) metrics: Arc<Metrics>,
    // After the state, whose task it runs.
    runtime: tokio::runtime::Runtime,
    _directory: TempDir,
}

#[allow(dead_code, reason = "each test uses a part")]
impl Api {
    pub(crate) fn start() -> Api {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let metrics = Arc::new(Metrics::default());
        let store = Arc::new(Embedded::open(directory.path()).unwrap());
        let state = Arc::new(runtime.block_on(State::open(store, Arc::clone(&metrics))).unwrap());
        let parts = Parts {
            state: Arc::clone(&state),
            observed: Observed::default(),
            placed: Placed::default(),
            outlook: Outlook::new(
                Observed::default(),
                Path::new("mainstay"),
                Freeze::default(),
                Clock::default(),
            ),
            events: Events::default(),
            sealer: sealer(),
            secrets: Secrets::Shown,
            metrics: Arc::clone(&metrics),
            pinger: Arc::new(OnlyNd1),
            logs: Logs::new(Arc::clone(&state), Observed::default(), Connected::default()),
            standing: Standing::alone(),
            sources: Board::default(),
        };
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let edge = Edge {
            api: mainstay::api::Api::new(parts.clone()),
            redacted: mainstay::api::Api::new(parts),
            tls: None,
            tokens: None,
            audit: None,
            hosts: Hosts::new(Ipv4Addr::LOCALHOST.into(), &[]).unwrap(),
            origins: Origins::default(),
            metrics: Arc::clone(&metrics),
        };
        // It ends with the runtime.
        runtime.block_on(async { drop(edge.serve(listener)) });
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(20)))
            .build()
            .into();
        let api = Api { base, agent, state, metrics, runtime, _directory: directory };
        let shipped = ["service-types.yaml", "integrations.yaml"]
            .map(|file| std::fs::read_to_string(root().join("manifests").join(file)).unwrap());
        api.apply(&shipped.join("\n---\n"), state::CATALOGUE);
        api
    }

    /// With IN1, its nodes ND1 and ND2 and its services SV1 and SV2: the seed's.
    pub(crate) fn with_the_seeds_objects() -> Api {
        let api = Api::start();
        api.create("/1.0/instances", root_instance());
        api.create("/1.0/instances/IN1/nodes", dev_node());
        api.create("/1.0/instances/IN1/nodes", local_box());
        api.create("/1.0/instances/IN1/services", auth());
        api.create("/1.0/instances/IN1/services", webapp());
        api
    }

    /// Applies manifests as a folder does.
    pub(crate) fn apply(&self, text: &str, source: &str) {
        let origin = Origin { file: Some("fleet/web.yaml".into()), directory: None };
        let admitted = admit_text(text, &origin, &sealer()).unwrap();
        let change = state::apply_set(&self.state.snapshot().documents, source, &admitted, NOW).unwrap();
        self.commit(&change.edits);
    }

    pub(crate) fn commit(&self, edits: &[Edit]) {
        assert_eq!(self.runtime.block_on(self.state.commit(edits, None)).unwrap(), Commit::Done);
    }

    pub(crate) fn document(&self, key: &Key) -> Document {
        Document::clone(self.state.snapshot().documents.get(key).unwrap())
    }

    pub(crate) fn service(&self, id: &str) -> Option<bool> {
        let documents = self.state.snapshot().documents;
        documents.service(&Key::within(Kind::Service, "IN1", id)).unwrap().running
    }

    pub(crate) fn process(&self, id: &str) -> Option<bool> {
        let documents = self.state.snapshot().documents;
        documents.process(&Key::within(Kind::Process, "IN1", id)).unwrap().running
    }

    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        kind: Option<&str>,
        body: &[u8],
    ) -> Response<ureq::Body> {
        let headers: Vec<(&str, &str)> = kind.map(|kind| ("Content-Type", kind)).into_iter().collect();
        self.send_with(method, path, &headers, body)
    }

    pub(crate) fn send_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response<ureq::Body> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if body.is_empty() {
            self.agent.run(request.body(()).unwrap()).unwrap()
        } else {
            self.agent.run(request.body(body.to_vec()).unwrap()).unwrap()
        }
    }

    /// Status and body. Every body there is has to be JSON.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let text = body.map(|body| body.to_string()).unwrap_or_default();
        let kind = (!text.is_empty()).then_some("application/json");
        read(self.send(method, path, kind, text.as_bytes()))
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, None)
    }

    pub(crate) fn post(&self, path: &str) -> (u16, Value) {
        self.call("POST", path, None)
    }

    pub(crate) fn create(&self, path: &str, body: Value) -> Value {
        let (status, created) = self.call("POST", path, Some(body));
        assert_eq!(status, 201, "{created}");
        created
    }

    /// A process of SV1 on ND1.
    pub(crate) fn create_process(&self) -> String {
        let process = json!({"instance": "IN1", "service": "SV1", "node": "ND1"});
        self.create("/1.0/processes", process)["id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn refused(&self, method: &str, path: &str, body: Option<Value>, status: u16) -> String {
        let (found, answer) = self.call(method, path, body);
        assert_eq!(found, status, "{method} {path}: {answer}");
        answer["error"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn read(mut response: Response<ureq::Body>) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().unwrap();
    if text.is_empty() {
        return (status, Value::Null);
    }
    let kind = response.headers()["content-type"].to_str().unwrap();
    assert_eq!(kind, "application/json", "{text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status >= 400, value.get("error").is_some_and(Value::is_string), "{status} {value}");
    (status, value)
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn sealer() -> Sealer {
    Sealer::new([1; KEY_BYTES])
}

pub(crate) fn root_instance() -> Value {
    json!({"name": "Root Instance", "zk": "localhost:2180", "redis": "redis://localhost:6378"})
}

pub(crate) fn dev_node() -> Value {
    json!({"name": "Dev CxEngage API", "ip-address": "127.0.0.1", "username": "cxengage",
           "password": "password", "status": true})
}

pub(crate) fn local_box() -> Value {
    json!({"name": "local box", "ip-address": "127.0.0.1", "username": "cxengage", "password": "butter"})
}

pub(crate) fn auth() -> Value {
    json!({"type": "auth", "name": "Auth", "log-level": "trace",
           "options": {"port": 8082, "token-ttl": 2592000}})
}

pub(crate) fn webapp() -> Value {
    json!({"name": "WebApp", "type": "webapp", "log-level": "error", "options": {"port": 8888}})
}

pub(crate) fn with_id(id: &str, mut object: Value) -> Value {
    object["id"] = id.into();
    object
}
