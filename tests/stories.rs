//! Stories of a fleet, in text: documents come through the door, sightings are told line by line, and what is planned is
//! compared with what the story says. `UPDATE=1` writes the plans anew; the diff is then yours to read.
//!
//! A story is a list of sections, and lines that start with `#` are its reader's:
//!
//! ```text
//! === documents          the whole manifests folder, as YAML; what it no longer names is deleted
//! === seen               what is seen from now on, over what was seen before:
//! IN1/ND1                    the node tells everything
//! IN1/ND1 unseen             the node does not answer, since now
//! IN1/ND1 never              the controller has not yet tried to reach the node
//! IN1/ND1 web lost           its process of the service web is in this phase; any other word is a stranger's id
//! IN1/ND1 web unhealthy      its health check finds it ill; healthy: well
//! IN1/ND1 web crashed 3      it has ended so often since it was started, and is about to be started again
//! IN1/ND1 bundle gone        there is no bundle
//! IN1/ND1 sent 12000000      so many bytes of the artifact that it waits for are on their way
//! === said               what people say of an object, or take back with a `-`: `Service IN1/web paused`, `Service IN1/web -paused`,
//!                        `Service IN1/web restarted`, `Node IN1/ND1 draining`, `Node IN1/ND1 forgotten`
//! === started            another controller begins to decide, and has tried no node yet
//! === passed             minutes that have passed since, or seconds, such as `5 s`
//! === done               the nodes have carried out the last plan, and what was to be sent has arrived; five seconds have passed
//! === plan               what is decided: first in the store until that rests, then on each node; and how each service stands, where that is
//!                        not simply as it should
//! ```
#![allow(clippy::unwrap_used, reason = "in a test a panic is how it fails")]

#[path = "plan_properties/desk.rs"]
#[allow(dead_code, reason = "the properties use the rest")]
mod desk;
#[path = "plan_properties/machine.rs"]
mod machine;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use machine::{Machine, ROOT, sighting};
use mainstay::model::admit::{Admitted, Origin, admit_text};
use mainstay::model::kinds::ProcessSpec;
use mainstay::model::lint::lint;
use mainstay::model::meta::{DRAINING, FORGOTTEN, PAUSED, RESTARTED};
use mainstay::model::secret::{KEY_BYTES, Sealer};
use mainstay::model::{Document, Documents, Key, Kind, Problem, Spec};
use mainstay::plan::node::plan;
use mainstay::plan::orders::orders;
use mainstay::plan::place::{Placement, place};
use mainstay::plan::render::{Surroundings, desired};
use mainstay::plan::standing::{ServiceStatus, Truth};
use mainstay::plan::step::{Action, Delivery, NodePlan};
use mainstay::plan::world::{Health, NodeSighting, NodeWorld, Orders, Phase, ProcessSighting, Stock, World};
use mainstay::source::catalogue;
use mainstay::state::{CATALOGUE, Edit, apply_set};

type Place = (String, String);

const NOW: &str = "2026-01-01T00:00:00Z";

#[test]
fn every_story_goes_as_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories");
    let mut stories: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    stories.sort();
    assert!(stories.len() >= 30, "{stories:?}");
    let failed: Vec<String> = stories.iter().filter_map(|path| check(path).err()).collect();
    assert!(failed.is_empty(), "{}\nUPDATE=1 writes the plans anew", failed.join("\n"));
}

/// Plays a story and compares what it says, or writes that.
fn check(path: &Path) -> Result<(), String> {
    let told = std::fs::read_to_string(path).unwrap();
    let played = play(&told).map_err(|why| format!("{}: {why}", path.display()))?;
    if played == told {
        return Ok(());
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, played).unwrap();
        return Ok(());
    }
    let differs = |(at, (told, played)): (usize, (&str, &str))| {
        (told != played).then(|| format!("line {}: told {told:?}, played {played:?}", at + 1))
    };
    let end = [""];
    let first = told.lines().chain(end).zip(played.lines().chain(end)).enumerate().find_map(differs);
    Err(format!("{}: {}", path.display(), first.unwrap_or_default()))
}

/// The story with the plans as they are.
fn play(story: &str) -> Result<String, String> {
    let mut fleet = Fleet::new();
    let mut played = String::new();
    let (head, sections) = story.split_once("=== ").ok_or("there is no section")?;
    played.push_str(head);
    for section in sections.split("\n=== ") {
        let (title, body) = section.split_once('\n').unwrap_or((section, ""));
        let body = body.trim_end();
        let mut shown = body.to_owned();
        match title {
            "documents" => fleet.apply(body)?,
            "seen" => body
                .lines()
                .filter(|line| !line.starts_with('#') && !line.is_empty())
                .try_for_each(|line| fleet.see(line))?,
            "done" => fleet.carry_out(),
            "said" => body.lines().try_for_each(|line| fleet.say(line))?,
            "started" => {
                fleet.since_ms = fleet.now_ms;
                fleet.unseen.values_mut().for_each(|since_ms| *since_ms = None);
            }
            "passed" => {
                let (number, unit_ms) =
                    body.strip_suffix(" s").map_or((body, 60_000), |number| (number, 1_000));
                let number: u64 = number.parse().map_err(|_| format!("how long is {body:?}?"))?;
                fleet.now_ms += number * unit_ms;
            }
            "plan" => {
                let comments: String = body
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .map(|line| format!("{line}\n"))
                    .collect();
                shown = (comments + &fleet.decide()).trim_end().to_owned();
            }
            other => return Err(format!("what is {other:?}?")),
        }
        let separator = if shown.is_empty() { "" } else { "\n" };
        let _ = write!(played, "=== {title}{separator}{shown}\n\n");
    }
    Ok(played.trim_end().to_owned() + "\n")
}

/// The documents, the nodes, and what was last decided.
struct Fleet {
    documents: Documents,
    machines: BTreeMap<Place, Machine>,
    /// Nodes that do not answer, and since when that is known.
    unseen: BTreeMap<Place, Option<u64>>,
    plans: BTreeMap<Place, NodePlan>,
    stocks: BTreeMap<Place, Stock>,
    now_ms: u64,
    /// Since when this controller decides.
    since_ms: u64,
    /// Counts what is written to the documents.
    revision: u64,
}

impl Fleet {
    /// With the shipped catalogue, and nothing else.
    fn new() -> Fleet {
        let mut fleet = Fleet {
            documents: Documents::default(),
            machines: BTreeMap::new(),
            unseen: BTreeMap::new(),
            plans: BTreeMap::new(),
            stocks: BTreeMap::new(),
            // Long after everything that is seen began.
            now_ms: 60_000,
            since_ms: 0,
            revision: 0,
        };
        let shipped = catalogue::documents().map_err(said).unwrap();
        fleet.apply_set(CATALOGUE, &shipped).unwrap();
        fleet
    }

    fn apply(&mut self, text: &str) -> Result<(), String> {
        let origin = Origin { file: Some("story".into()), directory: None };
        let set = admit_text(text, &origin, &Sealer::new([0; KEY_BYTES])).map_err(said)?;
        let problems = lint(&set, &self.documents);
        if !problems.is_empty() {
            return Err(said(problems));
        }
        self.apply_set("folder story", &set)
    }

    fn apply_set(&mut self, source: &str, set: &[Admitted]) -> Result<(), String> {
        for edit in apply_set(&self.documents, source, set, NOW).map_err(said)?.edits {
            match edit {
                Edit::Create(document) | Edit::Replace(document) => self.documents.insert(document),
                Edit::Remove(document) => self.documents.remove(&document.key()),
                Edit::Expect(_) => {}
            }
        }
        Ok(())
    }

    fn see(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (instance, node) = words.first().and_then(|word| word.split_once('/')).ok_or("which node?")?;
        let place = (instance.to_owned(), node.to_owned());
        match words[1..] {
            [] => {
                self.unseen.remove(&place);
                self.machines.entry(place).or_insert_with(|| Machine::new(NodeSighting::default()));
            }
            ["unseen"] => drop(self.unseen.insert(place, Some(self.now_ms))),
            ["never"] => drop(self.unseen.insert(place, None)),
            [name, "healthy" | "unhealthy"] => {
                let why = || Health::Unhealthy { why: "no answer".into() };
                let health = if words[2] == "healthy" { Health::Healthy } else { why() };
                self.process_at(&place, name).health = Some(health);
            }
            [name, "crashed", times] => {
                let times = times.parse().map_err(|_| format!("how often is {times:?}?"))?;
                let seen = self.process_at(&place, name);
                (seen.phase, seen.restarts, seen.exit) = (Phase::Backoff, times, Some(1));
            }
            ["bundle", "gone"] => self.machines.entry(place).or_default().node.seen.bundle = None,
            ["sent", bytes] => {
                let bytes = bytes.parse().map_err(|_| format!("how many bytes are {bytes:?}?"))?;
                let plan = self.plans.get(&place).ok_or("nothing was planned there")?;
                let delivery = plan.deliveries.first().ok_or("nothing is to be sent there")?;
                self.stocks.entry(place).or_default().sending = Some((delivery.address.clone(), bytes));
            }
            [name, phase] => {
                let phase = phase_of(phase).ok_or_else(|| format!("what is the phase {phase:?}?"))?;
                self.process_at(&place, name).phase = phase;
            }
            _ => return Err(format!("what is {line:?}?")),
        }
        Ok(())
    }

    /// What is seen of a process, that is called so, on a node.
    fn process_at(&mut self, place: &Place, name: &str) -> &mut ProcessSighting {
        let id = self.id(place, name);
        let processes = &mut self.machines.entry(place.clone()).or_default().node.seen.processes;
        processes.entry(id).or_insert_with(|| sighting(Phase::Running, "unknown", "-"))
    }

    /// What people say of an object beside its document.
    fn say(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [kind, name, said] = words[..] else { return Err(format!("what is {line:?}?")) };
        let kind = Kind::parse(kind).ok_or_else(|| format!("what is a {kind}?"))?;
        let (instance, name) = name.split_once('/').ok_or("of which instance?")?;
        let annotation = match said.trim_start_matches('-') {
            "paused" => PAUSED,
            "restarted" => RESTARTED,
            "draining" => DRAINING,
            "forgotten" => FORGOTTEN,
            other => return Err(format!("what is {other:?}?")),
        };
        let found = self.documents.get(&Key::within(kind, instance, name));
        let mut document = Document::clone(found.ok_or_else(|| format!("there is no {line}"))?);
        let annotations = &mut document.metadata.annotations;
        if said.starts_with('-') {
            annotations.remove(annotation);
        } else {
            annotations.insert(annotation.to_owned(), self.now_ms.to_string());
        }
        self.documents.insert(document);
        Ok(())
    }

    fn carry_out(&mut self) {
        let now_ms = self.now_ms;
        for (place, plan) in &self.plans {
            let machine = self.machines.entry(place.clone()).or_default();
            if self.unseen.contains_key(place) {
                continue;
            }
            for step in &plan.steps {
                machine.carry_out(&step.action);
                let id = step.action.process().unwrap_or_default();
                if let Action::Start { .. } | Action::Restart { .. } = &step.action
                    && let Some(seen) = machine.node.seen.processes.get_mut(id)
                {
                    seen.since_ms = now_ms;
                }
            }
            plan.deliveries.iter().for_each(|delivery| machine.receive(delivery));
            self.stocks.entry(place.clone()).or_default().sending = None;
            machine.finish_stops();
        }
        self.now_ms += 5_000;
    }

    /// Nodes that are seen plan on what is written as soon as it is.
    fn look(&mut self) {
        let seen = self.sightings();
        for (place, seen) in seen.iter().filter(|(_, seen)| seen.complete) {
            let key = Key::within(Kind::Node, place.0.as_str(), place.1.as_str());
            let surroundings = Surroundings { mainstay: "/usr/bin/mainstay".into(), root: Some(ROOT.into()) };
            let desired = desired(&self.documents, &key, &surroundings);
            let (attempts, stock) = (BTreeMap::new(), Stock::default());
            let world = NodeWorld {
                now_ms: self.now_ms,
                desired: &desired,
                seen,
                attempts: &attempts,
                stock: &stock,
                place,
                orders: &Orders::default(),
            };
            let behind = plan(&world).behind;
            let machine = self.machines.entry(place.clone()).or_default();
            (machine.node.seen.planned, machine.node.seen.behind) = (self.revision, behind);
        }
    }

    fn sightings(&self) -> BTreeMap<Place, NodeSighting> {
        let look = |(place, machine): (&Place, &Machine)| {
            let complete = !self.unseen.contains_key(place);
            let unseen_since_ms = self.unseen.get(place).copied().flatten();
            (place.clone(), NodeSighting { complete, unseen_since_ms, ..machine.node.seen.clone() })
        };
        self.machines.iter().map(look).collect()
    }

    /// Decides in the store until that rests, then on each node; says all of it.
    fn decide(&mut self) -> String {
        let mut said = String::new();
        self.look();
        let seen = self.sightings();
        let services = loop {
            let world = World { since_ms: self.since_ms, ..World::at(&self.documents, &seen, self.now_ms) };
            let placement = place(&world);
            if placement.steps.is_empty() {
                for (key, hold) in &placement.holds {
                    let _ = writeln!(said, "hold {}: {hold}", self.named(key));
                }
                break placement.services;
            }
            self.write(&placement, &mut said);
        };
        let (orders, _) = orders(&World::at(&self.documents, &seen, self.now_ms), self.revision, false);
        self.plans.clear();
        let nodes: Vec<Key> = self.documents.of_kind(Kind::Node).map(|(key, _)| key.clone()).collect();
        for key in nodes {
            let place = (key.namespace.clone(), key.name.clone());
            let surroundings = Surroundings { mainstay: "/usr/bin/mainstay".into(), root: Some(ROOT.into()) };
            let desired = desired(&self.documents, &key, &surroundings);
            let seen = seen.get(&place).cloned().unwrap_or_default();
            let attempts = BTreeMap::new();
            let stock = self.stocks.entry(place.clone()).or_default();
            let now_ms = self.now_ms;
            let plan = plan(&NodeWorld {
                now_ms,
                desired: &desired,
                seen: &seen,
                attempts: &attempts,
                stock,
                place: &place,
                orders: &orders,
            });
            if let Some(machine) = self.machines.get_mut(&place) {
                machine.node.seen.planned = self.revision;
                machine.node.seen.behind.clone_from(&plan.behind);
            }
            stock.note_unused(&plan.unused, now_ms);
            said.push_str(&self.spoken(&place, &plan));
            self.plans.insert(place, plan);
        }
        services.iter().for_each(|(key, status)| said.push_str(&standing(key, status)));
        said
    }

    /// Writes a placement to the documents, and says it.
    fn write(&mut self, placement: &Placement, said: &mut String) {
        for step in &placement.steps {
            let key = step.action.key();
            // Called as it is called before it goes, or after it has come.
            let named = self.documents.get(&key).map(|_| self.named(&key));
            self.revision += 1;
            desk::write(&mut self.documents, &step.action, self.revision);
            let named = named.unwrap_or_else(|| self.named(&key));
            let _ = writeln!(said, "{} {named}: {}", step.action.word(), step.reason);
        }
    }

    fn spoken(&self, place: &Place, plan: &NodePlan) -> String {
        let mut said = String::new();
        let node = format!("{}/{}", place.0, place.1);
        for step in &plan.steps {
            let _ = write!(said, "{node} {}", step.action.name());
            if let Some(id) = step.action.process() {
                let _ = write!(said, " {}", self.name(place, id));
            }
            if let Action::Discard { address } = &step.action {
                let _ = write!(said, " {}…", &address[..8]);
            }
            if let Action::Start { start, .. } | Action::Restart { start, .. } = &step.action {
                let _ = write!(said, " {:?}", start.command);
            }
            let _ = writeln!(said, ": {}", step.reason);
        }
        for delivery in &plan.deliveries {
            let Delivery { address, source } = delivery;
            let _ = writeln!(said, "{node} send {} ({}…)", source.path, &address[..8]);
        }
        for (id, hold) in &plan.holds {
            let _ = writeln!(said, "{node} hold {}: {hold}", self.name(place, id));
        }
        for id in &plan.converged {
            let _ = writeln!(said, "{node} fine {}", self.name(place, id));
        }
        said
    }

    fn process(&self, place: &Place, id: &str) -> Option<&ProcessSpec> {
        self.documents.process(&Key::within(Kind::Process, place.0.as_str(), id))
    }

    /// A process on a node as people call it: by its service, and an id only where there are several or strangers.
    fn name(&self, place: &Place, id: &str) -> String {
        match self.process(place, id).filter(|process| process.node == place.1) {
            Some(process) if self.id(place, &process.service) == id => process.service.clone(),
            Some(process) => format!("{} ({id})", process.service),
            None => id.to_owned(),
        }
    }

    /// The id of the process that is called so on a node.
    fn id(&self, place: &Place, name: &str) -> String {
        let first =
            self.documents.processes_on(&place.0, &place.1).find(|(_, process)| process.service == name);
        first.map_or(name, |(document, _)| &document.metadata.name).to_owned()
    }

    fn named(&self, key: &Key) -> String {
        if let Some(revision) = self.documents.revision(key) {
            return format!("revision {} of Service {}/{}", revision.number, key.namespace, revision.service);
        }
        let Some(Spec::Process(process)) = self.documents.get(key).map(|document| &document.spec) else {
            return key.to_string();
        };
        format!("Process {}/{} on {}", key.namespace, process.service, process.node)
    }
}

/// How a service stands; nothing where all is as it should.
fn standing(key: &Key, status: &ServiceStatus) -> String {
    let ServiceStatus { revision, desired, updated, available, is_available, progressing, degraded, .. } =
        status;
    // What has just been decided was not seen to come yet.
    let is_plain = progressing.status == Truth::False
        && progressing.reason == "Complete"
        && is_available.status == Truth::True
        && degraded.status == Truth::False;
    if is_plain {
        return String::new();
    }
    let mut said = format!(
        "status {key}: {available} of {desired} available, revision {revision} ({updated} of {desired} updated); {}",
        progressing.reason
    );
    if is_available.status != Truth::True {
        let _ = write!(said, "; not available: {}", is_available.reason);
    }
    if degraded.status == Truth::True {
        let _ = write!(said, "; degraded: {}: {}", degraded.reason, degraded.message);
    }
    said + "\n"
}

fn phase_of(word: &str) -> Option<Phase> {
    use Phase::{Backoff, Busy, Lost, Running, Stopped, Stopping, Unsupervised};
    [Running, Backoff, Stopping, Stopped, Unsupervised, Lost, Busy]
        .into_iter()
        .find(|phase| phase.name() == word)
}

fn said(problems: Vec<Problem>) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
