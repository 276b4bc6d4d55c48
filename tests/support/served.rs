//! `mainstay serve`, and its `/1.0`.

use std::path::Path;

use serde_json::{Value, json};

use super::program::{Program, call};
use super::sshd::{Sshd, user};

/// A serving program, with calls that fail the test when the answer is not the expected one.
pub struct Served {
    /// The program.
    pub program: Program,
    /// Its address.
    pub api: String,
}

impl Served {
    pub fn start(data_dir: &Path, more: &[&str]) -> Served {
        let program = Program::serve(data_dir, more);
        let api = program.api();
        Served { program, api }
    }

    pub fn call(&self, method: &str, path: &str, body: &Value, status: u16) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (said, text) = call(method, &format!("{}/1.0{path}", self.api), &body).unwrap();
        assert_eq!(said, status, "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    pub fn post(&self, path: &str, body: &Value) -> Value {
        self.call("POST", path, body, 201)
    }

    pub fn tell(&self, path: &str) -> Value {
        self.call("POST", path, &Value::Null, 200)
    }

    pub fn get(&self, path: &str) -> Value {
        self.call("GET", path, &Value::Null, 200)
    }

    /// An instance IN1 with the node ND1 on an sshd.
    pub fn with_node(&self, sshd: &Sshd) {
        self.post("/instances", &json!({"name": "a", "zk": "z:1", "redis": "redis://r"}));
        let node = self.post("/instances/IN1/nodes", &node(sshd));
        assert_eq!(node["id"], "ND1");
    }
}

/// A node on an sshd.
pub fn node(sshd: &Sshd) -> Value {
    json!({
        "name": "a", "ip-address": "127.0.0.1", "port": sshd.port(), "username": user(),
        "identity-file": sshd.identity_file(),
    })
}

/// A service that runs a command.
pub fn service(command: &[&str]) -> Value {
    json!({"name": "a", "type": "timer", "command": command})
}
