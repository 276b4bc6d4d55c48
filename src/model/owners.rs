//! Who set which field, so that several who write one object meet without fighting.
//!
//! Each writer is a manager with a name: a manifests folder, a set that is applied, `/1.0`. It owns the fields that it has set, and may own one
//! together with others that say the same. What is another's is changed by nobody who says something else ([`Conflict`]), and what a
//! manager is silent about stays as it is, unless it was that manager alone who had set it. This is what Kubernetes calls server-side
//! apply, and what is stored is its `managedFields`.
//!
//! A field is a value at a JSON pointer (RFC 6901): objects are owned field by field, lists and a few objects that make sense only as a whole
//! (`WHOLE`) as one.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::document::{Document, Spec};
use super::kinds::Object;
use super::locate::escape;
use super::meta::API_VERSION;

/// The manager that everybody is who writes through `/1.0`.
pub const API: &str = "/1.0";

/// Objects that are owned as one: a part of one of them beside a part of another's would mean what neither wrote.
const WHOLE: [&str; 6] = [
    "/spec/artifact",
    "/spec/failover",
    "/spec/health",
    "/spec/options-schema",
    "/spec/password",
    "/spec/password-from",
];

/// How a manager writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Operation {
    /// It states all that it wants: what it does not state any more is not wanted any more.
    Apply,
    /// It changes what it names.
    Update,
}

/// What one manager has set.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owned {
    operation: Operation,
    /// When that changed last, RFC 3339.
    time: String,
    /// JSON pointers.
    fields: BTreeSet<String>,
}

/// Who owns which field of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<Entry>", into = "Vec<Entry>")]
#[schemars(with = "Vec<Entry>")]
pub struct Owners(BTreeMap<String, Owned>);

/// One manager's fields as Kubernetes writes them: a tree of names that start with `f:`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    /// Who set them.
    manager: String,
    /// How.
    operation: Operation,
    /// The version in which they are spelled.
    #[serde(default = "version")]
    api_version: String,
    /// When that changed last.
    #[serde(default)]
    time: String,
    /// What `fieldsV1` is.
    #[serde(default = "fields_type")]
    fields_type: String,
    /// The fields.
    #[serde(default, rename = "fieldsV1")]
    fields: Object,
}

fn version() -> String {
    API_VERSION.to_owned()
}

fn fields_type() -> String {
    "FieldsV1".to_owned()
}

/// A field that somebody else has set to something else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The field, as a JSON pointer into the document.
    pub pointer: String,
    /// Who owns it.
    pub owner: String,
}

/// Why what a manager states can't be had.
#[derive(Debug)]
pub enum Refused {
    /// Others have set these to something else; in the order of their pointers.
    Conflicts(Vec<Conflict>),
    /// What all have set together is no object of this kind.
    Unfit(serde_json::Error),
}

impl From<Owners> for Vec<Entry> {
    fn from(owners: Owners) -> Vec<Entry> {
        let entry = |(manager, owned): (String, Owned)| Entry {
            manager,
            operation: owned.operation,
            api_version: version(),
            time: owned.time,
            fields_type: fields_type(),
            fields: tree(&owned.fields),
        };
        owners.0.into_iter().map(entry).collect()
    }
}

impl TryFrom<Vec<Entry>> for Owners {
    type Error = String;

    fn try_from(entries: Vec<Entry>) -> Result<Owners, String> {
        let mut owners = Owners::default();
        for Entry { manager, operation, time, fields, .. } in entries {
            let mut pointers = BTreeSet::new();
            pointers_of(&fields, String::new(), &mut pointers)?;
            owners.0.insert(manager, Owned { operation, time, fields: pointers });
        }
        Ok(owners)
    }
}

fn tree(pointers: &BTreeSet<String>) -> Object {
    let mut root = Object::new();
    for pointer in pointers {
        let mut at = &mut root;
        for step in pointer.split('/').skip(1) {
            let name = format!("f:{}", unescape(step));
            let inner = at.entry(name).or_insert_with(|| json!({}));
            // Nothing but what is put here is in it.
            let Value::Object(inner) = inner else { break };
            at = inner;
        }
    }
    root
}

fn pointers_of(fields: &Object, pointer: String, found: &mut BTreeSet<String>) -> Result<(), String> {
    if fields.is_empty() && !pointer.is_empty() {
        found.insert(pointer);
        return Ok(());
    }
    for (name, inner) in fields {
        let (Some(name), Value::Object(inner)) = (name.strip_prefix("f:"), inner) else {
            return Err(format!("fieldsV1 holds `{name}`; names start with `f:` and have objects below"));
        };
        pointers_of(inner, format!("{pointer}/{}", escape(name)), found)?;
    }
    Ok(())
}

fn unescape(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

impl Owners {
    /// True when nobody owns anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The managers that own something, in the order of their names.
    pub fn managers(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Who owns a field, or a part of it, or what it is a part of, in the order of their names.
    pub fn of<'a>(&'a self, pointer: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(_, owned)| overlaps(&owned.fields, pointer))
            .map(|(name, _)| name.as_str())
    }

    /// The fields that a manager owns, as JSON pointers.
    pub fn fields_of(&self, manager: &str) -> impl Iterator<Item = &str> {
        self.0.get(manager).into_iter().flat_map(|owned| &owned.fields).map(String::as_str)
    }

    /// When what a manager owns changed last, RFC 3339.
    pub fn time_of(&self, manager: &str) -> Option<&str> {
        self.0.get(manager).map(|owned| owned.time.as_str())
    }

    /// Gives everything that a manager owns to another one, who is that manager's successor.
    pub fn pass_on(&mut self, from: &str, to: &str) {
        if let Some(owned) = self.0.remove(from) {
            self.0.insert(to.to_owned(), owned);
        }
    }

    /// Takes everything from a manager.
    pub fn forget(&mut self, manager: &str) {
        self.0.remove(manager);
    }

    /// Takes a field, and what it is a part of or is a part of it, from everybody but one.
    fn take_from_others(&mut self, pointer: &str, manager: &str) {
        for (_, owned) in self.0.iter_mut().filter(|(name, _)| *name != manager) {
            owned.fields.retain(|field| !is_part(field, pointer) && !is_part(pointer, field));
        }
        self.0.retain(|_, owned| !owned.fields.is_empty());
    }

    fn set(&mut self, manager: &str, operation: Operation, fields: BTreeSet<String>, now: &str) {
        if fields.is_empty() {
            self.0.remove(manager);
        } else if self.0.get(manager).is_none_or(|owned| owned.fields != fields) {
            self.0.insert(manager.to_owned(), Owned { operation, time: now.to_owned(), fields });
        }
    }
}

/// Whether a pointer is another or something in it.
fn is_part(part: &str, of: &str) -> bool {
    part.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn overlaps(fields: &BTreeSet<String>, pointer: &str) -> bool {
    let within = fields.range(pointer.to_owned()..).take_while(|field| field.starts_with(pointer));
    let above = pointer.match_indices('/').skip(1).any(|(at, _)| fields.contains(&pointer[..at]));
    above || within.into_iter().any(|field| is_part(field, pointer))
}

/// Every field of a value that can be owned, by its JSON pointer. An empty object has none.
fn fields(value: &Value, pointer: &str, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Null => {}
        Value::Object(inner) if !WHOLE.contains(&pointer) => {
            for (name, value) in inner {
                fields(value, &format!("{pointer}/{}", escape(name)), found);
            }
        }
        Value::Object(_) | Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            found.insert(pointer.to_owned(), value.clone());
        }
    }
}

/// What of a document managers can own: its labels, its annotations, its spec.
fn body(document: &Document) -> Value {
    let metadata = &document.metadata;
    json!({
        "metadata": { "labels": metadata.labels, "annotations": metadata.annotations },
        "spec": document.spec.to_value(),
    })
}

/// The fields that stand in a document as it was written, by their JSON pointers.
pub fn stated(written: &Value) -> BTreeSet<String> {
    let mut places = BTreeMap::new();
    for part in ["labels", "annotations"] {
        fields(&written["metadata"][part], &format!("/metadata/{part}"), &mut places);
    }
    fields(&written["spec"], "/spec", &mut places);
    places.into_keys().collect()
}

/// What somebody states of an object: the fields that stand in the text, with the values that the door has made of them. What the door
/// filled in is stated by nobody.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Statement(BTreeMap<String, Value>);

impl Statement {
    /// Of the fields that were written, and the document that they were admitted as.
    pub fn new(stated: &BTreeSet<String>, admitted: &Document) -> Statement {
        let made = body(admitted);
        let with_value = |pointer: &String| {
            let value = made.pointer(pointer).filter(|value| !value.is_null())?.clone();
            Some((pointer.clone(), value))
        };
        Statement(stated.iter().filter_map(with_value).collect())
    }

    /// Of a spec's fields, by the names that they have or that the objects have that they are in.
    pub fn of_named<'a>(spec: &Spec, names: impl IntoIterator<Item = &'a str>) -> Statement {
        let spec = spec.to_value();
        let mut found = BTreeMap::new();
        for name in names {
            fields(&spec[name], &format!("/spec/{}", escape(name)), &mut found);
        }
        Statement(found)
    }
}

/// The object after a manager has stated all that it wants of it. What it had set before and does not state is taken away, unless others have set it
/// too. With `force`, what others have set to something else is the manager's from then on.
///
/// # Errors
/// When others have set a field to something else, or what all have set makes no object; nothing is to be changed then.
pub fn applied(
    current: &Document,
    statement: &Statement,
    manager: &str,
    force: bool,
    now: &str,
) -> Result<Document, Refused> {
    let mut owners = current.metadata.managed_fields.clone();
    let mut value = body(current);
    let before: BTreeSet<String> = owners.fields_of(manager).map(str::to_owned).collect();
    owners.forget(manager);
    for field in before.iter().filter(|field| !statement.0.contains_key(*field)) {
        if owners.of(field).next().is_none() {
            remove(&mut value, field);
        }
    }
    let mut conflicts = Vec::new();
    for (pointer, wanted) in &statement.0 {
        if value.pointer(pointer) != Some(wanted) {
            if force {
                owners.take_from_others(pointer, manager);
            }
            let others = owners.of(pointer);
            conflicts
                .extend(others.map(|owner| Conflict { pointer: pointer.clone(), owner: owner.to_owned() }));
            set(&mut value, pointer, wanted.clone());
        }
    }
    if !conflicts.is_empty() {
        return Err(Refused::Conflicts(conflicts));
    }
    // It stays the manager's in its old time when nothing of it has changed.
    if let Some(owned) = current.metadata.managed_fields.0.get(manager) {
        owners.0.insert(manager.to_owned(), owned.clone());
    }
    owners.set(manager, Operation::Apply, statement.0.keys().cloned().collect(), now);
    read(current, value, owners).map_err(Refused::Unfit)
}

/// The object after a manager has given it another spec: it owns from then on what that changes.
///
/// # Errors
/// The fields that would change and that others have set; nothing is to be changed then.
pub fn changed(current: &Document, spec: Spec, manager: &str, now: &str) -> Result<Document, Vec<Conflict>> {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    fields(&current.spec.to_value(), "/spec", &mut before);
    fields(&spec.to_value(), "/spec", &mut after);
    let mut owners = current.metadata.managed_fields.clone();
    let mut owned: BTreeSet<String> = owners.fields_of(manager).map(str::to_owned).collect();
    let mut conflicts = Vec::new();
    let differs = |pointer: &&String| before.get(*pointer) != after.get(*pointer);
    let pointers: BTreeSet<&String> = before.keys().chain(after.keys()).filter(differs).collect();
    for pointer in pointers {
        let others = owners.of(pointer).filter(|owner| *owner != manager);
        conflicts.extend(others.map(|owner| Conflict { pointer: pointer.clone(), owner: owner.to_owned() }));
        if after.contains_key(pointer) {
            owned.insert(pointer.clone());
        } else {
            owned.remove(pointer);
        }
    }
    if !conflicts.is_empty() {
        return Err(conflicts);
    }
    owners.set(manager, Operation::Update, owned, now);
    let mut document = Document { metadata: current.metadata.clone(), spec };
    document.metadata.managed_fields = owners;
    Ok(document)
}

/// A new object's owners: who makes it owns what it states.
pub fn born(statement: &Statement, manager: &str, operation: Operation, now: &str) -> Owners {
    let mut owners = Owners::default();
    owners.set(manager, operation, statement.0.keys().cloned().collect(), now);
    owners
}

fn read(current: &Document, mut value: Value, owners: Owners) -> Result<Document, serde_json::Error> {
    let mut metadata = current.metadata.clone();
    metadata.labels = serde_json::from_value(value["metadata"]["labels"].take())?;
    metadata.annotations = serde_json::from_value(value["metadata"]["annotations"].take())?;
    metadata.managed_fields = owners;
    let spec = Spec::from_value(current.spec.kind(), value["spec"].take())?;
    Ok(Document { metadata, spec })
}

/// Puts a value in its place, and makes the objects around it where there are none.
fn set(root: &mut Value, pointer: &str, value: Value) {
    let mut at = root;
    for step in pointer.split('/').skip(1) {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(inner) = at else { return };
        at = inner.entry(unescape(step)).or_insert(Value::Null);
    }
    *at = value;
}

/// Takes a value out, and the objects around it that are empty then, but for those that every document has.
fn remove(root: &mut Value, pointer: &str) {
    let mut pointer = pointer;
    while let Some((around, step)) = pointer.rsplit_once('/') {
        let Some(Value::Object(inner)) = root.pointer_mut(around) else { return };
        inner.remove(&unescape(step));
        if !inner.is_empty() || matches!(around, "/metadata/labels" | "/metadata/annotations" | "/spec") {
            return;
        }
        pointer = around;
    }
}

#[cfg(test)]
mod tests;
