//! The flat form: `{"id": name}` and the spec's fields, as the seed shows objects, and the way back through the door.

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::error::Error;
use crate::model::admit::{Origin, admit, password_place};
use crate::model::kinds::Object;
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

/// The seed's attributes of a kind in its order; what we have beyond them comes after.
fn documented(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Instance => &["name", "auth", "api", "events", "zk", "redis", "stats"],
        Kind::Node => &["name", "description", "ip-address", "username", "password", "status"],
        Kind::Service => &["type", "name", "description", "log-level", "options"],
        Kind::Process => &["instance", "node", "service"],
        Kind::Integration | Kind::ServiceType | Kind::Tenant | Kind::User | Kind::Event => &[],
    }
}

impl Flat {
    /// An object as it is shown, with its password only to who has the means to open it: left out, it is not changed by a PUT of what
    /// was read. A password that can't be opened is left out too: one damaged field hides no other.
    pub(super) fn of(document: &Document, sealer: Option<&Sealer>) -> Flat {
        let kind = document.spec.kind();
        let mut fields = spec_fields(document);
        // Whether it runs is told by its status.
        fields.remove("running");
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
        let mut flat = vec![("id".to_owned(), Value::from(document.metadata.name.as_str()))];
        for name in documented(kind) {
            flat.extend(fields.remove(*name).map(|value| ((*name).to_owned(), value)));
        }
        flat.extend(fields);
        Flat(flat)
    }
}

/// The spec's fields but for what is sealed and what goes without saying.
fn spec_fields(document: &Document) -> Object {
    let mut fields = match document.spec.to_value() {
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Object::new(),
    };
    if document.spec.kind() == Kind::Node {
        fields.remove("password");
        if fields.get("transport").is_some_and(|transport| transport == "ssh") {
            fields.remove("transport");
        }
    }
    fields
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
        .map_err(|problems| Error::problems(&problems))?;
    let problems = lint(std::slice::from_ref(&admitted), documents);
    if problems.is_empty() { Ok(admitted.document) } else { Err(Error::problems(&problems)) }
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
