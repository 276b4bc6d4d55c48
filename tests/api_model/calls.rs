//! Any sequence of calls. A call names objects by their number among those that there are when it is made, so that most calls hit one
//! and that a shorter sequence still means something.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::model::{Key, Model, Object, Request};
use crate::parameters::{Takes, What};
use crate::running::PATIENT;

/// One of the objects that there are, or not.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pick {
    There(u8),
    /// One that was deleted.
    Former(u8),
    Never,
}

/// What is wrong with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    Empty,
    NoObject,
    Unknown,
    Type,
    Missing,
    Id,
}

/// Which id a new object is given.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NewId {
    /// That of one that was deleted, or else a free one.
    Former(u8),
    /// One of a few, which may be taken.
    Chosen(u8),
    /// None, where it can be left out.
    Counted,
}

/// Which parameters a body has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Body {
    /// A bit for each parameter that may be left out.
    given: u8,
    /// A bit for each of these that is null.
    null: u8,
    value: u8,
    wrong: Option<Wrong>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Call {
    Create(What, Pick, NewId, Body),
    Update(What, Pick, Pick, Body),
    Get(What, Pick, Pick),
    List(What, Pick),
    Delete(What, Pick, Pick),
    /// What an object is given of others: a tenant its integrations, a user its tenants.
    Give(What, Pick, Pick),
    Take(What, Pick, Pick),
    Given(What, Pick),
    /// Puts a tenant on an instance.
    Seat(Pick, Pick, Option<Wrong>),
    Unseat(Pick),
    Seated(Pick),
    TenantsOf(Pick),
    UsersOf(Pick),
    ProcessesOf(Pick, Pick),
    StatusOfAll(Pick),
    Status(What, Pick, Pick),
    SwitchAll(Pick, bool, bool),
    Switch(What, Pick, Pick, bool, bool),
    Ping(Pick, Pick),
    NewSecret(Pick),
}

/// Where nodes can be.
#[derive(Debug, Clone)]
pub(crate) struct Machines {
    /// Ports of those that are there, and of one that is not.
    pub(crate) ports: [u16; 3],
    pub(crate) username: String,
    pub(crate) identity_file: String,
}

fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![
        20 => any::<u8>().prop_map(Pick::There),
        1 => any::<u8>().prop_map(Pick::Former),
        1 => Just(Pick::Never),
    ]
}

fn body() -> impl Strategy<Value = Body> {
    let wrong = prop_oneof![
        Just(Wrong::Empty),
        Just(Wrong::NoObject),
        Just(Wrong::Unknown),
        Just(Wrong::Type),
        Just(Wrong::Missing),
        Just(Wrong::Id),
    ];
    let null = prop_oneof![12 => Just(0), 1 => any::<u8>()];
    (any::<u8>(), null, any::<u8>(), proptest::option::weighted(0.06, wrong))
        .prop_map(|(given, null, value, wrong)| Body { given, null, value, wrong })
}

fn new_id() -> impl Strategy<Value = NewId> {
    prop_oneof![
        4 => Just(NewId::Counted),
        2 => any::<u8>().prop_map(NewId::Chosen),
        2 => any::<u8>().prop_map(NewId::Former),
    ]
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        1 => Just(What::Instance),
        3 => Just(What::Tenant),
        2 => Just(What::User),
        1 => Just(What::Integration),
        4 => Just(What::Node),
        4 => Just(What::Service),
        16 => Just(What::Process),
    ]
}

/// Fewer of what takes much else with it.
fn deleted() -> impl Strategy<Value = What> {
    prop_oneof![
        1 => Just(What::Instance),
        12 => Just(What::Tenant),
        9 => Just(What::User),
        6 => Just(What::Integration),
        4 => Just(What::Node),
        4 => Just(What::Service),
        14 => Just(What::Process),
    ]
}

fn giver() -> impl Strategy<Value = What> {
    prop_oneof![Just(What::Tenant), Just(What::User)]
}

fn runner() -> impl Strategy<Value = What> {
    prop_oneof![Just(What::Service), Just(What::Process)]
}

fn call() -> impl Strategy<Value = Call> {
    let is_patient = || prop::bool::weighted(0.7);
    prop_oneof![
        30 => (what(), pick(), new_id(), body()).prop_map(|(a, b, c, d)| Call::Create(a, b, c, d)),
        14 => (what(), pick(), pick(), body()).prop_map(|(a, b, c, d)| Call::Update(a, b, c, d)),
        6 => (what(), pick(), pick()).prop_map(|(a, b, c)| Call::Get(a, b, c)),
        6 => (what(), pick()).prop_map(|(a, b)| Call::List(a, b)),
        8 => (deleted(), pick(), pick()).prop_map(|(a, b, c)| Call::Delete(a, b, c)),
        6 => (giver(), pick(), pick()).prop_map(|(a, b, c)| Call::Give(a, b, c)),
        2 => (giver(), pick(), pick()).prop_map(|(a, b, c)| Call::Take(a, b, c)),
        2 => (giver(), pick()).prop_map(|(a, b)| Call::Given(a, b)),
        4 => (pick(), pick(), proptest::option::weighted(0.1, Just(Wrong::Unknown)))
            .prop_map(|(a, b, c)| Call::Seat(a, b, c)),
        1 => pick().prop_map(Call::Unseat),
        1 => pick().prop_map(Call::Seated),
        2 => pick().prop_map(Call::TenantsOf),
        2 => pick().prop_map(Call::UsersOf),
        2 => (pick(), pick()).prop_map(|(a, b)| Call::ProcessesOf(a, b)),
        2 => pick().prop_map(Call::StatusOfAll),
        4 => (runner(), pick(), pick()).prop_map(|(a, b, c)| Call::Status(a, b, c)),
        3 => (pick(), prop::bool::weighted(0.7), is_patient())
            .prop_map(|(a, b, c)| Call::SwitchAll(a, b, c)),
        10 => (runner(), pick(), pick(), prop::bool::weighted(0.6), is_patient())
            .prop_map(|(a, b, c, d, e)| Call::Switch(a, b, c, d, e)),
        1 => (pick(), pick()).prop_map(|(a, b)| Call::Ping(a, b)),
        1 => pick().prop_map(Call::NewSecret),
    ]
}

/// So many calls, the first of which make something for the others to be about.
pub(crate) fn calls(number: usize) -> impl Strategy<Value = Vec<Call>> {
    let first = [
        What::Instance,
        What::Tenant,
        What::Node,
        What::Service,
        What::Node,
        What::Process,
        What::Service,
        What::Process,
    ];
    let make = |what: What| {
        (any::<u8>(), body())
            .prop_map(move |(within, body)| Call::Create(what, Pick::There(within), NewId::Counted, body))
    };
    let groups = prop_oneof![30 => call().prop_map(|call| vec![call]), 1 => right_after()];
    let rest = vec(groups, number - first.len());
    (first.map(make), rest).prop_map(move |(first, rest)| {
        first.into_iter().chain(rest.into_iter().flatten()).take(number).collect()
    })
}

/// What is asked right after something was deleted, while nodes still have it.
fn right_after() -> impl Strategy<Value = Vec<Call>> {
    let deleted = prop_oneof![8 => Just(What::Node), 6 => Just(What::Service), 1 => Just(What::Instance)];
    (deleted, any::<u8>(), any::<u8>(), any::<u8>(), any::<bool>(), body()).prop_map(
        |(what, within, one, asked, is_patient, body)| {
            let (within, one) = (Pick::There(within), Pick::There(one));
            let delete = Call::Delete(what, within, one);
            let again = Call::Create(what, within, NewId::Former(u8::MAX), body);
            let next = match asked % 5 {
                0 => Call::StatusOfAll(within),
                1 => Call::Switch(What::Service, within, one, true, is_patient),
                2 => Call::SwitchAll(within, asked & 8 != 0, is_patient),
                3 => Call::ProcessesOf(within, one),
                _ => {
                    return vec![
                        delete,
                        again,
                        Call::List(What::Process, within),
                        Call::SwitchAll(within, true, true),
                    ];
                }
            };
            vec![delete, next]
        },
    )
}

impl Pick {
    fn id(self, model: &Model, what: What, instance: &str) -> String {
        let never = || if what == What::User { "nobody@x".to_owned() } else { "none-9".to_owned() };
        let nth = |ids: Vec<String>, n: u8| match ids.len() {
            0 => never(),
            len => ids[usize::from(n) % len].clone(),
        };
        match self {
            Pick::There(n) => {
                nth(model.all(what, instance).iter().map(|(key, _)| key.id.clone()).collect(), n)
            }
            Pick::Former(n) => nth(model.former(what, instance).into_iter().map(str::to_owned).collect(), n),
            Pick::Never => never(),
        }
    }
}

/// The instance that a call is about: one with something of the kind in it (of a process that is to be made: with what it needs), where
/// there is one.
fn instance_with(model: &Model, what: &[What], pick: Pick) -> String {
    let Pick::There(n) = pick else { return pick.id(model, What::Instance, "") };
    let all = model.all(What::Instance, "");
    let with: Vec<_> =
        all.iter().filter(|(key, _)| what.iter().all(|what| !model.all(*what, &key.id).is_empty())).collect();
    match with.len() {
        0 => pick.id(model, What::Instance, ""),
        len => with[usize::from(n) % len].0.id.clone(),
    }
}

/// The path of a list.
fn list_path(what: What, instance: &str) -> String {
    match what.is_below_instance() {
        true => format!("/instances/{instance}/{}", what.list()),
        false => format!("/{}", what.list()),
    }
}

/// The object that a call is about, as its path names it.
fn object_path(model: &Model, what: What, within: Pick, one: Pick) -> String {
    let instance = match what {
        What::Node | What::Service | What::Process => instance_with(model, &[what], within),
        What::Instance | What::Tenant | What::User | What::Integration => String::new(),
    };
    format!("{}/{}", list_path(what, &instance), one.id(model, what, &instance))
}

impl Call {
    /// The call as a request, by what there is now.
    pub(crate) fn request(self, model: &Model, machines: &Machines) -> Request {
        let get = |path: String| Request { method: "GET", path, query: "", body: String::new() };
        let post = |path: String| Request { method: "POST", ..get(path) };
        let delete = |path: String| Request { method: "DELETE", ..get(path) };
        let switch = |path: String, asked: bool, is_patient: bool| {
            // Who can't be given what he asks for is not let wait long for it.
            let query = match (is_patient, model.can_wait(&path, asked)) {
                (false, _) => "wait=false",
                (true, true) => PATIENT,
                (true, false) => "timeout=0.3",
            };
            Request { query, ..post(path) }
        };
        let verb = |asked: bool| if asked { "start" } else { "stop" };
        let path = |what, within, one| object_path(model, what, within, one);
        let tenant = |pick: Pick| path(What::Tenant, Pick::Never, pick);
        let instance = |pick: Pick| path(What::Instance, Pick::Never, pick);
        let gift = |what: What| if what == What::Tenant { What::Integration } else { What::Tenant };
        match self {
            Call::Create(what, within, id, body) => {
                create(model, machines, makeable(model, what), within, id, body)
            }
            Call::Update(what, within, one, body) => update(model, machines, what, within, one, body),
            Call::Get(What::Tenant, _, Pick::There(n)) if n % 2 == 1 => {
                get(tenant(Pick::There(n)).replace("/tenants/", "/tenant/"))
            }
            Call::Get(what, within, one) => get(path(what, within, one)),
            Call::List(what, within) => get(list_path(what, &instance_with(model, &[what], within))),
            Call::Delete(what, within, one) => delete(path(what, within, one)),
            Call::Give(what, one, other) | Call::Take(what, one, other) => {
                let (list, given) = (gift(what).list(), other.id(model, gift(what), ""));
                let owner = path(what, Pick::Never, one);
                let is_gift = matches!(self, Call::Give(..));
                // Where something can be taken, that is.
                let id = owner.rsplit('/').next().expect("a path");
                let has =
                    model.get(&Key::of(what, id)).map(|object| object.names.clone()).unwrap_or_default();
                let other = match (other, has.len()) {
                    (Pick::There(n), len) if !is_gift && len > 0 => has[usize::from(n) % len].clone(),
                    _ => given,
                };
                let path = format!("{owner}/{list}/{other}");
                if is_gift { post(path) } else { delete(path) }
            }
            Call::Given(what, one) => get(format!("{}/{}", path(what, Pick::Never, one), gift(what).list())),
            Call::Seat(one, seat, wrong) => {
                let id = seat.id(model, What::Instance, "");
                let body = if wrong.is_some() { json!({"id": id, "di": id}) } else { json!({ "id": id }) };
                Request { body: body.to_string(), ..post(format!("{}/instance", tenant(one))) }
            }
            Call::Unseat(one) => delete(format!("{}/instance", tenant(one))),
            Call::Seated(one) => get(format!("{}/instance", tenant(one))),
            Call::TenantsOf(one) => get(format!("{}/tenants", instance(one))),
            Call::UsersOf(one) => get(format!("{}/users", tenant(one))),
            Call::ProcessesOf(within, one) => get(format!("{}/processes", path(What::Service, within, one))),
            Call::StatusOfAll(one) => get(format!("{}/services/status", instance(one))),
            Call::Status(what, within, one) => get(format!("{}/status", path(what, within, one))),
            Call::SwitchAll(one, asked, is_patient) => {
                switch(format!("{}/services/{}", instance(one), verb(asked)), asked, is_patient)
            }
            Call::Switch(what, within, one, asked, is_patient) => {
                switch(format!("{}/{}", path(what, within, one), verb(asked)), asked, is_patient)
            }
            Call::Ping(within, one) => post(format!("{}/ping", path(What::Node, within, one))),
            Call::NewSecret(one) => post(format!("{}/client-secret", path(What::User, Pick::Never, one))),
        }
    }
}

impl Body {
    /// The parameters: those that an object can't be without if it is new, and some of the others.
    fn parameters(self, model: &Model, what: What, is_new: bool) -> Map<String, Value> {
        let mut given = Map::new();
        for (nth, parameter) in what.parameters().iter().enumerate() {
            let has = |bits: u8| bits & (1 << nth) != 0;
            if !(is_new && parameter.is_required || has(self.given)) {
                continue;
            }
            let number = self.value.wrapping_add(u8::try_from(nth).expect("there are few")) / 2;
            let value = match parameter.takes {
                _ if has(self.null) => Value::Null,
                Takes::Tenants => {
                    let tenants = model.all(What::Tenant, "");
                    let some = tenants.iter().enumerate().filter(|(n, _)| (number >> (n % 8)) & 1 == 1);
                    some.map(|(_, (key, _))| json!(key.id)).collect()
                }
                takes => takes.value(number),
            };
            given.insert(parameter.name.to_owned(), value);
        }
        given
    }

    /// The body as text, with what is wrong with it.
    fn text(self, what: What, mut given: Map<String, Value>) -> String {
        match self.wrong {
            None => {}
            Some(Wrong::Empty) => return String::new(),
            Some(Wrong::NoObject) => return "[]".into(),
            Some(Wrong::Unknown) => drop(given.insert("nmae".into(), "a".into())),
            Some(Wrong::Type) => drop(given.insert(what.parameters()[0].name.into(), 7.into())),
            Some(Wrong::Missing) => drop(given.insert(what.parameters()[0].name.into(), Value::Null)),
            Some(Wrong::Id) => drop(given.insert(what.id().into(), "a b".into())),
        }
        Value::Object(given).to_string()
    }
}

/// What can be made by now: first of all what the rest is made of.
fn makeable(model: &Model, what: What) -> What {
    let has = |what: What| model.objects.keys().any(|key| key.what == what);
    match what {
        What::Node | What::Service | What::Process if !has(What::Instance) => What::Instance,
        What::Process if !has(What::Node) => What::Node,
        What::Process if !has(What::Service) => What::Service,
        what => what,
    }
}

/// Where a new node is to be: rarely where there is none.
fn some_port(machines: &Machines, value: u8) -> u16 {
    machines.ports[match value % 16 {
        0 => 2,
        n => usize::from(n % 2),
    }]
}

fn create(model: &Model, machines: &Machines, what: What, within: Pick, id: NewId, body: Body) -> Request {
    let instance = match what {
        What::Process => instance_with(model, &[What::Node, What::Service], within),
        _ => within.id(model, What::Instance, ""),
    };
    let mut given = body.parameters(model, what, true);
    match what {
        What::Node => put_login(&mut given, machines, body.value),
        What::Process => {
            let node = Pick::There(body.value).id(model, What::Node, &instance);
            let service = Pick::There(body.given).id(model, What::Service, &instance);
            for (name, id) in [("instance", &instance), ("node", &node), ("service", &service)] {
                given.insert(name.into(), json!(id));
            }
        }
        What::Instance | What::Tenant | What::User | What::Integration | What::Service => {}
    }
    let chosen = |n: u8| match what {
        What::User => format!("u{}@x", n % 4),
        What::Tenant => format!("t{}", n % 5 + 7),
        What::Instance | What::Integration | What::Node | What::Service | What::Process => {
            format!("{}{}", what.prefix().unwrap_or("my-"), n % 4 + 1)
        }
    };
    let former = match id {
        NewId::Former(n) => {
            let ids = model.former(what, if what.is_below_instance() { &instance } else { "" });
            match n {
                // The last one.
                u8::MAX => ids.last(),
                n => ids.get(usize::from(n) % ids.len().max(1)),
            }
            .map(|id| (*id).to_owned())
        }
        NewId::Chosen(_) | NewId::Counted => None,
    };
    let id = match (id, former) {
        _ if what == What::Process => None,
        (NewId::Counted, _) if what.prefix().is_some() => None,
        (_, Some(former)) => Some(former),
        (NewId::Former(n) | NewId::Chosen(n), None) => Some(chosen(n)),
        (NewId::Counted, None) => Some(chosen(body.value)),
    };
    given.extend(id.map(|id| (what.id().to_owned(), id.into())));
    Request { method: "POST", path: list_path(what, &instance), query: "", body: body.text(what, given) }
}

/// What it takes to log in.
fn put_login(given: &mut Map<String, Value>, machines: &Machines, value: u8) {
    for (name, value) in [
        ("ip-address", json!("127.0.0.1")),
        ("port", json!(some_port(machines, value))),
        ("username", json!(machines.username)),
        ("identity-file", json!(machines.identity_file)),
    ] {
        given.insert(name.into(), value);
    }
}

fn update(model: &Model, machines: &Machines, what: What, within: Pick, one: Pick, body: Body) -> Request {
    // A process has nothing that can be put: what can be asked for is tried on a service.
    let what = if what == What::Process { What::Service } else { what };
    let path = object_path(model, what, within, one);
    let mut given = body.parameters(model, what, false);
    let parts: Vec<&str> = path.split('/').collect();
    if let (What::Node, [.., instance, _, id]) = (what, parts.as_slice()) {
        for name in ["ip-address", "username", "identity-file", "port"] {
            given.remove(name);
        }
        let port = some_port(machines, body.given);
        if let Some(node) = model.get(&Key::within(What::Node, instance, id))
            && can_move(model, node, port)
        {
            given.insert("port".into(), json!(port));
        }
    }
    if body.value.is_multiple_of(8) {
        // As it is already.
        given.insert(what.id().into(), json!(parts.last().expect("a path")));
    }
    Request { method: "PUT", path, query: "", body: body.text(what, given) }
}

/// Whether a node can be said to be elsewhere. What it left running where it was is out of reach from then on, and nobody promises
/// anything of it; so only nodes are moved that never had a process, or that were where nothing can run.
fn can_move(model: &Model, node: &Object, port: u16) -> bool {
    !model.is_used(node) || (model.is_dark(node) && model.machines.contains(&port))
}
