//! The documents themselves, and whole sets of them.

use serde_json::{Value, json};

use crate::server::Api;

const ROOT: &str = "/apis/mainstay.dev/v1";

const FLEET: &str = "apiVersion: mainstay.dev/v1\nkind: Instance\nmetadata: {name: IN1}\nspec: {name: a, zk: z, redis: r}\n---\n\
                     apiVersion: mainstay.dev/v1\nkind: Node\nmetadata: {name: ND1, namespace: IN1, labels: {zone: east}}\n\
                     spec: {name: a, ip-address: 127.0.0.1, username: u, password: butter}\n";

/// A request for a set `fleet` with this text.
fn fleet(text: &str) -> Option<Value> {
    Some(json!({ "set": "fleet", "files": [{ "name": "fleet.yaml", "text": text }] }))
}

/// An object of which only changes who owns its fields.
fn updated(object: &str) -> Value {
    json!({ "object": object, "action": "update", "fields": [] })
}

#[test]
fn what_is_shown_can_be_applied_again_and_changes_no_field() {
    let api = Api::start();
    let (status, answer) = api.call("POST", "/apply", fleet(FLEET));
    assert_eq!((status, answer["objects"].as_array().map(Vec::len)), (200, Some(2)), "{answer}");
    // Then it says whose call that was, too.
    assert_eq!(api.post("/1.0/instances/IN1/nodes/ND1/cordon").0, 200);
    let paths = [format!("{ROOT}/instances/IN1"), format!("{ROOT}/namespaces/IN1/nodes/ND1")];
    let shown = paths.map(|path| api.get(&path).1.to_string());
    assert!(!shown.concat().contains("butter"), "{shown:?}");
    let (status, answer) = api.call("POST", "/diff", fleet(&shown.join("\n---\n")));
    // Who applies it states what was filled in, too.
    assert_eq!((status, &answer["objects"]), (200, &json!([updated("Node IN1/ND1")])), "{answer}");
}
