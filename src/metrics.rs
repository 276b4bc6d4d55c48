//! Counters of what was done. Counting happens where things are done, never where they are decided.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// All counters, and the registry that shows them.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Transactions that changed documents.
    pub store_writes: Counter,
    /// Batches of steps that were sent to nodes. Each changes something there.
    pub node_batches: Counter,
    /// Steps in those batches.
    pub node_steps: Counter,
    /// Times that a node's plan was made.
    pub node_passes: Counter,
    /// Times that the placement was made.
    pub place_passes: Counter,
    /// Connections to nodes that were opened.
    pub connects: Counter,
    /// Connections to nodes that failed to open.
    pub connect_failures: Counter,
    /// Nodes that are connected now.
    pub nodes_connected: Gauge,
    /// Artifacts that were sent to nodes, complete.
    pub artifacts_sent: Counter,
    /// Artifacts that could not be sent; they are tried again.
    pub artifact_failures: Counter,
    /// Times that a source of manifests (a folder, a Git repository) was read.
    pub source_reads: Counter,
    /// Readings of a source that were refused.
    pub source_refusals: Counter,
    /// Times that a Git repository was asked for news.
    pub git_fetches: Counter,
    /// Those of them that failed.
    pub git_failures: Counter,
    /// Sources that are not applied as they stand, for something is wrong with them.
    pub sources_refused: Gauge,
    /// Sources that wait for people to approve what they would delete.
    pub sources_waiting: Gauge,
    /// 1 while this server leads.
    pub leading: Gauge,
    /// Where the leader's API is: 1 with that as a label.
    pub leader_address: Family<Vec<(String, String)>, Gauge>,
    /// The leader's epoch; 0 when nobody is known to lead. So are the other two of the leader.
    pub leader_epoch: Gauge,
    /// The store's revision at which it was elected.
    pub leader_revision: Gauge,
    /// Since when it leads, in seconds since 1970.
    pub leader_since: Gauge,
    /// The store's revision that is read here.
    pub snapshot_revision: Gauge,
    /// Connections to the API that are open now.
    pub api_connections: Gauge,
    /// Connections to the API that were closed to make room for others.
    pub api_evictions: Counter,
    /// Requests that were refused because too many others were being worked on.
    pub api_overloads: Counter,
    /// Lines of the audit log that could not be written.
    pub audit_failures: Counter,
    /// How long ago the documents that are read were last known to be what the store holds, in seconds.
    pub snapshot_age: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// All of them in the Prometheus text format (OpenMetrics 1.0).
    pub fn text(&self) -> String {
        let mut registry = Registry::with_prefix("mainstay");
        let mut counter = |name: &str, help: &str, counter: &Counter| {
            registry.register(name, help, counter.clone());
        };
        counter("store_writes", "Transactions that changed documents", &self.store_writes);
        counter("node_batches", "Batches of steps sent to nodes", &self.node_batches);
        counter("node_steps", "Steps in those batches", &self.node_steps);
        counter("node_passes", "Times that a node's plan was made", &self.node_passes);
        counter("place_passes", "Times that the placement was made", &self.place_passes);
        counter("connects", "Connections to nodes that were opened", &self.connects);
        counter("connect_failures", "Connections to nodes that failed to open", &self.connect_failures);
        counter("artifacts_sent", "Artifacts sent to nodes, complete", &self.artifacts_sent);
        counter("artifact_failures", "Artifacts that could not be sent", &self.artifact_failures);
        counter("source_reads", "Times that a source of manifests was read", &self.source_reads);
        counter("source_refusals", "Readings of a source that were refused", &self.source_refusals);
        counter("git_fetches", "Times that a Git repository was asked for news", &self.git_fetches);
        counter("git_failures", "Times that a Git repository could not be fetched", &self.git_failures);
        counter("api_evictions", "Connections to the API closed to make room", &self.api_evictions);
        counter("api_overloads", "Requests refused because of too many others", &self.api_overloads);
        counter("audit_failures", "Lines of the audit log that could not be written", &self.audit_failures);
        registry.register("api_connections", "Connections to the API open now", self.api_connections.clone());
        registry.register("nodes_connected", "Nodes that are connected now", self.nodes_connected.clone());
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
        gauge(
            "sources_refused",
            "Sources of manifests that are not applied as they stand",
            &self.sources_refused,
        );
        gauge("sources_waiting", "Sources that wait for an approval of deletions", &self.sources_waiting);
        gauge("leading", "1 while this server leads", &self.leading);
        registry.register("leader", "1, with where the leader's API is", self.leader_address.clone());
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
        gauge("leader_epoch", "The leader's epoch; 0 when nobody leads", &self.leader_epoch);
        gauge(
            "leader_revision",
            "The store's revision at which the leader was elected",
            &self.leader_revision,
        );
        gauge(
            "leader_since_seconds",
            "Since when the leader leads, in seconds since 1970",
            &self.leader_since,
        );
        gauge("snapshot_revision", "The store's revision that is read here", &self.snapshot_revision);
        registry.register(
            "store_snapshot_age_seconds",
            "How long ago the documents were last known to be what the store holds",
            self.snapshot_age.clone(),
        );
        let mut text = String::new();
        encode(&mut text, &registry).expect("writing to a string can't fail");
        text
    }
}
