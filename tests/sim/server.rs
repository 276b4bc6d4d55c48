//! A simulated server: the real state, election and loops, on the simulated store and network. It is started again when it died.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mainstay::clock::Clock;
use mainstay::metrics::Metrics;
use mainstay::model::secret::{KEY_BYTES, Sealer};
use mainstay::plan::world::Freeze;
use mainstay::reconcile::controller::{Controller, Parts};
use mainstay::reconcile::events::Events;
use mainstay::reconcile::leadership::Leadership;
use mainstay::reconcile::observed::Observed;
use mainstay::reconcile::placed::Placed;
use mainstay::reconcile::target::Common;
use mainstay::state::State;
use mainstay::state::leader::Candidate;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::net::Net;
use crate::store::Sim;
use crate::world::{EPOCH_MS, Health, Running, Server, World};

/// What templates know our program as.
pub(crate) const PROGRAM: &str = "/mainstay";

/// How long a leader's lease lasts.
pub(crate) const LEASE: Duration = Duration::from_secs(6);

/// When failover is frozen: sooner over than by default, for no run is that long.
pub(crate) const FREEZE: Freeze = Freeze { above_percent: 30, settle_ms: 10_000 };

/// The key that all servers have.
pub(crate) fn sealer() -> Sealer {
    Sealer::new([7; KEY_BYTES])
}

/// Starts a server. Where its store does not answer, it tries again, as whoever supervises servers does.
pub(crate) async fn start(world: World, name: String) {
    let who = world.with(|inner| {
        inner.last_who += 1;
        let who = inner.last_who;
        inner.say(format!("{name} starts, as {name}#{who}"));
        let server = Server {
            name: name.clone(),
            health: watch::Sender::new(Health::Runs),
            effects: 0,
            stale_until: 0,
            parts: None,
        };
        inner.servers.insert(who, server);
        who
    });
    let metrics = Arc::new(Metrics::default());
    let state = loop {
        let store = Arc::new(Sim { world: world.clone(), who });
        match State::open(store, Arc::clone(&metrics)).await {
            Ok(state) => break Arc::new(state),
            Err(_) => sleep(Duration::from_secs(1)).await,
        }
    };
    let clock = {
        let (world, name) = (world.clone(), name.clone());
        Clock::new(move || {
            let ms = world.with(|inner| {
                let off = inner.wall_off_ms.get(&name).copied().unwrap_or(0);
                (EPOCH_MS + inner.now()).saturating_add_signed(off)
            });
            SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
        })
    };
    let candidate = Candidate { server: format!("{name}#{who}"), address: None };
    let leadership = Leadership::start(Arc::clone(&state), candidate, LEASE, clock.clone());
    let (observed, placed) = (Observed::default(), Placed::default());
    let net = Arc::new(Net { world: world.clone(), who });
    let controller = Controller::start(Parts {
        state,
        tenures: leadership.tenures(),
        metrics,
        ssh: Arc::<Net>::clone(&net),
        local: net,
        common: Common {
            sealer: sealer(),
            cluster: "c".into(),
            data_dir: PathBuf::from("/nowhere"),
            connect_timeout: Duration::from_secs(10),
        },
        program: PathBuf::from(PROGRAM),
        observed: observed.clone(),
        placed: placed.clone(),
        freeze: FREEZE,
        events: Events::default(),
        clock: clock.clone(),
    });
    world.with(|inner| {
        if let Some(server) = inner.servers.get_mut(&who)
            && *server.health.borrow() != Health::Dead
        {
            server.parts = Some(Running { observed, controller, leadership, placed, clock });
        }
    });
}
