//! The invariants of the design, as far as somebody sees them who sees all of the world. Each has a name, which a violation tells.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay::model::kinds::{FailoverSpec, ProcessSpec, ServiceSpec};
use mainstay::model::meta::PAUSED;
use mainstay::model::{Document, Documents, Key, Kind, Spec};
use mainstay::plan::place::PlaceHold;
use mainstay::plan::render::{Surroundings, desired, takes_new, wanted};
use mainstay::plan::revision::Declarations;
use mainstay::plan::step::Start;
use mainstay::plan::world::{DesiredProcess, NodeDesired, Phase};
use mainstay::reconcile::observed::LinkState;
use mainstay::reconcile::placed::Decided;
use mainstay::store::{Compare, Txn, Write};

use crate::limits;
use crate::node::Machine;
use crate::store::{LEADER, Reign};
use crate::world::{Health, Inner};

pub(crate) const INSTANCE: &str = "IN1";

/// The key of a service.
pub(crate) fn key_of_service(name: &str) -> Key {
    Key::within(Kind::Service, INSTANCE, name)
}

/// After everything that happens.
pub(crate) fn after_step(inner: &mut Inner) {
    one(inner);
    own(inner);
    unknown(inner);
    limits::fenced(inner);
}

/// ONE: never two live copies of one process, over all machines.
fn one(inner: &mut Inner) {
    let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
    for id in inner.machines.values().flat_map(|machine| machine.copies.values()) {
        *counts.entry(id).or_default() += 1;
    }
    let twice = counts.into_iter().find(|(_, count)| *count > 1);
    if let Some(message) = twice.map(|(id, count)| format!("{count} copies of {id} run")) {
        inner.violate("ONE", message);
    }
}

/// OWN: what is a stranger's lives on.
fn own(inner: &mut Inner) {
    if inner.machines.values().any(|machine| machine.strangers.len() != 2) {
        inner.violate("OWN", "a stranger was ended");
    }
}

/// Unknown is a state: what is not being seen is not shown as seen, and nothing that was seen last is dropped.
fn unknown(inner: &mut Inner) {
    let mut wrong = None;
    for server in inner.servers.values().filter(|server| *server.health.borrow() == Health::Runs) {
        let Some(parts) = &server.parts else { continue };
        for ((_, node), view) in parts.observed.changes().borrow().iter() {
            if matches!(view.link, LinkState::Down { .. }) && view.sighting.complete {
                wrong = Some(format!("{} shows {node}, which it does not reach, as seen", server.name));
            }
        }
    }
    if let Some(wrong) = wrong {
        inner.violate("UNKNOWN", wrong);
    }
}

fn reign_of(inner: &Inner, epoch: u64) -> Option<(u64, Reign)> {
    inner.store.reigns.iter().find(|(_, reign)| reign.epoch == epoch).map(|(at, reign)| (*at, *reign))
}

/// FEN: who sends a batch, or renews leases, holds the lease at that moment. One that was stopped in the middle is for the nodes to refuse.
pub(crate) fn at_send(inner: &mut Inner, who: u32, text: &str) {
    let mut words = text.split(' ');
    if !matches!(words.next(), Some("BATCH" | "LEASE")) {
        return;
    }
    let epoch = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    let is_fine =
        reign_of(inner, epoch).is_some_and(|(_, reign)| reign.who == who && inner.store.is_held(reign.lease));
    if !is_fine {
        let message = format!("{} acts with the epoch {epoch} and does not lead", inner.name_of(who));
        inner.violate("FEN", message);
    }
}

/// Before a transaction is done: a server writes documents only as the leader that it is, writes nothing that is there already, and
/// takes out only what is gone.
pub(crate) fn before_write(inner: &mut Inner, who: u32, txn: &Txn) {
    if !inner.store.succeeds(txn) || !inner.servers.contains_key(&who) {
        return;
    }
    let touches = |write: &Write| match write {
        Write::Put(key, _) | Write::PutLeased(key, _, _) | Write::Delete(key) => key.starts_with("doc/"),
    };
    if !txn.then.iter().any(touches) {
        return;
    }
    let is_the_leaders = txn.when.iter().any(|compare| match compare {
        Compare::CreateRevision(key, at) => {
            key == LEADER && inner.store.reigns.get(at).is_some_and(|reign| reign.who == who)
        }
        Compare::Absent(_) | Compare::ModRevision(..) | Compare::Value(..) => false,
    });
    if !is_the_leaders {
        let message = format!("{} writes documents and not as the leader", inner.name_of(who));
        inner.violate("FEN", message);
    }
    limits::before_write(inner, txn);
    for write in &txn.then {
        match write {
            Write::Put(key, value) if inner.store.value(key) == Some(value.as_slice()) => {
                let message = format!("{key} is written and does not change");
                inner.violate("QUIET", message);
            }
            Write::Delete(key) => is_gone(inner, key),
            Write::Put(..) | Write::PutLeased(..) => {}
        }
    }
}

/// IGN: the object of a process is taken out only when nothing of it is on its node.
fn is_gone(inner: &mut Inner, path: &str) {
    let Some(value) = inner.store.value(path) else { return };
    let Ok(document) = Document::from_stored(path, value) else { return };
    let Spec::Process(process) = &document.spec else { return };
    if document.metadata.waiting {
        return;
    }
    let node = Key::within(Kind::Node, INSTANCE, process.node.as_str());
    let Some(host) = inner.store.now().node(&node).map(|node| node.ip_address.clone()) else { return };
    let id = &document.metadata.name;
    let is_there = inner.machines.get(&host).is_some_and(|machine| machine.phase(id).is_some());
    if is_there {
        let message = format!("{} is taken out and {host} has it", document.key());
        inner.violate("IGN", message);
    }
}

/// The node that a machine is, by the folder that it was told.
fn node_of(inner: &Inner, host: &str) -> Option<String> {
    let root = inner.machines.get(host)?.root.as_ref()?;
    root.rsplit('/').next().map(str::to_owned)
}

fn surroundings() -> Surroundings {
    Surroundings { mainstay: crate::server::PROGRAM.into(), root: None }
}

/// What should be on a node by the documents of a revision.
fn desired_at(inner: &mut Inner, revision: u64, node: &str) -> Arc<NodeDesired> {
    let at = (revision, node.to_owned());
    if let Some(found) = inner.rendered.get(&at) {
        return Arc::clone(found);
    }
    let key = Key::within(Kind::Node, INSTANCE, node);
    let wanted = Arc::new(desired(&inner.store.documents[&revision], &key, &surroundings()));
    inner.rendered.insert(at, Arc::clone(&wanted));
    wanted
}

/// IGN: what a batch does was called for by the documents as they were at its leader's election, or at any time since. So nothing is
/// done by documents that the leader could not yet, or no longer, know.
pub(crate) fn before_step(inner: &mut Inner, host: &str, epoch: u64, step: &[String]) {
    let Some(node) = node_of(inner, host) else { return };
    let Some((elected, _)) = reign_of(inner, epoch) else {
        return inner.violate("FEN", format!("nobody was elected with the epoch {epoch}"));
    };
    let key = Key::within(Kind::Node, INSTANCE, node.as_str());
    let is_here = |documents: &Documents| documents.node(&key).is_some_and(|node| node.ip_address == host);
    let revisions: Vec<u64> = inner
        .store
        .known_since(elected)
        .filter(|(_, documents)| is_here(documents))
        .map(|(at, _)| at)
        .collect();
    let is_called_for = revisions.iter().any(|at| calls_for(&desired_at(inner, *at, &node), step));
    if !is_called_for {
        let step = step[..step.len().min(4)].join(" ");
        let message =
            format!("{node} is told to {step}, which no documents since revision {elected} call for");
        inner.violate("IGN", message);
    }
}

/// The hashes of a start as a node is told them.
fn full(start: &Start) -> String {
    let lease = start.care.lease.map_or_else(String::new, |seconds| format!(".{seconds}"));
    format!("{}.{}{lease}", start.hash, start.care.hash)
}

fn calls_for(wanted: &NodeDesired, step: &[String]) -> bool {
    let id = step[1].as_str();
    let process = wanted.processes.get(id);
    let is_wanted = process.is_some_and(|process| process.running && !process.deleting);
    let start = process.and_then(|process| process.start.as_ref().ok());
    match step[0].as_str() {
        "start" | "restart" => {
            wanted.schedulable && is_wanted && start.is_some_and(|start| full(start) == step[2])
        }
        "adopt" => is_wanted && start.is_some_and(|start| full(start) == step[2]),
        "reload" => is_wanted && start.is_some_and(|start| start.live == step[3]),
        "stop" => process.is_some_and(|process| !process.running),
        "remove" => process.is_none_or(|process| process.deleting),
        "bundle" => wanted.bundle.as_ref().is_some_and(|(hash, _)| hash == id),
        "unbundle" => wanted.bundle.is_none(),
        _ => false,
    }
}

/// DUR: what was acknowledged stands in the store's history.
pub(crate) fn durable(inner: &mut Inner, revision: u64, wrote: &[(String, Option<Vec<u8>>)]) {
    if revision < inner.store.oldest {
        return;
    }
    for (path, value) in wrote {
        if inner.store.at(revision, path) != *value {
            let message = format!("{path} was acknowledged at revision {revision} and is not there");
            inner.violate("DUR", message);
        }
    }
}

/// ESR: the world is as the documents say; or what is not.
pub(crate) fn converged(inner: &mut Inner) -> Result<(), String> {
    let documents = inner.store.now().clone();
    let revision = *inner.store.documents.keys().next_back().expect("there is always one");
    if let Some((key, _)) = documents.iter().find(|(_, document)| document.is_deleting()) {
        return Err(format!("{key} is still going"));
    }
    let late =
        inner.servers.iter().find(|(who, server)| server.stale_until > inner.now() && inner.lives(**who));
    if let Some((_, server)) = late {
        return Err(format!("the watches of {} tell nothing yet", server.name));
    }
    if inner.ill_until > inner.now() {
        return Err("something does not do its work for a while".into());
    }
    if let Some((key, _)) = documents.waiting().next() {
        return Err(format!("{key} still waits"));
    }
    placed(&documents)?;
    rolled_out(inner, &documents)?;
    leased(inner, &documents)?;
    let mut hosts = BTreeMap::new();
    for (key, _) in documents.of_kind(Kind::Node) {
        let host = documents.node(key).expect("it is a node").ip_address.clone();
        let wanted = desired_at(inner, revision, &key.name);
        brought(inner, &host, &wanted)?;
        hosts.insert(host, key.name.clone());
    }
    for (host, machine) in inner.machines.iter().filter(|(host, _)| !hosts.contains_key(*host)) {
        if let Some(id) = machine.copies.values().next() {
            return Err(format!("{id} runs on {host}, which is no node any more"));
        }
    }
    shown(inner, &hosts)
}

/// Whether one node is as the documents say.
pub(crate) fn is_brought(inner: &mut Inner, node: &str, host: &str) -> Result<(), String> {
    let revision = *inner.store.documents.keys().next_back().expect("there is always one");
    let wanted = desired_at(inner, revision, node);
    if wanted.processes.is_empty() {
        return Err(format!("{node} has nothing to do"));
    }
    brought(inner, host, &wanted)
}

/// What is declared of each service is a revision of it, its processes are to run from that, and whether they do their work with it is
/// recorded where it can be told.
fn rolled_out(inner: &mut Inner, documents: &Documents) -> Result<(), String> {
    let mut declarations = Declarations::new(documents);
    for (key, document) in documents.of_kind(Kind::Service) {
        let Spec::Service(service) = &document.spec else { continue };
        let Some(declared) = declarations.of(document, service) else { continue };
        let found = documents.revisions_of(key).map(|(_, revision)| revision);
        let found = found.filter(|revision| revision.hash == declared.hash).last();
        let Some(revision) = found else { return Err(format!("{key} has no revision of what is declared")) };
        let mut runs = false;
        let processes = || documents.processes_of(INSTANCE, &key.name);
        let is_closed = |node: &str| {
            documents.live(&Key::within(Kind::Node, INSTANCE, node)).is_none_or(|node| !takes_new(node))
        };
        // There nothing is started anew, and what is down there counts against what may be taken elsewhere.
        let is_open = !revision.completed && revision.failed.is_none();
        let is_first = documents.revisions_of(key).count() == 1;
        for (process, spec) in processes() {
            let is_of_it = process.metadata.revision == revision.number && !is_closed(&spec.node);
            if is_open && !is_first && is_of_it && wanted(spec, Some(service)) && !is_up(inner, process, spec)
            {
                return Err(format!(
                    "revision {} of {key} is not judged by {}",
                    revision.number,
                    process.key()
                ));
            }
        }
        // What has no place is unavailable, and counts against what may be taken away.
        let made = processes().filter(|(process, _)| !process.metadata.owner_references.is_empty()).count();
        let lacks = service.replicas.is_some_and(|replicas| made < replicas as usize);
        if document.metadata.annotations.contains_key(PAUSED)
            || lacks
            || processes().any(|(_, spec)| is_closed(&spec.node))
        {
            continue;
        }
        let target = match (&revision.failed, revision.replaced_by) {
            (None, _) => Some(revision.number),
            (Some(_), instead) => instead,
        };
        for (process, spec) in processes() {
            runs |= wanted(spec, Some(service));
            if target.is_some_and(|number| process.metadata.revision != number) {
                return Err(format!("{} is to run from another revision of {key}", process.key()));
            }
        }
        if runs && !is_first && is_open {
            return Err(format!("revision {} of {key} is not judged", revision.number));
        }
    }
    Ok(())
}

/// Whether a process does its work, started as it is to be.
fn is_up(inner: &mut Inner, process: &Document, spec: &ProcessSpec) -> bool {
    let revision = *inner.store.documents.keys().next_back().expect("there is always one");
    let desired = desired_at(inner, revision, &spec.node);
    let id = &process.metadata.name;
    let start = desired.processes.get(id).and_then(|process| process.start.as_ref().ok());
    let node = inner.store.now().node(&Key::within(Kind::Node, INSTANCE, spec.node.as_str()));
    let Some((start, machine)) = start.zip(node.and_then(|node| inner.machines.get(&node.ip_address))) else {
        return false;
    };
    let runs = machine.phase(id) == Some("running") && !machine.dies(id);
    let is_so = machine.started_with(id).is_some_and(|(hash, _)| hash.starts_with(&start.hash));
    runs && is_so && is_well(inner.store.now(), machine, process, spec)
}

/// Whether a process does its work as far as a check tells, or nobody checks it: one that runs from a revision before there was a check can't
/// be found healthy.
fn is_well(documents: &Documents, machine: &Machine, process: &Document, spec: &ProcessSpec) -> bool {
    machine.health(&process.metadata.name).unwrap_or_else(|| !is_checked(documents, process, spec))
}

/// Whether a process has a check.
pub(crate) fn is_checked(documents: &Documents, process: &Document, spec: &ProcessSpec) -> bool {
    let key = key_of_service(&spec.service);
    let Some((document, service)) = documents.get(&key).zip(documents.service(&key)) else { return false };
    let kind = documents.service_type(&Key::cluster(Kind::ServiceType, service.kind.as_str()));
    let mut revisions = documents.revisions_of(&key).map(|(_, revision)| revision);
    let earlier = revisions.find(|revision| {
        revision.number == process.metadata.revision
            && !Declarations::new(documents).is(document, service, revision)
    });
    kind.is_some_and(|kind| kind.health.is_some())
        && earlier.is_none_or(|earlier| earlier.service_type.health.is_some())
}

/// Processes run under the lease that their service says, and no other.
fn leased(inner: &mut Inner, documents: &Documents) -> Result<(), String> {
    let revision = *inner.store.documents.keys().next_back().expect("there is always one");
    for (key, _) in documents.of_kind(Kind::Service) {
        let Some(service) = documents.service(key) else { continue };
        let wanted = match service.failover {
            Some(FailoverSpec::Fenced { lease }) => (lease.0, lease.ms() + lease.ms() / 10 + 10_000),
            Some(FailoverSpec::Hold | FailoverSpec::Replace { .. }) | None => (0, 0),
        };
        for (process, spec) in documents.processes_of(INSTANCE, &key.name) {
            let desired = desired_at(inner, revision, &spec.node);
            let host = documents.node(&Key::within(Kind::Node, INSTANCE, spec.node.as_str()));
            let machine = host.and_then(|node| inner.machines.get(&node.ip_address));
            // What can't be started, or on a cordoned node may not be started anew, is given no other supervisor, and goes on as it was.
            let runs_so = |found: &DesiredProcess| {
                let start = found.start.as_ref().ok();
                let hash = machine.and_then(|machine| machine.started_with(&found.id)).map(|(hash, _)| hash);
                start.is_some_and(|start| {
                    desired.schedulable || hash.is_none_or(|hash| hash.starts_with(&start.hash))
                })
            };
            if !desired.processes.get(&process.metadata.name).is_some_and(runs_so) {
                continue;
            }
            let stands = (process.metadata.lease, process.metadata.lease_bound_ms);
            if stands != wanted {
                return Err(format!("{} has the lease {stands:?} and should have {wanted:?}", process.key()));
            }
        }
    }
    Ok(())
}

/// Each service has the processes that its placement asks for.
fn placed(documents: &Documents) -> Result<(), String> {
    for (key, document) in documents.of_kind(Kind::Service) {
        let Spec::Service(service) = &document.spec else { continue };
        let owned: Vec<&ProcessSpec> = documents
            .processes_of(INSTANCE, &key.name)
            .filter(|(process, _)| !process.metadata.owner_references.is_empty())
            .map(|(_, process)| process)
            .collect();
        let node = |name: &str| documents.node(&Key::within(Kind::Node, INSTANCE, name));
        match service {
            ServiceSpec { nodes: Some(nodes), .. } => {
                let mut wanted: Vec<&String> = nodes.iter().filter(|name| node(name).is_some()).collect();
                let mut there: Vec<&String> = owned.iter().map(|process| &process.node).collect();
                wanted.sort();
                there.sort();
                if wanted != there {
                    return Err(format!("{key} is on {there:?} and should be on {wanted:?}"));
                }
            }
            ServiceSpec { replicas: Some(replicas), node_selector, .. } => {
                let is_selected = |node: &Document| {
                    let mut labels = node_selector.iter();
                    labels.all(|(label, wanted)| node.metadata.labels.get(label) == Some(wanted))
                };
                let open =
                    documents.of_kind(Kind::Node).any(|(_, node)| takes_new(node) && is_selected(node));
                let count = owned.len() as u64;
                if count > u64::from(*replicas) || (open && count < u64::from(*replicas)) {
                    return Err(format!("{key} has {count} processes and should have {replicas}"));
                }
            }
            ServiceSpec { .. } if !owned.is_empty() => {
                return Err(format!("{key} is placed nowhere and has {} processes made for it", owned.len()));
            }
            ServiceSpec { .. } => {}
        }
    }
    Ok(())
}

/// A machine is as it should be.
fn brought(inner: &Inner, host: &str, wanted: &NodeDesired) -> Result<(), String> {
    let Some(machine) = inner.machines.get(host) else { return Err(format!("there is no {host}")) };
    for (id, process) in &wanted.processes {
        let phase = machine.phase(id);
        if !process.running {
            if machine.count(id) > 0 {
                return Err(format!("{id} runs on {host} and should not ({phase:?})"));
            }
            continue;
        }
        // What can't be started, or may not be, is as it was. What runs as it should is looked after all the same.
        let Ok(start) = &process.start else { continue };
        let runs_so = machine.started_with(id).is_some_and(|(hash, _)| hash.starts_with(&start.hash));
        if !wanted.schedulable && (!runs_so || machine.count(id) == 0) {
            continue;
        }
        let is_up = phase == Some("running") || machine.dies(id) && phase == Some("backoff");
        if !is_up {
            return Err(format!("{id} on {host} is {phase:?} and should run"));
        }
        let (hash, live) = machine.started_with(id).expect("it runs");
        if hash != full(start) {
            return Err(format!("{id} on {host} was started as {hash} and should be {}", start.hash));
        }
        if process.reload.is_some() && live != start.live {
            return Err(format!("{id} on {host} was told {live} and should know {}", start.live));
        }
    }
    if let Some(id) = machine.ids().into_iter().find(|id| !wanted.processes.contains_key(id)) {
        return Err(format!("{host} has {id}, which is not declared"));
    }
    let bundle = wanted.bundle.as_ref().map(|(hash, _)| hash);
    if machine.bundle.as_ref() != bundle {
        return Err(format!("{host} has the bundle {:?} and should have {bundle:?}", machine.bundle));
    }
    Ok(())
}

/// What the leader shows is what there is.
fn shown(inner: &Inner, hosts: &BTreeMap<String, String>) -> Result<(), String> {
    let leader = inner.store.reigns.values().next_back().ok_or("nobody has led yet")?;
    let server = inner.servers.get(&leader.who).filter(|_| inner.store.is_held(leader.lease));
    let parts = server.and_then(|server| server.parts.as_ref()).ok_or("nobody leads")?;
    let views = parts.observed.all();
    if views.len() != hosts.len() {
        return Err(format!("{} nodes are shown, and there are {}", views.len(), hosts.len()));
    }
    for (host, node) in hosts {
        let Some(view) = views.get(&(INSTANCE.to_owned(), node.clone())) else {
            return Err(format!("{node} is not shown"));
        };
        let machine = &inner.machines[host];
        if !view.sighting.complete || !matches!(view.link, LinkState::Connected { .. }) {
            return Err(format!("{node} is shown as {}", view.link.name()));
        }
        if !view.sighting.pending.is_empty() {
            return Err(format!("{node} has not said how its last batch ended"));
        }
        let told = |phase: Phase| match phase {
            Phase::Running => "running",
            Phase::Backoff => "backoff",
            Phase::Stopping => "stopping",
            Phase::Stopped => "stopped",
            Phase::Unsupervised => "unsupervised",
            Phase::Lost => "lost",
            Phase::Busy => "busy",
        };
        // What ends again and again is perhaps something else by now.
        let lasts = |id: &String| !machine.dies(id);
        let seen = view.sighting.processes.iter().filter(|(id, _)| lasts(id));
        let seen = seen.map(|(id, seen)| (id.clone(), told(seen.phase)));
        let there = machine.ids().into_iter().filter(lasts);
        let there = there.map(|id| (id.clone(), machine.phase(&id).unwrap_or("gone")));
        if !seen.eq(there) {
            return Err(format!("{node} is shown with {:?}", view.sighting.processes));
        }
    }
    standing(inner, hosts, &parts.placed.last())
}

/// How each service is said to stand is how it stands.
fn standing(inner: &Inner, hosts: &BTreeMap<String, String>, decided: &Decided) -> Result<(), String> {
    let documents = inner.store.now();
    for (key, _) in documents.of_kind(Kind::Service) {
        let service = documents.service(key);
        let (mut placed, mut available, mut dies) = (0, 0, false);
        for (process, spec) in documents.processes_of(INSTANCE, &key.name) {
            let host = hosts.iter().find(|(_, node)| **node == spec.node).map(|(host, _)| host);
            let Some(machine) = host.and_then(|host| inner.machines.get(host)) else { continue };
            let id = &process.metadata.name;
            dies |= machine.dies(id);
            if wanted(spec, service) {
                placed += 1;
                available += u32::from({
                    machine.phase(id) == Some("running") && is_well(documents, machine, process, spec)
                });
            }
        }
        let Some(status) = decided.services.get(key) else { return Err(format!("{key} has no status")) };
        let waits = decided.holds.iter().any(|(process, hold)| {
            let spec = documents.process(process);
            matches!(hold, PlaceHold::MoveWaits { .. }) && spec.is_some_and(|spec| spec.service == key.name)
        });
        // Where something does not do its work, it may wait for ever.
        if waits && status.available == status.desired {
            return Err(format!("a process of {key} is about to move"));
        }
        let said = (status.placed, status.available, status.unknown);
        if !dies && said != (placed, available, 0) {
            return Err(format!(
                "{key} is said to have (placed, available, unknown) {said:?}, not ({placed}, {available}, 0)"
            ));
        }
    }
    Ok(())
}

/// Writes into the trace what the leader says of why things are not otherwise.
pub(crate) fn explain(inner: &mut Inner) {
    let leader = inner.store.reigns.values().next_back();
    let server = leader.and_then(|leader| inner.servers.get(&leader.who));
    let Some(parts) = server.and_then(|server| server.parts.as_ref()) else { return };
    let decided = parts.placed.last();
    let mut lines: Vec<String> = decided.holds.iter().map(|(key, hold)| format!("{key}: {hold}")).collect();
    let services = decided.services.iter();
    lines.extend(services.map(|(key, status)| format!("{key}: {}", status.progressing.message)));
    for ((_, node), view) in &parts.observed.all() {
        lines.extend(view.holds.iter().map(|(id, hold)| format!("{node}: {id}: {hold}")));
        lines.extend(view.sighting.processes.iter().map(|(id, seen)| {
            format!("{node}: {id}: {}, {} restarts, {:?}", seen.phase.name(), seen.restarts, seen.health)
        }));
    }
    lines.into_iter().for_each(|line| inner.say(format!("leader: {line}")));
}

/// Whether something that runs from the declared revision of a service does not do its work, as its leader sees it.
pub(crate) fn fails(inner: &Inner, service: &Document) -> bool {
    let leader = inner.store.reigns.values().next_back();
    let server = leader.and_then(|leader| inner.servers.get(&leader.who));
    let Some(parts) = server.and_then(|server| server.parts.as_ref()) else { return false };
    let views = parts.observed.all();
    let mut processes = inner.store.now().processes_of(INSTANCE, &service.metadata.name);
    processes.any(|(process, spec)| {
        let view = views.get(&(INSTANCE.to_owned(), spec.node.clone())).filter(|view| view.sighting.complete);
        view.is_some_and(|view| !view.is_up(&process.metadata.name))
    })
}
