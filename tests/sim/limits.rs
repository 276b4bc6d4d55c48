//! What a leader may decide over all nodes: looked at when it asks the store for it, with what it sees at that moment, and when that is done.
//!
//! The documents by which it has decided are somewhere between those of its election, or of the last write of what it writes, and the
//! newest. So a decision is wrong when it is wrong by each of them.

use std::collections::{BTreeMap, BTreeSet};

use mainstay::model::kinds::{FailoverSpec, ProcessSpec, ServiceSpec};
use mainstay::model::meta::PAUSED;
use mainstay::model::{Document, Documents, Key, Kind, Spec};
use mainstay::plan::render::{takes_new, wanted};
use mainstay::plan::world::{Health as Found, NodeSighting, Phase};
use mainstay::reconcile::observed::Views;
use mainstay::store::{Compare, Txn, Write};

use crate::checks::{INSTANCE, is_checked, key_of_service};
use crate::server::FREEZE;
use crate::store::LEADER;
use crate::world::Inner;

/// What a node may take to notice that a lease is over, which is waited for beside its bound; as in `plan/service.rs`.
const MARGIN_MS: u64 = 5_000;

/// What may pass between that a link ends and that its server has noticed it.
const NOTICES_MS: u64 = 100;

/// A process whose document a leader is about to write.
struct Written {
    before: Option<Document>,
    after: Document,
}

impl Written {
    fn spec(&self) -> &ProcessSpec {
        let Spec::Process(process) = &self.after.spec else { panic!("it is a process") };
        process
    }

    fn gives_up(&self) -> bool {
        self.after.metadata.given_up && !self.before.as_ref().is_some_and(|before| before.metadata.given_up)
    }

    fn is_created(&self) -> bool {
        self.before.is_none()
            && !self.after.metadata.waiting
            && !self.after.metadata.owner_references.is_empty()
    }

    fn is_assigned(&self) -> bool {
        let before = self.before.as_ref().map_or(0, |before| before.metadata.revision);
        before != 0 && before != self.after.metadata.revision
    }

    fn is_taken(&self) -> bool {
        self.before.as_ref().is_some_and(|before| !before.is_deleting())
            && self.after.is_deleting()
            && !self.gives_up()
    }
}

/// The processes that a transaction of a leader writes, and the documents by which it may have been decided.
fn read(inner: &Inner, txn: &Txn) -> Option<(Vec<Written>, Vec<Documents>, u64)> {
    let elected = txn.when.iter().find_map(|compare| match compare {
        Compare::CreateRevision(key, at) if key == LEADER => Some(*at),
        Compare::CreateRevision(..) | Compare::Absent(_) | Compare::ModRevision(..) | Compare::Value(..) => {
            None
        }
    })?;
    let read_at = |path: &String| {
        txn.when.iter().find_map(|compare| match compare {
            Compare::ModRevision(key, at) if key == path => Some(*at),
            Compare::CreateRevision(..)
            | Compare::Absent(_)
            | Compare::ModRevision(..)
            | Compare::Value(..) => None,
        })
    };
    let mut since = elected;
    let mut written = Vec::new();
    for write in &txn.then {
        let (path, value) = match write {
            Write::Put(path, value) if path.starts_with("doc/Process/") => (path, value),
            Write::Put(..) | Write::PutLeased(..) | Write::Delete(_) => continue,
        };
        let after = Document::from_stored(path, value).expect("a document");
        let at = read_at(path);
        since = since.max(at.unwrap_or(0));
        let then = at.and_then(|at| inner.store.known_since(at).last()).map(|(_, documents)| documents);
        let before = then.and_then(|then| then.get(&after.key())).map(|found| Document::clone(found));
        written.push(Written { before, after });
    }
    if written.is_empty() {
        return None;
    }
    let known = inner.store.known_since(since).map(|(_, documents)| documents.clone()).collect();
    Some((written, known, elected))
}

fn service_of<'a>(documents: &'a Documents, process: &ProcessSpec) -> Option<&'a ServiceSpec> {
    documents.service(&key_of_service(&process.service))
}

/// When a leader asks the store to write something.
pub(crate) fn at_txn(inner: &mut Inner, who: u32, txn: &Txn) {
    let Some(parts) = inner.servers.get(&who).and_then(|server| server.parts.as_ref()) else { return };
    let (views, now_ms) = (parts.observed.all(), parts.clock.now_ms());
    let Some((written, known, elected)) = read(inner, txn) else { return };
    let mut wrong: Vec<(&str, String)> = Vec::new();
    for one in written.iter().filter(|one| one.gives_up()) {
        wrong.extend(given_up(inner, (who, elected), &known, &views, one));
    }
    for one in &written {
        wrong.extend(paused(&known, one).map(|why| ("PAUSE", why)));
        wrong.extend(placed(&known, one).map(|why| ("PLACE", why)));
    }
    let services: BTreeSet<&String> = written.iter().map(|one| &one.spec().service).collect();
    for service in services {
        let judge = |documents: &Documents| floor(documents, service, &written, &views, now_ms);
        let verdicts: Option<Vec<String>> = known.iter().map(judge).collect();
        wrong.extend(verdicts.and_then(|why| why.into_iter().next()).map(|why| ("FLOOR", why)));
    }
    for (invariant, why) in wrong {
        inner.violate(invariant, why);
    }
}

/// HOLD, FAILOVER, FROZEN: what is on a silent node is given up only as its service says, and not while many are silent, or who leads has
/// only begun.
fn given_up(
    inner: &Inner,
    (who, elected): (u32, u64),
    known: &[Documents],
    views: &Views,
    one: &Written,
) -> Option<(&'static str, String)> {
    let (id, process) = (&one.after.metadata.name, one.spec());
    let bound_ms = one.before.as_ref().map_or(0, |before| before.metadata.lease_bound_ms);
    let wait_ms = |documents: &Documents| match service_of(documents, process)?.failover? {
        FailoverSpec::Hold => None,
        FailoverSpec::Replace { after } => Some(after.ms()),
        FailoverSpec::Fenced { .. } if bound_ms == 0 => None,
        FailoverSpec::Fenced { .. } => Some(bound_ms + MARGIN_MS),
    };
    let Some(wait_ms) = known.iter().filter_map(wait_ms).min() else {
        return Some(("HOLD", format!("{id} is given up, and its service holds or nothing fences it")));
    };
    let node = Key::within(Kind::Node, INSTANCE, process.node.as_str());
    let hosts: BTreeSet<&String> =
        known.iter().filter_map(|documents| documents.node(&node)).map(|node| &node.ip_address).collect();
    let began = inner.store.reigns[&elected].at;
    // One of an earlier time in which it led was given up with that, and perhaps never closed.
    let heard = inner.conns.values().filter(|conn| {
        let is_told = conn.told_at.is_some_and(|told| told + NOTICES_MS <= inner.now());
        conn.who == who && conn.opened_at >= began && hosts.contains(&conn.host) && is_told
    });
    let last = heard.map(|conn| conn.ended_at.unwrap_or(inner.now())).max().unwrap_or(0);
    let silent_ms = inner.now().saturating_sub(last.max(began)) + NOTICES_MS;
    if silent_ms < wait_ms {
        let why = format!("{id} is given up after {silent_ms} ms of silence instead of {wait_ms}");
        return Some(("FAILOVER", why));
    }
    if inner.now() + NOTICES_MS < began + FREEZE.settle_ms {
        return Some(("FROZEN", format!("{id} is given up by who has only begun to lead")));
    }
    let is_many = |documents: &Documents| {
        let nodes = documents.of_kind(Kind::Node).filter(|(_, node)| !node.is_deleting());
        let seen: Vec<bool> = nodes.map(|(key, _)| sighting(views, &key.name).is_some()).collect();
        let silent = seen.iter().filter(|seen| !**seen).count();
        silent > 1 && silent * 100 > seen.len() * usize::from(FREEZE.above_percent)
    };
    let is_frozen = known.iter().all(is_many);
    is_frozen.then(|| ("FROZEN", format!("{id} is given up while many nodes are silent")))
}

fn sighting<'v>(views: &'v Views, node: &str) -> Option<&'v NodeSighting> {
    let view = views.get(&(INSTANCE.to_owned(), node.to_owned()))?;
    view.sighting.complete.then_some(&view.sighting)
}

/// PAUSE: while its rollouts are paused, nothing that runs is to run from another revision.
fn paused(known: &[Documents], one: &Written) -> Option<String> {
    let key = key_of_service(&one.spec().service);
    let is_paused = |documents: &Documents| {
        let found = documents.get(&key).is_some_and(|it| it.metadata.annotations.contains_key(PAUSED));
        found && wanted(one.spec(), documents.service(&key))
    };
    let is_wrong = one.is_assigned() && known.iter().all(is_paused);
    is_wrong.then(|| format!("{} is updated while its service is paused", one.after.metadata.name))
}

/// PLACE: by `replicas`, nothing new comes to a node that is cordoned or drained, goes, or lacks the labels.
fn placed(known: &[Documents], one: &Written) -> Option<String> {
    if !one.is_created() {
        return None;
    }
    let process = one.spec();
    let node = Key::within(Kind::Node, INSTANCE, process.node.as_str());
    let is_closed = |documents: &Documents| {
        let Some(service) = service_of(documents, process) else { return true };
        let Some(node) = documents.live(&node) else { return true };
        let is_selected = || {
            let mut labels = service.node_selector.iter();
            labels.all(|(label, wanted)| node.metadata.labels.get(label) == Some(wanted))
        };
        service.nodes.is_none() && !(takes_new(node) && is_selected())
    };
    let is_wrong = known.iter().all(is_closed);
    is_wrong.then(|| format!("{} is made for {}, which takes nothing", one.after.metadata.name, process.node))
}

/// FLOOR: what an update or a move takes away leaves no more unavailable than the service allows, whatever the reason.
fn floor(
    documents: &Documents,
    service: &str,
    written: &[Written],
    views: &Views,
    now_ms: u64,
) -> Option<String> {
    let key = key_of_service(service);
    documents.live(&key)?;
    let spec = documents.service(&key)?;
    let update = spec.update.clone().unwrap_or_default();
    let of_it = || written.iter().filter(|one| one.spec().service == service);
    let target = of_it().find(|one| one.is_assigned()).map(|one| one.after.metadata.revision);
    let goes = |id: &String| {
        let mut it = of_it().filter(|one| one.after.metadata.name == *id);
        it.any(|one| one.is_assigned() || spec.replicas.is_some() && one.is_taken())
    };
    let (mut by_hand, mut stays, mut taken) = (0, 0, Vec::new());
    for (document, process) in documents.processes_of(INSTANCE, service) {
        let node = Key::within(Kind::Node, INSTANCE, process.node.as_str());
        let Some(on) = documents.live(&node) else { continue };
        let is_owned = !document.metadata.owner_references.is_empty();
        // What placement has made and does not want there any more is no help.
        let is_placed = match (&spec.nodes, spec.replicas) {
            (Some(nodes), _) => nodes.contains(&process.node),
            (None, replicas) => replicas.is_some(),
        };
        if document.is_deleting() || !wanted(process, Some(spec)) || is_owned && !is_placed {
            continue;
        }
        by_hand += u32::from(!is_owned);
        let id = &document.metadata.name;
        let Some(seen) = sighting(views, &process.node) else { continue };
        let is_planned = seen.planned >= document.revision() && !seen.pending.contains(id);
        let is_behind = seen.behind.contains(id) && takes_new(on);
        let Some(found) = seen.processes.get(id).filter(|found| found.phase == Phase::Running) else {
            continue;
        };
        let is_well = match &found.health {
            Some(Found::Unhealthy { .. }) => false,
            Some(Found::Healthy | Found::Unchecked { .. }) => true,
            None => !is_checked(documents, document, process),
        };
        if !is_planned || is_behind || !is_well {
            continue;
        }
        let is_ready = Some(document.metadata.revision) != target
            || found.since_ms.saturating_add(update.min_ready_ms()) <= now_ms;
        if goes(id) {
            taken.push(id.clone());
        } else if is_ready {
            stays += 1;
        }
    }
    let is_there =
        |node: &&String| documents.live(&Key::within(Kind::Node, INSTANCE, node.as_str())).is_some();
    let made = match (&spec.nodes, spec.replicas) {
        _ if spec.running == Some(false) => 0,
        (Some(nodes), _) => nodes.iter().filter(is_there).count(),
        (None, replicas) => replicas.unwrap_or(0) as usize,
    };
    let total = by_hand + u32::try_from(made).expect("there are few");
    let limit = update.max_unavailable(total);
    let is_wrong = !taken.is_empty() && stays + limit < total;
    is_wrong.then(|| {
        format!("{key}: of {total}, of which {limit} may be unavailable, {stays} are left without {taken:?}")
    })
}

/// What was always fenced, and to how many; which process is whose.
#[derive(Debug, Default)]
pub(crate) struct Tracks {
    /// By the uid of the service: how many there may be, while it always said how many and was fenced.
    limits: BTreeMap<String, Option<u32>>,
    owners: BTreeMap<String, String>,
}

impl Tracks {
    /// A document was written.
    pub(crate) fn note(&mut self, document: &Document) {
        match &document.spec {
            Spec::Service(service) => {
                let fenced = matches!(service.failover, Some(FailoverSpec::Fenced { .. }));
                let now = service.replicas.filter(|_| fenced && service.nodes.is_none());
                let limit = self.limits.entry(document.metadata.uid.clone()).or_insert(Some(0));
                *limit = limit.zip(now).map(|(before, now)| before.max(now));
            }
            Spec::Process(_) => {
                if let Some(owner) = document.metadata.owner_references.first() {
                    self.owners.insert(document.metadata.name.clone(), owner.uid.clone());
                }
            }
            Spec::Instance(_)
            | Spec::Tenant(_)
            | Spec::User(_)
            | Spec::Integration(_)
            | Spec::ServiceType(_)
            | Spec::Node(_)
            | Spec::Revision(_)
            | Spec::Event(_) => {}
        }
    }
}

/// FENCED: of a service that was always fenced there are never more copies than it ever asked for, and what was given up runs nowhere.
pub(crate) fn fenced(inner: &mut Inner) {
    let mut wrong = None;
    let mut counts: BTreeMap<&String, u32> = BTreeMap::new();
    for (host, machine) in &inner.machines {
        for id in machine.copies.values() {
            if inner.fenced_off.contains(id) {
                wrong = Some(format!("{id} runs on {host} and was given up"));
            }
            if let Some(owner) = inner.store.tracks.owners.get(id) {
                *counts.entry(owner).or_default() += 1;
            }
        }
    }
    for (owner, count) in counts {
        let limit = inner.store.tracks.limits.get(owner).copied().flatten();
        if let Some(limit) = limit.filter(|limit| count > *limit) {
            wrong = Some(format!("{count} copies of a fenced service run, and {limit} may"));
        }
    }
    if let Some(wrong) = wrong {
        inner.violate("FENCED", wrong);
    }
}

/// Notes what a transaction that is about to be done gives up of what is fenced, and what is gone.
pub(crate) fn before_write(inner: &mut Inner, txn: &Txn) {
    for write in &txn.then {
        if let Write::Delete(path) = write
            && let Some(id) = path.rsplit('/').next().filter(|_| path.starts_with("doc/Process/"))
        {
            inner.fenced_off.remove(id);
        }
    }
    let Some((written, known, _)) = read(inner, txn) else { return };
    for one in written.iter().filter(|one| one.gives_up()) {
        let is_fenced = |documents: &Documents| {
            let failover = service_of(documents, one.spec()).and_then(|service| service.failover);
            matches!(failover, Some(FailoverSpec::Fenced { .. }))
        };
        if known.iter().all(is_fenced) {
            inner.fenced_off.insert(one.after.metadata.name.clone());
        }
    }
}
