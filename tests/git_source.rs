//! A Git source against a real repository and a real OpenSSH server: what is pushed runs, a bad commit changes nothing and is named, a
//! revert brings back what was.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

mod support;
use support::program::{Program, call, counter, get};
use support::served::Served;
use support::sshd::{Sshd, user};
use support::wait_for;

/// A bare repository, a clone of it to work in, and what is served from it.
struct World {
    folder: TempDir,
    mark: String,
}

impl Drop for World {
    fn drop(&mut self) {
        support::kill_all(&self.mark);
    }
}

impl World {
    fn new() -> World {
        let world = World { folder: TempDir::new().unwrap(), mark: uuid::Uuid::new_v4().to_string() };
        let bare = world.bare().display().to_string();
        world.git(&["init", "--quiet", "--bare", "--initial-branch=main", &bare]);
        world.git(&["clone", "--quiet", &bare, "work"]);
        world
    }

    fn bare(&self) -> PathBuf {
        self.folder.path().join("fleet.git")
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// git, as nobody in particular has set it up; what it says.
    fn git(&self, arguments: &[&str]) -> String {
        let work = self.work();
        let mut command = Command::new("git");
        command.args(arguments).current_dir(if work.exists() { &work } else { self.folder.path() });
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        for name in ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"] {
            command.env(name, "A tester");
        }
        for name in ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"] {
            command.env(name, "tester@example.org");
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.work().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Commits all there is, and pushes; the commit's id.
    fn push(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.git(&["push", "--quiet", "origin", "HEAD:main"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// A server that is told by the hook alone, for it asks by itself once an hour.
    fn serve(&self, path: &str) -> Served {
        let address = format!("{}#main{path}", self.bare().display());
        Served::start(&self.data(), &["--git", &address, "--git-interval", "3600"])
    }

    /// The versions that really run, as the processes' environments say.
    fn versions(&self) -> Vec<String> {
        let mut found: Vec<String> =
            support::variable_of(&self.mark, "V").into_iter().map(|(_, version)| version).collect();
        found.sort();
        found.dedup();
        found
    }

    fn service(&self, version: &str) -> String {
        format!(
            "apiVersion: mainstay.dev/v1\nkind: Service\nmetadata: {{name: SV1, namespace: IN1}}\nspec:\n  name: web\n  type: timer\n  \
             command: [sleep, '1000']\n  env: {{V: '{version}', MARK: {}}}\n  nodes: [ND1]\n",
            self.mark
        )
    }
}

fn source(served: &Served) -> Value {
    let (status, text) = get(&format!("{}/sources", served.api)).unwrap();
    assert_eq!(status, 200, "{text}");
    serde_json::from_str::<Value>(&text).unwrap()[0].clone()
}

fn hook(served: &Served) {
    // Whatever a repository's server sends with it.
    let (status, text) =
        call("POST", &format!("{}/hooks/git", served.api), r#"{"ref": "refs/heads/x"}"#).unwrap();
    assert_eq!(status, 202, "{text}");
}

fn until(served: &Served, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    wait_for(what, || {
        last = source(served);
        is_so(&last)
    });
    last
}

const INSTANCE: &str = "apiVersion: mainstay.dev/v1\nkind: Instance\nmetadata: {name: IN1}\nspec: {name: a, zk: 'z:1', redis: 'redis://r'}\n";

fn tenant(name: &str, version: u64) -> String {
    format!(
        "apiVersion: mainstay.dev/v1\nkind: Tenant\nmetadata: {{name: {name}}}\nspec: {{name: v{version}}}\n"
    )
}

#[test]
fn what_is_pushed_runs_a_bad_commit_is_refused_and_a_revert_restores() {
    let sshd = Sshd::start();
    let world = World::new();
    let node = format!(
        "apiVersion: mainstay.dev/v1\nkind: Node\nmetadata: {{name: ND1, namespace: IN1}}\nspec:\n  name: a\n  ip-address: 127.0.0.1\n  \
         port: {}\n  username: {}\n  identity-file: {}\n",
        sshd.port(),
        user(),
        sshd.identity_file()
    );
    world.write("deploy/instance.yaml", INSTANCE);
    world.write("deploy/node.yaml", &node);
    world.write("deploy/web.yaml", &world.service("1"));
    world.write("elsewhere/not-ours.yaml", "kind: [\n");
    let first = world.push("first");

    let served = world.serve(":deploy");
    wait_for("the first version to run", || world.versions() == ["1"]);
    let status = until(&served, "it to be told", |status| status["applied-revision"] == first.as_str());
    assert_eq!((&status["documents"], &status["kind"]), (&json!(3), &json!("git")));
    assert_eq!(status["name"], format!("git {}#main:deploy", world.bare().display()));

    // A push, and the hook: a running change.
    world.write("deploy/web.yaml", &world.service("2"));
    let second = world.push("second");
    hook(&served);
    wait_for("the second version to run", || world.versions() == ["2"]);
    until(&served, "it to be told", |status| status["applied-revision"] == second.as_str());
    let events = served.get("/events");
    let said = |what: &str| {
        events.as_array().unwrap().iter().any(|event| event["message"].as_str().unwrap().contains(what))
    };
    assert!(said(&format!("1 updated at {second}")), "{events:#}");

    // A bad commit: named, with its place, and nothing changes.
    world.write("deploy/web.yaml", &world.service("3").replace("nodes: [ND1]", "nodse: [ND1]"));
    let third = world.push("bad");
    hook(&served);
    let status = until(&served, "the refusal", |status| status["problems"] != json!([]));
    assert_eq!((&status["revision"], &status["applied-revision"]), (&json!(third), &json!(second)));
    let problem = &status["problems"][0];
    assert_eq!(
        problem["message"],
        "deploy/web.yaml:9:3: spec.nodse: unknown field `nodse`; did you mean `nodes`?"
    );
    assert_eq!(problem["excerpt"], "  9 |   nodse: …\n    |   ^");
    assert!(
        served.program.said().contains(&format!("at {third}: deploy/web.yaml:9:3: ")),
        "{}",
        served.program.said()
    );
    assert_eq!(world.versions(), ["2"]);
    let mut mainstay = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    let listed = mainstay.args(["source", "list", "--server", &served.api]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed
            .contains(&format!("{third} is refused, the last good state stays:\n    deploy/web.yaml:9:3: ")),
        "{listed}"
    );

    // What goes on meanwhile is what was good, over a restart, too.
    served.program.end();
    let served = world.serve(":deploy");
    until(&served, "the refusal", |status| status["problems"] != json!([]));
    assert_eq!(world.versions(), ["2"]);

    // A rollback is a revert of both.
    world.git(&["revert", "--no-edit", "HEAD", "HEAD~1"]);
    let last = world.push("rolled back");
    hook(&served);
    wait_for("the first version to run again", || world.versions() == ["1"]);
    let status = until(&served, "it to be told", |status| status["applied-revision"] == last.as_str());
    assert_eq!(status["problems"], json!([]));
}

#[test]
fn a_repository_is_read_and_nothing_in_it_is_run_or_followed() {
    let world = World::new();
    let ran = world.folder.path().join("ran");
    let script = world.folder.path().join("script");
    std::fs::write(&script, format!("#!/bin/sh\n: >{}\nexec \"$@\"\n", ran.display())).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    // Whatever it has: attributes with filters, a config that names programs, a submodule, a link out of it.
    world.write("a.yaml", &tenant("a", 1));
    world.write(".gitattributes", "*.yaml filter=evil export-subst ident\n");
    let (bare, script) = (world.bare().join("config"), script.display().to_string());
    for setting in ["uploadpack.packObjectsHook", "core.fsmonitor", "core.sshCommand", "filter.evil.smudge"] {
        world.git(&["config", "--file", bare.to_str().unwrap(), setting, &script]);
    }
    symlink("/etc", world.work().join("etc")).unwrap();
    let submodule = format!("[submodule \"s\"]\n\tpath = s\n\turl = ext::sh -c {}\n", ran.display());
    world.write(".gitmodules", &submodule);
    let first = world.push("first");
    let served = world.serve("");
    let status = until(&served, "the first commit", |status| status["applied-revision"] == first.as_str());
    assert_eq!(status["documents"], 1);

    // A manifest that is a link is not what it names.
    symlink("/etc/hostname", world.work().join("b.yaml")).unwrap();
    world.push("link");
    hook(&served);
    let status = until(&served, "the refusal", |status| status["problems"] != json!([]));
    assert!(
        status["problems"][0]["message"].as_str().unwrap().starts_with("b.yaml: is a link"),
        "{status:#}"
    );
    // What stands beside a manifest is on nobody's disk.
    std::fs::remove_file(world.work().join("b.yaml")).unwrap();
    let typed = "apiVersion: mainstay.dev/v1\nkind: ServiceType\nmetadata: {name: web}\nspec:\n  command: ['{{ artifact }}']\n  \
                 artifact:\n    path: web.jar\n";
    world.write("b.yaml", typed);
    let third = world.push("artifact");
    hook(&served);
    let status = until(&served, "the refusal", |status| {
        status["revision"] == third.as_str() && status["problems"] != json!([])
    });
    let message = status["problems"][0]["message"].as_str().unwrap();
    assert!(
        message.starts_with(
            "b.yaml:7:11: spec.artifact.path: a relative path is relative to a manifest on the server's disk"
        ),
        "{message}"
    );
    assert!(!ran.exists(), "something in the repository was run");
}

#[test]
fn deletions_wait_for_an_approval_and_an_unreachable_repository_deletes_nothing() {
    let world = World::new();
    (0..10).for_each(|number| world.write(&format!("{number}.yaml"), &tenant(&format!("t{number}"), 1)));
    let first = world.push("first");
    let served = world.serve("");
    until(&served, "the first commit", |status| status["applied-revision"] == first.as_str());
    let tenants = || served.get("/tenants").as_array().unwrap().len();
    assert_eq!(tenants(), 10);

    let away = world.folder.path().join("away.git");
    std::fs::rename(world.bare(), &away).unwrap();
    hook(&served);
    let status = until(&served, "the failure", |status| status["problems"] != json!([]));
    let message = status["problems"][0]["message"].as_str().unwrap();
    assert!(
        message.contains("could not be fetched: git says: ") && message.contains("does not"),
        "{message}"
    );
    assert_eq!(tenants(), 10);
    std::fs::rename(&away, world.bare()).unwrap();

    (0..6).for_each(|number| std::fs::remove_file(world.work().join(format!("{number}.yaml"))).unwrap());
    let second = world.push("a lot goes");
    hook(&served);
    let status = until(&served, "it to wait", |status| !status["approval"].is_null());
    assert_eq!(status["approval"]["deletes"].as_array().unwrap().len(), 6);
    assert_eq!((&status["revision"], tenants()), (&json!(second), 10));

    let mainstay = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
        let output = command.args(arguments).args(["--server", &served.api]).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    let (done, said) = mainstay(&["source", "approve", "--digest", "0000"]);
    assert!(!done && said.contains("would delete something else by now"), "{said}");
    let (done, said) = mainstay(&["status"]);
    assert!(done && said.contains("held until `mainstay source approve`"), "{said}");
    let (done, said) = mainstay(&["source", "approve"]);
    assert!(done && said.starts_with("delete Tenant t0\n"), "{said}");
    until(&served, "the second commit", |status| status["applied-revision"] == second.as_str());
    assert_eq!(tenants(), 4);
    let (done, said) = mainstay(&["source", "approve"]);
    assert!(!done && said.contains("no source waits"), "{said}");
}

#[test]
fn a_repository_is_asked_as_often_as_it_is_said() {
    let world = World::new();
    world.write("a.yaml", &tenant("a", 1));
    world.push("first");
    let address = world.bare().display().to_string();
    let served = Served::start(&world.data(), &["--git", &address, "--git-interval", "1"]);
    until(&served, "the first commit", |status| status["documents"] == 1);
    world.write("b.yaml", &tenant("b", 1));
    let second = world.push("second");
    // Nobody tells, and the branch is the one that the repository has.
    until(&served, "the second commit", |status| status["applied-revision"] == second.as_str());
    assert!(counter(&served.api, "git_fetches") >= 2);
    assert_eq!(counter(&served.api, "git_failures"), 0);
    assert_eq!(std::fs::read_dir(world.data().join("git")).unwrap().count(), 1);
}

#[test]
fn a_hook_without_a_repository_and_an_address_with_a_password_are_refused() {
    let folder = TempDir::new().unwrap();
    let served = Served::start(folder.path(), &[]);
    let (status, text) = call("POST", &format!("{}/hooks/git", served.api), "").unwrap();
    assert_eq!((status, text.contains("give it one with --git")), (404, true), "{text}");
    let data = |name: &str| Path::new(folder.path()).join(name);
    let program = Program::serve(&data("other"), &["--git", "https://me:butter@box.example/fleet.git"]);
    program.wait_for("git's credential helper");
}
