//! The real thing beside its model: a served `/1.0`, nodes that are real sshds, and what really runs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::calls::{Call, Machines};
use crate::model::{Expected, Key, Model, Request};
use crate::parameters::{TYPES, What};
use crate::support;
use crate::support::program::{call, get};
use crate::support::served::Served;
use crate::support::sshd::{Sshd, user};

/// How many of the last requests are shown when an answer is wrong.
const SHOWN: usize = 40;

pub(crate) struct Platform<'a> {
    sshds: [&'a Sshd; 2],
    machines: Machines,
    served: Option<Served>,
    model: Model,
    asked: Vec<String>,
    answered: BTreeMap<u16, u32>,
    _directory: TempDir,
}

impl<'a> Platform<'a> {
    pub(crate) fn start(sshds: [&'a Sshd; 2]) -> Platform<'a> {
        let directory = tempfile::tempdir().unwrap();
        let manifests = directory.path().join("manifests");
        std::fs::create_dir(&manifests).unwrap();
        for (name, command) in TYPES {
            let options = json!({"properties": {"port": {"type": "integer"}}, "additionalProperties": false});
            let spec = json!({"command": command, "start": {"seconds": 0}, "options-schema": options});
            let document = json!({
                "apiVersion": "mainstay.dev/v1", "kind": "ServiceType", "metadata": {"name": name}, "spec": spec,
            });
            std::fs::write(manifests.join(format!("{name}.json")), document.to_string()).unwrap();
        }
        let served =
            Served::start(&directory.path().join("data"), &["--manifests", manifests.to_str().unwrap()]);
        let first = json!({"id": "first", "name": "a", "zk": "z:1", "redis": "redis://r"});
        served.post("/instances", &first);
        for (name, _) in TYPES {
            support::wait_for("the type to be there", || {
                let service = json!({"name": "a", "type": name}).to_string();
                let url = format!("{}/1.0/instances/first/services", served.api);
                call("POST", &url, &service).is_some_and(|(status, _)| status == 201)
            });
        }
        served.call("DELETE", "/instances/first", &Value::Null, 204);
        let ports = sshds.map(Sshd::port);
        let model = Model::new(ports.into(), &served.get("/integrations"));
        let machines = Machines {
            ports: [ports[0], ports[1], support::free_port()],
            username: user(),
            identity_file: sshds[0].identity_file(),
        };
        Platform {
            sshds,
            machines,
            served: Some(served),
            model,
            asked: Vec::new(),
            answered: BTreeMap::new(),
            _directory: directory,
        }
    }

    fn served(&self) -> &Served {
        self.served.as_ref().expect("it is served until the end")
    }

    fn send(&self, request: &Request) -> (u16, Value) {
        let question = if request.query.is_empty() { "" } else { "?" };
        let url = format!("{}/1.0{}{question}{}", self.served().api, request.path, request.query);
        let (status, text) =
            call(request.method, &url, &request.body).unwrap_or_else(|| panic!("no answer: {request:?}"));
        let body = match text.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")),
        };
        (status, body)
    }

    /// Asks what a call asks, and compares the answer with the model's.
    pub(crate) fn call(&mut self, call: Call) {
        let request = call.request(&self.model, &self.machines);
        self.ask(&request);
    }

    fn ask(&mut self, request: &Request) {
        self.wait_before(request);
        let expected = self.model.answer(request);
        let answer = self.compare(request, &expected);
        self.model.learn(expected, &answer);
        for process in self.model.pressing() {
            self.wait_for_process(&process);
        }
        self.wait_for_dark_nodes();
    }

    /// The answer, once it is as expected: at once, unless it can only become so.
    fn compare(&mut self, request: &Request, expected: &Expected) -> Value {
        let mut answer = (0, Value::Null);
        let differs = |(status, body): &(u16, Value)| match expected.statuses.contains(status) {
            true => expected.body.differs("", Some(body)),
            false => Some(format!("{status} is not {:?}; {body}", expected.statuses)),
        };
        if expected.comes {
            support::wait_for(&format!("{request:?} to be answered {:?}", expected.body), || {
                answer = self.send(request);
                differs(&answer).is_none()
            });
        } else {
            answer = self.send(request);
        }
        let (status, body) = &answer;
        let Request { method, path, query, body: sent } = request;
        self.asked.push(format!("{method} {path} {query} {sent} -> {status} {body}"));
        *self.answered.entry(*status).or_insert(0) += 1;
        if let Some(why) = differs(&answer) {
            panic!("{request:?}: {why}");
        }
        answer.1
    }

    /// What runs on a node when it is cordoned runs on. So what is to run there has to be known by then.
    fn wait_before(&mut self, request: &Request) {
        let parts: Vec<&str> = request.path.split('/').collect();
        if let ("PUT", ["", "instances", instance, "nodes", id]) = (request.method, parts.as_slice())
            && request.body.contains("\"status\":false")
        {
            for process in self.model.unsettled_on(&Key::within(What::Node, instance, id)) {
                self.wait_for_process(&process);
            }
        }
    }

    fn wait_for_process(&mut self, process: &Key) {
        let path = format!("/processes/{}/status", process.id);
        let request = Request { method: "GET", path, query: "", body: String::new() };
        let expected = Expected { comes: true, ..self.model.status_of_process(process) };
        self.compare(&request, &expected);
        self.model.settle(process);
    }

    /// A node that is out of reach takes up nothing but its name. Whether it is still waiting for an older one of that name when it is
    /// deleted decides whether anything is left of it, so that is not left to time.
    fn wait_for_dark_nodes(&mut self) {
        for key in self.model.dark_and_waiting() {
            let path = format!("/instances/{}/nodes/{}/status", key.instance, key.id);
            support::wait_for(&format!("{key} to wait no more"), || {
                self.served().get(&path)["state"] != "waiting"
            });
            self.model.waits_no_more(&key);
        }
    }

    /// Waits until the nodes run what the model wants and are told what it says, and nothing else.
    pub(crate) fn settle(&mut self) {
        let homes: Vec<PathBuf> = self.sshds.iter().map(|sshd| sshd.home()).collect();
        let wanted: BTreeMap<String, usize> =
            self.model.running().into_iter().map(|id| (id.to_owned(), 1)).collect();
        wait_until_same("what runs", &wanted, || running(&homes));
        for ((port, instance, node), bundle) in self.model.bundles() {
            let at = self.sshds.iter().position(|sshd| sshd.port() == port).unwrap();
            let what = format!("what {instance}/{node} is told");
            wait_until_same(&what, &bundle, || bundle_on(&homes[at], &instance, &node));
        }
        for (key, _) in self.model.objects.clone() {
            if key.what == What::Process {
                self.wait_for_process(&key);
            }
        }
        // A restart may just have been under way.
        wait_until_same("what runs", &wanted, || running(&homes));
    }

    /// How much has happened.
    pub(crate) fn summary(&self) -> String {
        let of = |what| self.model.objects.keys().filter(|key| key.what == what).count();
        let (nodes, processes) = (of(What::Node), of(What::Process));
        let running = self.model.running().len();
        format!("{nodes} nodes, {running} of {processes} processes running; answers {:?}", self.answered)
    }

    /// Deletes everything, after which nothing is left.
    pub(crate) fn clear(&mut self) {
        for what in [What::User, What::Tenant, What::Instance, What::Integration] {
            let all: Vec<Key> = self.model.all(what, "").into_iter().map(|(key, _)| key.clone()).collect();
            for key in all {
                let path = format!("/{}/{}", what.list(), key.id);
                self.ask(&Request { method: "DELETE", path, query: "", body: String::new() });
            }
            let path = format!("/{}", what.list());
            self.ask(&Request { method: "GET", path, query: "", body: String::new() });
        }
        assert!(self.model.objects.is_empty());
        for sshd in self.sshds {
            let directory = sshd.directory().display().to_string();
            // No process, no supervisor, no connection.
            support::wait_for("nothing to be left on the nodes", || {
                support::carrying(&directory) == [sshd.pid()]
            });
        }
        let healthy = get(&format!("{}/healthz", self.served().api));
        assert!(healthy.is_some_and(|(status, _)| status == 200));
    }
}

/// Waits until something is as it should be, and shows what it was if it never is.
fn wait_until_same<T: PartialEq + Debug>(what: &str, wanted: &T, mut look: impl FnMut() -> T) {
    let last = RefCell::new(None);
    let _shown = Shown(&last, wanted);
    support::wait_for(what, || {
        let now = look();
        let is_same = now == *wanted;
        *last.borrow_mut() = Some(now);
        is_same
    });
}

/// Shows what was seen last, and what was wanted, when that was waited for in vain.
struct Shown<'a, T: Debug>(&'a RefCell<Option<T>>, &'a T);

impl<T: Debug> Drop for Shown<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("found {:#?}, wanted {:#?}", self.0.borrow(), self.1);
        }
    }
}

/// The processes that run on these nodes, each with the number of its copies.
fn running(homes: &[PathBuf]) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for home in homes {
        for (_, id) in support::variable_of(&home.display().to_string(), "MAINSTAY_PROCESS") {
            *found.entry(id).or_insert(0) += 1;
        }
    }
    found
}

/// What a node of an instance was told, by a server that is the only one to have a directory there.
fn bundle_on(home: &std::path::Path, instance: &str, node: &str) -> Option<Value> {
    let ours = std::fs::read_dir(home.join(".mainstay")).ok()?;
    // Those of servers before this one have none left.
    let found = ours
        .flatten()
        .find_map(|ours| std::fs::read(ours.path().join(instance).join(node).join("bundle.json")).ok());
    serde_json::from_slice(&found?).ok()
}

impl Drop for Platform<'_> {
    /// What runs on a node goes on when the server ends; here it goes with the test.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let asked = &self.asked[self.asked.len().saturating_sub(SHOWN)..];
            eprintln!("the last of {} requests:\n{}", self.asked.len(), asked.join("\n"));
        }
        self.served = None;
        for sshd in self.sshds {
            support::kill_all(&sshd.home().display().to_string());
            let _ = std::fs::remove_dir_all(sshd.home().join(".mainstay"));
        }
    }
}
