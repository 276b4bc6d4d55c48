//! The parameters of each kind of object, as the contract lists them, and which values they take.

use serde_json::{Map, Value, json};

/// A kind of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Instance,
    Tenant,
    User,
    Integration,
    Node,
    Service,
    Process,
}

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    Text,
    Number,
    Flag,
    Level,
    Options,
    Object,
    /// Port of an SSH server.
    Port,
    /// What a tenant is asked for.
    Schema,
    /// Names of tenants that there are.
    Tenants,
    /// The name of a type of services that there is.
    Type,
    /// What is neither shown nor forgotten.
    Password,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) is_required: bool,
    pub(crate) takes: Takes,
}

const fn must(name: &'static str, takes: Takes) -> Parameter {
    Parameter { name, is_required: true, takes }
}

const fn may(name: &'static str, takes: Takes) -> Parameter {
    Parameter { name, is_required: false, takes }
}

impl What {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            What::Instance => "Instance",
            What::Tenant => "Tenant",
            What::User => "User",
            What::Integration => "Integration",
            What::Node => "Node",
            What::Service => "Service",
            What::Process => "Process",
        }
    }

    /// The last part of its list's path.
    pub(crate) const fn list(self) -> &'static str {
        match self {
            What::Instance => "instances",
            What::Tenant => "tenants",
            What::User => "users",
            What::Integration => "integrations",
            What::Node => "nodes",
            What::Service => "services",
            What::Process => "processes",
        }
    }

    /// What its name is called.
    pub(crate) const fn id(self) -> &'static str {
        if matches!(self, What::User) { "email" } else { "id" }
    }

    /// What ids that are counted begin with.
    pub(crate) const fn prefix(self) -> Option<&'static str> {
        match self {
            What::Instance => Some("IN"),
            What::Node => Some("ND"),
            What::Service => Some("SV"),
            What::Tenant | What::User | What::Integration | What::Process => None,
        }
    }

    /// Whether its list's path is below an instance's.
    pub(crate) const fn is_below_instance(self) -> bool {
        matches!(self, What::Node | What::Service)
    }

    pub(crate) const fn parameters(self) -> &'static [Parameter] {
        match self {
            What::Instance => {
                const {
                    &[
                        must("name", Takes::Text),
                        must("zk", Takes::Text),
                        must("redis", Takes::Text),
                        may("auth", Takes::Text),
                        may("api", Takes::Text),
                        may("events", Takes::Text),
                        may("stats", Takes::Object),
                    ]
                }
            }
            What::Tenant => const { &[must("name", Takes::Text), may("rate-limit", Takes::Number)] },
            What::User => {
                const {
                    &[
                        must("name", Takes::Text),
                        must("password", Takes::Password),
                        may("tenants", Takes::Tenants),
                    ]
                }
            }
            What::Integration => {
                const { &[must("type", Takes::Text), must("display", Takes::Text), may("schema", Takes::Schema)] }
            }
            What::Node => {
                const {
                    &[
                        must("name", Takes::Text),
                        must("ip-address", Takes::Text),
                        must("username", Takes::Text),
                        may("status", Takes::Flag),
                        may("port", Takes::Port),
                        may("description", Takes::Text),
                        may("password", Takes::Text),
                        may("identity-file", Takes::Text),
                    ]
                }
            }
            What::Service => {
                const {
                    &[
                        must("name", Takes::Text),
                        must("type", Takes::Type),
                        may("options", Takes::Options),
                        may("log-level", Takes::Level),
                        may("description", Takes::Text),
                    ]
                }
            }
            What::Process => {
                const { &[must("instance", Takes::Text), must("service", Takes::Text), must("node", Takes::Text)] }
            }
        }
    }

    pub(crate) fn parameter(self, name: &str) -> Option<Parameter> {
        self.parameters().iter().copied().find(|parameter| parameter.name == name)
    }
}

/// The types of services that there are: (name, program).
pub(crate) const TYPES: [(&str, [&str; 2]); 2] = [("nap", ["sleep", "86400"]), ("doze", ["sleep", "86399"])];

impl Takes {
    /// Whether a value is one that this takes, as far as that does not depend on what else there is.
    pub(crate) fn takes(self, value: &Value) -> bool {
        match self {
            Takes::Text | Takes::Password => value.as_str().is_some_and(|text| !text.is_empty()),
            Takes::Number => value.as_f64().is_some_and(|number| number >= 0.0),
            Takes::Flag => value.is_boolean(),
            Takes::Level => value
                .as_str()
                .is_some_and(|level| ["trace", "debug", "info", "warning", "error"].contains(&level)),
            Takes::Options => value
                .as_object()
                .is_some_and(|options| options.iter().all(|(name, value)| name == "port" && value.is_i64())),
            Takes::Object => value.is_object(),
            Takes::Port => value.as_u64().is_some_and(|port| (1..=65_535).contains(&port)),
            Takes::Schema => value.as_array().is_some_and(|asked| {
                asked.iter().all(|one| ["label", "param"].iter().all(|name| one[name].is_string()))
            }),
            Takes::Tenants => value.as_array().is_some_and(|names| names.iter().all(Value::is_string)),
            Takes::Type => value.as_str().is_some_and(|name| TYPES.iter().any(|(known, _)| name == *known)),
        }
    }

    /// One of the values that this takes. Those that depend on what there is are made elsewhere.
    pub(crate) fn value(self, number: u8) -> Value {
        let nth = usize::from(number);
        match self {
            Takes::Text => ["a", "My name", "ä \"ß\" \\ 日本"][nth % 3].into(),
            Takes::Password => ["butter", "jam"][nth % 2].into(),
            Takes::Number => [json!(250), json!(0), json!(2.5)][nth % 3].clone(),
            Takes::Flag => (nth % 3 != 0).into(),
            Takes::Level => ["trace", "debug", "info", "warning", "error", "warn"][nth % 6].into(),
            Takes::Options => {
                [json!({"port": 1}), json!({"port": 2}), json!({}), json!({"prot": 1})][nth % 4].clone()
            }
            Takes::Object => json!({"type": "graphite", "port": number}),
            Takes::Port => json!(22),
            Takes::Schema => json!([{"label": "Key", "param": format!("key{number}")}]),
            Takes::Tenants => json!([]),
            Takes::Type => TYPES[nth % 2].0.into(),
        }
    }
}

/// What is wrong with parameters by themselves: those of a new object, or those that are to change one.
pub(crate) fn is_wrong(what: What, given: &Map<String, Value>, is_new: bool) -> bool {
    let is_wrong = |(name, value): (&String, &Value)| match what.parameter(name) {
        None => true,
        // Null takes away what can be away.
        Some(parameter) if value.is_null() => {
            !is_new && (parameter.is_required || parameter.takes == Takes::Password)
        }
        Some(parameter) => !parameter.takes.takes(value),
    };
    let is_missing = |parameter: &Parameter| {
        is_new && parameter.is_required && given.get(parameter.name).is_none_or(Value::is_null)
    };
    given.iter().any(is_wrong) || what.parameters().iter().any(is_missing)
}
