//! The contract: every example of the Platform API 1.0 (`tests/seed/platform-api.md`, the owner's own text), in its order, over HTTP, with
//! a node that is a real sshd and processes that really run. Answers are compared exactly. What is not, and nothing else:
//!
//! - a node's username and password are those of an account that is there, and it has a port besides;
//! - the ids of processes and clients are made here, so only their form is compared, and that a process has the same id everywhere;
//! - the answer that makes a user has the client's secret besides, which it shows only there;
//! - the two lists of tenants and the users of a tenant are compared without their order: the text's own examples have no common one.
//!
//! The text's examples do not follow from each other everywhere (what is deleted is listed in the next one), so `Walk::prepare` says for
//! each what has to be there by then.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tempfile::TempDir;

mod support;
use support::program::{Program, call};
use support::sshd::{Account, Sshd};

const SEED: &str = include_str!("seed/platform-api.md");

/// Types of the same names and options as the platform's, that run without its jars.
const TYPES: &str = "
apiVersion: mainstay.dev/v1
kind: ServiceType
metadata: {name: auth}
spec: {command: [sleep, '1000'], options-schema: {properties: {port: {type: integer}, token-ttl: {type: integer}}}}
---
apiVersion: mainstay.dev/v1
kind: ServiceType
metadata: {name: webapp}
spec: {command: [sleep, '1000'], options-schema: {properties: {port: {type: integer}}}}
---
apiVersion: mainstay.dev/v1
kind: ServiceType
metadata: {name: rest}
spec: {command: [sleep, '1000'], options-schema: {properties: {port: {type: integer}}}}
";

/// One endpoint of the text, with its example.
#[derive(Debug)]
struct Example {
    /// `Section / Heading`.
    title: String,
    /// As it is defined: method and path.
    definition: (String, String),
    /// As it is asked for: method, path, body.
    request: (String, String, Option<Value>),
    status: u16,
    /// None where the text shows none.
    response: Option<String>,
}

/// JSON as the text has it: with commas before closing brackets.
fn lenient(text: &str) -> Value {
    let mut strict = String::new();
    for c in text.chars() {
        if matches!(c, '}' | ']') && strict.trim_end().ends_with(',') {
            strict.truncate(strict.trim_end().len() - 1);
        }
        strict.push(c);
    }
    serde_json::from_str(&strict).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The names in a JSON text, in its order.
fn names(text: &str) -> Vec<&str> {
    let parts: Vec<&str> = text.split('"').collect();
    let named = parts.windows(2).skip(1).step_by(2).filter(|pair| pair[1].trim_start().starts_with(':'));
    named.map(|pair| pair[0]).collect()
}

/// A curl command's method, path and body.
fn curl(text: &str) -> (String, String, Option<Value>) {
    let text = text.replace("\\\n", " ");
    let (command, body) = match text.split_once("-d '") {
        Some((command, body)) => (command, Some(lenient(body.split('\'').next().unwrap()))),
        None => (text.as_str(), None),
    };
    let words = command.replace("-X", " -X ").replace("-IX", " -X ").replace("-I -X", " -X ");
    let words: Vec<&str> = words.split_whitespace().collect();
    let method = words[words.iter().position(|word| *word == "-X").unwrap() + 1];
    let path = words.iter().find(|word| word.starts_with("/1.0/")).unwrap();
    (method.to_owned(), (*path).to_owned(), body)
}

/// The fenced blocks of a part of the text, each with the last line of text before it.
fn blocks(part: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = part;
    while let Some((before, after)) = rest.split_once("```") {
        let (block, after) = after.split_once("```").unwrap();
        let (_, block) = block.split_once('\n').unwrap();
        found.push((before.trim().lines().last().unwrap_or_default(), block));
        rest = after;
    }
    found
}

fn examples() -> Vec<Example> {
    let mut found = Vec::new();
    for section in SEED.split("\n## ").skip(1) {
        let name = section.lines().next().unwrap();
        for part in section.split("\n### ").skip(1) {
            let title = format!("{name} / {}", part.lines().next().unwrap());
            let blocks = blocks(part);
            let Some((_, definition)) = blocks.iter().find(|(label, _)| *label == "> Definition") else {
                continue;
            };
            let (method, path) = definition.trim().split_once(' ').unwrap();
            let (_, request) = blocks.iter().find(|(label, _)| *label == "> Example Request").unwrap();
            let response =
                blocks.iter().rfind(|(label, _)| !matches!(*label, "> Definition" | "> Example Request"));
            let said = part.split_once("**HTTP ").map(|(_, after)| after[..3].parse().unwrap());
            let heading = title.split_once("/ ").unwrap().1;
            let makes = heading.starts_with("Create") || heading.starts_with("Add");
            found.push(Example {
                definition: (method.to_owned(), path.trim().to_owned()),
                request: curl(request),
                status: said.unwrap_or(if makes { 201 } else { 200 }),
                response: response.map(|(_, block)| (*block).to_owned()),
                title,
            });
        }
    }
    found
}

/// The example objects at the start of each section.
fn objects() -> BTreeMap<&'static str, Value> {
    let mut found = BTreeMap::new();
    for section in SEED.split("\n## ").skip(1) {
        let attributes = section.split("\n### ").next().unwrap();
        if let Some((_, object)) =
            blocks(attributes).into_iter().find(|(label, _)| *label == "> Example Object")
        {
            found.insert(section.lines().next().unwrap(), lenient(object));
        }
    }
    found
}

struct Walk {
    api: String,
    account: Account,
    port: u16,
    /// The text's ids of processes, and ours.
    processes: BTreeMap<String, String>,
}

impl Walk {
    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let (status, text) = self.ask(method, path, body);
        (status, if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() })
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, String) {
        let body = body.map(|body| self.real_node(path, body.clone()).to_string()).unwrap_or_default();
        call(method, &format!("{}{path}", self.api), &body).unwrap()
    }

    fn must(&self, method: &str, path: &str, body: Value) {
        let (status, answer) = self.call(method, path, (!body.is_null()).then_some(&body));
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
    }

    /// A node as the text has it, with the account that is there. Anything else stays as it is.
    fn real_node(&self, path: &str, mut value: Value) -> Value {
        if let Some(items) = value.as_array_mut() {
            return items.iter_mut().map(|item| self.real_node(path, item.take())).collect();
        }
        if path.contains("/nodes") && value.get("username").is_some() {
            value["username"] = self.account.name.clone().into();
            value["password"] = self.account.password.clone().into();
            value["port"] = self.port.into();
        }
        value
    }

    fn process(&self, service: &str) {
        self.must("POST", "/1.0/processes", json!({"instance": "IN1", "service": service, "node": "ND1"}));
    }

    /// Makes the world what the text supposes before one of its examples.
    fn prepare(&self, title: &str, objects: &BTreeMap<&'static str, Value>) {
        let tenant =
            |id: &str, name: &str| self.must("POST", "/1.0/tenants", json!({"id": id, "name": name}));
        let user = |email: &str, name: &str, tenant: &str| {
            let user = json!({"email": email, "name": name, "password": "butter", "tenants": [tenant]});
            self.must("POST", "/1.0/users", user);
        };
        let delete = |path: &str| self.must("DELETE", path, Value::Null);
        let in2 = |name: &str| {
            let zk =
                json!({"id": "IN2", "name": name, "zk": "localhost:2181", "redis": "redis://localhost:6379"});
            self.must("POST", "/1.0/instances", zk);
        };
        let services = "/1.0/instances/IN1/services";
        match title {
            "Instances / Create an Instance" => {
                let mut root = json!({"name": "Root Instance", "zk": "localhost:2180", "redis": "redis://localhost:6378"});
                for unset in ["auth", "api", "events", "stats"] {
                    root[unset] = Value::Null;
                }
                self.must("PUT", "/1.0/instances/IN1", root);
            }
            "Instances / List All Instances" => in2("Production Instance"),
            "Instances / List Tenants of an Instance" => {
                for (id, name) in [("system", "My Tenant"), ("tenant1", "My Other Tenant")] {
                    tenant(id, name);
                    self.must("POST", &format!("/1.0/tenants/{id}/instance"), json!({"id": "IN2"}));
                }
            }
            "Tenants / Create a Tenant" => {
                for id in ["system", "tenant1"] {
                    delete(&format!("/1.0/tenants/{id}"));
                }
            }
            "Tenants / List All Tenants" => {
                tenant("tenant1", "Test Tenant");
                tenant("system", "Main Tenant");
            }
            "Tenants / List Users of a Tenant" => {
                user("ian@userevents.com", "Ian Bishop", "tenant1");
                user("admin@userevents.com", "Admin", "tenant1");
            }
            "Tenants / Retrieve Instance of a Tenant" => {
                self.must("PUT", "/1.0/instances/IN2", json!({"name": "My Instance"}));
                self.must("POST", "/1.0/tenants/tenant1/instance", json!({"id": "IN2"}));
            }
            "Tenants / List All Integrations of a Tenant" => {
                for id in ["salesforce", "datasift", "echo"] {
                    self.must("POST", &format!("/1.0/tenants/tenant1/integrations/{id}"), Value::Null);
                }
            }
            "Users / Create a User" => {
                delete("/1.0/users/ian@userevents.com");
                delete("/1.0/users/admin@userevents.com");
            }
            "Users / List All Users" => {
                user("ian@userevents.com", "Ian Bishop", "userevents");
                user("josh@userevents.com", "Josh Comer", "userevents");
            }
            "Nodes / List All Nodes" => {
                self.must("POST", "/1.0/instances/IN1/nodes", objects["Nodes"].clone());
                self.must("PUT", "/1.0/instances/IN1/nodes/ND2", json!({"name": "local box"}));
            }
            "Services / Delete a Service" => {
                self.must("POST", services, json!({"id": "ND1", "type": "webapp", "name": "misspelt"}));
            }
            "Services / List All Services" => {
                self.must("PUT", &format!("{services}/SV2"), json!({"name": "WebApp"}));
            }
            "Services / Start a Service" => self.process("SV1"),
            "Services / Monitor a Service" => {
                self.must("POST", &format!("{services}/SV1/start"), Value::Null)
            }
            "Services / Start All Services" => {
                self.must("POST", services, json!({"type": "rest", "name": "Receiver"}));
                self.process("SV2");
                self.process("SV3");
            }
            "Services / Monitor All Services" => self.must("POST", &format!("{services}/start"), Value::Null),
            _ => {}
        }
    }

    /// Where an answer is not what the text shows.
    fn differs(&mut self, at: &str, shown: &Value, answer: &Value) -> Option<String> {
        let differs = || Some(format!("{at}: {answer} is not {shown}"));
        match (shown, answer) {
            (Value::Object(fields), Value::Object(found)) => {
                let extra = found.keys().find(|name| !fields.contains_key(*name));
                if let Some(extra) = extra {
                    return Some(format!("{at}: there is {extra} besides"));
                }
                let none = Value::Null;
                fields.iter().find_map(|(name, value)| {
                    self.differs(&format!("{at}/{name}"), value, found.get(name).unwrap_or(&none))
                })
            }
            (Value::Array(items), Value::Array(found)) if items.len() == found.len() => {
                let mut pairs = items.iter().zip(found).enumerate();
                pairs.find_map(|(n, (item, found))| self.differs(&format!("{at}/{n}"), item, found))
            }
            (Value::String(shown), Value::String(found)) if uuid::Uuid::parse_str(shown).is_ok() => {
                // Services are started and listed with the ids of their processes in two ways in the text; what has to be is that ours
                // are ids of processes that there are.
                let is_there = self.call("GET", &format!("/1.0/processes/{found}"), None).0 == 200;
                if uuid::Uuid::parse_str(found).is_ok() && is_there {
                    self.processes.insert(format!("{at} {shown}"), found.clone());
                    return None;
                }
                differs()
            }
            (Value::String(_), Value::String(found)) if at.ends_with("/client-id") => {
                if found.len() == 32 {
                    None
                } else {
                    differs()
                }
            }
            _ if shown == answer => None,
            _ => differs(),
        }
    }
}

/// The order does not count.
fn sorted(mut list: Value) -> Value {
    list.as_array_mut().unwrap().sort_by_key(Value::to_string);
    list
}

#[test]
fn every_endpoint_of_the_text_is_walked() {
    let examples = examples();
    assert_eq!(examples.len(), SEED.matches("> Definition").count());
    assert_eq!(examples.len(), SEED.matches("curl -").count());
    assert_eq!(objects().len(), SEED.matches("> Example Object").count());
    for example in &examples {
        // The example is of the endpoint that it stands with, up to the text's two spellings of one path.
        let (method, template) = &example.definition;
        let path = example.request.1.replace("/tenant/", "/tenants/");
        let fits = template.split('/').zip(path.split('/')).all(|(a, b)| a.starts_with("{{") || a == b);
        assert!(fits && *method == example.request.0, "{example:?}");
        assert_eq!(template.split('/').count(), path.split('/').count(), "{example:?}");
    }
    let bodiless = examples.iter().filter(|example| example.response.is_none());
    assert!(bodiless.clone().all(|example| example.status == 204 || example.title.contains("/ Add ")));
}

#[test]
fn the_platform_does_what_the_text_says_in_its_words() {
    let account = Account::new();
    let sshd = Sshd::start_with("PubkeyAuthentication no\nUsePAM yes\n");
    let directory = TempDir::new().unwrap();
    let manifests = directory.path().join("manifests");
    std::fs::create_dir(&manifests).unwrap();
    std::fs::write(manifests.join("types.yaml"), TYPES).unwrap();
    let folder = manifests.display().to_string();
    let program = Program::serve(&directory.path().join("data"), &["--manifests", &folder]);
    let api = program.api();
    let mut walk = Walk { api, account, port: sshd.port(), processes: BTreeMap::new() };
    let objects = objects();
    let mut section = String::new();
    for Example { title, request: (method, path, body), status, response, .. } in examples() {
        let name = title.split(" /").next().unwrap();
        if section != name {
            section = name.to_owned();
            walk.example_object(name, &objects);
        }
        walk.prepare(&title, &objects);
        let (found, text) = walk.ask(&method, &path, body.as_ref());
        assert_eq!(found, status, "{title}: {text}");
        let mut answer: Value =
            if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
        if title == "Users / Create a User" {
            let secret = answer.as_object_mut().unwrap().remove("client-secret").unwrap();
            assert_eq!(secret.as_str().unwrap().len(), 44);
        }
        if let Some(shown) = response {
            let mut ordered = names(&text);
            ordered.retain(|name| *name != "client-secret" && !(*name == "port" && path.contains("/nodes")));
            assert_eq!(ordered, names(&shown), "{title}: {text}");
            let mut shown = lenient(&shown);
            if title.contains("List All Tenants")
                || title.contains("List Tenants")
                || title.contains("List Users")
            {
                (shown, answer) = (sorted(shown), sorted(answer));
            }
            let shown = walk.real_node(&path, shown);
            assert_eq!(walk.differs("", &shown, &answer), None, "{title}: {answer}");
        }
        if status == 204 {
            assert_eq!(answer, Value::Null, "{title}");
            if !path.ends_with("/datasift") && !path.ends_with("/userevents") {
                assert_eq!(walk.call("GET", &path, None).0, 404, "{title}: it is still there");
            }
        }
    }
    let ids: std::collections::BTreeSet<&String> = walk.processes.values().collect();
    assert_eq!(ids.len(), 3, "three processes under three ids: {:?}", walk.processes);
    for id in ids {
        assert_eq!(support::with_variable("MAINSTAY_PROCESS", id).len(), 1, "it says that it runs");
    }
    walk.must("DELETE", "/1.0/instances/IN1", Value::Null);
    support::wait_for("everything to be stopped", || {
        support::carrying(&sshd.directory().display().to_string()).len() <= 1
    });
}

impl Walk {
    /// The object at the start of a section: what is made of it is shown as it is there.
    fn example_object(&mut self, section: &str, objects: &BTreeMap<&'static str, Value>) {
        let mut object = objects[section].clone();
        let list = match section {
            "Instances" => "/1.0/instances",
            "Tenants" => "/1.0/tenants",
            "Users" => "/1.0/users",
            "Nodes" => "/1.0/instances/IN1/nodes",
            "Services" => "/1.0/instances/IN1/services",
            other => panic!("a section {other} is not known"),
        };
        let shown = self.real_node(list, object.clone());
        let path = format!("{list}/{}", object.get("id").unwrap_or(&object["email"]).as_str().unwrap());
        if section == "Tenants" {
            // One of the section before has its id.
            self.must("DELETE", &path, Value::Null);
        }
        if section == "Users" {
            self.must("POST", "/1.0/tenants", json!({"id": "userevents", "name": "a"}));
            object.as_object_mut().unwrap().remove("client-id");
            object["password"] = "butter".into();
        }
        self.must("POST", list, object);
        let (_, answer) = self.call("GET", &path, None);
        assert_eq!(self.differs("", &shown, &answer), None, "{section}: {answer}");
        if section == "Users" {
            self.must("DELETE", &path, Value::Null);
        }
    }
}
