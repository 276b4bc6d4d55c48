//! Rules of the house that a compiler does not check: which way imports point, and what the pure core may not touch.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The rooms from the inside out, and what each may import besides itself.
const ROOMS: [(&str, &[&str]); 14] = [
    ("model", &[]),
    ("plan", &["model"]),
    ("clock", &[]),
    ("metrics", &[]),
    ("home", &[]),
    ("artifact", &["model", "home"]),
    ("store", &[]),
    ("state", &["model", "store", "metrics"]),
    ("node", &["model", "plan", "home"]),
    ("reconcile", &["model", "plan", "clock", "metrics", "store", "state", "node", "home", "artifact"]),
    ("source", &["model", "clock", "metrics", "state", "artifact", "reconcile::events"]),
    ("api", &["model", "plan", "clock", "metrics", "store", "state", "reconcile", "source::board"]),
    ("edge", &["clock", "metrics", "state", "api"]),
    (
        "cli",
        &[
            "model",
            "plan",
            "clock",
            "metrics",
            "home",
            "store",
            "state",
            "node",
            "reconcile",
            "source",
            "api",
            "edge",
        ],
    ),
];

/// What a pure room may not name: clocks, randomness, I/O, tasks, logs.
const IMPURE: [&str; 15] = [
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::process",
    "std::env",
    "std::time",
    "std::thread",
    "tokio",
    "tracing",
    "jiff",
    "rusqlite",
    "new_v4",
    "getrandom",
    "async fn",
    ".await",
];

fn sources(folder: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.insert(path, text);
        }
    }
}

fn all() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    sources(Path::new("src"), &mut found);
    found
}

/// The room that a file is in: `src/plan/node.rs` and `src/plan.rs` are in `plan`.
fn room(path: &Path) -> String {
    let inside = path.strip_prefix("src").unwrap();
    inside.components().next().unwrap().as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// The text without its unit tests and comments.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn imports_point_inward() {
    let mut wrong = Vec::new();
    for (path, text) in all() {
        let room = room(&path);
        if room == "main" || room == "lib" {
            continue;
        }
        let (_, allowed) = ROOMS.iter().find(|(name, _)| *name == room).unwrap_or_else(|| {
            panic!("{} is in no room that this test knows", path.display());
        });
        for part in code(&text).split("crate::").skip(1) {
            let named: String =
                part.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':')).collect();
            let is_fine = named.split("::").next() == Some(room.as_str())
                || allowed
                    .iter()
                    .any(|allowed| named == *allowed || named.starts_with(&format!("{allowed}::")));
            if !is_fine {
                wrong.push(format!("{}: crate::{named}", path.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_core_is_pure() {
    let mut wrong = Vec::new();
    for (path, text) in all() {
        if matches!(room(&path).as_str(), "model" | "plan") {
            let code = code(&text);
            for word in IMPURE {
                if code.contains(word) {
                    wrong.push(format!("{}: {word}", path.display()));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_line_protocol_is_pure_too() {
    let code = code(&std::fs::read_to_string("src/node/protocol.rs").unwrap());
    for word in IMPURE {
        assert!(!code.contains(word), "{word}");
    }
}

#[test]
fn nothing_unsafe_and_no_file_that_no_module_declares() {
    let files = all();
    let everything: String = files.values().map(String::as_str).collect();
    for (path, text) in &files {
        assert!(!code(text).contains("unsafe "), "{}", path.display());
        let stem = path.file_stem().unwrap().to_string_lossy();
        if !matches!(&*stem, "main" | "lib") {
            let name = if stem == "mod" {
                path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned()
            } else {
                stem.into_owned()
            };
            assert!(everything.contains(&format!("mod {name};")), "{} is declared nowhere", path.display());
        }
    }
}
