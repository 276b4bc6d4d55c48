//! Stories of a fleet, in text: documents come through the door, sightings are told line by line, and what is planned is
//! compared with what the story says. `UPDATE=1` writes the plans anew; the diff is then yours to read.
//!
//! A story is a list of sections, and lines that start with `#` are its reader's:
//!
//! ```text
//! === documents          the whole manifests folder, as YAML; what it no longer names is deleted
//! === seen               what is seen from now on, over what was seen before:
//! IN1/ND1                    the node tells everything
//! IN1/ND1 unseen             the node does not answer
//! IN1/ND1 web lost           its process of the service web is in this phase; any other word is a stranger's id
//! IN1/ND1 bundle gone        there is no bundle
//! IN1/ND1 sent 12000000      so many bytes of the artifact that it waits for are on their way
//! === passed             minutes that have passed since
//! === done               the nodes have carried out the last plan, and what was to be sent has arrived
//! === plan               what is decided: first in the store until that rests, then on each node
//! ```
#![allow(clippy::unwrap_used, reason = "in a test a panic is how it fails")]

#[path = "plan_properties/desk.rs"]
mod desk;
#[path = "plan_properties/machine.rs"]
mod machine;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use machine::{Machine, ROOT, sighting};
use mainstay::model::admit::{Admitted, Origin, admit_text};
use mainstay::model::kinds::ProcessSpec;
use mainstay::model::lint::lint;
use mainstay::model::secret::{KEY_BYTES, Sealer};
use mainstay::model::{Documents, Key, Kind, Problem, Spec};
use mainstay::plan::node::plan;
use mainstay::plan::orders::orders;
use mainstay::plan::place::{Placement, place};
use mainstay::plan::render::{Surroundings, desired};
use mainstay::plan::step::{Action, Delivery, NodePlan};
use mainstay::plan::world::{NodeSighting, NodeWorld, Phase, Stock, World};
use mainstay::source::catalogue;
use mainstay::state::{CATALOGUE, Edit, apply_set};

type Place = (String, String);

const NOW: &str = "2026-01-01T00:00:00Z";

#[test]
fn every_story_goes_as_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories");
    let mut stories: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    stories.sort();
    assert!(stories.len() >= 10, "{stories:?}");
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
            "passed" => {
                let minutes: u64 = body.parse().map_err(|_| format!("how many minutes are {body:?}?"))?;
                fleet.now_ms += minutes * 60_000;
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
    unseen: BTreeSet<Place>,
    plans: BTreeMap<Place, NodePlan>,
    stocks: BTreeMap<Place, Stock>,
    now_ms: u64,
    /// Counts what is written to the documents.
    revision: u64,
}

impl Fleet {
    /// With the shipped catalogue, and nothing else.
    fn new() -> Fleet {
        let mut fleet = Fleet {
            documents: Documents::default(),
            machines: BTreeMap::new(),
            unseen: BTreeSet::new(),
            plans: BTreeMap::new(),
            stocks: BTreeMap::new(),
            // Long after everything that is seen began.
            now_ms: 60_000,
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
            ["unseen"] => {
                self.unseen.insert(place);
            }
            ["bundle", "gone"] => self.machines.entry(place).or_default().truth.bundle = None,
            ["sent", bytes] => {
                let bytes = bytes.parse().map_err(|_| format!("how many bytes are {bytes:?}?"))?;
                let plan = self.plans.get(&place).ok_or("nothing was planned there")?;
                let delivery = plan.deliveries.first().ok_or("nothing is to be sent there")?;
                self.stocks.entry(place).or_default().sending = Some((delivery.address.clone(), bytes));
            }
            [name, phase] => {
                let phase = phase_of(phase).ok_or_else(|| format!("what is the phase {phase:?}?"))?;
                let id = self.id(&place, name);
                let processes = &mut self.machines.entry(place).or_default().truth.processes;
                let seen = processes.entry(id).or_insert_with(|| sighting(phase, "unknown", "-"));
                seen.phase = phase;
            }
            _ => return Err(format!("what is {line:?}?")),
        }
        Ok(())
    }

    fn carry_out(&mut self) {
        for (place, plan) in &self.plans {
            let machine = self.machines.entry(place.clone()).or_default();
            plan.steps.iter().for_each(|step| machine.carry_out(&step.action));
            plan.deliveries.iter().for_each(|delivery| machine.receive(delivery));
            self.stocks.entry(place.clone()).or_default().sending = None;
            machine.finish_stops();
        }
    }

    fn sightings(&self) -> BTreeMap<Place, NodeSighting> {
        let look = |(place, machine): (&Place, &Machine)| {
            let complete = !self.unseen.contains(place);
            (place.clone(), NodeSighting { complete, ..machine.truth.clone() })
        };
        self.machines.iter().map(look).collect()
    }

    /// Decides in the store until that rests, then on each node; says all of it.
    fn decide(&mut self) -> String {
        let mut said = String::new();
        let seen = self.sightings();
        loop {
            let placement = place(&World::at(&self.documents, &seen, self.now_ms));
            if placement.steps.is_empty() {
                for (key, hold) in &placement.holds {
                    let _ = writeln!(said, "hold {}: {hold}", self.named(key));
                }
                break;
            }
            self.write(&placement, &mut said);
        }
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
                machine.truth.planned = self.revision;
                machine.truth.behind.clone_from(&plan.behind);
            }
            stock.unused_since_ms.retain(|address, _| plan.unused.contains(address));
            for address in &plan.unused {
                stock.unused_since_ms.entry(address.clone()).or_insert(now_ms);
            }
            said.push_str(&self.spoken(&place, &plan));
            self.plans.insert(place, plan);
        }
        said
    }

    /// Writes a placement to the documents, and says it.
    fn write(&mut self, placement: &Placement, said: &mut String) {
        for step in &placement.steps {
            let key = step.action.key();
            // Called as it is called before it goes, or after it has come.
            let named = self.documents.get(&key).map(|_| self.named(&key));
            self.revision += 1;
            desk::write(&mut self.documents, &step.action, self.revision, self.now_ms);
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

fn phase_of(word: &str) -> Option<Phase> {
    use Phase::{Backoff, Busy, Lost, Running, Stopped, Stopping, Unsupervised};
    [Running, Backoff, Stopping, Stopped, Unsupervised, Lost, Busy]
        .into_iter()
        .find(|phase| phase.name() == word)
}

fn said(problems: Vec<Problem>) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
