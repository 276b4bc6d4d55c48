//! Start and stop: the change of the documents, and the wait until the nodes were seen to follow.

use futures_util::future::join_all;
use tokio::time::Instant;

use super::Context;
use super::body::Patience;
use super::error::Error;
use super::resource::{by_api, change, visible};
use super::running::{self, ProcessStanding, ServiceStanding, contradiction, is_declared};
use crate::model::kinds::{ProcessSpec, ServiceSpec};
use crate::model::{Documents, Key, Kind, Spec};
use crate::reconcile::observed::Views;
use crate::state::Edit;

/// How start and stop answer, as it is described.
pub(super) const WAITED: &str = "Answers once it is seen on the nodes, or the time is over, and then what is true. Each process that is not as asked has a `reason`.";

/// Starts or stops one service.
pub(super) async fn service(
    context: &Context,
    key: &Key,
    asked: bool,
    patience: Patience,
) -> Result<ServiceStanding, Error> {
    change(context, |documents| {
        refuse_declared(documents, key, asked)?;
        Ok((service_edits(documents, key, asked)?, ()))
    })
    .await?;
    let of = [(key.name.clone(), asked)];
    let mut standings = settled(context, patience, |documents, views| {
        let standings = running::services(documents, views, &key.namespace, &of);
        let is_settled = standings.iter().all(|standing| standing.is_settled);
        (standings, is_settled)
    })
    .await;
    standings.pop().ok_or_else(|| not_there(key))
}

/// Starts or stops services of an instance, all at once. One whose manifest says otherwise stays as it is, and that is said.
pub(super) async fn services(
    context: &Context,
    instance: &str,
    ids: &[String],
    asked: bool,
    patience: Patience,
) -> Result<Vec<ServiceStanding>, Error> {
    let changes = ids.iter().map(|id| async move {
        let key = Key::within(Kind::Service, instance, id.as_str());
        match change(context, |documents| Ok((service_edits(documents, &key, asked)?, ()))).await {
            // Deleted meanwhile: the answer will say so.
            Err(Error::NotFound(_)) => Ok(()),
            done => done,
        }
    });
    join_all(changes).await.into_iter().collect::<Result<(), Error>>()?;
    let of: Vec<(String, bool)> = ids.iter().map(|id| (id.clone(), asked)).collect();
    Ok(settled(context, patience, |documents, views| {
        let standings = running::services(documents, views, instance, &of);
        let is_settled = standings.iter().all(|standing| standing.is_settled);
        (standings, is_settled)
    })
    .await)
}

/// Starts or stops one process.
pub(super) async fn process(
    context: &Context,
    key: &Key,
    asked: bool,
    patience: Patience,
) -> Result<ProcessStanding, Error> {
    change(context, |documents| {
        refuse_declared(documents, key, asked)?;
        let document = visible(documents, key)?;
        let Spec::Process(spec) = &document.spec else { return Ok((Vec::new(), ())) };
        let own = Spec::Process(ProcessSpec { running: Some(asked), ..spec.clone() });
        let is_so = wanted(documents, key, spec) == asked;
        let edit = if is_so { None } else { by_api(document, own)? };
        Ok((Vec::from_iter(edit), ()))
    })
    .await?;
    settled(context, patience, |documents, views| {
        let standing = visible(documents, key).and_then(|document| {
            let spec = documents.process(key).ok_or_else(|| not_there(key))?;
            Ok(running::process(documents, views, document, spec, asked))
        });
        let is_settled = standing.as_ref().map_or(true, |standing| standing.is_settled);
        (standing, is_settled)
    })
    .await
}

fn not_there(key: &Key) -> Error {
    Error::NotFound(format!("{key} does not exist"))
}

/// Whether a process should run.
pub(super) fn wanted(documents: &Documents, key: &Key, spec: &ProcessSpec) -> bool {
    let service = Key::within(Kind::Service, key.namespace.as_str(), spec.service.as_str());
    crate::plan::render::wanted(spec, documents.service(&service))
}

/// What a manifest states is changed there.
fn refuse_declared(documents: &Documents, key: &Key, asked: bool) -> Result<(), Error> {
    let document = visible(documents, key)?;
    if is_declared(document) && document.states_running() == Some(!asked) {
        return Err(Error::Conflict(format!("{key}: {}", contradiction(document, asked))));
    }
    Ok(())
}

/// The service's own wish, and none of its processes' left, but for those that a manifest states.
fn service_edits(documents: &Documents, key: &Key, asked: bool) -> Result<Vec<Edit>, Error> {
    let document = visible(documents, key)?;
    let Spec::Service(service) = &document.spec else { return Ok(Vec::new()) };
    if is_declared(document) && service.running == Some(!asked) {
        return Ok(Vec::new());
    }
    let own = Spec::Service(ServiceSpec { running: Some(asked), ..service.clone() });
    let mut edits = Vec::from_iter(by_api(document, own)?);
    for (process, spec) in documents.processes_of(&key.namespace, &key.name) {
        if !process.is_deleting() && !is_declared(process) {
            let cleared = Spec::Process(ProcessSpec { running: None, ..spec.clone() });
            edits.extend(by_api(process, cleared)?);
        }
    }
    Ok(edits)
}

/// Judges what is seen now, and again whenever something changes, until it is settled or the time is over.
async fn settled<T>(
    context: &Context,
    Patience(time): Patience,
    judge: impl Fn(&Documents, &Views) -> (T, bool),
) -> T {
    let deadline = Instant::now() + time;
    let mut snapshots = context.state.changes();
    let mut views = context.observed.changes();
    loop {
        let documents = snapshots.borrow_and_update().documents.declared();
        let (answer, is_settled) = judge(&documents, &views.borrow_and_update());
        if is_settled {
            return answer;
        }
        let rang = tokio::select! {
            biased;
            () = tokio::time::sleep_until(deadline) => return answer,
            rang = snapshots.changed() => rang,
            rang = views.changed() => rang,
        };
        if rang.is_err() {
            return answer;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::api::forward::Forwarder;
    use crate::api::{Parts, Secrets};
    use crate::clock::Clock;
    use crate::metrics::Metrics;
    use crate::model::secret::{KEY_BYTES, Sealer};
    use crate::model::{Document, Metadata};
    use crate::plan::world::{Freeze, Phase, ProcessSighting};
    use crate::reconcile::connected::Connected;
    use crate::reconcile::events::Events;
    use crate::reconcile::leadership::Standing;
    use crate::reconcile::logs::Logs;
    use crate::reconcile::observed::{NodeView, Observed};
    use crate::reconcile::outlook::Outlook;
    use crate::reconcile::ping::{Pinger, TrustError};
    use crate::reconcile::placed::Placed;
    use crate::source::board::Board;
    use crate::state::{Commit, State};
    use crate::store::embedded::Embedded;

    struct Nobody;

    impl Pinger for Nobody {
        fn ping(&self, _: Key) -> BoxFuture<'_, Result<(), String>> {
            Box::pin(std::future::ready(Err("nobody is there".into())))
        }

        fn trust(&self, _: &Key) -> Result<(), TrustError> {
            Ok(())
        }
    }

    fn document(name: &str, spec: Spec) -> Document {
        let namespace = if spec.kind().is_namespaced() { "IN1" } else { "" };
        Document {
            metadata: Metadata { name: name.into(), namespace: namespace.into(), ..Metadata::default() },
            spec,
        }
    }

    fn process_on_nd1(id: &str) -> Edit {
        let spec = ProcessSpec { service: "SV1".into(), node: "ND1".into(), running: None };
        Edit::Create(document(id, Spec::Process(spec)))
    }

    async fn context(directory: &std::path::Path, placed: Option<u32>) -> Context {
        let metrics = Arc::new(Metrics::default());
        let store = Arc::new(Embedded::open(directory).unwrap());
        let state = Arc::new(State::open(store, Arc::clone(&metrics)).await.unwrap());
        let service = ServiceSpec { running: Some(false), replicas: placed, ..ServiceSpec::default() };
        let edits = [
            Edit::Create(document("IN1", Spec::Instance(Default::default()))),
            Edit::Create(document("ND1", Spec::Node(Default::default()))),
            Edit::Create(document("SV1", Spec::Service(service))),
        ];
        assert_eq!(state.commit(&edits, None).await.unwrap(), Commit::Done);
        let sealer = Sealer::new([1; KEY_BYTES]);
        let (observed, events) = (Observed::default(), Events::default());
        let logs = Logs::new(Arc::clone(&state), observed.clone(), Connected::default());
        let outlook =
            Outlook::new(observed.clone(), Path::new("mainstay"), Freeze::default(), Clock::default());
        let parts = Parts {
            outlook,
            placed: Placed::default(),
            state,
            observed,
            events,
            sealer,
            secrets: Secrets::Shown,
            metrics,
            pinger: Arc::new(Nobody),
            logs,
            standing: Standing::alone(),
            sources: Board::default(),
        };
        Context { parts, forwarder: Forwarder::default() }
    }

    fn see(context: &Context, phases: &[(&str, Phase)]) {
        let mut view = NodeView::default();
        view.sighting.planned = context.state.snapshot().revision;
        view.sighting.complete = true;
        for (id, phase) in phases {
            let (hash, live) = (String::new(), String::new());
            let sighting = ProcessSighting {
                phase: *phase,
                pid: None,
                restarts: 0,
                exit: None,
                hash,
                care: String::new(),
                lease: None,
                health: None,
                live,
                since_ms: 0,
            };
            view.sighting.processes.insert((*id).into(), sighting);
            if *phase == Phase::Running {
                view.up.insert((*id).into());
            }
        }
        context.observed.set(&("IN1".into(), "ND1".into()), &view);
    }

    /// Waits until it is written that the service runs, or does not: what is seen before that does not count.
    async fn until_asked(context: &Context, running: bool) {
        let key = Key::within(Kind::Service, "IN1", "SV1");
        let is_asked = |documents: &Documents| documents.service(&key).unwrap().running == Some(running);
        context.state.changes().wait_for(|snapshot| is_asked(&snapshot.documents)).await.unwrap();
    }

    #[tokio::test]
    async fn a_start_is_answered_when_the_processes_are_made_and_seen_to_run_and_a_stop_when_not() {
        let directory = tempfile::tempdir().unwrap();
        let context = context(directory.path(), Some(2)).await;
        let key = Key::within(Kind::Service, "IN1", "SV1");
        let patience = Patience(Duration::from_secs(20));
        let began = Instant::now();

        let others = async {
            // The placement, then the node's task.
            let pause = || tokio::time::sleep(Duration::from_millis(30));
            until_asked(&context, true).await;
            assert_eq!(context.state.commit(&[process_on_nd1("a")], None).await.unwrap(), Commit::Done);
            see(&context, &[("a", Phase::Running)]);
            pause().await;
            assert_eq!(context.state.commit(&[process_on_nd1("b")], None).await.unwrap(), Commit::Done);
            see(&context, &[("a", Phase::Running), ("b", Phase::Busy)]);
            pause().await;
            see(&context, &[("a", Phase::Running), ("b", Phase::Running)]);
        };
        let (started, ()) = tokio::join!(service(&context, &key, true, patience), others);
        let started = started.unwrap();
        assert!(started.running && started.is_settled && started.processes.len() == 2, "{started:?}");

        let others = async {
            until_asked(&context, false).await;
            see(&context, &[("a", Phase::Stopped), ("b", Phase::Stopping)]);
            tokio::time::sleep(Duration::from_millis(30)).await;
            see(&context, &[("a", Phase::Stopped), ("b", Phase::Stopped)]);
        };
        let (stopped, ()) = tokio::join!(service(&context, &key, false, patience), others);
        let stopped = stopped.unwrap();
        assert!(!stopped.running && stopped.is_settled, "{stopped:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "it was the bells and not the deadline");
    }

    #[tokio::test]
    async fn a_wait_ends_when_what_it_waits_for_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let context = context(directory.path(), None).await;
        assert_eq!(context.state.commit(&[process_on_nd1("a")], None).await.unwrap(), Commit::Done);
        let key = Key::within(Kind::Process, "IN1", "a");
        let patience = Patience(Duration::from_secs(20));
        let others = async {
            let is_asked = |documents: &Documents| documents.process(&key).unwrap().running == Some(true);
            let mut snapshots = context.state.changes();
            let documents =
                snapshots.wait_for(|snapshot| is_asked(&snapshot.documents)).await.unwrap().documents.clone();
            let found = Document::clone(documents.get(&key).unwrap());
            assert_eq!(context.state.commit(&[Edit::Remove(found)], None).await.unwrap(), Commit::Done);
        };
        let (started, ()) = tokio::join!(process(&context, &key, true, patience), others);
        assert!(matches!(started, Err(Error::NotFound(_))), "{started:?}");
    }
}
