//! What should run by the model, what is said of it, and what nodes are told.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::model::{Expected, Key, Model, Object};
use crate::parameters::What;
use crate::shape::Shape;

/// How a process stands to what is asked.
enum Standing {
    /// It becomes as asked.
    Follows,
    /// It stays as it is, running or not, for a reason that begins so.
    Stays(bool, Option<String>),
}

const WAITS: &str = "it waits until an older object";

impl Model {
    fn service_of(&self, process: &Key) -> Key {
        let [service, _] = self.process_needs(&process.instance, &self.objects[process]);
        service
    }

    fn node_of(&self, process: &Key) -> Key {
        let [_, node] = self.process_needs(&process.instance, &self.objects[process]);
        node
    }

    fn is_cordoned(&self, node: &Key) -> bool {
        self.objects[node].fields.get("status") == Some(&json!(false))
    }

    /// Whether a process is asked to run: as was asked of it alone, or else of its service.
    fn is_wanted(&self, process: &Key) -> bool {
        let own = self.objects[process].wish;
        own.or(self.objects[&self.service_of(process)].wish).unwrap_or(true)
    }

    fn standing(&self, process: &Key, asked: bool) -> Standing {
        let node = self.node_of(process);
        let kept = self.objects[process].is_kept;
        if self.is_stuck(process) {
            Standing::Stays(false, asked.then(|| WAITS.to_owned()))
        } else if self.is_dark(&self.objects[&node]) {
            Standing::Stays(false, Some(format!("node {}: ", node.id)))
        } else if self.is_cordoned(&node) && asked {
            let why = (!kept).then(|| "its node is cordoned (status: false)".to_owned());
            Standing::Stays(kept, why)
        } else {
            Standing::Follows
        }
    }

    /// Whether a process will be as asked, if one waits.
    fn obeys(&self, process: &Key, asked: bool) -> bool {
        if asked && self.objects[process].may_restart {
            return false;
        }
        matches!(self.standing(process, asked), Standing::Follows | Standing::Stays(_, None))
    }

    /// Whether a process runs in the end.
    fn runs(&self, process: &Key) -> bool {
        let is_wanted = self.is_wanted(process);
        match self.standing(process, is_wanted) {
            Standing::Follows => is_wanted,
            Standing::Stays(runs, _) => runs,
        }
    }

    /// All processes that run in the end.
    pub(crate) fn running(&self) -> Vec<&str> {
        let all = self.objects.keys().filter(|key| key.what == What::Process && self.runs(key));
        all.map(|key| key.id.as_str()).collect()
    }

    /// A process as it is answered to be: once it was waited for, or before.
    fn process_shape(&self, process: &Key, asked: bool, is_waited_for: bool) -> Shape {
        let (runs, why) = match self.standing(process, asked) {
            Standing::Follows => (asked, None),
            Standing::Stays(runs, why) => (runs, why),
        };
        let is_known = is_waited_for || self.is_never_seen(process);
        let runs = if is_known { json!(runs).into() } else { Shape::Flag };
        let reason = match why {
            _ if !is_known => Shape::May(Box::new(Shape::text())),
            Some(why) => Shape::Starts(why),
            None => Shape::none(),
        };
        Shape::fields([("id", json!(process.id).into()), ("running", runs), ("reason", reason)])
    }

    /// Whether a process is where nobody sees what runs, and never did.
    fn is_never_seen(&self, process: &Key) -> bool {
        self.is_stuck(process) || self.is_dark(&self.objects[&self.node_of(process)])
    }

    /// A service as it is answered to be.
    fn service_shape(&self, service: &Key, asked: bool, is_waited_for: bool) -> Shape {
        let processes = self.processes_of(service);
        let runs = |process: &&Key| match self.standing(process, asked) {
            Standing::Follows => asked,
            Standing::Stays(runs, _) => runs,
        };
        let running = match asked {
            true => !processes.is_empty() && processes.iter().all(runs),
            false => processes.iter().any(runs),
        };
        let is_certain = is_waited_for || processes.iter().all(|process| self.is_never_seen(process));
        let is_never = asked && processes.iter().any(|process| self.is_never_seen(process));
        let running = if is_certain || is_never { json!(running).into() } else { Shape::Flag };
        let none = "it has no processes; create them at /1.0/processes";
        let reason = match processes.is_empty() {
            _ if !asked => None,
            _ if self.is_stuck(service) => Some(WAITS),
            true => Some(none),
            false => None,
        };
        let reason = match reason {
            _ if asked && !is_waited_for && self.objects[service].waited => {
                Shape::May(Box::new(Shape::text()))
            }
            Some(why) => Shape::Starts(why.into()),
            None => Shape::none(),
        };
        let processes =
            processes.into_iter().map(|process| self.process_shape(process, asked, is_waited_for)).collect();
        Shape::fields([
            ("id", json!(service.id).into()),
            ("running", running),
            ("processes", Shape::List(processes)),
            ("reason", reason),
        ])
    }

    /// Whether whoever starts or stops this service can wait until it is so.
    fn can_wait_for(&self, service: &Key, asked: bool) -> bool {
        let obeys = self.processes_of(service).iter().all(|process| self.obeys(process, asked));
        obeys && !(asked && self.is_stuck(service))
    }

    /// Whether whoever starts or stops what a path names can wait until it is so.
    pub(crate) fn can_wait(&self, path: &str, asked: bool) -> bool {
        match path.split('/').skip(1).collect::<Vec<_>>().as_slice() {
            ["processes", id, ..] => self.process(id).is_none_or(|key| self.obeys(&key, asked)),
            ["instances", instance, "services", _] => {
                self.all(What::Service, instance).iter().all(|(key, _)| self.can_wait_for(key, asked))
            }
            ["instances", instance, "services", id, _] => {
                let key = Key::within(What::Service, instance, id);
                self.get(&key).is_none() || self.can_wait_for(&key, asked)
            }
            _ => panic!("{path} can't be started"),
        }
    }

    /// A service is asked for something, and no process of it for anything else.
    fn ask(&mut self, service: &Key, asked: bool, is_waited_for: bool) {
        let processes: Vec<Key> = self.processes_of(service).into_iter().cloned().collect();
        self.objects.get_mut(service).expect("it is there").wish = Some(asked);
        for process in processes {
            self.objects.get_mut(&process).expect("it is there").wish = None;
            self.note_wish(&process, asked, is_waited_for);
        }
    }

    fn note_wish(&mut self, process: &Key, asked: bool, is_waited_for: bool) {
        let object = self.objects.get_mut(process).expect("it is there");
        object.is_settled = is_waited_for;
        if !asked {
            object.is_kept = false;
            object.may_restart &= !is_waited_for;
        }
    }

    pub(crate) fn switch_service(&mut self, service: &Key, asked: bool, query: &str) -> Expected {
        let is_waited_for = self.can_wait_for(service, asked) && waits(query);
        let shape = self.service_shape(service, asked, is_waited_for);
        self.ask(service, asked, is_waited_for);
        Expected::ok(shape)
    }

    pub(crate) fn switch_all(&mut self, instance: &str, asked: bool, query: &str) -> Expected {
        if self.get(&Key::of(What::Instance, instance)).is_none() {
            return Expected::not_found();
        }
        let services: Vec<Key> =
            self.all(What::Service, instance).into_iter().rev().map(|(key, _)| key.clone()).collect();
        let is_waited_for = waits(query) && services.iter().all(|service| self.can_wait_for(service, asked));
        let shapes =
            services.iter().map(|service| self.service_shape(service, asked, is_waited_for)).collect();
        for service in &services {
            self.ask(service, asked, is_waited_for);
        }
        Expected::ok(Shape::List(shapes))
    }

    pub(crate) fn switch_process(&mut self, process: &Key, asked: bool, query: &str) -> Expected {
        let is_waited_for = self.obeys(process, asked) && waits(query);
        let shape = self.process_shape(process, asked, is_waited_for);
        if self.is_wanted(process) != asked {
            self.objects.get_mut(process).expect("it is there").wish = Some(asked);
        }
        self.note_wish(process, asked, is_waited_for);
        Expected::ok(shape)
    }

    /// The status of a process once what was asked is seen.
    pub(crate) fn status_of_process(&self, process: &Key) -> Expected {
        let comes = !self.objects[process].is_settled;
        Expected { comes, ..Expected::ok(self.process_shape(process, self.is_wanted(process), true)) }
    }

    fn status_fields(&self, service: &Key) -> (Shape, Shape) {
        let asked = self.objects[service].wish.unwrap_or(true);
        let processes = self.processes_of(service);
        let mut running = processes.iter().map(|process| self.runs(process));
        let running = match asked {
            true => !processes.is_empty() && running.all(|runs| runs),
            false => running.any(|runs| runs),
        };
        // Where not all is seen, that is said.
        let is_seen = !processes.iter().any(|process| self.is_never_seen(process));
        let reason = if is_seen { Shape::none() } else { Shape::May(Box::new(Shape::text())) };
        (json!(running).into(), reason)
    }

    fn is_unsettled(&self, service: &Key) -> bool {
        self.processes_of(service).iter().any(|process| !self.objects[*process].is_settled)
    }

    pub(crate) fn status_of_service(&self, service: &Key) -> Expected {
        let (running, reason) = self.status_fields(service);
        let shape = Shape::fields([("running", running), ("reason", reason)]);
        Expected { comes: self.is_unsettled(service), ..Expected::ok(shape) }
    }

    pub(crate) fn status_of_all(&self, instance: &str) -> Expected {
        if self.get(&Key::of(What::Instance, instance)).is_none() {
            return Expected::not_found();
        }
        let services: Vec<&Key> =
            self.all(What::Service, instance).into_iter().rev().map(|(key, _)| key).collect();
        let shapes = services.iter().map(|service| {
            let (running, reason) = self.status_fields(service);
            let id = json!(service.id).into();
            Shape::fields([("id", id), ("running", running), ("reason", reason)])
        });
        let shape = Shape::List(shapes.collect());
        let comes = services.iter().any(|service| self.is_unsettled(service));
        Expected { comes, ..Expected::ok(shape) }
    }

    fn processes_on(&self, node: &Key) -> Vec<Key> {
        let processes = self.objects.keys().filter(|key| key.what == What::Process);
        processes.filter(|process| self.node_of(process) == *node).cloned().collect()
    }

    /// A node is cordoned: what runs there runs on, and nothing is started.
    pub(crate) fn keep_what_runs(&mut self, node: &Key) {
        for process in self.processes_on(node) {
            // The node is cordoned by now; before, it followed what was asked.
            let runs = self.is_wanted(&process) && !self.is_never_seen(&process);
            self.objects.get_mut(&process).expect("it is there").is_kept = runs;
        }
    }

    pub(crate) fn forget_what_is_kept(&mut self, node: &Key) {
        for process in self.processes_on(node) {
            self.objects.get_mut(&process).expect("it is there").is_kept = false;
        }
    }

    /// Something was changed that processes are made of.
    pub(crate) fn unsettle(&mut self, changed: &Key) {
        let of_it: Vec<Key> = match changed.what {
            What::Service => self.processes_of(changed).into_iter().cloned().collect(),
            _ => self.processes_on(changed),
        };
        for process in of_it {
            let object = self.objects.get_mut(&process).expect("it is there");
            object.is_settled = false;
            object.may_restart |= changed.what == What::Service;
        }
    }

    /// The processes on a node of which nobody has waited until they are as was asked.
    pub(crate) fn unsettled_on(&self, node: &Key) -> Vec<Key> {
        let mut all = self.processes_on(node);
        all.retain(|process| !self.objects[process].is_settled);
        all
    }

    pub(crate) fn settle(&mut self, process: &Key) {
        let object = self.objects.get_mut(process).expect("it is there");
        object.is_settled = !object.may_restart;
    }

    /// The processes that have to be waited for before anything else is asked, as what comes of them depends on when it is: what is on a
    /// cordoned node stays as it is found there, and a process of which a machine out of reach may know is gone only with that machine.
    pub(crate) fn pressing(&self) -> Vec<Key> {
        let is_pressing = |process: &&Key| {
            let node = self.node_of(process);
            let is_dark = self.is_dark(&self.objects[&node]);
            let object = &self.objects[*process];
            !object.is_settled && !self.is_stuck(process) && (self.is_cordoned(&node) || is_dark)
        };
        self.objects.keys().filter(|key| key.what == What::Process).filter(is_pressing).cloned().collect()
    }

    /// Nodes out of reach that were told to wait for an older one that will be gone.
    pub(crate) fn dark_and_waiting(&self) -> Vec<Key> {
        let nodes = self.objects.iter().filter(|(key, node)| key.what == What::Node && node.waited);
        let waiting = nodes.filter(|(key, node)| self.is_dark(node) && !self.is_stuck(key));
        waiting.map(|(key, _)| key.clone()).collect()
    }

    pub(crate) fn waits_no_more(&mut self, node: &Key) {
        self.objects.get_mut(node).expect("it is there").waited = false;
    }

    /// What each reachable node is to be told, by (port, instance, node); none where no process is.
    pub(crate) fn bundles(&self) -> BTreeMap<(u16, String, String), Option<Value>> {
        let nodes = self.objects.iter().filter(|(key, _)| key.what == What::Node);
        let nodes = nodes.filter(|(key, node)| !self.is_dark(node) && !self.is_stuck(key));
        nodes
            .map(|(key, node)| {
                let port = node.fields["port"].as_u64().and_then(|port| u16::try_from(port).ok());
                let place = (port.expect("a port"), key.instance.clone(), key.id.clone());
                (place, self.bundle(key))
            })
            .collect()
    }

    fn bundle(&self, node: &Key) -> Option<Value> {
        let processes: Vec<Key> =
            self.processes_on(node).into_iter().filter(|process| !self.is_stuck(process)).collect();
        if processes.is_empty() {
            return None;
        }
        let (mut tenants, mut integrations) = (Map::new(), Map::new());
        let (mut users, mut services) = (Map::new(), Map::new());
        for (key, tenant) in self.all(What::Tenant, "") {
            if tenant.seat.as_deref() != Some(&node.instance) {
                continue;
            }
            let mut told = json!({"name": tenant.fields["name"], "integrations": tenant.names});
            if let Some(limit) = tenant.fields.get("rate-limit").and_then(Value::as_f64) {
                told["rate-limit"] = json!(limit);
            }
            tenants.insert(key.id.clone(), told);
            for id in &tenant.names {
                let integration = &self.objects[&Key::of(What::Integration, id)];
                integrations.insert(id.clone(), integration.fields.clone().into());
            }
        }
        for (key, user) in self.all(What::User, "") {
            let mut access: Vec<&String> = user.names.iter().filter(|id| tenants.contains_key(*id)).collect();
            access.sort();
            access.dedup();
            if !access.is_empty() {
                let name = &user.fields["name"];
                let told = json!({"name": name, "client-id": user.fields["client-id"], "tenants": access});
                users.insert(key.id.clone(), told);
            }
        }
        for process in processes {
            let key = self.service_of(&process);
            services.insert(key.id.clone(), told_of_service(&self.objects[&key]));
        }
        let instance = self.shown(&Key::of(What::Instance, &node.instance));
        Some(json!({
            "instance": instance, "node": {"id": node.id}, "services": services,
            "tenants": tenants, "integrations": integrations, "users": users,
        }))
    }
}

fn told_of_service(service: &Object) -> Value {
    let options = service.fields.get("options").cloned().unwrap_or_else(|| json!({}));
    let mut told =
        json!({"type": service.fields["type"], "name": service.fields["name"], "options": options});
    if let Some(level) = service.fields.get("log-level") {
        told["log-level"] = level.clone();
    }
    told
}

/// Whether a request waits long enough for whatever can be waited for.
fn waits(query: &str) -> bool {
    query == PATIENT
}

/// The query of who waits until it is so.
pub(crate) const PATIENT: &str = "timeout=50";
