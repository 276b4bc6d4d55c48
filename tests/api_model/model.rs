//! What the API is, by its contract, in plain maps: what there is, what each request answers, and what it makes of what there is.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value, json};

use crate::parameters::{TYPES, What, is_wrong};
use crate::shape::Shape;

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) what: What,
    /// Empty for what is in no instance.
    pub(crate) instance: String,
    pub(crate) id: String,
}

impl Key {
    pub(crate) fn of(what: What, id: &str) -> Key {
        Key::within(what, "", id)
    }

    pub(crate) fn within(what: What, instance: &str, id: &str) -> Key {
        Key { what, instance: instance.to_owned(), id: id.to_owned() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.instance.is_empty() { "" } else { "/" };
        write!(f, "{} {}{slash}{}", self.what.name(), self.instance, self.id)
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Object {
    /// The parameters that it has.
    pub(crate) fields: Map<String, Value>,
    /// No other object ever has it.
    pub(crate) uid: u32,
    /// Of a tenant: its instance.
    pub(crate) seat: Option<String>,
    /// Of a tenant its integrations, of a user its tenants, in the order in which they were given.
    pub(crate) names: Vec<String>,
    /// Of a service and a process: what was asked last, of a process by itself.
    pub(crate) wish: Option<bool>,
    /// Whether it was told to wait for an older object when it was made. It may wait no more.
    pub(crate) waited: bool,
    /// Of a process: whether what was asked last was seen to be so.
    pub(crate) is_settled: bool,
    /// Of a process on a cordoned node: whether it runs, which stays so.
    pub(crate) is_kept: bool,
    /// Of a process: whether its service was changed since it was last seen stopped. A change of what it is started with is a restart, and
    /// `/1.0` tells whether it runs, which the copy before does too; so it may end and come back at any time.
    pub(crate) may_restart: bool,
}

impl Object {
    pub(crate) fn text(&self, name: &str) -> &str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

/// A process that was deleted, and what it belonged to, by uid. For as long as its node is not reached, all these are not gone.
#[derive(Debug)]
struct Ghost {
    belongs_to: BTreeSet<u32>,
    node: u32,
}

/// An object that there was.
#[derive(Debug)]
struct Grave {
    key: Key,
    uid: u32,
    /// The uid of the instance that it was in, or 0: of an older instance nothing is told once there is another.
    within: u32,
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    /// Below `/1.0`.
    pub(crate) path: String,
    pub(crate) query: &'static str,
    /// Empty for none.
    pub(crate) body: String,
}

/// What is answered.
#[derive(Debug)]
pub(crate) struct Expected {
    /// One of these.
    pub(crate) statuses: Vec<u16>,
    pub(crate) body: Shape,
    /// True where the answer only becomes this: it says what is seen on nodes, and nobody has waited for that yet.
    pub(crate) comes: bool,
    pub(crate) learns: Learns,
}

/// What the model can't know before the answer.
#[derive(Debug)]
pub(crate) enum Learns {
    Nothing,
    /// The id of this new object, and what else is made for it.
    Id(Key, Box<Object>),
}

impl Expected {
    pub(crate) fn ok(body: impl Into<Shape>) -> Expected {
        Expected { statuses: vec![200], body: body.into(), comes: false, learns: Learns::Nothing }
    }

    fn created(body: impl Into<Shape>) -> Expected {
        Expected { statuses: vec![201], ..Expected::ok(body) }
    }

    fn deleted() -> Expected {
        Expected { statuses: vec![204], ..Expected::ok(Value::Null) }
    }

    /// An error. Where there are several reasons, the contract does not say which is told.
    fn refused(statuses: &[u16]) -> Expected {
        let body = Shape::fields([("error", Shape::text())]);
        Expected { statuses: statuses.to_vec(), ..Expected::ok(body) }
    }

    pub(crate) fn not_found() -> Expected {
        Expected::refused(&[404])
    }
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) objects: BTreeMap<Key, Object>,
    /// Ports at which there is a node's machine.
    pub(crate) machines: BTreeSet<u16>,
    /// The number given last, by kind and instance.
    counted: BTreeMap<(What, String), u64>,
    graves: Vec<Grave>,
    ghosts: Vec<Ghost>,
    /// The port of each node that there is or was, by uid.
    ports: BTreeMap<u32, u16>,
    /// Nodes, by uid, that a process was ever put on.
    used: BTreeSet<u32>,
    next_uid: u32,
}

/// The order of people: SV9 before SV10.
fn natural(a: &str, b: &str) -> Ordering {
    let split = |id: &str| {
        let word = id.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
        let number = id[word.len()..].trim_start_matches('0').to_owned();
        (word, number.len(), number, id.to_owned())
    };
    split(a).cmp(&split(b))
}

fn object(text: &str) -> Option<Map<String, Value>> {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Some(fields),
        Ok(_) | Err(_) => None,
    }
}

impl Model {
    /// A world of these integrations, and nothing else.
    pub(crate) fn new(machines: BTreeSet<u16>, integrations: &Value) -> Model {
        let mut model = Model { machines, ..Model::default() };
        for integration in integrations.as_array().expect("a list") {
            let mut fields = integration.as_object().expect("an object").clone();
            let id = fields.remove("id").expect("an id");
            let key = Key::of(What::Integration, id.as_str().expect("a text"));
            model.insert(key, Object { fields, ..Object::default() });
        }
        model
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Object> {
        self.objects.get(key)
    }

    fn has(&self, what: What, id: &str) -> bool {
        self.objects.contains_key(&Key::of(what, id))
    }

    fn insert(&mut self, key: Key, mut object: Object) {
        self.next_uid += 1;
        object.uid = self.next_uid;
        if key.what == What::Node {
            self.ports.insert(object.uid, port(&object));
        }
        if key.what == What::Process {
            let [_, node] = self.process_needs(&key.instance, &object);
            let node = self.objects[&node].uid;
            self.used.insert(node);
        }
        self.objects.insert(key, object);
    }

    /// All of a kind in an instance, in order.
    pub(crate) fn all(&self, what: What, instance: &str) -> Vec<(&Key, &Object)> {
        let of_kind = self.objects.iter().filter(|(key, _)| key.what == what && key.instance == instance);
        let mut found: Vec<_> = of_kind.collect();
        found.sort_by(|(a, _), (b, _)| natural(&a.id, &b.id));
        found
    }

    /// The processes of a service, by id.
    pub(crate) fn processes_of(&self, service: &Key) -> Vec<&Key> {
        let all = self.all(What::Process, &service.instance).into_iter();
        all.filter(|(_, process)| process.text("service") == service.id).map(|(key, _)| key).collect()
    }

    pub(crate) fn process_needs(&self, instance: &str, process: &Object) -> [Key; 2] {
        [(What::Service, "service"), (What::Node, "node")]
            .map(|(what, name)| Key::within(what, instance, process.text(name)))
    }

    /// The process of an id, in whatever instance it is.
    pub(crate) fn process(&self, id: &str) -> Option<Key> {
        self.objects.keys().find(|key| key.what == What::Process && key.id == id).cloned()
    }

    /// The ids that objects of a kind in an instance have had.
    pub(crate) fn former(&self, what: What, instance: &str) -> Vec<&str> {
        let graves = self.graves.iter().map(|grave| &grave.key);
        let graves = graves.filter(|key| key.what == what && key.instance == instance);
        graves.map(|key| key.id.as_str()).collect()
    }

    /// Whether a process was ever put on a node.
    pub(crate) fn is_used(&self, node: &Object) -> bool {
        self.used.contains(&node.uid)
    }

    /// Whether there is no machine where this node is to be.
    pub(crate) fn is_dark(&self, node: &Object) -> bool {
        !self.machines.contains(&self.ports[&node.uid])
    }

    /// Whether an object that was deleted can't be gone.
    fn is_stuck_grave(&self, uid: u32) -> bool {
        let mut ghosts = self.ghosts.iter();
        ghosts
            .any(|ghost| ghost.belongs_to.contains(&uid) && !self.machines.contains(&self.ports[&ghost.node]))
    }

    /// The uids of the objects of a name that there were.
    fn graves(&self, key: &Key) -> impl Iterator<Item = u32> {
        self.graves.iter().filter(move |grave| grave.key == *key).map(|grave| grave.uid)
    }

    /// The same, in the instance that there is now.
    fn own_graves(&self, key: &Key) -> Vec<u32> {
        let within = self.uid_of_instance(key);
        let graves = self.graves.iter().filter(|grave| grave.key == *key && grave.within == within);
        graves.map(|grave| grave.uid).collect()
    }

    fn uid_of_instance(&self, key: &Key) -> u32 {
        self.get(&Key::of(What::Instance, &key.instance)).map_or(0, |instance| instance.uid)
    }

    /// What an object can't be without.
    fn needs(&self, key: &Key, object: &Object) -> Vec<Key> {
        let instance = Key::of(What::Instance, &key.instance);
        match key.what {
            What::Node | What::Service => vec![instance],
            What::Process => {
                let [service, node] = self.process_needs(&key.instance, object);
                vec![instance, service, node]
            }
            What::Instance | What::Tenant | What::User | What::Integration => vec![],
        }
    }

    /// Whether an object waits for an older one that can't be gone.
    pub(crate) fn is_stuck(&self, key: &Key) -> bool {
        self.graves(key).any(|uid| self.is_stuck_grave(uid)) || {
            let needs = self.get(key).map(|object| self.needs(key, object)).unwrap_or_default();
            needs.iter().any(|need| self.is_stuck(need))
        }
    }

    /// What the answer to a new object may say that it waits for.
    fn awaited(&self, key: &Key, object: &Object) -> Shape {
        let says = |key: &Key| json!(format!("the older {key} to be gone; see /1.0/events")).into();
        let lingers = matches!(key.what, What::Instance | What::Node | What::Service | What::Process);
        let graves = self.own_graves(key);
        if lingers && graves.iter().any(|uid| self.is_stuck_grave(*uid)) {
            return says(key);
        }
        let mut possible = Vec::new();
        if lingers && !graves.is_empty() {
            possible.push(says(key));
        }
        for need in self.needs(key, object) {
            let Some(needed) = self.get(&need) else { continue };
            if self.is_stuck(&need) {
                possible.push(says(&need));
                return Shape::Any(possible);
            }
            if needed.waited {
                possible.push(says(&need));
            }
        }
        // Whether the older one is gone by now is a matter of time.
        Shape::May(Box::new(Shape::Any(possible)))
    }

    /// An object as it is shown.
    pub(crate) fn shown(&self, key: &Key) -> Value {
        let object = &self.objects[key];
        let mut shown = object.fields.clone();
        shown.insert(key.what.id().into(), key.id.as_str().into());
        match key.what {
            What::User => {
                shown.remove("password");
                shown.insert("tenants".into(), json!(object.names));
            }
            What::Process => {
                shown.insert("instance".into(), key.instance.as_str().into());
            }
            What::Instance | What::Tenant | What::Integration | What::Node | What::Service => {}
        }
        shown.into()
    }

    fn list(&self, what: What, instance: &str) -> Value {
        self.all(what, instance).into_iter().map(|(key, _)| self.shown(key)).collect()
    }

    /// What a request answers. Everything that it changes is changed.
    pub(crate) fn answer(&mut self, request: &Request) -> Expected {
        let path: Vec<&str> = request.path.split('/').skip(1).collect();
        let below = |list: &str| match list {
            "nodes" => Some(What::Node),
            "services" => Some(What::Service),
            _ => None,
        };
        let top = |list: &str| {
            let all = [What::Instance, What::Tenant, What::User, What::Integration, What::Process];
            all.into_iter().find(|what| what.list() == list)
        };
        match (request.method, path.as_slice()) {
            ("POST", ["instances", instance, "services", verb @ ("start" | "stop")]) => {
                self.switch_all(instance, *verb == "start", request.query)
            }
            ("GET", ["instances", instance, "services", "status"]) => self.status_of_all(instance),
            (method, ["instances", instance, "services", id, what]) => {
                let service = Key::within(What::Service, instance, id);
                if self.get(&service).is_none() {
                    return Expected::not_found();
                }
                match (method, *what) {
                    ("GET", "status") => self.status_of_service(&service),
                    ("GET", "processes") => {
                        let all = self.processes_of(&service).into_iter().map(|key| self.shown(key));
                        Expected::ok(all.collect::<Value>())
                    }
                    (_, verb) => self.switch_service(&service, verb == "start", request.query),
                }
            }
            (_, ["instances", instance, "nodes", id, "ping"]) => {
                let Some(node) = self.get(&Key::within(What::Node, instance, id)) else {
                    return Expected::not_found();
                };
                Expected::ok(match self.is_dark(node) {
                    true => Shape::fields([("result", json!(false).into()), ("reason", Shape::text())]),
                    false => json!({"result": true}).into(),
                })
            }
            (_, ["instances", instance, "tenants"]) => {
                if !self.has(What::Instance, instance) {
                    return Expected::not_found();
                }
                let all = self.all(What::Tenant, "").into_iter();
                let mine = all.filter(|(_, tenant)| tenant.seat.as_deref() == Some(*instance));
                Expected::ok(mine.map(|(key, _)| self.shown(key)).collect::<Value>())
            }
            (_, ["processes", id, what]) => {
                let Some(key) = self.process(id) else { return Expected::not_found() };
                match *what {
                    "status" => self.status_of_process(&key),
                    verb => self.switch_process(&key, verb == "start", request.query),
                }
            }
            (method, ["tenants" | "tenant", id, "instance"]) => {
                self.seat(method, &Key::of(What::Tenant, id), &request.body)
            }
            (_, ["tenants" | "tenant", id, "users"]) => {
                if !self.has(What::Tenant, id) {
                    return Expected::not_found();
                }
                let all = self.all(What::User, "").into_iter();
                let mine = all.filter(|(_, user)| user.names.iter().any(|name| name == id));
                Expected::ok(mine.map(|(key, _)| json!(key.id)).collect::<Value>())
            }
            (_, ["tenants" | "tenant", id, "integrations"]) => self.names(&Key::of(What::Tenant, id)),
            (_, ["users", id, "tenants"]) => self.names(&Key::of(What::User, id)),
            (method, ["tenants", id, "integrations", other]) => {
                self.relate(method, &Key::of(What::Tenant, id), &Key::of(What::Integration, other))
            }
            (method, ["users", id, "tenants", other]) => {
                self.relate(method, &Key::of(What::User, id), &Key::of(What::Tenant, other))
            }
            (_, ["users", id, "client-secret"]) => {
                let key = Key::of(What::User, id);
                match self.get(&key) {
                    None => Expected::not_found(),
                    Some(_) => {
                        Expected::ok(Shape::with(&self.shown(&key), [("client-secret", Shape::Long(44))]))
                    }
                }
            }
            (method, ["instances", instance, list]) => {
                let what = below(list).expect("a list");
                let answer = self.list_or_create(method, what, instance, &request.body);
                match (self.has(What::Instance, instance), answer.statuses.as_slice()) {
                    (true, _) => answer,
                    // Which of the two is told when both are so, the contract does not say.
                    (false, [400]) => Expected::refused(&[400, 404]),
                    (false, _) => Expected::not_found(),
                }
            }
            (method, ["instances", instance, list, id]) => {
                let key = Key::within(below(list).expect("a list"), instance, id);
                self.one(method, &key, &request.body)
            }
            (method, ["tenant", id]) => self.one(method, &Key::of(What::Tenant, id), &request.body),
            (method, ["processes", id]) => {
                let key = self.process(id).unwrap_or_else(|| Key::of(What::Process, id));
                self.one(method, &key, &request.body)
            }
            (method, [list]) => self.list_or_create(method, top(list).expect("a list"), "", &request.body),
            (method, [list, id]) => self.one(method, &Key::of(top(list).expect("a list"), id), &request.body),
            _ => panic!("{request:?} is none of the contract's"),
        }
    }

    fn list_or_create(&mut self, method: &str, what: What, instance: &str, body: &str) -> Expected {
        match (method, what) {
            ("GET", What::Process) => {
                let instances = self.all(What::Instance, "").into_iter();
                let mut all = Vec::new();
                for (instance, _) in instances {
                    all.extend(self.all(what, &instance.id).into_iter().map(|(key, _)| self.shown(key)));
                }
                Expected::ok(Value::from(all))
            }
            ("GET", _) => Expected::ok(self.list(what, instance)),
            _ => self.create(what, instance, body),
        }
    }

    fn one(&mut self, method: &str, key: &Key, body: &str) -> Expected {
        match (method, self.get(key)) {
            ("PUT", _) => self.update(key, body),
            (_, None) => Expected::not_found(),
            ("GET", Some(_)) => Expected::ok(self.shown(key)),
            (_, Some(_)) => {
                self.delete(key);
                Expected::deleted()
            }
        }
    }

    fn create(&mut self, what: What, instance: &str, body: &str) -> Expected {
        let Some(mut given) = object(body) else { return Expected::refused(&[400]) };
        given.retain(|_, value| !value.is_null());
        let id = if what == What::Process { None } else { given.remove(what.id()) };
        let is_id = |id: &Value| {
            let id = id.as_str().unwrap_or_default();
            let plain = |c: char| c.is_ascii_alphanumeric() || "-._@".contains(c);
            !id.is_empty() && id.chars().all(plain) && (what == What::User) == id.contains('@')
        };
        let is_reserved =
            |id: &Value| what == What::Service && ["start", "stop", "status"].iter().any(|verb| id == *verb);
        let lacks_id = id.is_none() && what.prefix().is_none() && what != What::Process;
        let is_no_id = id.as_ref().is_some_and(|id| !is_id(id) || is_reserved(id));
        let mut object = Object { fields: given, ..Object::default() };
        if lacks_id || is_no_id || is_wrong(what, &object.fields, true) || self.names_nothing(&object.fields)
        {
            return Expected::refused(&[400]);
        }
        let id = id.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut key = Key { what, instance: instance.to_owned(), id };
        if self.get(&key).is_some() {
            return Expected::refused(&[409]);
        }
        match what {
            What::Service => object.wish = Some(false),
            What::Process => {
                let instance = object.fields.remove("instance").expect("it is required");
                key.instance = instance.as_str().expect("a text").to_owned();
                object.wish = Some(false);
                let needs = self.needs(&key, &object);
                if needs.iter().any(|need| self.get(need).is_none()) {
                    return Expected::refused(&[400]);
                }
                if self.objects[&needs[2]].fields.get("status") == Some(&json!(false)) {
                    return Expected::refused(&[409]);
                }
            }
            What::Integration => {
                object.fields.entry("schema").or_insert_with(|| json!([]));
            }
            What::User => object.names = names(object.fields.remove("tenants")),
            What::Instance | What::Tenant | What::Node => {}
        }
        // Shown with the id that it gets.
        let ids = match (what.prefix(), key.id.as_str()) {
            (_, "") if what == What::Process => Shape::Long(36),
            (Some(prefix), "") => {
                let ids = self.next_numbers(&key, prefix).into_iter();
                Shape::Any(ids.map(|number| json!(format!("{prefix}{number}")).into()).collect())
            }
            (_, id) => json!(id).into(),
        };
        let mut shown = object.fields.clone();
        let mut more = vec![(what.id(), ids), ("waits-for", self.awaited(&key, &object))];
        match what {
            What::User => {
                shown.remove("password");
                shown.insert("tenants".into(), json!(object.names));
                more.extend([("client-id", Shape::Long(32)), ("client-secret", Shape::Long(44))]);
            }
            What::Process => {
                shown.insert("instance".into(), key.instance.as_str().into());
            }
            What::Instance | What::Tenant | What::Integration | What::Node | What::Service => {}
        }
        let body = Shape::with(&shown.into(), more);
        Expected { learns: Learns::Id(key, Box::new(object)), ..Expected::created(body) }
    }

    /// Whether parameters name what there is not.
    fn names_nothing(&self, given: &Map<String, Value>) -> bool {
        names(given.get("tenants").cloned()).iter().any(|tenant| !self.has(What::Tenant, tenant))
    }

    /// The numbers that a new object may get: one more than was ever counted to or chosen. Those that were chosen and are deleted by now
    /// may count as well: whether such an object is gone altogether is a matter of time, unless it can't be.
    fn next_numbers(&self, key: &Key, prefix: &str) -> BTreeSet<u64> {
        let number = |other: &Key| {
            let is_like = other.what == key.what && other.instance == key.instance;
            is_like.then(|| other.id.strip_prefix(prefix)?.parse::<u64>().ok()).flatten()
        };
        let counted = self.counted.get(&(key.what, key.instance.clone())).copied().unwrap_or(0);
        let within = self.uid_of_instance(key);
        let graves = || self.graves.iter().filter(|grave| grave.within == within);
        let stuck = graves().filter(|grave| self.is_stuck_grave(grave.uid)).map(|grave| &grave.key);
        let least =
            self.objects.keys().chain(stuck).filter_map(number).chain([counted]).max().unwrap_or(0) + 1;
        let mut possible = BTreeSet::from([least]);
        let deleted = graves().filter_map(|grave| number(&grave.key));
        possible.extend(deleted.filter(|number| *number >= least).map(|number| number + 1));
        possible
    }

    fn update(&mut self, key: &Key, body: &str) -> Expected {
        let given = object(body);
        let is_other = |id: &Value| id != key.id.as_str();
        let mut wrong = match given.clone() {
            None => true,
            Some(mut given) => {
                let id = given.remove(key.what.id());
                let client = given.remove("client-id").filter(|_| key.what == What::User);
                id.is_some_and(|id| is_other(&id))
                    || client.is_some_and(|id| {
                        self.get(key).and_then(|user| user.fields.get("client-id")) != Some(&id)
                    })
                    || is_wrong(key.what, &given, false)
                    || self.names_nothing(&given)
            }
        };
        let Some(current) = self.get(key) else {
            // Which of the two is told when both are so, the contract does not say.
            return Expected::refused(if wrong { &[400, 404] } else { &[404] });
        };
        let mut changed = current.clone();
        for (name, value) in given.unwrap_or_default() {
            match (name.as_str(), key.what) {
                ("tenants", What::User) => changed.names = names(Some(value)),
                ("schema", What::Integration) if value.is_null() => {
                    changed.fields.insert(name, json!([]));
                }
                ("password", What::User) => {}
                (name, _) if name == key.what.id() => {}
                (_, _) if value.is_null() => drop(changed.fields.remove(&name)),
                (_, _) => drop(changed.fields.insert(name, value)),
            }
        }
        wrong |= key.what == What::Service && !TYPES.iter().any(|(name, _)| *name == changed.text("type"));
        if wrong {
            return Expected::refused(&[400]);
        }
        let before = std::mem::replace(self.objects.get_mut(key).expect("it is there"), changed);
        self.note_change(key, &before);
        Expected::ok(self.shown(key))
    }

    /// What follows from a change for what runs.
    fn note_change(&mut self, key: &Key, before: &Object) {
        let now = self.objects[key].clone();
        if now.fields == before.fields {
            return;
        }
        if key.what == What::Node {
            let cordoned = |node: &Object| node.fields.get("status") == Some(&json!(false));
            if cordoned(&now) && !cordoned(before) {
                self.keep_what_runs(key);
            }
            if !cordoned(&now) {
                self.forget_what_is_kept(key);
            }
            self.ports.insert(now.uid, port(&now));
        }
        if matches!(key.what, What::Node | What::Service) {
            self.unsettle(key);
        }
    }

    fn names(&self, key: &Key) -> Expected {
        match self.get(key) {
            None => Expected::not_found(),
            Some(object) => Expected::ok(json!(object.names)),
        }
    }

    fn relate(&mut self, method: &str, key: &Key, other: &Key) -> Expected {
        let is_there = self.get(other).is_some();
        let Some(object) = self.objects.get_mut(key) else { return Expected::not_found() };
        let known = object.names.iter().position(|name| *name == other.id);
        match (method, known) {
            ("POST", _) if !is_there => Expected::not_found(),
            ("POST", known) => {
                if known.is_none() {
                    object.names.push(other.id.clone());
                }
                let named = |key: &Key| (key.what.name().to_lowercase(), json!(key.id));
                Expected::created(Value::Object([named(key), named(other)].into_iter().collect()))
            }
            (_, None) => Expected::not_found(),
            (_, Some(at)) => {
                object.names.remove(at);
                Expected::deleted()
            }
        }
    }

    fn seat(&mut self, method: &str, key: &Key, body: &str) -> Expected {
        let seat = self.get(key).map(|tenant| tenant.seat.clone());
        match (method, seat) {
            ("POST", seat) => {
                let given = object(body).unwrap_or_default();
                let id = given.get("id").and_then(Value::as_str).filter(|_| given.len() == 1);
                match (id, seat) {
                    (None, Some(_)) => Expected::refused(&[400]),
                    (None, None) => Expected::refused(&[400, 404]),
                    (Some(_), None) => Expected::not_found(),
                    (Some(id), Some(_)) if !self.has(What::Instance, id) => Expected::not_found(),
                    (Some(id), Some(_)) => {
                        self.objects.get_mut(key).expect("it is there").seat = Some(id.to_owned());
                        Expected::created(json!({"tenant": key.id, "instance": id}))
                    }
                }
            }
            (_, None | Some(None)) => Expected::not_found(),
            ("GET", Some(Some(instance))) => Expected::ok(self.shown(&Key::of(What::Instance, &instance))),
            (_, Some(Some(_))) => {
                self.objects.get_mut(key).expect("it is there").seat = None;
                Expected::deleted()
            }
        }
    }

    /// Takes an object out, with all that can't be without it, and out of all that names it.
    fn delete(&mut self, key: &Key) {
        let goes = |other: &Key, object: &Object| match key.what {
            What::Instance => other.instance == key.id,
            What::Node | What::Service => {
                other.what == What::Process
                    && other.instance == key.instance
                    && object.text(if key.what == What::Node { "node" } else { "service" }) == key.id
            }
            What::Tenant | What::User | What::Integration | What::Process => false,
        };
        let going: Vec<Key> = self
            .objects
            .iter()
            .filter(|(other, object)| *other == key || goes(other, object))
            .map(|(other, _)| other.clone())
            .collect();
        for process in going.iter().filter(|going| going.what == What::Process) {
            if self.is_stuck(process) {
                // Nothing was done for it.
                continue;
            }
            let needs = self.needs(process, &self.objects[process]);
            let belongs_to = needs.iter().map(|need| self.objects[need].uid).collect();
            self.ghosts.push(Ghost { belongs_to, node: self.objects[&needs[2]].uid });
        }
        let uids: Vec<u32> = going.iter().map(|gone| self.uid_of_instance(gone)).collect();
        for (key, within) in going.into_iter().zip(uids) {
            let object = self.objects.remove(&key).expect("it is there");
            self.graves.push(Grave { key, uid: object.uid, within });
        }
        for (other, object) in &mut self.objects {
            match (key.what, other.what) {
                (What::Instance, What::Tenant) => drop(object.seat.take_if(|seat| *seat == key.id)),
                (What::Tenant, What::User) | (What::Integration, What::Tenant) => {
                    object.names.retain(|name| *name != key.id);
                }
                _ => {}
            }
        }
    }

    /// Takes from an answer what could not be known before.
    pub(crate) fn learn(&mut self, expected: Expected, answer: &Value) {
        let Learns::Id(mut key, mut object) = expected.learns else { return };
        let id = answer[key.what.id()].as_str().expect("its shape was compared").to_owned();
        if let (Some(prefix), "") = (key.what.prefix(), key.id.as_str()) {
            let number = id[prefix.len()..].parse().expect("its shape was compared");
            self.counted.insert((key.what, key.instance.clone()), number);
        }
        key.id = id;
        object.waited = !answer["waits-for"].is_null();
        if key.what == What::User {
            object.fields.insert("client-id".into(), answer["client-id"].clone());
            object.fields.remove("password");
        }
        self.insert(key, *object);
    }
}

fn port(node: &Object) -> u16 {
    node.fields.get("port").and_then(Value::as_u64).and_then(|port| port.try_into().ok()).unwrap_or(22)
}

fn names(value: Option<Value>) -> Vec<String> {
    let items = value.as_ref().and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}
