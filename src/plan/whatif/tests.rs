use std::collections::BTreeMap;

use super::*;
use crate::model::admit::{Origin, admit_text};
use crate::model::id::process_id;
use crate::model::meta::{Kind, PAUSED};
use crate::model::secret::{KEY_BYTES, Sealer};
use crate::model::{Document, Spec};
use crate::plan::world::NodeSighting;

use course::Place;

const NOW_MS: u64 = 100_000;

const FLEET: &str = "
apiVersion: mainstay.dev/v1
kind: Instance
metadata: {name: IN1}
spec: {name: Shop, zk: 'zk:2181', redis: 'redis://redis'}
---
apiVersion: mainstay.dev/v1
kind: ServiceType
metadata: {name: shop}
spec:
  command: [/opt/shop, '{{ options.port }}']
  env: {ZK: '{{ instance.zk }}'}
  reload: {signal: HUP}
  live-options: [level]
  options-schema: {properties: {port: {type: integer}, level: {type: integer}}}
---
apiVersion: mainstay.dev/v1
kind: Node
metadata: {name: ND1, namespace: IN1}
spec: {name: one, ip-address: 192.0.2.1, username: shop}
---
apiVersion: mainstay.dev/v1
kind: Node
metadata: {name: ND2, namespace: IN1}
spec: {name: two, ip-address: 192.0.2.2, username: shop}
---
apiVersion: mainstay.dev/v1
kind: Service
metadata: {name: web, namespace: IN1}
spec: {name: web, type: shop, nodes: [ND1, ND2], options: {port: 1, level: 1}}
---
apiVersion: mainstay.dev/v1
kind: Service
metadata: {name: api, namespace: IN1}
spec: {name: api, type: shop, nodes: [ND1], options: {port: 2, level: 1}}
";

fn read(text: &str) -> Vec<Document> {
    let origin = Origin { file: None, directory: None };
    let admitted = admit_text(text, &origin, &Sealer::new([0; KEY_BYTES])).expect("these are documents");
    admitted.into_iter().map(|admitted| admitted.document).collect()
}

/// A world, and what was seen of it.
#[derive(Clone)]
struct Fleet {
    documents: Documents,
    seen: BTreeMap<Place, NodeSighting>,
    /// Of the documents.
    revision: u64,
    now_ms: u64,
}

impl Fleet {
    /// In which everything is as it should be.
    fn at_rest() -> Fleet {
        let node = |name: &str| {
            let root = Some("/node".to_owned());
            let seen = NodeSighting { complete: true, root, ..NodeSighting::default() };
            (("IN1".to_owned(), name.to_owned()), seen)
        };
        let documents = read(FLEET).into_iter().collect();
        let seen = [node("ND1"), node("ND2")].into();
        let fleet = Fleet { documents, seen, revision: 1, now_ms: NOW_MS };
        let surroundings = Surroundings::default();
        let present = fleet.present(&surroundings);
        let nothing = Documents::default();
        let scope = Scope::of(&nothing, &fleet.documents);
        let course = Course::run(&present, &fleet.documents, &scope).expect("all is known");
        let seen = course.nodes.into_iter().map(|(place, node)| (place, node.ideal.seen)).collect();
        // Long after all of that was written.
        Fleet { documents: course.documents, seen, revision: 1_000, now_ms: 2 * NOW_MS }
    }

    fn present<'a>(&'a self, surroundings: &'a Surroundings) -> Present<'a> {
        let world = World::at(&self.documents, &self.seen, self.now_ms);
        Present { world, revision: self.revision, surroundings }
    }

    fn foresee(&self, change: impl FnOnce(&mut Documents)) -> Foresight {
        let mut changed = self.documents.clone();
        change(&mut changed);
        foresee(&self.present(&Surroundings::default()), &changed)
    }

    fn text(&self, change: impl FnOnce(&mut Documents)) -> String {
        let mut told = text(&self.foresee(change));
        for (service, node) in
            [("web", "ND1"), ("web", "ND2"), ("api", "ND1"), ("api", "ND2"), ("new", "ND9")]
        {
            told = told.replace(&process_id("IN1", service, node, 0), &format!("id-{service}-{node}"));
        }
        told
    }
}

fn edit(documents: &mut Documents, kind: Kind, name: &str, change: impl FnOnce(&mut Document)) {
    let key = match kind.is_namespaced() {
        true => Key::within(kind, "IN1", name),
        false => Key::cluster(kind, name),
    };
    let mut document = Document::clone(documents.get(&key).expect("it is there"));
    change(&mut document);
    documents.insert(document);
}

fn option(documents: &mut Documents, service: &str, option: &str, value: u32) {
    edit(documents, Kind::Service, service, |document| {
        let Spec::Service(service) = &mut document.spec else { unreachable!("it is a service") };
        service.options.get_or_insert_default().insert(option.into(), value.into());
    });
}

fn delete(document: &mut Document) {
    document.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".into());
}

#[test]
fn at_rest_nothing_is_told() {
    let fleet = Fleet::at_rest();
    assert_eq!(fleet.text(|_| {}), "");
    assert_eq!(fleet.foresee(|_| {}), Foresight { complete: true, ..Foresight::default() });
}

#[test]
fn every_deed_has_a_line_with_its_sign_and_why_and_the_last_line_counts() {
    let told = Fleet::at_rest().text(|documents| {
        option(documents, "web", "port", 7);
        edit(documents, Kind::Service, "api", |document| {
            let Spec::Service(service) = &mut document.spec else { unreachable!("it is a service") };
            service.nodes = Some(vec!["ND2".into()]);
        });
    });
    assert_eq!(
        told,
        "\
- stop    IN1/ND1 api (id-api-ND1) : its service is not placed there
↻ restart IN1/ND1 web (id-web-ND1) : options.port changed
+ start   IN1/ND2 api (id-api-ND2) : new process
↻ restart IN1/ND2 web (id-web-ND2) : options.port changed
1 to start, 1 to stop, 2 to restart, 0 to reload on 2 nodes
"
    );
}

#[test]
fn what_takes_effect_while_it_runs_is_told_by_the_fields_that_it_is_told_of() {
    let fleet = Fleet::at_rest();
    let level = "\
~ reload  IN1/ND1 api (id-api-ND1) : options.level changed
1 to start, 0 to stop, 0 to restart, 1 to reload on 1 node
";
    assert_eq!(
        fleet.text(|documents| option(documents, "api", "level", 2)),
        level.replace("1 to start", "0 to start")
    );
    let log = fleet.text(|documents| {
        edit(documents, Kind::ServiceType, "shop", |document| {
            let Spec::ServiceType(kind) = &mut document.spec else { unreachable!("it is a type") };
            kind.log.keep = 5;
        });
    });
    assert_eq!(
        log,
        "\
~ reload  IN1/ND1 api (id-api-ND1) : log changed
~ reload  IN1/ND1 web (id-web-ND1) : log changed
~ reload  IN1/ND2 web (id-web-ND2) : log changed
0 to start, 0 to stop, 0 to restart, 3 to reload on 2 nodes
"
    );
    let instance = fleet.text(|documents| {
        edit(documents, Kind::Instance, "IN1", |document| {
            let Spec::Instance(instance) = &mut document.spec else { unreachable!("it is an instance") };
            instance.redis = "redis://other".into();
        });
    });
    assert!(instance.contains("~ reload  IN1/ND1 api (id-api-ND1) : instance.redis changed\n"), "{instance}");
}

#[test]
fn what_is_not_done_is_told_with_why() {
    let mut fleet = Fleet::at_rest();
    let seen = fleet.seen.get_mut(&("IN1".into(), "ND2".into())).expect("it is there");
    (seen.complete, seen.unseen_since_ms) = (false, Some(NOW_MS));
    assert_eq!(fleet.text(|_| {}), "", "that it is not seen is no change");
    assert_eq!(
        fleet.text(|documents| edit(documents, Kind::Service, "web", delete)),
        "\
- stop    IN1/ND1 web (id-web-ND1) : what it belongs to goes
! hold    IN1/ND2 web (id-web-ND2) : its node was not seen
! hold    IN1/ND2 web (id-web-ND2) : its deletion waits for Node IN1/ND2 to be seen
! hold    Service IN1/web : its deletion waits for Process IN1/id-web-ND2
0 to start, 1 to stop, 0 to restart, 0 to reload on 1 node
"
    );
    let paused = Fleet::at_rest().text(|documents| {
        option(documents, "api", "port", 7);
        edit(documents, Kind::Service, "api", |document| {
            document.metadata.annotations.insert(PAUSED.into(), "now".into());
        });
    });
    assert_eq!(
        paused,
        "\
> write   IN1/ND1 : what its services are told changed
! hold    IN1/ND1 api (id-api-ND1) : the rollout of revision 2 is paused
0 to start, 0 to stop, 0 to restart, 0 to reload on 0 nodes
"
    );
}

#[test]
fn a_node_that_the_change_declares_is_taken_to_answer_and_that_is_said() {
    let told = Fleet::at_rest().text(|documents| {
        let more = read(
            "
apiVersion: mainstay.dev/v1
kind: Node
metadata: {name: ND9, namespace: IN1}
spec: {name: nine, ip-address: 192.0.2.9, username: shop}
---
apiVersion: mainstay.dev/v1
kind: Service
metadata: {name: new, namespace: IN1}
spec: {name: new, type: shop, nodes: [ND9], options: {port: 3}}
",
        );
        more.into_iter().for_each(|document| documents.insert(document));
    });
    assert_eq!(
        told,
        "  IN1/ND9 is new: it is taken to answer, and to be empty
+ start   IN1/ND9 new (id-new-ND9) : new process
1 to start, 0 to stop, 0 to restart, 0 to reload on 1 node
"
    );
}

#[test]
fn what_is_under_way_is_told_apart() {
    let mut fleet = Fleet::at_rest();
    let seen = fleet.seen.get_mut(&("IN1".to_owned(), "ND1".to_owned())).expect("it is there");
    seen.processes.remove(&process_id("IN1", "api", "ND1", 0));
    let told = fleet.text(|documents| option(documents, "web", "level", 2));
    assert_eq!(
        told,
        "\
~ reload  IN1/ND1 web (id-web-ND1) : options.level changed
~ reload  IN1/ND2 web (id-web-ND2) : options.level changed
0 to start, 0 to stop, 0 to restart, 2 to reload on 2 nodes
Under way already, whatever is applied:
+ start   IN1/ND1 api (id-api-ND1) : should run and is not there
1 to start, 0 to stop, 0 to restart, 0 to reload on 1 node
"
    );
}

#[test]
fn what_goes_and_comes_again_is_started_anew() {
    let told = Fleet::at_rest().text(|documents| {
        let key = Key::within(Kind::Service, "IN1", "api");
        let mut later = Document::clone(documents.get(&key).expect("it is there"));
        later.metadata.waiting = true;
        edit(documents, Kind::Service, "api", delete);
        documents.insert(later);
    });
    assert!(told.starts_with("↻ restart IN1/ND1 api (id-api-ND1) : "), "{told}");
    assert!(told.ends_with("0 to start, 0 to stop, 1 to restart, 0 to reload on 1 node\n"), "{told}");
}

#[test]
fn what_is_told_is_read_back_as_it_was_sent() {
    let foresight = Fleet::at_rest().foresee(|documents| option(documents, "web", "port", 7));
    let sent = serde_json::to_string(&foresight).expect("it is data");
    assert_eq!(serde_json::from_str::<Foresight>(&sent).expect("it is the same data"), foresight);
}
