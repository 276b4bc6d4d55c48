//! The flat form: `{"id": name}` and the spec's fields, as the seed shows objects, and the way back through the door.

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::error::{Error, shortened};
use crate::model::admit::{self, Origin, admit, password_place};
use crate::model::id::did_you_mean;
use crate::model::kinds::{Object, TenantSpec};
use crate::model::lint::lint;
use crate::model::locate::Located;
use crate::model::meta::API_VERSION;
use crate::model::secret::{Clear, Sealer};
use crate::model::{Document, Documents, Key, Kind, Spec};

/// An object as `/1.0` shows it, its attributes in the seed's order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Flat(Vec<(String, Value)>);

impl Serialize for Flat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// How `/1.0` shows the objects of a kind.
pub(super) struct Face {
    /// What the object's name is called.
    pub(super) id: &'static str,
    /// The seed's attributes in its order; what we have beyond them comes after.
    documented: &'static [&'static str],
    /// What a new object can't be without, beside what its document can't be without.
    pub(super) required: &'static [&'static str],
    /// Fields of the document that are neither shown nor taken here, and what is to be done instead.
    pub(super) hidden: &'static [(&'static str, &'static str)],
    /// Parameters that are no fields of the document.
    taken: &'static [&'static str],
}

const OWN_PATH: &str = "it has a path of its own: /1.0/tenants/{id}";

/// How the objects of a kind are shown.
pub(super) const fn face(kind: Kind) -> Face {
    let mut face = Face { id: "id", documented: &[], required: &[], hidden: &[], taken: &[] };
    match kind {
        Kind::Instance => face.documented = &["name", "auth", "api", "events", "zk", "redis", "stats"],
        Kind::Node => {
            face.documented = &["name", "description", "ip-address", "username", "password", "status"];
        }
        Kind::Service => face.documented = &["type", "name", "description", "log-level", "options"],
        Kind::Process => face.documented = &["instance", "node", "service"],
        Kind::Integration => {
            face.documented = &["type", "display", "schema", "endpoint", "listener"];
            face.required = &["id"];
        }
        Kind::Tenant => {
            face.required = &["id"];
            face.documented = &["name", "rate-limit"];
            face.hidden = &[("instance", OWN_PATH), ("integrations", OWN_PATH)];
        }
        Kind::User => {
            face.id = "email";
            face.required = &["email", "name", "password"];
            face.documented = &["name", "client-id", "tenants"];
            face.hidden = &[
                ("password-hash", "give `password`"),
                ("client-secret-hash", "client secrets are generated"),
            ];
            face.taken = &["password"];
        }
        Kind::ServiceType | Kind::Revision | Kind::Event => {}
    }
    face
}

impl Face {
    /// What is wrong with the names of parameters, for kinds whose documents have other fields than their objects here. For the others
    /// the door says it.
    fn misnamed(&self, kind: Kind, given: &Object) -> Vec<String> {
        let is_own = !self.hidden.is_empty();
        let mut known: Vec<&str> =
            [self.id].iter().chain(self.documented).chain(self.taken).copied().collect();
        if !is_own {
            known.extend(admit::spec_fields(kind).into_iter().filter(|name| !self.documented.contains(name)));
        }
        // What is null does not come to the door.
        let unknown = given.iter().filter(|(_, value)| is_own || value.is_null()).map(|(name, _)| name);
        let unknown = unknown.filter(|name| !known.contains(&name.as_str()));
        unknown
            .map(|name| {
                let instead = self.hidden.iter().find(|(hidden, _)| hidden == name);
                match (instead, did_you_mean(name, known.iter().copied())) {
                    (Some((_, instead)), _) => format!("{name}: it is no parameter here; {instead}"),
                    (None, Some(meant)) => format!("{name}: unknown field `{name}`; did you mean `{meant}`?"),
                    (None, None) => {
                        format!("{name}: unknown field `{name}`; known here: {}", known.join(", "))
                    }
                }
            })
            .collect()
    }
}

/// Refuses parameters that an object of this kind does not have here, and says which of those that it can't be without are missing.
pub(super) fn check_names(kind: Kind, given: &Object, required: &[&str]) -> Result<(), Error> {
    let missing = required.iter().filter(|name| given.get(**name).is_none_or(Value::is_null));
    let mut wrong: Vec<String> = missing.map(|name| format!("`{name}` is missing")).collect();
    wrong.extend(face(kind).misnamed(kind, given));
    if wrong.is_empty() { Ok(()) } else { Err(Error::BadRequest(shortened(wrong))) }
}

impl Flat {
    /// An object as it is shown, with its password only to who has the means to open it: left out, it is not changed by a PUT of what
    /// was read. A password that can't be opened is left out too: one damaged field hides no other.
    pub(super) fn of(document: &Document, sealer: Option<&Sealer>) -> Flat {
        let kind = document.spec.kind();
        let face = face(kind);
        let mut fields = spec_fields(document);
        // Whether it runs is told by its status.
        fields.remove("running");
        for (name, _) in face.hidden {
            fields.remove(*name);
        }
        if kind == Kind::User {
            fields.entry("tenants").or_insert_with(|| Value::Array(Vec::new()));
        }
        if kind == Kind::Process {
            fields.insert("instance".into(), document.metadata.namespace.clone().into());
        }
        match sealer.map_or(Ok(None), |sealer| password(document, sealer)) {
            Ok(Some(clear)) => {
                fields.insert("password".into(), clear.expose().into());
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(node = %document.key(), ?error, "a password is left out of an answer");
            }
        }
        let mut flat = vec![(face.id.to_owned(), Value::from(document.metadata.name.as_str()))];
        for name in face.documented {
            flat.extend(fields.remove(*name).map(|value| ((*name).to_owned(), value)));
        }
        flat.extend(fields);
        Flat(flat)
    }

    /// With something that is said in this answer only.
    pub(super) fn with(mut self, extra: Option<(&'static str, String)>) -> Flat {
        self.0.extend(extra.map(|(name, value)| (name.to_owned(), value.into())));
        self
    }
}

/// The spec's fields but for what is sealed and what goes without saying.
fn spec_fields(document: &Document) -> Object {
    let mut fields = match document.spec.to_value() {
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Object::new(),
    };
    if let Spec::Tenant(TenantSpec { rate_limit: Some(limit), .. }) = &document.spec
        && let Some(whole) = whole(*limit)
    {
        // As it was given: 250, not 250.0.
        fields.insert("rate-limit".into(), whole.into());
    }
    if document.spec.kind() == Kind::Node {
        fields.remove("password");
        if fields.get("transport").is_some_and(|transport| transport == "ssh") {
            fields.remove("transport");
        }
    }
    fields
}

/// The number without its fraction, if that is nothing.
fn whole(number: f64) -> Option<i64> {
    // Up to here every whole number has a form of its own.
    (number.fract() == 0.0 && number.abs() < 9e15).then(|| format!("{number:.0}").parse().ok()).flatten()
}

/// A node's password in clear.
pub(super) fn password(document: &Document, sealer: &Sealer) -> Result<Option<Clear>, Error> {
    let Spec::Node(node) = &document.spec else { return Ok(None) };
    let Some(sealed) = &node.password else { return Ok(None) };
    match sealer.open(&password_place(&document.key()), sealed) {
        Ok(clear) => Ok(Some(clear)),
        Err(error) => Err(Error::Damaged(format!(
            "the stored password of {} can't be used: {error}; set it anew",
            document.key()
        ))),
    }
}

/// The parameters that would make an object what it is, with those given in their place; null takes one away.
pub(super) fn merged(current: &Document, given: &Object, sealer: &Sealer) -> Result<Object, Error> {
    let mut fields = spec_fields(current);
    if !given.contains_key("password")
        && let Some(clear) = password(current, sealer)?
    {
        fields.insert("password".into(), clear.expose().into());
    }
    for (name, value) in given {
        if value.is_null() {
            fields.remove(name);
        } else {
            fields.insert(name.clone(), value.clone());
        }
    }
    Ok(fields)
}

/// Parameters through the one door: checked by themselves, then against what there is.
///
/// `id` is the client's own value where it chose one, so that the door can say what is wrong with it.
pub(super) fn admitted(
    kind: Kind,
    instance: &Value,
    id: &Value,
    parameters: Object,
    documents: &Documents,
    sealer: &Sealer,
) -> Result<Document, Error> {
    let mut metadata = json!({ "name": id });
    if kind.is_namespaced() {
        metadata["namespace"] = instance.clone();
    }
    let value = json!({
        "apiVersion": API_VERSION, "kind": kind.name(), "metadata": metadata, "spec": parameters,
    });
    let admitted = admit(Located::unmarked(value), &Origin::default(), sealer)
        .map_err(|problems| Error::problems(&problems, face(kind).id))?;
    let problems = lint(std::slice::from_ref(&admitted), documents);
    if problems.is_empty() { Ok(admitted.document) } else { Err(Error::problems(&problems, face(kind).id)) }
}

/// Moves a new node's password to another id: a secret is sealed for the place it stands in.
pub(super) fn reseal(document: &mut Document, clear: Option<&Clear>, sealer: &Sealer) {
    let place = password_place(&Key::within(
        Kind::Node,
        document.metadata.namespace.as_str(),
        document.metadata.name.as_str(),
    ));
    if let (Spec::Node(node), Some(clear)) = (&mut document.spec, clear) {
        node.password = Some(sealer.seal(&place, clear));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::secret::KEY_BYTES;

    fn node(parameters: Value) -> Document {
        let Value::Object(parameters) = parameters else { panic!("an object") };
        let instance = Document {
            metadata: crate::model::Metadata { name: "IN1".into(), ..Default::default() },
            spec: Spec::Instance(Default::default()),
        };
        let documents = [instance].into_iter().collect();
        admitted(Kind::Node, &json!("IN1"), &json!("ND1"), parameters, &documents, &sealer()).unwrap()
    }

    fn sealer() -> Sealer {
        Sealer::new([1; KEY_BYTES])
    }

    #[test]
    fn an_object_is_shown_in_the_seeds_order() {
        let document = node(json!({
            "port": 2222, "status": true, "password": "butter", "username": "cxengage",
            "ip-address": "127.0.0.1", "name": "local box",
        }));
        assert_eq!(
            serde_json::to_string(&Flat::of(&document, Some(&sealer()))).unwrap(),
            r#"{"id":"ND1","name":"local box","ip-address":"127.0.0.1","username":"cxengage","password":"butter","status":true,"port":2222}"#
        );
    }

    #[test]
    fn what_is_shown_merged_with_nothing_is_the_same_document() {
        let document = node(json!({"name": "a", "ip-address": "h", "username": "u", "password": "butter"}));
        let again = merged(&document, &Object::new(), &sealer()).unwrap();
        assert_eq!(node(Value::Object(again)), document);
    }

    #[test]
    fn null_for_what_is_no_parameter_is_a_mistake_too() {
        let names = |kind, given: Value| {
            let Value::Object(given) = given else { panic!("an object") };
            check_names(kind, &given, &[])
        };
        for kind in [Kind::Instance, Kind::Tenant, Kind::Node, Kind::Process] {
            assert!(matches!(names(kind, json!({"nmae": null})), Err(Error::BadRequest(_))), "{kind}");
        }
        assert_eq!(names(Kind::Node, json!({"id": null, "name": null, "port": null})), Ok(()));
        assert_eq!(names(Kind::Process, json!({"instance": null, "node": null})), Ok(()));
    }

    #[test]
    fn null_takes_a_parameter_away() {
        let document = node(json!({"name": "a", "ip-address": "h", "username": "u", "password": "butter"}));
        let Value::Object(given) = json!({"password": null, "name": "b"}) else { panic!() };
        let fields = merged(&document, &given, &sealer()).unwrap();
        assert_eq!(Value::Object(fields), json!({"name": "b", "ip-address": "h", "username": "u"}));
    }

    #[test]
    fn a_password_that_is_not_given_and_can_not_be_opened_is_not_lost_in_silence() {
        let document = node(json!({"name": "a", "ip-address": "h", "username": "u", "password": "butter"}));
        let other = Sealer::new([2; KEY_BYTES]);
        assert!(matches!(merged(&document, &Object::new(), &other), Err(Error::Damaged(_))));
        assert!(!format!("{:?}", Flat::of(&document, Some(&other))).contains("password"));
        assert!(!format!("{:?}", Flat::of(&document, None)).contains("butter"));
    }
}
