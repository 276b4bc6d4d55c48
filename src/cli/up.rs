//! `mainstay up DIR`, or `up --git URL`: everything in one, for as long as one watches.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crossterm::{cursor, queue, terminal};
use sha2::{Digest, Sha256};
use tokio::signal::unix::SignalKind;

use super::view::{self, Scene};
use super::wire::{self, Door, Running, Settings, StartError};
use super::{Outcome, UpArguments};
use crate::model::secret::hex;
use crate::plan::world::Freeze;
use crate::source::git::Address;

/// How long everything may take to stop; longer than any sensible grace.
const HALT_LIMIT: Duration = Duration::from_secs(60);

/// How often the tree is drawn at most, and at least (for the ages).
const FASTEST: Duration = Duration::from_millis(50);
const SLOWEST: Duration = Duration::from_secs(1);

pub(super) async fn run(arguments: UpArguments) -> Outcome {
    let started = Instant::now();
    let mut asked = tokio::spawn(asked_to_end());
    let UpArguments { folder, sources, data_dir, mut listen } = arguments;
    let door = match Door::open(&listen) {
        // Another `up` or `serve` has the usual port; that is no reason not to run.
        Err(error)
            if listen.listen == "127.0.0.1:8080"
                && matches!(error.downcast_ref(), Some(StartError::Listen { .. })) =>
        {
            listen.listen = "127.0.0.1:0".into();
            Door::open(&listen)?
        }
        other => other?,
    };
    let url = door.url()?;
    let temporary = match &data_dir {
        Some(_) => None,
        None => Some(temporary_dir(folder.as_deref(), &sources.git)?),
    };
    let running = wire::start(Settings {
        data_dir: data_dir.or_else(|| temporary.clone()).unwrap_or_default(),
        etcd: None,
        secret_key: None,
        manifests: folder.into_iter().collect(),
        prune: sources.prune(),
        git_interval: sources.interval(),
        git: sources.git,
        catalogue: true,
        lease: wire::ALONE,
        freeze: Freeze::default(),
        address: Some(url.clone()),
        audit: listen.audit,
    })
    .await?;
    let server = running.serve(door);
    let mut screen = Screen::new(started);
    screen.say(&format!("mainstay: API at {url}/1.0 · Ctrl-C stops everything"));

    let mut sightings = running.observed.changes();
    let mut snapshots = running.state.changes();
    let mut decisions = running.placed.changes();
    let mut sources = running.sources.changes();
    loop {
        screen.show(&scene(&running));
        tokio::select! {
            _ = &mut asked => break,
            _ = sightings.changed() => {}
            _ = snapshots.changed() => {}
            _ = decisions.changed() => {}
            () = sources.next() => {}
            () = tokio::time::sleep(SLOWEST) => {}
        }
        // What comes together is drawn together.
        tokio::select! {
            _ = &mut asked => break,
            () = tokio::time::sleep(FASTEST) => {}
        }
        sightings.mark_unchanged();
        snapshots.mark_unchanged();
        decisions.mark_unchanged();
        sources.mark_unchanged();
    }

    screen.say("mainstay: stopping what was started (Ctrl-C again leaves it running)");
    let again = async {
        // One Ctrl-C may come as two signals: from the terminal, and from whoever started us.
        tokio::time::sleep(Duration::from_millis(500)).await;
        asked_to_end().await;
    };
    let halted = async {
        let halting = running.controller.halt(HALT_LIMIT);
        tokio::pin!(halting);
        loop {
            tokio::select! {
                left = &mut halting => return left,
                () = tokio::time::sleep(FASTEST) => screen.show(&scene(&running)),
            }
        }
    };
    let left = tokio::select! {
        left = halted => left,
        () = again => {
            eprintln!("mainstay: left as it is");
            return Ok(ExitCode::FAILURE);
        }
    };
    screen.show(&scene(&running));
    server.end().await;
    running.end().await;
    if left.is_empty() {
        if let Some(folder) = temporary {
            std::fs::remove_dir_all(folder)?;
        }
        println!("mainstay: everything is stopped");
        return Ok(ExitCode::SUCCESS);
    }
    for ((instance, node), view) in left {
        eprintln!("mainstay: {}", view::left_behind(&instance, &node, &view));
    }
    Ok(ExitCode::FAILURE)
}

/// Besides the usual, the end of the terminal that one watches in.
async fn asked_to_end() {
    wire::signalled(&[SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]).await;
}

fn scene(running: &Running) -> Scene {
    let snapshot = running.state.snapshot();
    Scene {
        documents: snapshot.documents,
        revision: snapshot.revision,
        nodes: running.observed.all(),
        services: running.placed.last().services.clone(),
        sources: running.sources.all(),
        now_ms: running.clock.now_ms(),
    }
}

/// A folder that is the same for the same manifests, so that an `up` that was killed is taken up again by the next, with
/// all it had started; a second one beside it is refused by the store's lock.
fn temporary_dir(manifests: Option<&Path>, git: &[Address]) -> Result<PathBuf, StartError> {
    let mut digest = Sha256::new();
    if let Some(manifests) = manifests {
        let full = manifests
            .canonicalize()
            .map_err(|source| StartError::Manifests { path: manifests.to_owned(), source })?;
        digest.update(full.as_os_str().as_encoded_bytes());
    }
    for address in git {
        digest.update(format!("\0{address}"));
    }
    let digest = digest.finalize();
    let uid = rustix::process::getuid().as_raw();
    let base = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let path = base.join(format!("mainstay-up-{uid}-{}", hex(&digest[..6])));
    let failed = |source| StartError::DataDir { path: path.clone(), source };
    wire::make_private(&path).map_err(failed)?;
    // In a folder where everyone may write, somebody else could have made it.
    let metadata = std::fs::symlink_metadata(&path).map_err(failed)?;
    if !metadata.is_dir() || metadata.uid() != uid || metadata.mode() & 0o077 != 0 {
        return Err(failed(std::io::Error::other(
            "it belongs to somebody else; remove it or give --data-dir",
        )));
    }
    Ok(path)
}

/// Where it is shown: a tree that is drawn over itself on a terminal, else a line for each change.
struct Screen {
    is_terminal: bool,
    drawn: Vec<String>,
    told: BTreeMap<String, String>,
    was_running: bool,
    started: Instant,
}

impl Screen {
    fn new(started: Instant) -> Screen {
        Screen {
            is_terminal: std::io::stdout().is_terminal(),
            drawn: Vec::new(),
            told: BTreeMap::new(),
            was_running: false,
            started,
        }
    }

    /// A line that stays.
    fn say(&mut self, line: &str) {
        println!("{line}");
        self.drawn.clear();
    }

    fn show(&mut self, scene: &Scene) {
        if self.is_terminal {
            // A terminal that is gone is no reason to stop what runs.
            let _ = self.draw(view::tree(scene));
        } else {
            for (what, how) in view::facts(scene) {
                if self.told.get(&what) != Some(&how) {
                    println!("{what}: {how}");
                    self.told.insert(what, how);
                }
            }
        }
        let is_running = view::is_all_running(scene);
        if is_running && !self.was_running && !self.is_terminal {
            println!(
                "{} ({:.1} s after the start)",
                view::summary(scene),
                self.started.elapsed().as_secs_f64()
            );
        }
        self.was_running = is_running;
        let _ = std::io::stdout().flush();
    }

    fn draw(&mut self, lines: Vec<String>) -> std::io::Result<()> {
        let (width, height) = terminal::size().unwrap_or((80, 24));
        let room = usize::from(height.saturating_sub(1)).max(1);
        let shown: Vec<String> = lines
            .into_iter()
            .take(room)
            .map(|line| line.chars().take(usize::from(width)).collect())
            .collect();
        if shown == self.drawn {
            return Ok(());
        }
        let mut out = std::io::stdout();
        if !self.drawn.is_empty() {
            let up = u16::try_from(self.drawn.len().min(usize::from(height))).unwrap_or(height);
            queue!(
                out,
                cursor::MoveToPreviousLine(up),
                terminal::Clear(terminal::ClearType::FromCursorDown)
            )?;
        }
        for line in &shown {
            writeln!(out, "{line}")?;
        }
        self.drawn = shown;
        out.flush()
    }
}
