//! `/openapi.json`: the API as it describes itself, in OpenAPI 3.1. Made from the table of routes, the types that admission reads, and
//! examples: those of the Platform API's text where it has them (`examples.json`, which a test compares with it).
//!
//! **Absent here:** 405. It is the answer to a method that is not described.

mod page;
mod shape;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::route::{Content, Need, Operation, Route, Version};
use super::table;
use crate::model::Kind;

pub use self::page::page;

pub(super) fn routes() -> Vec<Route> {
    let this = Operation::new("describe", "This description, in OpenAPI 3.1");
    let answer = || std::future::ready(([(CONTENT_TYPE, "application/json")], TEXT.as_str()));
    vec![Route::get("/openapi.json", answer, this.answers(StatusCode::OK, Content::AnyJson))]
}

static TEXT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", document()));

/// What is said of the whole.
const ABOUT: &str = "\
Services on plain Linux machines, and whom they serve. This is the Platform API 1.0, with what its text leaves open filled in, and some \
additions.

Bodies are JSON objects. Every error is answered as `{\"error\": \"…\"}`, for people. A method that a path does not have is answered with \
405, and `Allow` says which it has; HEAD is there wherever GET is, and OPTIONS everywhere. A head that is too large is answered with 431, \
without a body.

Without tokens everyone who reaches the server may do everything. With tokens, each has a role: `viewer`, `operator` or `admin`, each with \
all that those before it may; passwords are shown to an `admin` only.";

/// The sections, by the word in the path that they are told by.
const SECTIONS: [(&str, &str, &str); 11] = [
    (
        "instances",
        "Instances",
        "An instance is a physical collection of services. It can serve many tenants.",
    ),
    ("tenants", "Tenants", "A tenant is a virtual partition of an instance."),
    ("users", "Users", "A user has access to tenants."),
    ("integrations", "Integrations", "The catalogue of what tenants can be given access to. An addition."),
    ("nodes", "Nodes", "A node is a machine on which services are deployed."),
    ("services", "Services", "A service is the configuration of all processes of its type."),
    ("processes", "Processes", "A process is a service on a node. The Platform API leaves these open."),
    ("events", "Events", "What was done. An addition."),
    (
        "documents",
        "Documents",
        "The documents themselves, with what is observed of each, and whole sets of them. An addition.",
    ),
    ("tenant", "Tenants, misspelt", "Paths as some examples of the Platform API spell them."),
    ("", "Controller", "For those who watch the controller itself."),
];

/// Where something stands.
fn section(path: &str) -> &'static str {
    let is_of_documents = path.starts_with(super::objects::ROOT) || matches!(path, "/apply" | "/diff");
    let path = if is_of_documents { "/1.0/documents" } else { path };
    let path = path.strip_prefix("/1.0/").unwrap_or_default();
    let path = path.strip_prefix("explain/").unwrap_or(path);
    let path = path.strip_prefix("instances/{instance}/").unwrap_or(path);
    let word = path.split('/').next().unwrap_or_default();
    SECTIONS.iter().find(|(known, ..)| *known == word).map_or("Controller", |(_, name, _)| name)
}

/// Why requests are refused.
const REFUSALS: [(StatusCode, &str, &str); 14] = [
    (StatusCode::BAD_REQUEST, "BadRequest", "What was sent can't be meant."),
    (
        StatusCode::UNAUTHORIZED,
        "Unauthorized",
        "The server asks for a token, and there is none, or one that it does not know.",
    ),
    (StatusCode::FORBIDDEN, "Forbidden", "The token's role may not do this, or a page of others asks."),
    (StatusCode::NOT_FOUND, "NotFound", "There is no such object."),
    (StatusCode::REQUEST_TIMEOUT, "RequestTimeout", "The body did not come in time."),
    (StatusCode::CONFLICT, "Conflict", "As things are, it can't be done."),
    (
        StatusCode::PRECONDITION_FAILED,
        "PreconditionFailed",
        "The object is not in the version that `If-Match` names.",
    ),
    (
        StatusCode::PAYLOAD_TOO_LARGE,
        "PayloadTooLarge",
        "The body is over 1 MiB, or the object is too large to be stored.",
    ),
    (StatusCode::URI_TOO_LONG, "UriTooLong", "The path and its query are over 8 KiB."),
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", "The body is not said to be JSON."),
    (
        StatusCode::MISDIRECTED_REQUEST,
        "MisdirectedRequest",
        "The server was asked by a name that is not its own.",
    ),
    (StatusCode::INTERNAL_SERVER_ERROR, "Damaged", "What is stored can't be used."),
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "Unavailable",
        "The store or the node can't be asked, or there is too much to do. Try again.",
    ),
    (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "The path does not take this method."),
];

/// What each example shows: what is sent, and what is answered.
#[derive(Debug, Default, Deserialize)]
struct Example {
    body: Option<Value>,
    answer: Option<Value>,
}

/// The description.
///
/// # Panics
/// Never: what it is made of is part of the program, and a test makes it.
pub fn document() -> Value {
    let examples: BTreeMap<String, Example> =
        serde_json::from_str(include_str!("examples.json")).expect("a test reads them");
    let mut writer = Writer {
        generator: SchemaSettings::draft2020_12()
            .with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
            .into_generator(),
        schemas: BTreeMap::new(),
        examples,
    };
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for route in table() {
        let operation = writer.operation(&route);
        paths.entry(route.path).or_default().insert(route.method.as_str().to_lowercase(), operation);
    }
    let tags = SECTIONS.map(|(_, name, about)| json!({ "name": name, "description": about }));
    let paths = json!(paths);
    let schemas = writer.into_schemas(&paths);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Mainstay",
            "version": "1.0",
            "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "servers": [{ "url": "/", "description": "Where this was found." }],
        "security": [{}, { "token": [] }],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": refusals(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of `mainstay token`, where the server has a file of tokens.",
                },
            },
        },
    })
}

fn refusals() -> Map<String, Value> {
    let said = |about: &str| {
        json!({
            "description": about,
            "content": { "application/json": { "schema": shape::reference("Error") } },
        })
    };
    REFUSALS.iter().map(|(_, name, about)| ((*name).to_owned(), said(about))).collect()
}

struct Writer {
    generator: SchemaGenerator,
    /// Those that are not of one type.
    schemas: BTreeMap<String, Value>,
    examples: BTreeMap<String, Example>,
}

impl Writer {
    fn operation(&mut self, route: &Route) -> Value {
        let said = &route.operation;
        let Example { body, answer } = self.examples.remove(&said.id).unwrap_or_default();
        let need = Need::of(&route.method, &route.path);
        let mut operation = json!({
            "operationId": said.id,
            "summary": said.summary,
            "tags": [section(&route.path)],
            "parameters": parameters(route),
            "responses": self.responses(route, need, answer),
        });
        if !said.description.is_empty() {
            operation["description"] = said.description.into();
        }
        match need {
            Need::Nothing => operation["security"] = json!([]),
            Need::Read => operation["x-role"] = "viewer".into(),
            Need::Operate => operation["x-role"] = "operator".into(),
            Need::Change | Need::Secrets => operation["x-role"] = "admin".into(),
        }
        if let Some(content) = said.body {
            operation["requestBody"] =
                json!({ "required": !said.is_body_optional, "content": self.content(content, body) });
        }
        operation
    }

    fn responses(&mut self, route: &Route, need: Need, example: Option<Value>) -> Value {
        let said = &route.operation;
        let (status, content) = said.answer;
        let mut done = json!({ "description": status.canonical_reason().unwrap_or_default() });
        let version = json!({
            "ETag": {
                "description": "The version of the object.",
                "required": true,
                "schema": { "type": "string", "pattern": "^\"[0-9]+\"$" },
            },
        });
        if matches!(said.version, Version::Answered | Version::Read | Version::Changed) {
            done["headers"] = version.clone();
        }
        if !matches!(content, Content::Nothing) {
            done["content"] = self.content(content, example);
        }
        let mut responses = json!({ status.as_str(): done });
        if said.version == Version::Read {
            let unchanged = "The client has this version already.";
            responses["304"] = json!({ "description": unchanged, "headers": version });
        }
        for (status, name, _) in REFUSALS {
            if can_be_refused(route, need, status) {
                responses[status.as_str()] = json!({ "$ref": format!("#/components/responses/{name}") });
            }
        }
        responses
    }

    fn content(&mut self, content: Content, example: Option<Value>) -> Value {
        let (media, schema) = match content {
            Content::Nothing => return json!({}),
            Content::Text(media) => (media, json!({ "type": "string" })),
            Content::AnyJson => ("application/json", json!({ "type": "object" })),
            Content::Json(schema) => ("application/json", schema(&mut self.generator).to_value()),
            Content::Ids(one, other) => ("application/json", shape::ids(one, other)),
            Content::Object(kind) => ("application/json", self.object(kind)),
            Content::Objects(kind) => {
                ("application/json", json!({ "type": "array", "items": self.object(kind) }))
            }
            Content::New(kind) => {
                let schema = shape::new(kind, &mut self.generator);
                ("application/json", self.named(format!("New{}", kind.name()), schema))
            }
            Content::Changes(kind) => {
                let schema = shape::changes(kind, &mut self.generator);
                ("application/json", self.named(format!("{}Changes", kind.name()), schema))
            }
        };
        let mut content = json!({ "schema": schema });
        if let Some(example) = example {
            content["example"] = example;
        }
        json!({ media: content })
    }

    fn object(&mut self, kind: Kind) -> Value {
        let schema = shape::object(kind, &mut self.generator);
        self.named(kind.name().to_owned(), schema)
    }

    fn named(&mut self, name: String, schema: Value) -> Value {
        let reference = shape::reference(&name);
        self.schemas.insert(name, schema);
        reference
    }

    /// Those that are referred to from the paths, and from each other.
    fn into_schemas(mut self, paths: &Value) -> BTreeMap<String, Value> {
        let mut schemas = self.schemas;
        for (name, mut schema) in self.generator.take_definitions(true) {
            shape::close(&name, &mut schema);
            schemas.insert(name, schema);
        }
        let mut needed = BTreeMap::from([("Error".to_owned(), shape::error())]);
        let mut unread = vec![paths.to_string()];
        while let Some(text) = unread.pop() {
            for reference in text.split("\"#/components/schemas/").skip(1) {
                let name = reference.split('"').next().unwrap_or_default();
                if let Some(schema) = schemas.remove(name) {
                    unread.push(schema.to_string());
                    needed.insert(name.to_owned(), schema);
                }
            }
        }
        needed
    }
}

/// Whether a request of this kind can be refused for this reason.
fn can_be_refused(route: &Route, need: Need, status: StatusCode) -> bool {
    let said = &route.operation;
    match status {
        StatusCode::BAD_REQUEST
        | StatusCode::REQUEST_TIMEOUT
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::URI_TOO_LONG
        | StatusCode::MISDIRECTED_REQUEST
        | StatusCode::SERVICE_UNAVAILABLE => true,
        StatusCode::UNAUTHORIZED => need != Need::Nothing,
        StatusCode::FORBIDDEN => matches!(need, Need::Operate | Need::Change | Need::Secrets),
        StatusCode::NOT_FOUND => route.path.contains('{') || said.refusals.contains(&status),
        StatusCode::PRECONDITION_FAILED => matches!(said.version, Version::Changed | Version::Deleted),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => said.body.is_some(),
        other => said.refusals.contains(&other),
    }
}

fn parameters(route: &Route) -> Vec<Value> {
    let mut found = Vec::new();
    let mut noun = "";
    for word in route.path.split('/') {
        if let Some(name) = word.strip_prefix('{').and_then(|word| word.strip_suffix('}')) {
            let (about, example, schema) = shape::id(noun);
            found.push(json!({
                "name": name, "in": "path", "required": true, "description": about, "schema": schema,
                "example": example,
            }));
        }
        noun = word;
    }
    for query in route.operation.query {
        let schema: Value = serde_json::from_str(query.schema).expect("a test reads it");
        found.push(json!({
            "name": query.name, "in": "query", "required": false, "description": query.about, "schema": schema,
        }));
    }
    let header = match route.operation.version {
        Version::Unsaid | Version::Answered => None,
        Version::Read => Some(("If-None-Match", "Answers 304 if the object has this version, its `ETag`.")),
        Version::Changed | Version::Deleted => {
            Some(("If-Match", "Refuses with 412 unless the object has this version, its `ETag`."))
        }
    };
    if let Some((name, about)) = header {
        let tag = "(W/)?\"[!#-~]*\"";
        found.push(json!({
            "name": name, "in": "header", "required": false, "description": about,
            "schema": { "type": "string", "pattern": format!("^(\\*|{tag}( *, *{tag})*)$") },
            "example": "\"7\"",
        }));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_operation_has_a_name_of_its_own_and_every_example_an_operation() {
        let ids: Vec<String> = table().into_iter().map(|route| route.operation.id).collect();
        let different: BTreeSet<&String> = ids.iter().collect();
        assert_eq!(ids.len(), different.len(), "{ids:?}");
        let examples: BTreeMap<String, Example> =
            serde_json::from_str(include_str!("examples.json")).unwrap();
        let idle: Vec<_> = examples.keys().filter(|id| !different.contains(id)).collect();
        assert!(idle.is_empty(), "{idle:?}");
    }

    #[test]
    fn what_is_referred_to_is_there_and_examples_are_what_their_schemas_say() {
        let document = document();
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
        let mut checked = 0;
        for operation in document["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|path| path.as_object().unwrap().values())
        {
            let bodies =
                operation["responses"].as_object().unwrap().values().chain([&operation["requestBody"]]);
            for content in bodies.filter_map(|body| body.pointer("/content/application~1json")) {
                let Some(example) = content.get("example") else { continue };
                let mut schema = content["schema"].clone();
                schema["components"] = document["components"].clone();
                let validator = jsonschema::validator_for(&schema).unwrap();
                let errors: Vec<String> =
                    validator.iter_errors(example).map(|error| error.to_string()).collect();
                assert!(errors.is_empty(), "{}: {errors:?}", operation["operationId"]);
                checked += 1;
            }
        }
        assert!(checked > 60, "{checked}");
    }
}
