//! Who is there: all processes of this machine that belong to a world, told apart by what they are. Looked at from outside, in
//! /proc, with no help of what Mainstay says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::support;

/// A live process, no zombie.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) session: u32,
    /// When it started: with the pid, who it is.
    pub(crate) start: u64,
    pub(crate) argv: Vec<String>,
    environ: Vec<u8>,
}

impl Seen {
    /// Looks at a process; none when it is gone or a zombie.
    pub(crate) fn look(pid: u32) -> Option<Seen> {
        let (parent, session, start) = look_at_stat(pid)?;
        let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let argv = words(&read("cmdline"));
        Some(Seen { pid, parent, session, start, argv, environ: read("environ") })
    }

    fn has_variable(&self, name: &str, value: &str) -> bool {
        let wanted = format!("{name}={value}");
        self.environ.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
    }

    fn mentions(&self, text: &str) -> bool {
        let in_environ = || self.environ.windows(text.len()).any(|window| window == text.as_bytes());
        self.argv.iter().any(|word| word.contains(text)) || in_environ()
    }

    /// The words after these in its command line.
    fn after(&self, words: [&str; 2]) -> Option<&[String]> {
        let at = self.argv.windows(2).position(|pair| pair == words)?;
        Some(&self.argv[at + 2..])
    }

    /// For people: who this is, without the long script in its command line.
    pub(crate) fn describe(&self) -> String {
        let short = |word: &String| word.chars().take(60).collect::<String>().replace('\n', " ");
        let argv: Vec<String> = self.argv.iter().take(9).map(short).collect();
        let Seen { pid, parent, session, start, .. } = self;
        format!("pid {pid} parent {parent} session {session} start {start}: {}", argv.join(" "))
    }
}

/// Parent, session and start time of a live process.
pub(crate) fn look_at_stat(pid: u32) -> Option<(u32, u32, u64)> {
    let fields = support::stat(pid)?;
    if matches!(fields[0].as_str(), "Z" | "X") {
        return None;
    }
    Some((fields[1].parse().ok()?, fields[3].parse().ok()?, fields[19].parse().ok()?))
}

/// A command line as words.
pub(crate) fn words(cmdline: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(cmdline);
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// The pids that /proc shows now.
pub(crate) fn pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").expect("there is a /proc");
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// What to tell processes apart by.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    /// The folder of the world itself: data folders, manifests, the service's program.
    pub(crate) world: PathBuf,
    /// The folder of each node's sshd.
    pub(crate) nodes: Vec<PathBuf>,
    /// The service's program.
    pub(crate) service: String,
    /// Ids of all processes.
    pub(crate) processes: BTreeSet<String>,
}

/// What lives on behalf of one node's link.
#[derive(Debug, Default)]
pub(crate) struct Linked {
    /// The ssh of the controller's side.
    pub(crate) masters: Vec<Seen>,
    /// The shells of the node's side: by nonce, for a conversation has two.
    pub(crate) shells: BTreeMap<String, Vec<Seen>>,
    /// What follows the events.
    pub(crate) tails: Vec<Seen>,
}

impl Linked {
    /// True when nothing of a link is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.masters.is_empty() && self.shells.is_empty() && self.tails.is_empty()
    }
}

/// What lives of one process.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// The program itself: one a copy.
    pub(crate) roots: Vec<Seen>,
    pub(crate) supervisors: Vec<Seen>,
    /// The program and all that it started.
    pub(crate) members: Vec<Seen>,
}

/// All that belongs to a world.
#[derive(Debug, Default)]
pub(crate) struct Census {
    pub(crate) links: Vec<Linked>,
    pub(crate) trees: BTreeMap<String, Tree>,
    /// Controllers, sshds, short-lived helpers.
    pub(crate) others: Vec<Seen>,
}

impl Census {
    /// Looks at all processes of this machine.
    pub(crate) fn take(marks: &Marks) -> Census {
        let mut census = Census::default();
        census.links.resize_with(marks.nodes.len(), Linked::default);
        for id in &marks.processes {
            census.trees.insert(id.clone(), Tree::default());
        }
        for seen in pids().filter(|pid| *pid != std::process::id()).filter_map(Seen::look) {
            census.sort_in(marks, seen);
        }
        census
    }

    fn sort_in(&mut self, marks: &Marks, seen: Seen) {
        let name = |path: &Path| path.display().to_string();
        let Some(node) = marks.nodes.iter().position(|node| seen.mentions(&name(node))) else {
            if seen.mentions(&name(&marks.world)) {
                self.others.push(seen);
            }
            return;
        };
        let id = seen.after(["mainstay", "run"]).and_then(|words| words.get(2));
        if let Some(tree) = id.and_then(|id| self.trees.get_mut(id)) {
            // What it forks has the same command line until it becomes something else.
            if seen.session == seen.pid && seen.argv[0] != "setsid" && !seen.argv[0].ends_with("/setsid") {
                tree.supervisors.push(seen);
            } else {
                self.others.push(seen);
            }
            return;
        }
        if let Some(tree) = self
            .trees
            .iter_mut()
            .find(|(id, _)| seen.has_variable("MAINSTAY_PROCESS", id))
            .map(|(_, tree)| tree)
        {
            if is_root(&seen.argv, &marks.service) && seen.session == seen.pid {
                tree.roots.push(seen.clone());
            }
            tree.members.push(seen);
            return;
        }
        let link = &mut self.links[node];
        if let Some([nonce, ..]) = seen.after(["mainstay", "link"]) {
            link.shells.entry(nonce.clone()).or_default().push(seen);
        } else if seen.argv.first().is_some_and(|program| program == "ssh") {
            link.masters.push(seen);
        } else if seen.argv.first().is_some_and(|program| program == "tail")
            && seen.argv.last().is_some_and(|file| file.ends_with("/events"))
        {
            link.tails.push(seen);
        } else {
            self.others.push(seen);
        }
    }

    /// Pids of who is meant to stay: programs, supervisors and what links are made of.
    pub(crate) fn lasting(&self) -> Vec<u32> {
        let links = self.links.iter().flat_map(|link| link.masters.iter().chain(&link.tails));
        let trees = self.trees.values().flat_map(|tree| tree.roots.iter().chain(&tree.supervisors));
        links.chain(trees).map(|seen| seen.pid).collect()
    }

    /// Shells, ssh and what else nobody is responsible for any more: helpers of a supervisor that lives are not among them, and
    /// a pause of one that was killed ends by itself.
    pub(crate) fn left_over(&self, known: &[u32]) -> impl Iterator<Item = &Seen> {
        let supervisors: BTreeSet<u32> =
            self.trees.values().flat_map(|tree| &tree.supervisors).map(|seen| seen.pid).collect();
        // One of each a node, for as long as something runs there.
        let one_a_node = |helper: &'static str| -> BTreeMap<Option<&String>, u32> {
            let leaders = self.others.iter().filter(|seen| seen.session == seen.pid);
            leaders.filter_map(|seen| Some((seen.after(["mainstay", helper])?.first(), seen.pid))).collect()
        };
        let helpers: BTreeSet<u32> =
            ["keeper", "guard"].into_iter().flat_map(|helper| one_a_node(helper).into_values()).collect();
        let is_pause = |seen: &Seen| seen.argv.first().is_some_and(|program| program == "sleep");
        self.others.iter().filter(move |seen| {
            !known.contains(&seen.pid)
                && !supervisors.contains(&seen.session)
                && !helpers.contains(&seen.session)
                && !is_pause(seen)
        })
    }

    /// Everyone.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Seen> {
        let links = self
            .links
            .iter()
            .flat_map(|link| link.masters.iter().chain(link.shells.values().flatten()).chain(&link.tails));
        let trees = self.trees.values().flat_map(|tree| tree.supervisors.iter().chain(&tree.members));
        links.chain(trees).chain(&self.others)
    }

    /// For people.
    pub(crate) fn describe(&self) -> String {
        self.all().map(|seen| format!("  {}\n", seen.describe())).collect()
    }
}

/// Whether a command line is the service's program. What it forks has the same one, but does not lead a session.
pub(crate) fn is_root(argv: &[String], service: &str) -> bool {
    matches!(argv, [shell, program, ..] if shell == "/bin/sh" && program == service)
}
