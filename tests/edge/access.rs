//! Who may ask, and over what: TLS, tokens, roles, and what the commands show of them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::raw::{self, ask};
use super::serve;
use super::support::etcd::EtcdServer;
use super::support::program::Program;
use super::support::wait_for;

/// Writes a file that others can't read.
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// `mainstay` with arguments, and a token in its environment if there is one.
fn mainstay(arguments: &[&str], token: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
    command.args(arguments).env_remove("MAINSTAY_TOKEN").envs(token.map(|token| ("MAINSTAY_TOKEN", token)));
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A file of tokens of all roles, and the tokens: viewer's, operator's, admin's.
pub(crate) fn tokens(folder: &Path) -> (String, [String; 3]) {
    let mut lines = String::new();
    let tokens = ["viewer", "operator", "admin"].map(|role| {
        let made = mainstay(&["token", "--name", &format!("a-{role}"), "--role", role], None);
        let out = text(&made.stdout);
        let (token, line) = out.trim_end().split_once('\n').unwrap();
        assert!(!text(&made.stderr).contains(token));
        lines.push_str(&format!("{line}\n"));
        token.to_owned()
    });
    let file = folder.join("tokens");
    write(&file, &lines);
    (file.to_str().unwrap().to_owned(), tokens)
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn with_body(token: &str, body: &Value) -> String {
    format!("{}{}", bearer(token), raw::json(body))
}

/// The second server follows, and what it sends on is the client's to ask, not its own.
#[test]
fn a_server_sends_on_what_its_client_may_and_the_leader_looks_again() {
    let (etcd, data) = (EtcdServer::start(), [TempDir::new().unwrap(), TempDir::new().unwrap()]);
    let (file, [viewer, operator, admin]) = tokens(data[0].path());
    let (others, [stranger, ..]) = tokens(data[1].path());
    let (key, endpoint) = (data[0].path().join("key").display().to_string(), etcd.endpoint());
    let both = ["--etcd", &endpoint, "--secret-key", &key, "--no-catalogue"];
    let start = |number: usize, more: &[&str]| serve(&data[number], &[&both[..], more].concat());
    let (leads, leader) = start(0, &["--tokens", &file]);
    let (follows, follower) = start(1, &["--tokens", &file, "--cors-origin", "https://page.example"]);

    let instance = json!({"name": "a", "zk": "z:1", "redis": "redis://r"});
    let node = json!({"name": "n", "ip-address": "192.0.2.1", "username": "u", "password": "butter"});
    assert_eq!(ask(&follower, "POST", "/1.0/instances", &with_body(&admin, &instance)).status, 201);
    assert_eq!(ask(&follower, "POST", "/1.0/instances/IN1/nodes", &with_body(&admin, &node)).status, 201);
    let (status, trust) = ("/1.0/instances/IN1/nodes/ND1/status", "/1.0/instances/IN1/nodes/ND1/trust");
    wait_for("the leader to have tried the node", || {
        ask(&leader, "GET", status, &bearer(&viewer)).body.contains("state")
    });
    for (method, path, token, wanted) in [
        ("GET", status, &viewer, 200),
        ("GET", status, &stranger, 401),
        ("POST", trust, &viewer, 403),
        ("POST", trust, &operator, 409),
        ("POST", "/1.0/instances/IN1/services/start?wait=false", &operator, 200),
        ("GET", "/1.0/instances/IN1/services/start", &admin, 405),
    ] {
        let answers = [&leader, &follower].map(|api| ask(api, method, path, &bearer(token)));
        assert_eq!(answers.map(|answer| answer.status), [wanted; 2], "{method} {path}");
    }
    // A page that the follower knows, and of which the leader never heard.
    let page = format!("{}Origin: https://page.example\r\n", bearer(&operator));
    let answer = ask(&follower, "POST", trust, &page);
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (409, Some("https://page.example")),
        "{}",
        answer.body
    );
    // Who sees no secret of a document here sees none there either; and the page has what the leader sees.
    let seen = |token: &str| ask(&follower, "GET", "/1.0/instances/IN1/nodes", &bearer(token)).body;
    assert!(seen(&admin).contains("butter") && !seen(&viewer).contains("password"));
    let status_page = ask(&follower, "GET", "/status", &bearer(&viewer)).body;
    let shown: Value = serde_json::from_str(&status_page).unwrap();
    assert_eq!((&shown["server"]["role"], shown["nodes"].is_object()), (&json!("follows"), true), "{shown}");
    let told = std::fs::read_to_string(data[0].path().join("audit.log")).unwrap();
    let told = told.lines().filter(|line| line.contains("/trust") && line.contains("\"a-operator\""));
    assert_eq!(told.count(), 3, "the leader tells of what was sent on, too");

    // A server that knows other tokens lets its own in, and the leader does not.
    drop(follows);
    let (_other, other) = start(1, &["--tokens", &others]);
    assert_eq!(ask(&other, "GET", "/1.0/instances", &bearer(&stranger)).status, 200);
    let answer = ask(&other, "GET", status, &bearer(&stranger));
    assert_eq!(answer.status, 401, "{}", answer.body);
    leads.end();
}

#[test]
fn an_address_for_other_servers_has_no_tls_and_its_name_is_ours() {
    let (etcd, data) = (EtcdServer::start(), TempDir::new().unwrap());
    let endpoint = etcd.endpoint();
    let more = [
        "serve",
        "--data-dir",
        data.path().to_str().unwrap(),
        "--etcd",
        &endpoint,
        "--listen",
        "127.0.0.1:0",
    ];
    let refused = mainstay(&[&more[..], &["--advertise", "https://box:1"]].concat(), None);
    assert!(text(&refused.stderr).contains("can't speak TLS with each other"), "{}", text(&refused.stderr));
    let (program, api) = serve(&data, &["--etcd", &endpoint, "--advertise", "http://box.example:1"]);
    for (host, status) in [("box.example:1", 200), ("other.example:1", 421)] {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        assert_eq!(raw::send(&api, request.as_bytes()).unwrap().status, status, "{host}");
    }
    program.end();
}

#[test]
fn each_role_may_do_what_it_is_for_and_nobody_else_anything() {
    let data = TempDir::new().unwrap();
    let (file, [viewer, operator, admin]) = tokens(data.path());
    let (program, api) = serve(&data, &["--tokens", &file]);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(&api, "GET", path, "").status, 200, "{path}");
    }
    for (method, path) in
        [("GET", "/metrics"), ("GET", "/1.0/instances"), ("POST", "/1.0/instances"), ("GET", "/x")]
    {
        let answer = ask(&api, method, path, "");
        assert_eq!(
            (answer.status, answer.header("www-authenticate")),
            (401, Some("Bearer realm=\"mainstay\"")),
            "{method} {path}"
        );
        assert_eq!(ask(&api, method, path, &bearer(&admin.replace('-', "_"))).status, 401);
        assert_eq!(ask(&api, method, path, &format!("{}{}", bearer(&admin), bearer(&admin))).status, 401);
    }
    let instance = json!({"name": "a", "zk": "z:1", "redis": "redis://r"});
    let node = json!({"name": "n", "ip-address": "192.0.2.1", "username": "u", "password": "butter"});
    assert_eq!(ask(&api, "POST", "/1.0/instances", &with_body(&admin, &instance)).status, 201);
    assert_eq!(ask(&api, "POST", "/1.0/instances/IN1/nodes", &with_body(&admin, &node)).status, 201);

    let start = "/1.0/instances/IN1/services/start?wait=false";
    for (method, path, [by_viewer, by_operator, by_admin]) in [
        ("GET", "/metrics", [200, 200, 200]),
        ("GET", "/1.0/instances", [200, 200, 200]),
        ("HEAD", "/1.0/instances", [200, 200, 200]),
        ("OPTIONS", "/1.0/instances", [204, 204, 204]),
        ("POST", start, [403, 200, 200]),
        ("POST", "/1.0/instances/IN1/nodes/ND1/trust", [403, 409, 409]),
        ("POST", "/1.0/instances", [403, 403, 400]),
        ("PUT", "/1.0/instances/IN1", [403, 403, 400]),
        ("DELETE", "/1.0/instances/IN9", [403, 403, 404]),
    ] {
        for (token, status) in [(&viewer, by_viewer), (&operator, by_operator), (&admin, by_admin)] {
            assert_eq!(ask(&api, method, path, &bearer(token)).status, status, "{method} {path}");
        }
    }
    let refused = ask(&api, "POST", start, &bearer(&viewer));
    assert!(refused.body.contains("a token of the role operator; a-viewer is viewer"), "{}", refused.body);

    let seen = |token: &str| ask(&api, "GET", "/1.0/instances/IN1/nodes", &bearer(token)).body;
    assert!(seen(&admin).contains("butter"), "the seed shows it");
    assert!(!seen(&operator).contains("password") && !seen(&viewer).contains("password"));

    // A token that is taken out of the file is good for nothing from the next signal on.
    let lines = std::fs::read_to_string(&file).unwrap();
    write(Path::new(&file), &format!("{}\nnonsense\n", lines.lines().next_back().unwrap()));
    program.signal(Signal::HUP);
    program.wait_for("tokens:2: write NAME ROLE SHA256");
    assert_eq!(ask(&api, "GET", "/1.0/instances", &bearer(&viewer)).status, 200, "the old ones go on");
    write(Path::new(&file), lines.lines().next_back().unwrap());
    program.signal(Signal::HUP);
    program.wait_for("were read again");
    assert_eq!(ask(&api, "GET", "/1.0/instances", &bearer(&viewer)).status, 401);
    assert_eq!(ask(&api, "GET", "/1.0/instances", &bearer(&admin)).status, 200);
    let (_, said) = program.end();
    assert!([viewer, operator, admin].iter().all(|token| !said.contains(token)), "{said}");
}

#[test]
fn a_password_that_is_left_out_is_not_lost_when_what_was_read_is_put_back() {
    let data = TempDir::new().unwrap();
    let (program, api) = serve(&data, &["--redact-secrets"]);
    let instance = json!({"name": "a", "zk": "z:1", "redis": "redis://r"});
    let node = json!({"name": "n", "ip-address": "192.0.2.1", "username": "u", "password": "butter"});
    let send = |method, path, body: &Value| ask(&api, method, path, &raw::json(body));
    send("POST", "/1.0/instances", &instance);
    let made = send("POST", "/1.0/instances/IN1/nodes", &node);
    assert!(made.status == 201 && !made.body.contains("password"), "{made:?}");
    let read: Value =
        serde_json::from_str(&ask(&api, "GET", "/1.0/instances/IN1/nodes/ND1", "").body).unwrap();
    assert_eq!(read, json!({"id": "ND1", "name": "n", "ip-address": "192.0.2.1", "username": "u"}));
    assert_eq!(send("PUT", "/1.0/instances/IN1/nodes/ND1", &read).status, 200);
    drop(program.end());
    let (_program, api) = serve(&data, &[]);
    assert!(ask(&api, "GET", "/1.0/instances/IN1/nodes/ND1", "").body.contains("butter"));
}

#[test]
fn others_are_let_near_only_with_tls_and_tokens_or_by_who_insists() {
    let data = TempDir::new().unwrap();
    let (file, _) = tokens(data.path());
    let authority = Authority::new();
    let (certificate, key) = authority.issue(data.path());
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let folder = data.path().to_str().unwrap();
    let refused = |more: &[&str]| {
        let arguments = [&["serve", "--data-dir", folder, "--listen", "0.0.0.0:0"], more].concat();
        let output = mainstay(&arguments, None);
        assert!(!output.status.success());
        text(&output.stderr)
    };
    assert!(refused(&[]).contains("the API has no TLS and no tokens; listen on 127.0.0.1"));
    assert!(refused(&["--tokens", &file]).contains("the API has no TLS; listen"));
    assert!(
        refused(&["--tls-cert", certificate, "--tls-key", key]).contains("the API has no tokens; listen")
    );
    assert!(refused(&["--tls-cert", key, "--tls-key", key]).contains("holds no certificate in PEM"));
    assert!(refused(&["--tls-cert", certificate, "--tls-key", certificate]).contains("others can read"));
    assert!(refused(&["--insecure", "--host", "http://x"]).contains("no name of a machine"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(refused(&["--tokens", &file]).contains(&format!("chmod 600 {file}")));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();

    let listen = ["serve", "--data-dir", folder, "--listen", "0.0.0.0:0"];
    let open = Program::start(
        &[&listen[..], &["--tls-cert", certificate, "--tls-key", key, "--tokens", &file]].concat(),
    );
    assert!(open.api().starts_with("https://0.0.0.0:"));
    drop(open.end());
    let open = Program::start(&[&listen[..], &["--insecure"]].concat());
    let api = open.api().replace("0.0.0.0", "127.0.0.1");
    assert_eq!(ask(&api, "GET", "/1.0/instances", "").status, 200);
}

/// An authority that issues certificates for this machine.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes a certificate and its key.
    fn issue(&self, folder: &Path) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        let (certificate_file, key_file) = (folder.join("server.crt"), folder.join("server.key"));
        std::fs::write(&certificate_file, certificate.pem()).unwrap();
        write(&key_file, &key.serialize_pem());
        (certificate_file, key_file)
    }

    /// Status of a GET by a client that knows only this authority; none when it does not know the server.
    fn get(&self, url: &str) -> Option<u16> {
        let known = Certificate::from_pem(self.0.pem().as_bytes()).unwrap();
        let tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(vec![known]))).build();
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).tls_config(tls).build().into();
        agent.get(url).call().ok().map(|answer| answer.status().as_u16())
    }
}

#[test]
fn a_certificate_is_replaced_without_an_end_and_a_broken_one_changes_nothing() {
    let data = TempDir::new().unwrap();
    let (first, second) = (Authority::new(), Authority::new());
    let (certificate, key) = first.issue(data.path());
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let (program, api) = serve(&data, &["--tls-cert", certificate, "--tls-key", key]);
    let url = format!("{api}/1.0/instances");
    assert!(url.starts_with("https://"), "{url}");
    assert_eq!(first.get(&url), Some(200));
    assert_eq!(second.get(&url), None);
    let in_clear = raw::send(&api.replace("https", "http"), b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(in_clear.is_none(), "{in_clear:?}");

    std::fs::write(certificate, "half a certif").unwrap();
    program.signal(Signal::HUP);
    program.wait_for("what was read before goes on");
    assert_eq!(first.get(&url), Some(200));
    second.issue(data.path());
    program.signal(Signal::HUP);
    wait_for("the new certificate", || second.get(&url) == Some(200));
    assert_eq!(first.get(&url), None);
}

#[test]
fn the_commands_show_their_token_over_tls_and_never_in_clear_to_others() {
    let data = TempDir::new().unwrap();
    let (file, [_, operator, _]) = tokens(data.path());
    let authority = Authority::new();
    let (certificate, key) = authority.issue(data.path());
    let keys =
        ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap(), "--tokens", &file];
    let (_program, api) = serve(&data, &keys);
    let ca = data.path().join("ca.crt");
    std::fs::write(&ca, authority.0.pem()).unwrap();
    let own = data.path().join("token");
    write(&own, &format!("{operator}\n"));
    let (ca, own) = (ca.to_str().unwrap(), own.to_str().unwrap());
    let trust = |more: &[&str], token| {
        let output = mainstay(&[&["node", "trust", "IN1/ND9"], more].concat(), token);
        text(&output.stderr)
    };
    let there = "Instance IN1 does not exist";
    assert!(trust(&["--server", &api, "--ca", ca, "--token-file", own], None).contains(there));
    assert!(trust(&["--server", &api, "--ca", ca], Some(&operator)).contains(there));
    assert!(trust(&["--server", &api, "--ca", ca], None).contains("this server wants a token"));
    assert!(trust(&["--server", &api, "--ca", ca], Some("mainstay-wrong")).contains("not known here"));
    assert!(
        trust(&["--server", &api], Some(&operator)).contains("no server answers"),
        "its authority is not known"
    );
    let clear = trust(&["--server", "http://192.0.2.1:8080"], Some(&operator));
    assert!(clear.contains("write https://192.0.2.1:8080") && !clear.contains(&operator), "{clear}");
    std::fs::set_permissions(own, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(trust(&["--server", &api, "--ca", ca, "--token-file", own], None).contains("chmod 600"));
}
