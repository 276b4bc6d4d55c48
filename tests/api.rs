//! `/1.0` over a real socket and a real store, without any node: the seed's own examples, and every way to be refused.
#![allow(clippy::unwrap_used, reason = "in a test a panic is how it fails")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mainstay::model::meta::OwnerReference;
use mainstay::model::{Key, Kind};
use mainstay::state::Edit;
use serde_json::{Value, json};

use self::server::{Api, auth, dev_node, local_box, read, root_instance, webapp, with_id};

#[path = "api/documents.rs"]
mod documents;
#[path = "api/server.rs"]
mod server;
#[path = "api/verbs.rs"]
mod verbs;

#[test]
fn the_seeds_instances() {
    let api = Api::start();
    assert_eq!(api.create("/1.0/instances", root_instance()), with_id("IN1", root_instance()));
    let mine = json!({"name": "My Instance", "zk": "localhost:2181", "redis": "redis://localhost:6379"});
    assert_eq!(api.create("/1.0/instances", mine.clone()), with_id("IN2", mine.clone()));
    assert_eq!(api.get("/1.0/instances/IN2"), (200, with_id("IN2", mine)));
    let production = json!({"id": "IN2", "name": "Production Instance", "zk": "localhost:2181",
                            "redis": "redis://localhost:6379"});
    let update = json!({"name": "Production Instance"});
    assert_eq!(api.call("PUT", "/1.0/instances/IN2", Some(update)), (200, production.clone()));
    assert_eq!(api.get("/1.0/instances"), (200, json!([with_id("IN1", root_instance()), production])));

    let full = json!({
        "name": "My Instance", "auth": "http://localhost:8082", "api": "http://localhost:8081",
        "events": "http://localhost:8083", "zk": "localhost:2181", "redis": "redis://localhost:6379",
        "stats": {"type": "graphite", "url": "localhost", "port": 2003, "prefix": "development"},
    });
    assert_eq!(api.create("/1.0/instances", full.clone()), with_id("IN3", full));

    assert_eq!(api.call("DELETE", "/1.0/instances/IN2", None), (204, Value::Null));
    api.refused("GET", "/1.0/instances/IN2", None, 404);
    api.refused("DELETE", "/1.0/instances/IN2", None, 404);
    api.refused("GET", "/1.0/instances/IN2/nodes", None, 404);
    assert_eq!(api.get("/1.0/instances").1.as_array().unwrap().len(), 2);
}

#[test]
fn the_seeds_nodes() {
    let api = Api::start();
    api.create("/1.0/instances", root_instance());
    let nodes = "/1.0/instances/IN1/nodes";
    assert_eq!(api.create(nodes, dev_node()), with_id("ND1", dev_node()));
    assert_eq!(api.create(nodes, local_box()), with_id("ND2", local_box()));
    assert_eq!(api.get("/1.0/instances/IN1/nodes/ND1"), (200, with_id("ND1", dev_node())));
    assert_eq!(api.get(nodes), (200, json!([with_id("ND1", dev_node()), with_id("ND2", local_box())])));
    let second = json!({"id": "ND2", "name": "local box 2", "ip-address": "127.0.0.1",
                        "username": "cxengage", "password": "butter"});
    let update = json!({"name": "local box 2"});
    assert_eq!(api.call("PUT", "/1.0/instances/IN1/nodes/ND2", Some(update)), (200, second));

    assert_eq!(api.post("/1.0/instances/IN1/nodes/ND1/ping"), (200, json!({"result": true})));
    let failed = json!({"result": false, "reason": "Node IN1/ND2: auth failed"});
    assert_eq!(api.post("/1.0/instances/IN1/nodes/ND2/ping"), (200, failed));
    api.refused("POST", "/1.0/instances/IN1/nodes/ND3/ping", None, 404);

    assert_eq!(api.call("DELETE", "/1.0/instances/IN1/nodes/ND1", None), (204, Value::Null));
    api.refused("GET", "/1.0/instances/IN1/nodes/ND1", None, 404);
    // Ids are never used again.
    assert_eq!(api.create(nodes, dev_node())["id"], "ND3");
}

#[test]
fn what_is_added_to_the_seed_says_how_a_node_is_and_what_was_done() {
    let api = Api::with_the_seeds_objects();
    let node = "/1.0/instances/IN1/nodes/ND1";
    let unseen = json!({"state": "connecting", "warnings": []});
    assert_eq!(api.get(&format!("{node}/status")), (200, unseen));
    let refused = api.refused("POST", &format!("{node}/trust"), None, 409);
    assert_eq!(refused, "Node IN1/ND1: its host key has not changed");
    for (method, path) in [("GET", "status"), ("POST", "trust")] {
        api.refused(method, &format!("/1.0/instances/IN1/nodes/ND9/{path}"), None, 404);
    }
    assert_eq!(api.get("/1.0/events"), (200, json!([])));
}

#[test]
fn the_seeds_services() {
    let api = Api::start();
    api.create("/1.0/instances", root_instance());
    let services = "/1.0/instances/IN1/services";
    assert_eq!(api.create(services, auth()), with_id("SV1", auth()));
    assert_eq!(api.create(services, webapp()), with_id("SV2", webapp()));
    assert_eq!(api.get("/1.0/instances/IN1/services/SV1"), (200, with_id("SV1", auth())));
    assert_eq!(api.get(services), (200, json!([with_id("SV1", auth()), with_id("SV2", webapp())])));
    let dev = json!({"id": "SV2", "type": "webapp", "name": "WebApp Dev", "log-level": "error",
                     "options": {"port": 8888}});
    let update = json!({"name": "WebApp Dev"});
    assert_eq!(api.call("PUT", "/1.0/instances/IN1/services/SV2", Some(update)), (200, dev));
    assert_eq!(api.service("SV1"), Some(false), "what is created here is started here");

    assert_eq!(api.get("/1.0/instances/IN1/services/SV1/status"), (200, json!({"running": false})));
    let all = json!([{"id": "SV2", "running": false}, {"id": "SV1", "running": false}]);
    assert_eq!(api.get("/1.0/instances/IN1/services/status"), (200, all));
    assert_eq!(api.get("/1.0/instances/IN1/services/SV1/processes"), (200, json!([])));
    let stopped = json!({"id": "SV1", "running": false, "processes": []});
    assert_eq!(api.post("/1.0/instances/IN1/services/SV1/stop"), (200, stopped));

    assert_eq!(api.call("DELETE", "/1.0/instances/IN1/services/SV1", None), (204, Value::Null));
    api.refused("GET", "/1.0/instances/IN1/services/SV1/status", None, 404);
    api.refused("POST", "/1.0/instances/IN1/services/SV1/start", None, 404);
}

#[test]
fn services_are_started_after_others_that_exist_and_never_in_a_circle() {
    let api = Api::start();
    api.create("/1.0/instances", root_instance());
    let services = "/1.0/instances/IN1/services";
    let one = |id: &str| format!("{services}/{id}");
    let after = |others: &[&str]| json!({"type": "auth", "name": "a", "after": others});
    api.create(services, after(&[]));
    api.create(services, after(&["SV1"]));
    assert_eq!(api.create(services, after(&["SV1", "SV2"]))["after"], json!(["SV1", "SV2"]));
    let why = api.refused("PUT", &one("SV1"), Some(json!({"after": ["SV3"]})), 400);
    assert!(why.contains("after[0]") && why.contains("SV1 → SV3 → SV1"), "{why}");
    let why = api.refused("PUT", &one("SV1"), Some(json!({"after": ["SV1"]})), 400);
    assert!(why.contains("can't be started after itself"), "{why}");
    let why = api.refused("POST", services, Some(after(&["SV9"])), 400);
    assert!(why.contains("Service IN1/SV9 does not exist"), "{why}");

    // What else is changed leaves it, and so do changes of the others.
    let limits = json!({"update": {"max-unavailable": "25%"}, "failover": "hold"});
    let (status, changed) = api.call("PUT", &one("SV3"), Some(limits));
    assert_eq!((status, &changed["after"]), (200, &json!(["SV1", "SV2"])));
    assert_eq!(changed["update"], json!({"max-unavailable": "25%"}));
    assert_eq!(api.call("PUT", &one("SV2"), Some(json!({"after": null}))).1["after"], Value::Null);
    let (_, last) = api.call("PUT", &one("SV3"), Some(json!({"after": ["SV2"]})));
    assert_eq!(last["after"], json!(["SV2"]));
    assert_eq!(api.call("PUT", &one("SV1"), Some(json!({"after": ["SV3"]}))).0, 200);

    // Who is deleted is waited for no more; a later one of that name is another one.
    assert_eq!(api.call("DELETE", &one("SV3"), None), (204, Value::Null));
    assert_eq!(api.get(&one("SV1")).1["after"], Value::Null);
}

#[test]
fn processes_are_created_found_and_deleted() {
    let api = Api::with_the_seeds_objects();
    let id = api.create_process();
    assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 4);
    assert_eq!(api.process(&id), Some(false));
    let process = json!({"id": id, "instance": "IN1", "node": "ND1", "service": "SV1"});
    assert_eq!(api.get(&format!("/1.0/processes/{id}")), (200, process.clone()));
    assert_eq!(api.get("/1.0/processes"), (200, json!([process])));
    assert_eq!(api.get("/1.0/instances/IN1/services/SV1/processes"), (200, json!([process])));
    assert_eq!(api.get("/1.0/instances/IN1/services/SV2/processes"), (200, json!([])));
    assert_eq!(api.call("DELETE", &format!("/1.0/processes/{id}"), None), (204, Value::Null));
    api.refused("GET", &format!("/1.0/processes/{id}"), None, 404);
    assert_eq!(api.get("/1.0/processes"), (200, json!([])));

    let why = api.refused("POST", "/1.0/processes", Some(json!({"service": "SV1", "node": "ND1"})), 400);
    assert_eq!(why, "`instance` is missing");
    let wrong = json!({"instance": "IN7", "service": "SV1", "node": "ND1"});
    let why = api.refused("POST", "/1.0/processes", Some(wrong), 400);
    assert!(why.starts_with("instance: Instance IN7 does not exist; did you mean IN1?"), "{why}");
    let wrong = json!({"instance": "IN1", "service": "SV1", "node": "ND9", "id": "x"});
    api.refused("POST", "/1.0/processes", Some(wrong), 400);
}

#[test]
fn what_goes_with_a_service_or_a_node_is_gone_with_it() {
    let api = Api::with_the_seeds_objects();
    let id = api.create_process();
    api.call("DELETE", "/1.0/instances/IN1/nodes/ND1", None);
    api.refused("GET", &format!("/1.0/processes/{id}"), None, 404);
    assert_eq!(api.get("/1.0/instances/IN1/services/SV1/processes"), (200, json!([])));
    api.call("DELETE", "/1.0/instances/IN1", None);
    assert_eq!(api.get("/1.0/processes"), (200, json!([])));
}

#[test]
fn starting_a_service_starts_all_its_processes_and_says_what_it_waits_for() {
    let api = Api::with_the_seeds_objects();
    let id = api.create_process();
    let began = Instant::now();
    let (status, answer) = api.post("/1.0/instances/IN1/services/SV1/start?timeout=0.3");
    assert!(began.elapsed() >= Duration::from_millis(300));
    let why = "node ND1: not tried yet; never seen";
    let process = json!({"id": id, "running": false, "reason": why});
    assert_eq!((status, answer), (200, json!({"id": "SV1", "running": false, "processes": [process]})));
    assert_eq!((api.service("SV1"), api.process(&id)), (Some(true), None));

    let one = format!("/1.0/processes/{id}");
    let answer = json!({"id": id, "running": false, "reason": why});
    assert_eq!(api.post(&format!("{one}/stop?wait=false")), (200, answer.clone()));
    assert_eq!(api.process(&id), Some(false));
    assert_eq!(api.get(&format!("{one}/status")), (200, answer.clone()));
    assert_eq!(api.post(&format!("{one}/start?wait=false")), (200, answer));
    assert_eq!(api.process(&id), Some(true));

    // Repeated, it writes nothing.
    let writes = api.metrics.store_writes.get();
    api.post(&format!("{one}/start?wait=false"));
    api.post("/1.0/instances/IN1/services/SV2/stop?wait=false");
    assert_eq!(api.metrics.store_writes.get(), writes);

    let (_, all) = api.post("/1.0/instances/IN1/services/stop?wait=false");
    let ids: Vec<&str> = all.as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["SV2", "SV1"]);
    assert_eq!((api.service("SV1"), api.process(&id)), (Some(false), None));
    let unknown = json!({"running": false, "reason": why});
    assert_eq!(api.get("/1.0/instances/IN1/services/SV1/status"), (200, unknown));
}

#[test]
fn a_query_that_is_not_understood_is_refused_before_anything_is_done() {
    let api = Api::with_the_seeds_objects();
    for query in ["timeout=700", "wait=perhaps", "tiemout=1"] {
        api.refused("POST", &format!("/1.0/instances/IN1/services/SV1/start?{query}"), None, 400);
    }
    assert_eq!(api.service("SV1"), Some(false));
}

#[test]
fn a_client_may_choose_an_id_that_is_free_and_can_be_one() {
    let api = Api::with_the_seeds_objects();
    let services = "/1.0/instances/IN1/services";
    assert_eq!(api.create(services, with_id("front", webapp()))["id"], "front");
    api.refused("POST", services, Some(with_id("front", webapp())), 409);
    for id in [json!("start"), json!("a/b"), json!(""), json!(7), json!("x".repeat(64)), json!({})] {
        let mut body = webapp();
        body["id"] = id;
        let why = api.refused("POST", services, Some(body), 400);
        assert!(why.starts_with("id: "), "{why}");
    }
    // A number that counting never gets to is in nobody's way.
    api.create(services, with_id("SV18446744073709551615", webapp()));
    api.create(services, with_id("SV7", webapp()));
    assert_eq!(api.create(services, webapp())["id"], "SV8");
    api.call("DELETE", &format!("{services}/front"), None);
    // No controller is here that would take the older one out.
    let again = api.create(services, with_id("front", webapp()));
    assert_eq!(again["waits-for"], "the older Service IN1/front to be gone; see /1.0/events");
    assert_eq!(api.get(&format!("{services}/front")), (200, with_id("front", webapp())));
    api.refused("POST", services, Some(with_id("front", webapp())), 409);
}

#[test]
fn what_is_wrong_with_parameters_is_said_all_at_once_in_their_own_names() {
    let api = Api::with_the_seeds_objects();
    let nodes = "/1.0/instances/IN1/nodes";
    let why = api.refused("POST", nodes, Some(json!({"name": "a", "usernmae": "u"})), 400);
    assert!(why.contains("`ip-address` is missing"), "{why}");
    assert!(why.contains("did you mean `username`?"), "{why}");
    assert!(!why.contains("spec"), "{why}");
    let mut node = local_box();
    node["port"] = json!(0);
    let why = api.refused("POST", nodes, Some(node), 400);
    assert!(why.starts_with("port: "), "{why}");
    let mut service = webapp();
    service["options"] = json!({"prot": 1});
    let why = api.refused("POST", "/1.0/instances/IN1/services", Some(service), 400);
    assert!(why.starts_with("options.prot: "), "{why}");
    let why = api.refused("POST", "/1.0/instances", Some(json!({"name": null})), 400);
    assert!(why.contains("`name` is missing") && why.contains("`zk` is missing"), "{why}");
    let mut node = local_box();
    node["password"] = json!(["butter"]);
    let why = api.refused("POST", nodes, Some(node), 400);
    assert!(!why.contains("butter"), "{why}");
    let put = json!({"id": "ND9"});
    api.refused("PUT", "/1.0/instances/IN1/nodes/ND1", Some(put), 400);
}

#[test]
fn an_update_changes_what_is_given_and_nothing_else() {
    let api = Api::with_the_seeds_objects();
    let path = "/1.0/instances/IN1/nodes/ND2";
    let writes = api.metrics.store_writes.get();
    let (_, same) = api.get(path);
    assert_eq!(api.call("PUT", path, Some(same)), (200, with_id("ND2", local_box())));
    assert_eq!(api.metrics.store_writes.get(), writes, "unchanged is not written");
    let (status, node) = api.call("PUT", path, Some(json!({"description": "d", "port": 2222})));
    assert_eq!((status, &node["port"], &node["password"]), (200, &json!(2222), &json!("butter")));
    let (_, node) = api.call("PUT", path, Some(json!({"description": null, "password": null})));
    assert_eq!((node.get("description"), node.get("password")), (None, None));
    api.refused("PUT", path, Some(json!({"username": null})), 400);
    let stored = api.document(&Key::within(Kind::Node, "IN1", "ND1")).to_value().to_string();
    assert!(!stored.contains("\"password\":\"password\""), "{stored}");
}

#[test]
fn changes_of_many_at_once_are_all_kept() {
    let api = Api::with_the_seeds_objects();
    let parts = ["auth", "api", "events"];
    std::thread::scope(|scope| {
        for part in parts {
            let api = &api;
            scope.spawn(move || {
                let update = json!({ part: format!("http://{part}") });
                assert_eq!(api.call("PUT", "/1.0/instances/IN1", Some(update)).0, 200);
                api.create("/1.0/instances/IN1/nodes", local_box());
            });
        }
    });
    let (_, instance) = api.get("/1.0/instances/IN1");
    for part in parts {
        assert_eq!(instance[part], format!("http://{part}"));
    }
    let (_, nodes) = api.get("/1.0/instances/IN1/nodes");
    let ids: BTreeSet<&str> = nodes.as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(ids, BTreeSet::from(["ND1", "ND2", "ND3", "ND4", "ND5"]));
    assert!(nodes.as_array().unwrap().iter().skip(1).all(|node| node["password"] == "butter"), "{nodes}");
}

const FOLDER: &str = "apiVersion: mainstay.dev/v1
kind: Service
metadata: {name: declared, namespace: IN1}
spec: {name: a, type: webapp, options: {port: 1}, running: true}
---
apiVersion: mainstay.dev/v1
kind: Service
metadata: {name: silent, namespace: IN1}
spec: {name: b, type: webapp, options: {port: 2}}
---
apiVersion: mainstay.dev/v1
kind: Process
metadata: {name: p1, namespace: IN1}
spec: {service: silent, node: ND1, running: false}
";

#[test]
fn what_a_folder_keeps_is_changed_there() {
    let api = Api::with_the_seeds_objects();
    api.apply(FOLDER, "fleet");
    let declared = "/1.0/instances/IN1/services/declared";
    for (method, body) in [("PUT", Some(json!({"name": "x"}))), ("DELETE", None)] {
        let why = api.refused(method, declared, body, 409);
        assert!(why.contains("fleet/web.yaml"), "{why}");
    }
    let why = api.refused("POST", &format!("{declared}/stop?wait=false"), None, 409);
    assert_eq!(why, "Service IN1/declared: fleet/web.yaml says `running: true`; change it there");
    assert_eq!(api.post(&format!("{declared}/start?wait=false")).0, 200);
    api.refused("DELETE", "/1.0/processes/p1", None, 409);
    let why = api.refused("POST", "/1.0/processes/p1/start?wait=false", None, 409);
    assert!(why.contains("fleet/web.yaml says `running: false`"), "{why}");

    let why = api.refused("DELETE", "/1.0/instances/IN1", None, 409);
    assert!(why.contains(" belongs to Instance IN1 and stands in fleet/web.yaml"), "{why}");
    let why = api.refused("DELETE", "/1.0/instances/IN1/nodes/ND1", None, 409);
    assert_eq!(
        why,
        "Process IN1/p1 belongs to Node IN1/ND1 and stands in fleet/web.yaml; change it there first"
    );

    // Where the manifest is silent, the API owns it; a process whose manifest is not silent stays as it is.
    let (status, answer) = api.post("/1.0/instances/IN1/services/silent/start?timeout=10");
    assert_eq!((status, api.service("silent"), api.process("p1")), (200, Some(true), Some(false)));
    let why = answer["processes"][0]["reason"].as_str().unwrap();
    assert!(why.contains("fleet/web.yaml says"), "not waited for, and said: {answer}");
    let (status, all) = api.post("/1.0/instances/IN1/services/stop?wait=false");
    assert_eq!((status, api.service("silent"), api.service("declared")), (200, Some(false), Some(true)));
    let declared = all.as_array().unwrap().iter().find(|it| it["id"] == "declared").unwrap();
    assert!(declared["reason"].as_str().unwrap().contains("fleet/web.yaml"), "{declared}");
}

#[test]
fn a_process_that_a_placement_makes_is_the_placements() {
    let api = Api::with_the_seeds_objects();
    let id = api.create_process();
    let mut process = api.document(&Key::within(Kind::Process, "IN1", id.as_str()));
    let owner = OwnerReference { kind: Kind::Service, name: "SV1".into(), uid: String::new() };
    process.metadata.owner_references.push(owner);
    api.commit(&[Edit::Replace(process)]);
    let why = api.refused("DELETE", &format!("/1.0/processes/{id}"), None, 409);
    assert_eq!(why, "SV1's placement would make it again; change the service");
}

#[test]
fn paths_and_methods_that_do_not_exist() {
    let api = Api::with_the_seeds_objects();
    for path in [
        "/",
        "/1.0",
        "/1.0/tenants/x",
        "/1.0/users/x",
        "/1.0/instances/",
        "/1.0/instances/IN9/tenants",
        "/1.0/instances/IN9",
        "/1.0/instances/a%3Breboot",
        "/1.0/instances/%FF",
        "/1.0/instances/%2e%2e",
        "/1.0/instances/IN1/nodes/ND9",
        "/1.0/instances/IN9/nodes/ND1",
        "/1.0/instances/IN9/services/status",
        "/1.0/instances/IN1/services/ND1",
        "/1.0/processes/x",
        "/1.0/processes/x/status",
        "/1.0/instances/IN1/services/SV9/processes",
    ] {
        api.refused("GET", path, None, 404);
    }
    for (method, path, allow) in [
        ("PATCH", "/1.0/instances", "GET, HEAD, POST, OPTIONS"),
        ("DELETE", "/1.0/instances", "GET, HEAD, POST, OPTIONS"),
        ("POST", "/1.0/instances/IN1", "GET, HEAD, PUT, DELETE, OPTIONS"),
        ("PUT", "/1.0/processes/x", "GET, HEAD, DELETE, OPTIONS"),
        ("GET", "/1.0/instances/IN1/services/SV1/start", "POST, OPTIONS"),
    ] {
        let response = api.send(method, path, None, b"");
        assert_eq!(response.headers()["allow"], allow, "{method} {path}");
        let (status, answer) = read(response);
        assert_eq!(status, 405);
        let why = answer["error"].as_str().unwrap();
        assert!(why.contains(method) && why.ends_with(allow), "{why}");
        let options = api.send("OPTIONS", path, None, b"");
        assert_eq!(options.status(), 204);
        assert_eq!(options.headers()["allow"], allow);
    }
}

#[test]
fn bodies_that_are_not_taken() {
    let api = Api::start();
    let post = |kind, body: &[u8]| read(api.send("POST", "/1.0/instances", kind, body));
    let good = root_instance().to_string();
    assert_eq!(post(None, good.as_bytes()).0, 415);
    assert_eq!(post(Some("text/plain"), good.as_bytes()).0, 415);
    assert_eq!(post(Some("application/x-www-form-urlencoded"), b"name=a").0, 415);
    assert_eq!(post(Some("Application/JSON; charset=utf-8"), good.as_bytes()).0, 201);
    let json = Some("application/json");
    let deep = "[".repeat(100_000);
    for body in ["", "{", "[]", "null", "\"x\"", "{\"name\": \"a\"} x", "\u{feff}{}", &deep] {
        assert_eq!(post(json, body.as_bytes()).0, 400, "{}", &body[..body.len().min(20)]);
    }
    assert_eq!(post(json, b"{\"name\": \"\xff\"}").0, 400);
    // What could be written but then not be read would end the store.
    let nested = |depth: usize| {
        let stats = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        format!("{{\"name\": \"a\", \"zk\": \"z\", \"redis\": \"r\", \"stats\": {stats}}}")
    };
    assert_eq!(post(json, nested(64).as_bytes()).0, 400);
    assert_eq!(post(json, nested(120).as_bytes()).0, 400);
    assert_eq!(post(json, nested(63).as_bytes()).0, 201);
    assert_eq!(api.get("/1.0/instances/IN2").0, 200);
    let many: Value =
        (0..5_000).map(|n| (format!("n{n}"), json!(n))).collect::<serde_json::Map<_, _>>().into();
    assert!(api.refused("POST", "/1.0/instances", Some(many), 400).len() < 10_000);
    api.refused("POST", "/1.0/instances", Some(json!({"x".repeat(1_000_000): 1})), 400);
    let large = json!({"name": "x".repeat(1024 * 1024), "zk": "z", "redis": "r"}).to_string();
    assert_eq!(post(json, large.as_bytes()).0, 413);
    // Within the body's limit, but not within what the store takes once it is a document.
    let edge = json!({"name": "x".repeat(1024 * 1024 - 60), "zk": "z", "redis": "r"}).to_string();
    assert_eq!(post(json, edge.as_bytes()).0, 413);
    assert_eq!(api.get("/1.0/instances").1.as_array().unwrap().len(), 2);
}

#[test]
fn health_and_metrics() {
    let api = Api::start();
    for path in ["/healthz", "/readyz"] {
        let mut response = api.send("GET", path, None, b"");
        let said = response.body_mut().read_to_string().unwrap();
        assert_eq!((response.status().as_u16(), said.as_str()), (200, "ok"));
    }
    let mut response = api.send("GET", "/metrics", None, b"");
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    assert!(response.body_mut().read_to_string().unwrap().contains("mainstay_store_writes_total 1"));
    assert_eq!(api.send("HEAD", "/1.0/instances", None, b"").status(), 200);
}

#[test]
fn no_value_of_any_parameter_is_answered_with_a_server_error() {
    let api = Api::with_the_seeds_objects();
    let process = json!({"instance": "IN1", "service": "SV1", "node": "ND1"});
    let hostile = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("\0"),
        json!("a\nb"),
        json!("-oProxyCommand=x"),
        json!("{{"),
        json!("{% for i in x %}"),
        json!("é".repeat(5000)),
        json!([]),
        json!([[null]]),
        json!(["x", 1]),
        json!({}),
        json!({"": {"a/b~": [{}]}}),
        json!({"file": "x"}),
    ];
    let beyond = [
        "id",
        "port",
        "password-from",
        "identity-file",
        "host-key",
        "ssh-config",
        "transport",
        "running",
        "command",
        "env",
        "nodes",
        "replicas",
        "node-selector",
        "update",
        "after",
        "failover",
        "stats",
        "auth",
        "description",
        "labels",
        "instance",
        "integrations",
        "rate-limit",
        "email",
        "password",
        "password-hash",
        "client-id",
        "tenants",
        "endpoint",
        "listener",
        "schema",
        "",
        "~/",
    ];
    let tenant = json!({"id": "t", "name": "a"});
    let user = json!({"email": "a@b", "name": "a", "password": "butter"});
    let integration = json!({"id": "i", "type": "a", "display": "a"});
    for (list, object) in
        [("/1.0/tenants", &tenant), ("/1.0/users", &user), ("/1.0/integrations", &integration)]
    {
        api.create(list, object.clone());
    }
    for (list, one, object) in [
        ("/1.0/instances", "/1.0/instances/IN1", root_instance()),
        ("/1.0/instances/IN1/nodes", "/1.0/instances/IN1/nodes/ND1", dev_node()),
        ("/1.0/instances/IN1/services", "/1.0/instances/IN1/services/SV1", auth()),
        ("/1.0/processes", "", process),
        ("/1.0/tenants", "/1.0/tenants/t", tenant),
        ("/1.0/users", "/1.0/users/a@b", user),
        ("/1.0/integrations", "/1.0/integrations/i", integration),
    ] {
        let known = object.as_object().unwrap().keys().map(String::as_str);
        for name in known.chain(beyond) {
            for value in &hostile {
                let mut body = object.clone();
                body[name] = value.clone();
                let (status, answer) = api.call("POST", list, Some(body));
                assert!(matches!(status, 201 | 400 | 409), "{list} {name}: {value}: {status} {answer}");
                if !one.is_empty() {
                    let (status, answer) = api.call("PUT", one, Some(json!({ name: value })));
                    assert!(matches!(status, 200 | 400), "{one} {name}: {value}: {status} {answer}");
                }
            }
        }
        let (status, all) = api.get(list);
        assert_eq!(status, 200);
        // All that was taken can be shown, and put back as it is shown.
        for object in all.as_array().unwrap() {
            let id = object.get("id").unwrap_or(&object["email"]);
            let path = format!("{list}/{}", id.as_str().unwrap());
            assert_eq!(&api.get(&path), &(200, object.clone()));
            if list != "/1.0/processes" {
                assert_eq!(api.call("PUT", &path, Some(object.clone())), (200, object.clone()), "{path}");
            }
        }
    }
}

#[test]
fn every_path_takes_the_methods_that_it_is_described_with() {
    let api = Api::start();
    let (status, description) = api.get("/openapi.json");
    assert_eq!(status, 200);
    for (path, operations) in description["paths"].as_object().unwrap() {
        let answer = api.send("OPTIONS", &path.replace(['{', '}'], ""), None, b"");
        let allowed = answer.headers()["allow"].to_str().unwrap().to_lowercase();
        let allowed: BTreeSet<&str> =
            allowed.split(", ").filter(|name| !matches!(*name, "head" | "options")).collect();
        let described: BTreeSet<&str> = operations.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(allowed, described, "{path}");
    }
}
