//! What services are told while they run, end to end: manifests, a real sshd, real processes that are signalled.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

mod support;
use support::program::{Program, get};
use support::sshd::{Sshd, user};

/// Two instances, each with a node on the same machine and a service that is told of changes.
struct Platform {
    // Before the node, so that it ends before it.
    program: Option<Program>,
    sshd: Sshd,
    directory: TempDir,
    ports: [u16; 2],
}

const TENANTS: &str = "
apiVersion: mainstay.dev/v1
kind: Tenant
metadata: {name: red}
spec: {name: Red, instance: IN1, rate-limit: 250, integrations: [echo]}
---
apiVersion: mainstay.dev/v1
kind: Tenant
metadata: {name: blue}
spec: {name: Blue, instance: IN1, integrations: [echo, sendgrid]}
---
apiVersion: mainstay.dev/v1
kind: User
metadata: {name: ada@example.com}
spec: {name: Ada, tenants: [red, blue]}
";

impl Platform {
    fn start() -> Platform {
        let mut platform = Platform {
            program: None,
            sshd: Sshd::start(),
            directory: tempfile::tempdir().unwrap(),
            ports: [support::free_port(), support::free_port()],
        };
        std::fs::create_dir(platform.folder()).unwrap();
        platform.write("fleet.yaml", &platform.fleet());
        platform.write("tenants.yaml", TENANTS);
        let folder = platform.folder().display().to_string();
        let data = platform.directory.path().join("data");
        platform.program = Some(Program::serve(&data, &["--manifests", &folder]));
        platform
    }

    fn folder(&self) -> PathBuf {
        self.directory.path().join("manifests")
    }

    /// Writes a manifest as an editor does: at once.
    fn write(&self, name: &str, text: &str) {
        let half = self.directory.path().join("half");
        std::fs::write(&half, text).unwrap();
        std::fs::rename(half, self.folder().join(name)).unwrap();
    }

    fn fleet(&self) -> String {
        let mut text = "apiVersion: mainstay.dev/v1\nkind: ServiceType\nmetadata: {name: told}\n\
             spec: {command: ['{{ mainstay }}', stand-in, --listen, '127.0.0.1:{{ options.port }}'], reload: {signal: HUP}}\n"
            .to_owned();
        for (instance, port) in ["IN1", "IN2"].into_iter().zip(self.ports) {
            text.push_str(&format!(
                "---\napiVersion: mainstay.dev/v1\nkind: Instance\nmetadata: {{name: {instance}}}\n\
                 spec: {{name: {instance}, zk: 'z:1', redis: 'redis://r'}}\n\
                 ---\napiVersion: mainstay.dev/v1\nkind: Node\nmetadata: {{name: ND1, namespace: {instance}}}\n\
                 spec: {{name: a, ip-address: 127.0.0.1, port: {}, username: {}, identity-file: {}}}\n\
                 ---\napiVersion: mainstay.dev/v1\nkind: Service\nmetadata: {{name: SV1, namespace: {instance}}}\n\
                 spec: {{name: a, type: told, nodes: [ND1], options: {{port: {port}}}}}\n",
                self.sshd.port(),
                user(),
                self.sshd.identity_file(),
            ));
        }
        text
    }

    /// Where the bundle of an instance is on its node.
    fn bundle_path(&self, instance: &str) -> Option<PathBuf> {
        let ours = std::fs::read_dir(self.sshd.home().join(".mainstay")).ok()?.next()?.unwrap().path();
        Some(ours.join(instance).join("ND1/bundle.json"))
    }

    fn bundle(&self, instance: &str) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.bundle_path(instance)?).ok()?).ok()
    }

    /// What the service of an instance says that it was told.
    fn told(&self, instance: usize) -> Option<Value> {
        let (_, text) = get(&format!("http://127.0.0.1:{}/config", self.ports[instance]))?;
        serde_json::from_str(&text).ok()
    }

    fn wait_for_told(&self, instance: usize, tenants: &Value) -> Value {
        let what = format!("service {instance} to be told of {tenants}");
        support::wait_for(&what, || self.told(instance).is_some_and(|told| told["tenants"] == *tenants));
        self.told(instance).unwrap()
    }

    /// Waits until the bundle of IN1 does not name a tenant and its service was told; says how long after `since`.
    fn wait_until_gone(&self, what: &str, tenant: &str, since: Instant) {
        support::wait_for("the bundle not to name it", || {
            self.bundle("IN1").is_some_and(|bundle| !bundle.to_string().contains(tenant))
        });
        let written = since.elapsed();
        support::wait_for("the service to be told", || {
            self.told(0).is_some_and(|told| !told["tenants"].to_string().contains(tenant))
        });
        eprintln!("{what}: off the node's bundle after {written:.1?}, told after {:.1?}", since.elapsed());
    }
}

#[test]
fn a_tenant_that_is_deleted_is_off_the_bundle_and_the_service_was_told() {
    let platform = Platform::start();
    let before = platform.wait_for_told(0, &json!(["blue", "red"]));
    let bundle = platform.bundle("IN1").unwrap();
    assert_eq!(
        bundle["tenants"]["red"],
        json!({"name": "Red", "rate-limit": 250.0, "integrations": ["echo"]})
    );
    assert_eq!(bundle["integrations"]["sendgrid"]["endpoint"]["redact"], json!(["password"]));
    assert_eq!(bundle["users"], json!({"ada@example.com": {"name": "Ada", "tenants": ["blue", "red"]}}));
    let mode = std::fs::metadata(platform.bundle_path("IN1").unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let kept = TENANTS.replace("tenants: [red, blue]", "tenants: [red]");
    let parts: Vec<&str> = kept.split("---").filter(|part| !part.contains("name: blue")).collect();
    platform.write("tenants.yaml", &parts.join("---"));
    platform.wait_until_gone("deleted", "blue", Instant::now());

    let bundle = platform.bundle("IN1").unwrap();
    assert_eq!(bundle["integrations"].as_object().unwrap().len(), 1, "nobody uses the other one any more");
    assert_eq!(bundle["users"]["ada@example.com"]["tenants"], json!(["red"]));
    let after = platform.told(0).unwrap();
    assert_eq!(after["pid"], before["pid"], "it was told, not restarted");
}

#[test]
fn a_tenant_that_moves_is_off_one_bundle_and_on_the_other() {
    let platform = Platform::start();
    let before = platform.wait_for_told(0, &json!(["blue", "red"]));
    platform.wait_for_told(1, &json!([]));

    platform
        .write("tenants.yaml", &TENANTS.replace("name: Blue, instance: IN1", "name: Blue, instance: IN2"));
    let since = Instant::now();
    platform.wait_until_gone("moved", "blue", since);
    platform.wait_for_told(1, &json!(["blue"]));
    eprintln!("moved: the other instance's service was told after {:.1?}", since.elapsed());

    let bundle = platform.bundle("IN2").unwrap();
    assert_eq!(bundle["users"], json!({"ada@example.com": {"name": "Ada", "tenants": ["blue"]}}));
    assert_eq!(platform.told(0).unwrap()["pid"], before["pid"], "it was told, not restarted");
}
