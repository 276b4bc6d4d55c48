//! What a source's whole set makes of the documents that there are.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;

use super::*;
use crate::model::admit::{Admitted, Origin, admit_text};
use crate::model::kinds::ServiceSpec;
use crate::model::meta::{Metadata, OwnerReference, SOURCE};
use crate::model::secret::{KEY_BYTES, Sealer};
use crate::store::embedded::Embedded;
use crate::store::over::{Otherwise, Over};
use crate::store::{Changes, Watch};

const OURS: &str = "folder ours";
const NOW: &str = "2026-01-01T00:00:00Z";

const INSTANCE: &str = "
kind: Instance
metadata: {name: IN1}
spec: {name: one, zk: zk, redis: redis}";
const NODE: &str = "
kind: Node
metadata: {name: ND1, namespace: IN1}
spec: {name: node, ip-address: 192.0.2.1, username: me}";
const SERVICE: &str = "
kind: Service
metadata: {name: SV1, namespace: IN1}
spec: {type: web, name: service}";
const PROCESS: &str = "
kind: Process
metadata: {name: p1, namespace: IN1}
spec: {service: SV1, node: ND1}";
const TENANT: &str = "
kind: Tenant
metadata: {name: TN1}
spec: {name: tenant}";

fn set(texts: &[&str]) -> Vec<Admitted> {
    let text: String = texts.iter().map(|text| format!("---\napiVersion: mainstay.dev/v1{text}\n")).collect();
    let origin = Origin { file: Some("all.yaml".into()), directory: None };
    admit_text(&text, &origin, &Sealer::new([0; KEY_BYTES])).expect("the texts are right")
}

/// Applies a set, and what it changed is written.
fn apply(documents: &mut Documents, source: &str, texts: &[&str]) -> SetChange {
    let change = apply_set(documents, source, &set(texts), NOW).expect("nothing stands in the way");
    for edit in &change.edits {
        match edit {
            Edit::Create(document) | Edit::Replace(document) => documents.insert(document.clone()),
            Edit::Remove(document) => documents.remove(&document.key()),
            Edit::Expect(_) => {}
        }
    }
    change
}

fn refused(documents: &Documents, source: &str, texts: &[&str]) -> String {
    let problems = apply_set(documents, source, &set(texts), NOW).expect_err("it is refused");
    assert_eq!(problems.len(), 1);
    problems[0].to_string()
}

fn service() -> Key {
    Key::within(Kind::Service, "IN1", "SV1")
}

fn process() -> Key {
    Key::within(Kind::Process, "IN1", "p1")
}

/// `running` of the service, as written now.
fn running(documents: &Documents) -> Option<bool> {
    documents.service(&service()).expect("it is there").running
}

/// Sets `running` as `/1.0` does.
fn run(documents: &mut Documents, running: bool) {
    let current = documents.get(&service()).expect("it is there");
    let Spec::Service(service) = &current.spec else { panic!("{current:?}") };
    let spec = Spec::Service(ServiceSpec { running: Some(running), ..service.clone() });
    let Ok(Some(edit)) = update_by_api(current, spec, NOW) else { panic!("nobody else has set it") };
    documents.insert(edit.document().clone());
}

#[test]
fn a_new_object_is_created_with_what_the_store_gives_and_who_owns_it() {
    let mut documents = Documents::default();
    let change = apply(&mut documents, OURS, &[SERVICE, INSTANCE]);
    let created: Vec<Key> = change
        .edits
        .iter()
        .map(|edit| match edit {
            Edit::Create(document) => document.key(),
            Edit::Replace(_) | Edit::Remove(_) | Edit::Expect(_) => panic!("{edit:?}"),
        })
        .collect();
    assert_eq!(created, [Key::cluster(Kind::Instance, "IN1"), service()], "what is referred to comes first");
    let metadata = &documents.get(&service()).expect("it is there").metadata;
    assert_eq!((metadata.generation, metadata.creation_timestamp.as_str()), (1, NOW));
    assert!(!metadata.uid.is_empty());
    assert_eq!(metadata.annotations[SOURCE], OURS);
}

#[test]
fn a_call_of_the_api_is_no_difference_to_a_manifest_and_stays_with_the_object() {
    let mut documents = Documents::default();
    apply(&mut documents, OURS, &[INSTANCE]);
    let key = Key::cluster(Kind::Instance, "IN1");
    let mut called = Document::clone(documents.get(&key).expect("it was applied"));
    let call = noted::Call { method: "POST".into(), path: "/1.0/x".into(), ..noted::Call::default() };
    called.metadata.last_call = Some(call.clone());
    documents.insert(called);
    assert_eq!(apply(&mut documents, OURS, &[INSTANCE]).edits, []);
    apply(&mut documents, OURS, &[&INSTANCE.replace("one", "another")]);
    assert_eq!(documents.get(&key).expect("it is there").metadata.last_call, Some(call));
}

#[test]
fn what_is_applied_again_unchanged_is_no_edit() {
    let mut documents = Documents::default();
    let all = [INSTANCE, NODE, SERVICE, PROCESS, TENANT];
    apply(&mut documents, OURS, &all);
    let again = apply(&mut documents, OURS, &all);
    assert!(again.edits.is_empty() && again.waiting.is_empty(), "{again:?}");
}

#[test]
fn a_changed_object_keeps_what_the_store_gave_and_counts_its_generation() {
    let mut documents = Documents::default();
    apply(&mut documents, OURS, &[NODE]);
    let key = Key::within(Kind::Node, "IN1", "ND1");
    let before = documents.get(&key).expect("it is there").metadata.clone();
    apply(&mut documents, OURS, &[&NODE.replace("192.0.2.1", "192.0.2.2")]);
    let after = documents.get(&key).expect("it is there").metadata.clone();
    assert_eq!(after, Metadata { generation: 2, ..before.clone() });
    let labelled = NODE.replace("192.0.2.1", "192.0.2.2").replace("IN1}", "IN1, labels: {zone: east}}");
    apply(&mut documents, OURS, &[&labelled]);
    let after = documents.get(&key).expect("it is there").metadata.clone();
    assert_eq!(after.generation, 2, "a label is no change of what is wanted");
    assert_eq!(after.labels["zone"], "east");
}

#[test]
fn what_a_source_no_longer_names_goes_and_nothing_else() {
    let mut documents = Documents::default();
    apply(&mut documents, OURS, &[INSTANCE, SERVICE]);
    apply(&mut documents, "folder theirs", &[NODE, TENANT]);
    // Made by the service's placement, and by people.
    for (name, owner) in [("made", Some("SV1")), ("own", None)] {
        let mut document = set(&[PROCESS]).remove(0).document;
        document.metadata.name = name.into();
        document.metadata.owner_references = owner
            .map(|name| OwnerReference { kind: Kind::Service, name: name.into(), uid: String::new() })
            .into_iter()
            .collect();
        documents.insert(document);
    }
    let change = apply(&mut documents, OURS, &[INSTANCE]);
    assert_eq!(change.edits.len(), 1, "{change:?}");
    assert!(documents.get(&service()).is_some_and(|service| service.is_deleting()), "it lingers");
    let change = apply(&mut documents, OURS, &[INSTANCE]);
    assert!(change.edits.is_empty(), "it is deleted once: {change:?}");
}

#[test]
fn what_stands_for_nothing_on_a_node_goes_at_once() {
    let mut documents = Documents::default();
    apply(&mut documents, OURS, &[TENANT, INSTANCE]);
    let change = apply(&mut documents, OURS, &[INSTANCE]);
    assert!(matches!(&change.edits[..], [Edit::Remove(document)] if document.metadata.name == "TN1"));
}

#[test]
fn silence_about_running_keeps_what_the_api_has_set() {
    let mut documents = Documents::default();
    apply(&mut documents, OURS, &[SERVICE]);
    run(&mut documents, false);
    let change = apply(&mut documents, OURS, &[SERVICE]);
    assert!(change.edits.is_empty(), "{change:?}");
    apply(&mut documents, OURS, &[&SERVICE.replace("name: service", "name: other")]);
    assert_eq!(running(&documents), Some(false));
}

#[test]
fn a_manifest_that_states_what_the_api_has_set_says_so_or_takes_it_over() {
    let mut documents = Documents::default();
    apply(&mut documents, OURS, &[SERVICE]);
    run(&mut documents, false);
    let states = SERVICE.replace("type:", "running: true, type:");
    let said = refused(&documents, OURS, &[&states]);
    assert!(said.contains("/1.0 has set spec.running of Service IN1/SV1 to something else"), "{said}");
    let takes = states.replace("IN1}", "IN1, annotations: {mainstay.dev/take-over: \"true\"}}");
    apply(&mut documents, OURS, &[&takes]);
    assert_eq!(running(&documents), Some(true));
    let document = documents.get(&service()).expect("it is there");
    assert_eq!(document.metadata.managed_fields.of("/spec/running").collect::<Vec<_>>(), [OURS]);
}

#[test]
fn a_manifest_that_takes_its_running_back_leaves_nothing_of_it() {
    let mut documents = Documents::default();
    apply(&mut documents, OURS, &[&SERVICE.replace("type:", "running: false, type:")]);
    assert_eq!(running(&documents), Some(false));
    apply(&mut documents, OURS, &[SERVICE]);
    assert_eq!(running(&documents), None, "unset means that it runs");
    let document = documents.get(&service()).expect("it is there");
    assert_eq!(document.metadata.managed_fields.of("/spec/running").next(), None, "the API may own it now");
}

#[test]
fn an_object_in_which_others_have_set_fields_is_not_deleted_under_them() {
    let mut documents = Documents::default();
    apply(&mut documents, OURS, &[INSTANCE, SERVICE]);
    let theirs = Applier { manager: "set ops", keeps: false, prunes: false, force: false };
    let more = SERVICE.replace("type:", "description: d, type:");
    let change = apply_as(&documents, theirs, &set(&[&more]), NOW).unwrap();
    change.edits.into_iter().for_each(|edit| documents.insert(edit.document().clone()));
    let said = refused(&documents, OURS, &[INSTANCE]);
    assert!(said.contains("set ops has set fields of it"), "{said}");
    let taken = apply_as(&documents, theirs, &set(&[SERVICE]), NOW).unwrap();
    taken.edits.into_iter().for_each(|edit| documents.insert(edit.document().clone()));
    assert_eq!(
        apply(&mut documents, OURS, &[INSTANCE]).edits.len(),
        1,
        "they have nothing of their own there"
    );
}

#[test]
fn a_process_stays_with_its_service_and_node() {
    let mut documents = Documents::default();
    apply(&mut documents, OURS, &[PROCESS]);
    for other in [PROCESS.replace("ND1", "ND2"), PROCESS.replace("SV1", "SV2")] {
        let said = refused(&documents, OURS, &[&other]);
        assert!(said.contains("stays with its service and node (SV1 on ND1)"), "{said}");
    }
    apply(&mut documents, OURS, &[&PROCESS.replace("node:", "running: false, node:")]);
    assert_eq!(documents.process(&process()).expect("it is there").running, Some(false));
}

#[test]
fn an_object_of_another_source_is_refused_and_nothing_is_changed() {
    let mut documents = Documents::default();
    apply(&mut documents, "folder theirs", &[NODE]);
    let said = refused(&documents, OURS, &[INSTANCE, NODE]);
    assert!(said.contains("Node IN1/ND1 belongs to folder theirs"), "{said}");
}

#[test]
fn a_shipped_object_and_one_of_the_api_can_be_made_one_s_own() {
    let mut documents = Documents::default();
    apply(&mut documents, CATALOGUE, &[NODE]);
    documents.insert(set(&[SERVICE]).remove(0).document);
    apply(&mut documents, OURS, &[NODE, SERVICE]);
    for (key, document) in documents.iter() {
        assert_eq!(document.metadata.annotations[SOURCE], OURS, "{key}");
    }
}

#[test]
fn an_object_waits_for_the_one_of_its_name_that_is_going() {
    let mut documents = Documents::default();
    apply(&mut documents, OURS, &[SERVICE, NODE]);
    apply(&mut documents, OURS, &[NODE]);
    let change = apply(&mut documents, OURS, &[SERVICE, NODE]);
    assert_eq!(change.waiting, [service()]);
    assert!(change.edits.is_empty(), "{change:?}");
    documents.remove(&service());
    let change = apply(&mut documents, OURS, &[SERVICE, NODE]);
    assert!(change.waiting.is_empty() && matches!(&change.edits[..], [Edit::Create(_)]), "{change:?}");
}

/// A store whose first watch finds its history compacted away, while something was written.
struct Forgetful {
    store: Arc<Embedded>,
    watches: AtomicUsize,
}

struct Forgotten;

impl Watch for Forgotten {
    fn next(&mut self) -> BoxFuture<'_, Result<Changes, StoreError>> {
        Box::pin(std::future::ready(Err(StoreError::Compacted { oldest: 1 })))
    }
}

impl Otherwise for Forgetful {
    fn store(&self) -> &Arc<Embedded> {
        &self.store
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        from: Revision,
    ) -> BoxFuture<'a, Result<Box<dyn Watch>, StoreError>> {
        Box::pin(async move {
            if self.watches.fetch_add(1, Ordering::Relaxed) > 0 {
                return self.store.watch(prefix, from).await;
            }
            // As if by another controller.
            let document = set(&[INSTANCE]).remove(0).document;
            let then = vec![Write::Put(path(&document), document.to_value().to_string().into_bytes())];
            assert!(self.store.txn(Txn { when: vec![], then }).await?.succeeded);
            Ok(Box::new(Forgotten) as Box<dyn Watch>)
        })
    }
}

#[tokio::test]
async fn a_watch_whose_history_is_gone_reads_all_again_and_misses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = Arc::new(Embedded::open(dir.path()).unwrap());
    let store = Arc::new(Over(Forgetful { store: embedded, watches: AtomicUsize::new(0) }));
    let state = State::open(store, Arc::new(Metrics::default())).await.unwrap();
    let instance = Key::cluster(Kind::Instance, "IN1");
    state
        .changes()
        .wait_for(|snapshot| snapshot.documents.get(&instance).is_some())
        .await
        .expect("the state follows on");
    // And goes on as if nothing had been.
    let node = born(set(&[NODE]).remove(0).document, NOW);
    assert_eq!(state.commit(&[Edit::Create(node)], None).await.unwrap(), Commit::Done);
    assert_eq!(state.snapshot().documents.iter().count(), 2);
}
