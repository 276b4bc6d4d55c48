//! What is shipped is right: every manifest is admitted, refers to what exists, and says what the platform's facts say.
#![allow(clippy::unwrap_used, reason = "in a test a panic is how it fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mainstay::model::admit::{Admitted, Origin, admit_text};
use mainstay::model::kinds::{ServiceSpec, ServiceTypeSpec, Signal, Transport};
use mainstay::model::lint::{Known, lint};
use mainstay::model::secret::{KEY_BYTES, Sealer};
use mainstay::model::template::{Context, Renderer};
use mainstay::model::{Document, Key, Kind, Spec};
use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The YAML files of a folder, in order.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

/// The folders under examples/ that hold manifests.
fn examples() -> Vec<String> {
    let mut folders: Vec<String> = std::fs::read_dir(root().join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| format!("examples/{}", entry.file_name().to_str().unwrap()))
        .collect();
    folders.sort();
    folders
}

fn admit_file(path: &Path) -> Vec<Admitted> {
    let origin = Origin {
        file: Some(path.strip_prefix(root()).unwrap().display().to_string()),
        directory: path.parent().map(Path::to_path_buf),
    };
    let text = std::fs::read_to_string(path).unwrap();
    admit_text(&text, &origin, &Sealer::new([1; KEY_BYTES])).unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

fn admit_folder(folder: &str) -> Vec<Admitted> {
    files(folder).iter().flat_map(|path| admit_file(path)).collect()
}

struct Shipped(BTreeMap<Key, Arc<Document>>);

impl Shipped {
    fn read() -> Shipped {
        let all = admit_folder("manifests").into_iter();
        Shipped(all.map(|it| (it.document.key(), Arc::new(it.document))).collect())
    }

    fn service_types(&self) -> impl Iterator<Item = (&str, &ServiceTypeSpec)> {
        self.0.iter().filter_map(|(key, document)| {
            let Spec::ServiceType(it) = &document.spec else { return None };
            Some((key.name.as_str(), it))
        })
    }
}

impl Known for Shipped {
    fn find(&self, key: &Key) -> Option<Arc<Document>> {
        self.0.get(key).cloned()
    }

    fn names(&self, kind: Kind, namespace: &str) -> Vec<String> {
        self.0
            .keys()
            .filter(|it| it.kind == kind && it.namespace == namespace)
            .map(|it| it.name.clone())
            .collect()
    }
}

struct Nothing;

impl Known for Nothing {
    fn find(&self, _: &Key) -> Option<Arc<Document>> {
        None
    }

    fn names(&self, _: Kind, _: &str) -> Vec<String> {
        Vec::new()
    }
}

/// Each type's options, and which of them take effect without a restart.
const TYPES: [(&str, &[&str], &[&str]); 18] = [
    (
        "augment",
        &["command-port", "event-downstream", "notification-downstream", "pipeline-port"],
        &["event-downstream", "notification-downstream"],
    ),
    ("auth", &["port", "token-ttl"], &[]),
    ("broker", &["command-port", "downstream", "pipeline-port"], &[]),
    ("cxengage-api", &["port"], &[]),
    ("datasift", &[], &[]),
    ("echo", &ENDPOINT, &["downstream"]),
    (
        "engine",
        &["command-port", "downstream", "event-size", "pipeline-port", "reaction-size", "shelves"],
        &["downstream"],
    ),
    (
        "es-journal",
        &[
            "cluster-name",
            "command-port",
            "endpoints",
            "journal-path",
            "pipeline-port",
            "pool-size",
            "reaction-size",
        ],
        &[],
    ),
    (
        "generic",
        &["command-port", "downstream", "notification-size", "pipeline-port", "pool-size", "port"],
        &["downstream"],
    ),
    (
        "notification",
        &[
            "command-port",
            "downstream",
            "journal-size",
            "notification-size",
            "pipeline-port",
            "reaction-size",
            "shelves",
            "updates",
        ],
        &["downstream"],
    ),
    ("pusher", &ENDPOINT, &["downstream"]),
    ("pusher-listener", &[], &[]),
    ("rest", &["command-port", "downstream", "event-size", "pipeline-port", "port"], &["downstream"]),
    ("salesforce", &ENDPOINT, &["downstream"]),
    ("salesforce-listener", &[], &[]),
    ("sendgrid", &ENDPOINT, &["downstream"]),
    ("timer", &ENDPOINT, &["downstream"]),
    ("webapp", &["port"], &[]),
];

const ENDPOINT: [&str; 5] = ["command-port", "downstream", "notification-size", "pipeline-port", "pool-size"];

/// Every default that is a number.
const DEFAULTS: [(&str, &str, u64); 23] = [
    ("auth", "token-ttl", 2_592_000),
    ("echo", "notification-size", 2048),
    ("echo", "pool-size", 3),
    ("engine", "event-size", 16384),
    ("engine", "reaction-size", 131_072),
    ("engine", "shelves", 1),
    ("es-journal", "pool-size", 3),
    ("es-journal", "reaction-size", 262_144),
    ("generic", "notification-size", 2048),
    ("generic", "pool-size", 3),
    ("notification", "journal-size", 262_144),
    ("notification", "notification-size", 2048),
    ("notification", "reaction-size", 131_072),
    ("notification", "shelves", 1),
    ("pusher", "notification-size", 2048),
    ("pusher", "pool-size", 3),
    ("rest", "event-size", 1024),
    ("salesforce", "notification-size", 2048),
    ("salesforce", "pool-size", 3),
    ("sendgrid", "notification-size", 2048),
    ("sendgrid", "pool-size", 3),
    ("timer", "notification-size", 2048),
    ("timer", "pool-size", 3),
];

/// What a shipped option's schema is made of. JSON Schema takes any other word in silence, so a slip in YAML would too.
const KEYWORDS: [&str; 10] = [
    "default",
    "description",
    "items",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "pattern",
    "prefixItems",
    "type",
];

const INTEGRATIONS: [&str; 8] =
    ["datasift", "echo", "generic", "pusher", "salesforce", "sendgrid", "timer", "twilio"];

fn property_names(service_type: &ServiceTypeSpec) -> Vec<&str> {
    service_type.options_schema["properties"].as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn every_file_is_admitted_and_tells_editors_its_schema() {
    for folder in examples().iter().map(String::as_str).chain(["manifests"]) {
        let files = files(folder);
        assert!(!files.is_empty(), "{folder} holds no manifests");
        for path in files {
            let kinds: BTreeSet<Kind> = admit_file(&path).iter().map(|it| it.document.spec.kind()).collect();
            let kind = *kinds.first().unwrap();
            assert_eq!(kinds.len(), 1, "{} holds one kind", path.display());
            let up = "../".repeat(folder.split('/').count());
            let name = if kind == Kind::ServiceType { "service-type" } else { &kind.name().to_lowercase() };
            let wanted = format!("# yaml-language-server: $schema={up}schemas/{name}.json");
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.lines().next(), Some(wanted.as_str()), "{}", path.display());
        }
    }
}

#[test]
fn each_example_refers_only_to_itself_and_to_what_is_shipped() {
    let shipped = Shipped::read();
    assert_eq!(lint(&admit_folder("manifests"), &Nothing), []);
    for folder in examples() {
        assert_eq!(lint(&admit_folder(&folder), &shipped), [], "{folder}");
    }
}

#[test]
fn every_type_of_the_platform_is_shipped_with_its_options() {
    let shipped = Shipped::read();
    let found: Vec<(&str, Vec<&str>, Vec<&str>)> = shipped
        .service_types()
        .map(|(name, it)| (name, property_names(it), it.live_options.iter().map(String::as_str).collect()))
        .collect();
    let wanted: Vec<_> = TYPES.map(|(name, options, live)| (name, options.to_vec(), live.to_vec())).into();
    assert_eq!(found, wanted);

    for (name, it) in shipped.service_types() {
        assert!(it.description.is_some(), "{name}");
        assert_eq!(it.command, ["java", "-jar", &format!("/opt/cxengage/{name}.jar")]);
        assert_eq!(it.reload.as_ref().map(|it| it.signal), Some(Signal::Hup), "{name}: `log-level` is live");
        assert_eq!(it.options_schema["additionalProperties"], json!(false), "{name}");
    }
}

#[test]
fn every_default_is_the_platforms_and_fits_its_own_schema() {
    let shipped = Shipped::read();
    let mut numbers = Vec::new();
    for (name, it) in shipped.service_types() {
        for (option, schema) in it.options_schema["properties"].as_object().unwrap() {
            for keyword in schema.as_object().unwrap().keys() {
                assert!(KEYWORDS.contains(&keyword.as_str()), "{name}.{option}: {keyword:?}");
            }
            assert!(schema["description"].is_string(), "{name}.{option} says what it is");
            if let Some(default) = schema.get("default") {
                let problem = jsonschema::validator_for(schema).unwrap().validate(default).err();
                assert!(problem.is_none(), "{name}.{option}: {problem:?}");
                numbers.extend(default.as_u64().map(|number| (name, option.as_str(), number)));
            }
            if option == "port" || option.ends_with("-port") {
                assert_eq!((&schema["minimum"], &schema["maximum"]), (&json!(1), &json!(65535)));
                assert!(schema.get("default").is_none(), "{name}.{option}: the service chooses");
            }
        }
    }
    assert_eq!(numbers, DEFAULTS);
    let (_, journal) = shipped.service_types().find(|(name, _)| *name == "es-journal").unwrap();
    assert_eq!(journal.options_schema["properties"]["journal-path"]["default"], "journal.jnl");
}

#[test]
fn the_journals_endpoints_are_pairs_of_an_address_and_a_port() {
    let shipped = Shipped::read();
    let (_, journal) = shipped.service_types().find(|(name, _)| *name == "es-journal").unwrap();
    let schema = Value::Object(journal.options_schema.clone());
    let fits = |endpoints: Value| jsonschema::is_valid(&schema, &json!({"endpoints": endpoints}));
    assert!(fits(json!([["10.0.0.1", 9300], ["10.0.0.2", 9300]])));
    for wrong in [json!([]), json!([["10.0.0.1"]]), json!([["h", 0]]), json!([["h", 1, 2]]), json!(["h", 1])]
    {
        assert!(!fits(wrong.clone()), "{wrong}");
    }
}

#[test]
fn every_integration_is_shipped_and_shows_no_secret() {
    let shipped = Shipped::read();
    let names = shipped.names(Kind::Integration, "");
    assert_eq!(names, INTEGRATIONS);
    for name in names {
        let document = shipped.find(&Key::cluster(Kind::Integration, name.as_str())).unwrap();
        let Spec::Integration(it) = &document.spec else { panic!("{name}") };
        assert!(it.endpoint.is_some() || it.listener.is_some(), "{name} does nothing");
        let asked: Vec<&str> = it.schema.iter().map(|it| it.param.as_str()).collect();
        let secret: Vec<&str> = it
            .schema
            .iter()
            .filter(|it| it.kind.as_deref() == Some("password"))
            .map(|it| it.param.as_str())
            .collect();
        let endpoint = it.endpoint.iter().map(|it| (&it.params, &it.redact));
        let listener = it.listener.iter().map(|it| (&it.params, &it.redact));
        for (params, redact) in endpoint.chain(listener) {
            assert_eq!(*params, asked, "{name}");
            assert_eq!(*redact, secret, "{name}");
        }
    }
}

/// A process that a service's `nodes` ask for, and its command as it is run.
struct Placed {
    process: String,
    command: Vec<String>,
}

/// Renders every command, which fails where a template names what is not there.
fn place(folder: &str, shipped: &Shipped) -> Vec<Placed> {
    let set = admit_folder(folder);
    let object = |id: &str, spec: Value| {
        let mut spec = spec;
        spec["id"] = json!(id);
        spec
    };
    let find = |kind: Kind, name: &str| {
        let all = set.iter().map(|it| &it.document);
        let found = all.into_iter().find(|it| it.spec.kind() == kind && it.metadata.name == name).unwrap();
        object(name, found.spec.to_value())
    };
    let mut placed = Vec::new();
    for admitted in &set {
        let Spec::Service(service) = &admitted.document.spec else { continue };
        let id = &admitted.document.metadata.name;
        for node in service.nodes.iter().flatten() {
            let context: Context = [
                ("instance", find(Kind::Instance, &admitted.document.metadata.namespace)),
                ("service", object(id, json!(service))),
                ("node", find(Kind::Node, node)),
                ("options", options(service, shipped)),
                ("mainstay", json!("/usr/bin/mainstay")),
            ]
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
            let command = service.command.as_ref().unwrap().iter();
            placed.push(Placed {
                process: format!("{folder}: {id} on {node}"),
                command: command.map(|it| Renderer::default().render(it, &context).unwrap()).collect(),
            });
        }
    }
    placed
}

/// A service's options, with the defaults of its type.
fn options(service: &ServiceSpec, shipped: &Shipped) -> Value {
    let (_, service_type) = shipped.service_types().find(|(name, _)| *name == service.kind).unwrap();
    let mut options = service.options.clone().unwrap_or_default();
    for (name, schema) in service_type.options_schema["properties"].as_object().unwrap() {
        if let (false, Some(default)) = (options.contains_key(name), schema.get("default")) {
            options.insert(name.clone(), default.clone());
        }
    }
    Value::Object(options)
}

#[test]
fn every_process_of_the_examples_has_addresses_of_its_own() {
    let shipped = Shipped::read();
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    for folder in examples() {
        for Placed { process, command } in place(&folder, &shipped) {
            let (program, flags) = command.split_at(2);
            assert!(
                ["/usr/bin/mainstay", "./mainstay"].contains(&program[0].as_str()),
                "{process}: {program:?}"
            );
            assert_eq!(program[1], "stand-in");
            assert!(!flags.is_empty(), "{process} can't be reached");
            for flag in flags.chunks(2) {
                assert_eq!(flag[0], "--listen");
                let address: std::net::SocketAddr = flag[1].parse().unwrap();
                assert!(address.ip().is_loopback() && address.port() > 18080, "{process}: {address}");
                let earlier = taken.insert(flag[1].clone(), process.clone());
                assert_eq!(earlier, None, "{process} listens where another does");
            }
        }
    }
}

#[test]
fn the_quickstart_is_small_needs_no_ssh_and_leaves_the_api_free_to_stop_and_start() {
    let set = admit_folder("examples/quickstart");
    let count = |kind| set.iter().filter(|it| it.document.spec.kind() == kind).count();
    assert_eq!(count(Kind::Instance), 1);
    assert!(count(Kind::Node) >= 2);
    assert!(count(Kind::Service) >= 3);
    assert!(place("examples/quickstart", &Shipped::read()).len() >= 5);
    for admitted in &set {
        if let Spec::Node(node) = &admitted.document.spec {
            assert_eq!(node.transport, Transport::Local);
        }
        if let Spec::Service(service) = &admitted.document.spec {
            assert_eq!(service.running, None);
        }
    }
}

#[test]
fn the_pipeline_of_the_cxengage_example_runs_from_the_receiver_to_the_journal() {
    let set = admit_folder("examples/cxengage");
    let services: BTreeMap<&str, &ServiceSpec> = set
        .iter()
        .filter_map(|it| {
            let Spec::Service(service) = &it.document.spec else { return None };
            Some((it.document.metadata.name.as_str(), service))
        })
        .collect();
    let mut at = *services.iter().find(|(_, it)| it.kind == "rest").unwrap().0;
    let mut passed = Vec::new();
    loop {
        let service = services[at];
        passed.push(service.kind.as_str());
        let options = service.options.as_ref().unwrap();
        let Some(next) = options.get("downstream").or_else(|| options.get("event-downstream")) else { break };
        at = next.as_str().unwrap();
    }
    assert_eq!(passed, ["rest", "augment", "broker", "engine", "broker", "notification", "es-journal"]);
}
