//! Under which lease a process is to run, and for how long it may go on once nobody renews that.
//!
//! A node that does not answer has perhaps not taken up what was decided last. So what is fenced is started elsewhere by what stands in its
//! document: a bound that holds whatever the node has taken up of all that was decided so far. A longer lease is written before the node
//! is told of it, a shorter one counts once the node has said that it has it.
//!
//! **Invariant:** a bound that is not 0 is never shorter than what the node may go by. Only a longer `stop.grace-seconds` of a type
//! reaches a node that is seen at about the time at which it is written here.

use super::member::Member;
use crate::model::kinds::{FailoverSpec, ServiceSpec};
use crate::model::{Documents, Key, Kind, Metadata};

/// The lease in seconds that processes of a service are to run under, and for how many milliseconds one may go on: the lease, a tenth of it
/// for clocks that do not run alike, and the time that it is left to end by itself. Zeros when they run under none.
pub(super) fn wanted(documents: &Documents, service: &ServiceSpec) -> (u32, u64) {
    let Some(FailoverSpec::Fenced { lease }) = service.failover else { return (0, 0) };
    let kind = documents.service_type(&Key::cluster(Kind::ServiceType, service.kind.as_str()));
    let grace_ms = kind.map_or(0, |kind| u64::from(kind.stop.grace_seconds) * 1000);
    (lease.0, lease.ms() + lease.ms() / 10 + grace_ms)
}

/// What is to stand in the document of a process next; none when that is there.
pub(super) fn next(wanted: (u32, u64), member: &Member<'_>) -> Option<(u32, u64)> {
    let Metadata { lease, lease_bound_ms: bound_ms, .. } = member.document.metadata;
    let (to, to_bound_ms) = wanted;
    let next = if to == 0 {
        (0, 0)
    } else if lease != to {
        // What ran under none may still do so, and what ran under a longer one as well.
        (to, if bound_ms == 0 { 0 } else { bound_ms.max(to_bound_ms) })
    } else if bound_ms != 0 && bound_ms < to_bound_ms || runs_under(to, member) {
        (to, to_bound_ms)
    } else {
        (to, bound_ms)
    };
    (next != (lease, bound_ms)).then_some(next)
}

/// Whether a process runs under this lease, or not at all; then it will be started under it.
fn runs_under(lease: u32, member: &Member<'_>) -> bool {
    let runs_so = member.seen.is_none_or(|seen| seen.phase.is_over() || seen.lease == Some(lease));
    member.is_heard && runs_so
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::model::amount::Seconds;
    use crate::model::kinds::{ProcessSpec, ServiceTypeSpec};
    use crate::model::{Document, Spec};
    use crate::plan::near::Near;
    use crate::plan::world::{NodeSighting, Phase, ProcessSighting, World};

    const TEN: (u32, u64) = (10, 21_000);
    const TWENTY: (u32, u64) = (20, 32_000);

    /// What is to stand there next, when this stands there and a process is seen so.
    fn after(
        wanted: (u32, u64),
        stands: (u32, u64),
        seen: Option<(Phase, Option<u32>)>,
    ) -> Option<(u32, u64)> {
        let spec = ProcessSpec { service: "s".into(), node: "n".into(), running: None };
        let metadata = Metadata {
            name: "p".into(),
            namespace: "i".into(),
            lease: stands.0,
            lease_bound_ms: stands.1,
            ..Metadata::default()
        };
        let document = Document { metadata, spec: Spec::Process(spec.clone()) };
        let documents: Documents = [document.clone()].into_iter().collect();
        let processes = seen.map(|(phase, lease)| {
            let (hash, care, live) = Default::default();
            let sighting = ProcessSighting {
                phase,
                pid: None,
                restarts: 0,
                exit: None,
                hash,
                care,
                lease,
                live,
                health: None,
                since_ms: 0,
            };
            ("p".to_owned(), sighting)
        });
        let node = NodeSighting {
            complete: true,
            processes: processes.into_iter().collect(),
            ..NodeSighting::default()
        };
        let seen = BTreeMap::from([(("i".to_owned(), "n".to_owned()), node)]);
        let world = World::at(&documents, &seen, 0);
        let near = Near { document: None, seen: seen.values().next() };
        let service = ServiceSpec::default();
        next(wanted, &Member::new(&world, &Arc::new(document), &spec, near, (&service, None)))
    }

    #[test]
    fn a_lease_is_that_of_the_service_and_its_bound_leaves_time_to_end() {
        let service = ServiceSpec {
            kind: "web".into(),
            failover: Some(FailoverSpec::Fenced { lease: Seconds(10) }),
            ..ServiceSpec::default()
        };
        let metadata = Metadata { name: "web".into(), ..Metadata::default() };
        let kind = Document { metadata, spec: Spec::ServiceType(ServiceTypeSpec::default()) };
        assert_eq!(wanted(&[kind].into_iter().collect(), &service), TEN);
        assert_eq!(wanted(&Documents::default(), &ServiceSpec::default()), (0, 0));
    }

    #[test]
    fn what_runs_under_none_has_no_bound_until_its_node_says_that_it_has_taken_one_up() {
        let running = |lease| Some((Phase::Running, lease));
        assert_eq!(after(TEN, (0, 0), running(None)), Some((10, 0)));
        assert_eq!(after(TEN, (10, 0), running(None)), None);
        assert_eq!(after(TEN, (10, 0), running(Some(10))), Some(TEN));
        assert_eq!(after(TEN, (10, 0), None), Some(TEN), "whatever is started there is started under it");
        assert_eq!(after(TEN, TEN, running(Some(10))), None);
    }

    #[test]
    fn a_longer_lease_counts_at_once_and_a_shorter_one_when_the_node_has_it() {
        let running = |lease| Some((Phase::Running, Some(lease)));
        assert_eq!(after(TWENTY, TEN, running(10)), Some(TWENTY));
        assert_eq!(after(TEN, TWENTY, running(20)), Some((10, TWENTY.1)));
        assert_eq!(after(TEN, (10, TWENTY.1), running(20)), None);
        assert_eq!(after(TEN, (10, TWENTY.1), running(10)), Some(TEN));
    }

    #[test]
    fn what_is_fenced_no_more_has_no_bound_before_its_node_is_told() {
        assert_eq!(after((0, 0), TEN, Some((Phase::Running, Some(10)))), Some((0, 0)));
        assert_eq!(after((0, 0), (0, 0), None), None);
    }
}
