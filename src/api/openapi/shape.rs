//! JSON Schemas of the flat form, made of those of the documents: an object as it is shown, what makes one, what changes one.
//!
//! The door knows rules that the types do not say, such as what an id is; those that a schema can say are said here. The others (what is
//! named has to exist, two parameters that exclude each other) are told by the answer.

use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use crate::api::credentials::{CLIENT_SECRET, PASSWORD};
use crate::api::flat::{Face, face};
use crate::model::Kind;
use crate::model::document::spec_schema;

/// What [`crate::model::id::check_id`] takes.
const ID: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$";
/// What [`crate::model::id::check_email`] takes, but for the length.
const EMAIL: &str = r#"^[^\s\u0000-\u001f\u007f-\u009f/?#%\\"@]+@[^\s\u0000-\u001f\u007f-\u009f/?#%\\"@]+$"#;
/// Text without control characters.
const LINE: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";
/// A path in full, or from the controller's home.
const PATH: &str = r"^(/|~/)[^\u0000-\u001f\u007f-\u009f]*$";
const HOST: &str = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,252}$";
const ACCOUNT: &str = concat!(
    r#"^[^\s\u0000-\u001f\u007f-\u009f'"`$;&|\\-]"#,
    r#"[^\s\u0000-\u001f\u007f-\u009f'"`$;&|\\]{0,63}$"#
);
const HOST_KEY: &str = r"^[^ \u0000-\u001f\u007f-\u009f]+ [^ \u0000-\u001f\u007f-\u009f]{17,}( [^\u0000-\u001f\u007f-\u009f]*)?$";
const VARIABLE: &str = "^(?!MAINSTAY_)[A-Za-z_][A-Za-z0-9_]*$";

/// By its name.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// What every error is.
pub(super) fn error() -> Value {
    json!({
        "description": "Why a request is refused.",
        "type": "object",
        "required": ["error"],
        "additionalProperties": false,
        "properties": { "error": { "description": "For people.", "type": "string" } },
    })
}

/// The ids of two objects, by their kinds.
pub(super) fn ids(one: Kind, other: Kind) -> Value {
    let names = [one, other].map(|kind| kind.name().to_lowercase());
    let properties: Map<String, Value> =
        names.iter().map(|name| (name.clone(), json!({ "type": "string" }))).collect();
    json!({ "type": "object", "required": names, "additionalProperties": false, "properties": properties })
}

/// An id in a path: what it is, an example, and its schema; by the word before it.
pub(super) fn id(noun: &str) -> (&'static str, &'static str, Value) {
    let id = json!({ "type": "string", "pattern": ID });
    match noun {
        "instances" => ("Id of the instance.", "IN1", id),
        "tenants" | "tenant" => ("Id of the tenant.", "tenant1", id),
        "integrations" => ("Id of the integration.", "datasift", id),
        "nodes" => ("Id of the node.", "ND1", id),
        "services" => ("Id of the service.", "SV1", id),
        "users" => (
            "Email address of the user.",
            "ian@userevents.com",
            json!({ "type": "string", "pattern": EMAIL }),
        ),
        _ => ("Id of the process.", "bc975bd6-70a5-4d67-af00-1d6dffdfdba0", id),
    }
}

/// An object as it is shown.
pub(super) fn object(kind: Kind, generator: &mut SchemaGenerator) -> Value {
    let Face { id, .. } = face(kind);
    let Parameters { about, mut properties, mut required } = parameters(kind, generator);
    // Whether it runs is told by its status.
    properties.remove("running");
    for schema in properties.values_mut() {
        forbid_null(schema);
    }
    let said = |about: &str| json!({ "type": "string", "description": about });
    properties.insert(
        "waits-for".into(),
        said("Only where it was just made: what has to be gone before it is taken up."),
    );
    properties.insert(id.into(), own_id(kind));
    if kind == Kind::User {
        properties.insert(
            CLIENT_SECRET.into(),
            said("The other half of the client id. Only in the answer that makes it."),
        );
        required.push("tenants".into());
    }
    required.insert(0, id.into());
    whole(about, properties, required)
}

/// The parameters of a new object.
pub(super) fn new(kind: Kind, generator: &mut SchemaGenerator) -> Value {
    let Face { id, required: more, .. } = face(kind);
    let Parameters { about, mut properties, mut required } = parameters(kind, generator);
    if kind != Kind::Process {
        properties.insert(id.into(), own_id(kind));
    }
    if kind == Kind::User {
        properties.remove("client-id");
        properties.insert(PASSWORD.into(), password());
    }
    required.splice(0..0, more.iter().filter(|name| **name == id).map(|name| (*name).to_owned()));
    required.extend(more.iter().map(|name| (*name).to_owned()).filter(|name| *name == PASSWORD));
    for (name, schema) in &mut properties {
        // What is null is not given.
        if required.contains(name) { forbid_null(schema) } else { allow_null(schema) }
    }
    whole(about, properties, required)
}

/// The parameters that are to change.
pub(super) fn changes(kind: Kind, generator: &mut SchemaGenerator) -> Value {
    let Face { id, .. } = face(kind);
    let Parameters { about, mut properties, required } = parameters(kind, generator);
    for (name, schema) in &mut properties {
        if required.contains(name) { forbid_null(schema) } else { allow_null(schema) }
    }
    properties.insert(id.into(), fixed(own_id(kind)));
    if kind == Kind::User {
        properties.insert("client-id".into(), fixed(json!({ "type": "string" })));
        properties.insert(PASSWORD.into(), password());
    }
    whole(about, properties, Vec::new())
}

/// What can be sent back as it was answered, and not be changed.
fn fixed(mut schema: Value) -> Value {
    schema["readOnly"] = true.into();
    schema["description"] = "As it is, if it is sent back: it can't be changed.".into();
    schema
}

fn own_id(kind: Kind) -> Value {
    if kind == Kind::User {
        json!({ "type": "string", "pattern": EMAIL, "maxLength": 254, "description": "Email address." })
    } else {
        json!({ "type": "string", "pattern": ID, "description": "Unique identifier." })
    }
}

fn password() -> Value {
    json!({
        "type": "string", "minLength": 1, "maxLength": 1024, "writeOnly": true,
        "description": "Password. Kept as a hash and never answered.",
    })
}

/// What a kind's document says, in the flat form.
struct Parameters {
    about: String,
    properties: Map<String, Value>,
    required: Vec<String>,
}

fn parameters(kind: Kind, generator: &mut SchemaGenerator) -> Parameters {
    let mut spec = spec_schema(kind, generator).to_value();
    let mut properties = match spec["properties"].take() {
        Value::Object(properties) => properties,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    };
    let mut required: Vec<String> = spec["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    for (hidden, _) in face(kind).hidden {
        properties.remove(*hidden);
    }
    if kind == Kind::Process {
        properties
            .insert("instance".into(), json!({ "type": "string", "description": "The instance, by id." }));
        required.insert(0, "instance".into());
    }
    for (name, schema) in &mut properties {
        refine(kind, name, schema);
    }
    // Where the platform's text describes it is of no use to who reads this.
    let about = spec["description"].as_str().unwrap_or_default();
    let about =
        match about.split_once(" (seed, ").and_then(|(about, rest)| Some((about, rest.split_once(')')?.1))) {
            Some((about, rest)) => format!("{about}{rest}"),
            None => about.to_owned(),
        };
    Parameters { about, properties, required }
}

/// Says what the door takes besides what the type does.
fn refine(kind: Kind, name: &str, schema: &mut Value) {
    match (kind, name) {
        (Kind::Node, "ip-address") => {
            schema["anyOf"] = json!([{ "pattern": HOST }, { "format": "ipv6" }]);
        }
        (Kind::Node, "username") => schema["pattern"] = ACCOUNT.into(),
        (Kind::Node, "password") => {
            *schema = json!({
                "type": ["string", "null"], "pattern": LINE, "description": "The account's password. Sealed before it is stored.",
            });
        }
        (Kind::Node, "host-key") => schema["pattern"] = HOST_KEY.into(),
        (Kind::Node, "identity-file" | "ssh-config") => schema["pattern"] = PATH.into(),
        (Kind::Service, "type") | (Kind::Process, _) if schema["type"] == "string" => {
            schema["pattern"] = ID.into()
        }
        (Kind::Service, "command") => {
            schema["minItems"] = 1.into();
            schema["prefixItems"] = json!([{ "type": "string", "minLength": 1 }]);
        }
        (Kind::Service, "env") => schema["propertyNames"] = json!({ "pattern": VARIABLE }),
        (Kind::Service, "nodes" | "after") => {
            schema["uniqueItems"] = true.into();
            schema["items"]["pattern"] = ID.into();
        }
        _ => {}
    }
}

/// Says of a type's schema that there is nothing else in it, and what the door takes besides.
pub(super) fn close(name: &str, schema: &mut Value) {
    if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        fields.values_mut().for_each(forbid_null);
        schema["additionalProperties"] = false.into();
    }
    if name == "PasswordFrom" {
        for (field, pattern) in [("file", PATH), ("env", "^[A-Za-z_][A-Za-z0-9_]*$")] {
            for one in schema["oneOf"].as_array_mut().into_iter().flatten() {
                if let Some(field) = one.pointer_mut(&format!("/properties/{field}")) {
                    field["pattern"] = pattern.into();
                }
            }
        }
    }
}

fn whole(about: String, properties: Map<String, Value>, required: Vec<String>) -> Value {
    let mut schema = json!({
        "description": about, "type": "object", "additionalProperties": false, "properties": properties,
    });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

/// The same without null.
fn forbid_null(schema: &mut Value) {
    let is_null = |one: &Value| *one == "null" || one["type"] == "null";
    for key in ["type", "anyOf"] {
        let Some(all) = schema.get_mut(key).and_then(Value::as_array_mut) else { continue };
        all.retain(|one| !is_null(one));
        let (1, Some(one)) = (all.len(), all.first().cloned()) else { continue };
        if key == "type" {
            schema["type"] = one;
        } else if let (Some(whole), Value::Object(one)) = (schema.as_object_mut(), one) {
            whole.remove("anyOf");
            whole.extend(one);
        }
    }
}

/// The same, or null.
fn allow_null(schema: &mut Value) {
    forbid_null(schema);
    if schema.get("$ref").is_some() || schema.get("anyOf").is_some() || schema.get("enum").is_some() {
        let about = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        *schema = json!({ "anyOf": [schema.take(), { "type": "null" }] });
        if let Some(about) = about {
            schema["description"] = about;
        }
    } else if let Some(kind) = schema.get("type").cloned() {
        schema["type"] = json!([kind, "null"]);
    }
}
