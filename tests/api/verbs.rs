//! What people do to rollouts and nodes, and what explains them: each verb, what it writes, and how it is refused. No controller runs here.

use mainstay::model::id::revision_name;
use mainstay::model::kinds::RevisionSpec;
use mainstay::model::meta::{DRAINING, PAUSED, RESTARTED};
use mainstay::model::{Document, Key, Kind, Metadata, Spec};
use mainstay::plan::revision::Declarations;
use mainstay::state::{Edit, born};
use serde_json::{Value, json};

use super::server::Api;

const SERVICE: &str = "/1.0/instances/IN1/services/SV1";
const NODE: &str = "/1.0/instances/IN1/nodes/ND1";

fn service() -> Key {
    Key::within(Kind::Service, "IN1", "SV1")
}

fn node() -> Key {
    Key::within(Kind::Node, "IN1", "ND1")
}

fn annotation(api: &Api, key: &Key, name: &str) -> Option<String> {
    api.document(key).metadata.annotations.get(name).cloned()
}

/// What a POST answers that is to work.
fn tell(api: &Api, path: &str) -> Value {
    let (status, answer) = api.post(path);
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// Records the revision that SV1 is now, as the placement would.
fn record(api: &Api, number: u64, completed: bool) {
    let documents = api.state.snapshot().documents;
    let document = documents.get(&service()).unwrap();
    let spec = documents.service(&service()).unwrap();
    let spec =
        RevisionSpec { number, completed, ..Declarations::new(&documents).of(document, spec).unwrap() };
    let metadata =
        Metadata { name: revision_name("SV1", number), namespace: "IN1".into(), ..Metadata::default() };
    let revision = Document { metadata, spec: Spec::Revision(spec) };
    api.commit(&[Edit::Create(born(revision, "2026-01-01T00:00:00Z"))]);
}

/// Of which SV1 has two, the second as it is declared.
fn with_two_revisions() -> Api {
    let api = Api::with_the_seeds_objects();
    record(&api, 1, true);
    let change = json!({"options": {"port": 9000, "token-ttl": 2592000}, "env": {"A": "butter"}});
    assert_eq!(api.call("PUT", SERVICE, Some(change)).0, 200);
    record(&api, 2, false);
    api
}

#[test]
fn a_rollout_that_nobody_has_looked_at_is_unknown() {
    let api = with_two_revisions();
    let (status, rollout) = api.get(&format!("{SERVICE}/rollout"));
    assert_eq!(status, 200, "{rollout}");
    assert_eq!((&rollout["generation"], &rollout["observed-generation"]), (&json!(2), &json!(0)));
    assert_eq!((&rollout["declared-revision"], &rollout["paused"]), (&json!(2), &json!(false)));
    let conditions = rollout["conditions"].as_array().unwrap();
    let told: Vec<Value> = conditions.iter().map(|it| json!([it["type"], it["status"]])).collect();
    let unknown = json!([["Available", "Unknown"], ["Progressing", "Unknown"], ["Degraded", "Unknown"]]);
    assert_eq!(Value::from(told), unknown);
    let revisions = rollout["revisions"].as_array().unwrap();
    assert_eq!((&revisions[0]["revision"], &revisions[0]["changes"]), (&json!(1), &json!([])));
    assert_eq!(revisions[1]["changes"], json!(["env.A", "options.port"]));
    assert!(!rollout.to_string().contains("butter"), "{rollout}");
    api.refused("GET", "/1.0/instances/IN1/services/SV9/rollout", None, 404);
}

#[test]
fn each_restart_is_another_one_and_leaves_what_is_declared() {
    let api = with_two_revisions();
    let before = api.get(SERVICE).1;
    let said = ["restart", "restart"].map(|verb| {
        let answer = tell(&api, &format!("{SERVICE}/{verb}"));
        (annotation(&api, &service(), RESTARTED).unwrap(), answer["generation"].clone())
    });
    assert_ne!(said[0].0, said[1].0);
    assert_eq!([&said[0].1, &said[1].1], [&json!(3), &json!(4)]);
    assert_eq!(api.get(SERVICE).1, before);
}

#[test]
fn what_is_paused_is_neither_restarted_nor_rolled_back_before_it_is_resumed() {
    let api = with_two_revisions();
    assert_eq!(tell(&api, &format!("{SERVICE}/pause"))["paused"], true);
    let since = annotation(&api, &service(), PAUSED);
    tell(&api, &format!("{SERVICE}/pause"));
    assert_eq!(annotation(&api, &service(), PAUSED), since, "it is paused already");
    for verb in ["restart", "rollback"] {
        let why = api.refused("POST", &format!("{SERVICE}/{verb}"), None, 409);
        assert!(why.contains("resume them first"), "{why}");
    }
    assert_eq!(tell(&api, &format!("{SERVICE}/resume"))["paused"], false);
    let writes = api.metrics.store_writes.get();
    tell(&api, &format!("{SERVICE}/resume"));
    assert_eq!(api.metrics.store_writes.get(), writes, "it was resumed already");
}

#[test]
fn a_rollback_marks_the_declared_revision_and_resume_takes_that_back() {
    let api = with_two_revisions();
    let path = format!("{SERVICE}/rollback");
    let before = api.get(SERVICE).1;
    let marked =
        |rollout: &Value| json!([rollout["revisions"][1]["failed"], rollout["revisions"][1]["replaced-by"]]);
    let back = tell(&api, &path);
    assert_eq!(marked(&back), json!(["rolled back by people", 1]));
    assert_eq!(api.get(SERVICE).1, before);
    let why = api.refused("POST", &path, None, 409);
    assert!(why.contains("no revision before 1"), "{why}");
    let why = api.refused("POST", &path, Some(json!({"revision": 7})), 409);
    assert!(why.contains("it has 1, 2"), "{why}");
    assert_eq!(marked(&tell(&api, &format!("{SERVICE}/resume"))), json!([null, null]));
    let (status, named) = api.call("POST", &path, Some(json!({"revision": 1})));
    assert_eq!((status, marked(&named)), (200, json!(["rolled back by people", 1])));
    for body in [json!({"revision": 0}), json!({"revision": "1"}), json!({"revison": 1})] {
        api.refused("POST", &path, Some(body), 400);
    }
    let unrecorded = api.refused("POST", "/1.0/instances/IN1/services/SV2/rollback", None, 409);
    assert!(unrecorded.contains("not recorded yet"), "{unrecorded}");
}

#[test]
fn a_node_is_cordoned_drained_and_takes_processes_again() {
    let api = Api::with_the_seeds_objects();
    let id = api.create_process();
    assert_eq!(tell(&api, &format!("{NODE}/cordon"))["cordoned"], true);
    assert_eq!(api.get(NODE).1["status"], false);
    let drained = tell(&api, &format!("{NODE}/drain"));
    assert!(drained["draining"].is_string(), "{drained}");
    let reason = "it was created by hand; delete it, and create one on another node";
    let left = json!([{"process": id, "service": "SV1", "stays": true, "reason": reason}]);
    assert_eq!(api.get(&format!("{NODE}/status")).1["left"], left);
    let since = annotation(&api, &node(), DRAINING);
    tell(&api, &format!("{NODE}/drain"));
    assert_eq!(annotation(&api, &node(), DRAINING), since);
    assert_eq!(tell(&api, &format!("{NODE}/uncordon")), json!({"state": "connecting", "warnings": []}));
    assert_eq!((api.get(NODE).1["status"].clone(), annotation(&api, &node(), DRAINING)), (json!(true), None));
    for verb in ["cordon", "drain", "uncordon"] {
        api.refused("POST", &format!("/1.0/instances/IN1/nodes/ND9/{verb}"), None, 404);
    }
}

#[test]
fn what_a_folder_says_of_a_node_is_changed_there_and_a_drain_is_said_here() {
    let api = Api::start();
    api.apply(
        "apiVersion: mainstay.dev/v1\nkind: Instance\nmetadata: {name: IN1}\nspec: {name: a, zk: z, redis: r}\n---\n\
         apiVersion: mainstay.dev/v1\nkind: Node\nmetadata: {name: ND1, namespace: IN1}\n\
         spec: {name: a, ip-address: 127.0.0.1, username: u, status: false}\n",
        "fleet",
    );
    let why = api.refused("PUT", NODE, Some(json!({"status": true})), 409);
    assert!(why.contains("status: fleet/web.yaml says otherwise"), "{why}");
    assert!(tell(&api, &format!("{NODE}/drain"))["draining"].is_string());
    let why = api.refused("POST", &format!("{NODE}/uncordon"), None, 409);
    assert!(why.contains("cordoned by fleet/web.yaml") && why.contains("no longer being drained"), "{why}");
    assert_eq!(annotation(&api, &node(), DRAINING), None);
}

#[test]
fn what_a_folder_is_silent_about_is_said_here_and_stays_when_the_folder_changes() {
    let api = Api::start();
    let fleet = "apiVersion: mainstay.dev/v1\nkind: Instance\nmetadata: {name: IN1}\nspec: {name: a, zk: z, redis: r}\n---\n\
                 apiVersion: mainstay.dev/v1\nkind: Node\nmetadata: {name: ND1, namespace: IN1}\n\
                 spec: {name: a, ip-address: 127.0.0.1, username: u}\n";
    api.apply(fleet, "fleet");
    tell(&api, &format!("{NODE}/cordon"));
    assert_eq!(api.call("PUT", NODE, Some(json!({"description": "mine"}))).0, 200);
    api.refused("PUT", NODE, Some(json!({"username": "v"})), 409);
    api.apply(&fleet.replace("username: u", "username: w"), "fleet");
    let (_, node) = api.get(NODE);
    let shown = ["status", "description", "username"].map(|name| node[name].clone());
    assert_eq!(shown, [json!(false), json!("mine"), json!("w")]);
    tell(&api, &format!("{NODE}/uncordon"));
}

#[test]
fn only_a_node_that_does_not_answer_is_forgotten_and_only_with_a_reason() {
    let api = Api::with_the_seeds_objects();
    let path = format!("{NODE}/forget");
    let why = api.refused("POST", &path, Some(json!({"reason": "burnt"})), 409);
    assert!(why.contains("is being connected to"), "{why}");
    for body in [json!({}), json!({"reason": ""}), json!({"reason": "a\nb"}), json!({"why": "x"})] {
        api.refused("POST", &path, Some(body), 400);
    }
    api.refused("POST", &path, None, 400);
    api.refused("POST", "/1.0/instances/IN1/nodes/ND9/forget", Some(json!({"reason": "x"})), 404);
    assert_eq!(api.get(NODE).0, 200);
}

#[test]
fn everything_is_explained_and_what_is_not_there_is_not() {
    let api = Api::with_the_seeds_objects();
    let id = api.create_process();
    for (path, object) in [
        ("instances/IN1".to_owned(), "Instance IN1".to_owned()),
        ("instances/IN1/nodes/ND1".into(), "Node IN1/ND1".into()),
        ("instances/IN1/services/SV1".into(), "Service IN1/SV1".into()),
        (format!("processes/{id}"), format!("Process IN1/{id}")),
    ] {
        let (status, answer) = api.get(&format!("/1.0/explain/{path}"));
        assert_eq!((status, &answer["object"]), (200, &json!(object)), "{answer}");
        let desired = answer["chain"][0]["text"].as_str().unwrap();
        assert!(desired.starts_with("through the API; generation 1, "), "{desired}");
        assert_eq!(answer["lines"][0], object);
        assert!(!answer.to_string().contains("butter"), "{answer}");
    }
    for path in
        ["instances/IN9", "instances/IN1/nodes/ND9", "instances/IN1/services/SV9", "processes/x", "users/x"]
    {
        api.refused("GET", &format!("/1.0/explain/{path}"), None, 404);
    }
    // What is being deleted is not shown any more, and can be wondered about.
    api.call("DELETE", NODE, None);
    let (_, answer) = api.get("/1.0/explain/instances/IN1/nodes/ND1");
    let called = answer["chain"][1]["text"].as_str().unwrap();
    assert!(called.starts_with(&format!("DELETE {NODE} by anonymous from ")), "{called}");
    assert_eq!(answer["chain"][2]["text"], "it is being deleted");
}
