//! `/1.0`'s tenants, users and integrations, and versions of objects, over a real socket and a real store.
#![allow(clippy::unwrap_used, reason = "in a test a panic is how it fails")]

use mainstay::model::{Key, Kind, Spec};
use serde_json::{Value, json};

use self::server::{Api, read, with_id};

#[path = "api/server.rs"]
#[allow(dead_code, reason = "the tests of /1.0 use the rest")]
mod server;

fn instance(api: &Api) -> Value {
    let mine = json!({"name": "My Instance", "zk": "localhost:2181", "redis": "redis://localhost:6379"});
    api.create("/1.0/instances", mine)
}

fn tenant(api: &Api, id: &str) -> Value {
    api.create("/1.0/tenants", json!({"id": id, "name": "My Tenant"}))
}

fn user(api: &Api, email: &str, tenants: &[&str]) -> Value {
    let user = json!({"email": email, "name": "Ian Bishop", "password": "butter", "tenants": tenants});
    api.create("/1.0/users", user)
}

#[test]
fn a_tenant_is_made_changed_and_deleted() {
    let api = Api::start();
    assert_eq!(tenant(&api, "tenant1"), json!({"id": "tenant1", "name": "My Tenant"}));
    let changed = json!({"id": "tenant1", "name": "Test Tenant", "rate-limit": 250});
    let update = json!({"name": "Test Tenant", "rate-limit": 250});
    assert_eq!(api.call("PUT", "/1.0/tenants/tenant1", Some(update)), (200, changed.clone()));
    for path in ["/1.0/tenants/tenant1", "/1.0/tenant/tenant1"] {
        assert_eq!(api.get(path), (200, changed.clone()), "{path}");
    }
    tenant(&api, "system");
    let all = json!([{"id": "system", "name": "My Tenant"}, changed]);
    assert_eq!(api.get("/1.0/tenants"), (200, all));
    assert_eq!(api.call("DELETE", "/1.0/tenants/tenant1", None), (204, Value::Null));
    api.refused("GET", "/1.0/tenants/tenant1", None, 404);
    api.refused("GET", "/1.0/tenants/tenant1/users", None, 404);

    for (body, why) in [
        (json!({"name": "a"}), "`id` is missing"),
        (json!({"id": "a"}), "`name` is missing"),
        (json!({"id": "a b", "name": "a"}), "id: ' ' can't be at position 2"),
        (
            json!({"id": "a", "name": "a", "rate-limt": 1}),
            "rate-limt: unknown field `rate-limt`; did you mean `rate-limit`?",
        ),
        (json!({"id": "a", "name": "a", "rate-limit": -1}), "rate-limit: "),
        (
            json!({"id": "a", "name": "a", "instance": "IN1"}),
            "instance: it is no parameter here; it has a path of its own",
        ),
    ] {
        let said = api.refused("POST", "/1.0/tenants", Some(body), 400);
        assert!(said.starts_with(why), "{said}");
    }
    api.refused("POST", "/1.0/tenants", Some(json!({"id": "system", "name": "a"})), 409);
}

#[test]
fn a_tenant_is_on_one_instance_and_on_none_once_that_is_deleted() {
    let api = Api::start();
    let (first, second) = (instance(&api), instance(&api));
    tenant(&api, "tenant1");
    tenant(&api, "system");
    let path = "/1.0/tenants/tenant1/instance";
    api.refused("GET", path, None, 404);
    api.refused("DELETE", path, None, 404);
    for (id, object) in [("IN1", &first), ("IN2", &second), ("IN2", &second)] {
        let seat = json!({"tenant": "tenant1", "instance": id});
        assert_eq!(api.call("POST", path, Some(json!({ "id": id }))), (201, seat));
        assert_eq!(api.get(path), (200, object.clone()));
        assert_eq!(api.get("/1.0/tenant/tenant1/instance"), (200, object.clone()));
    }
    assert_eq!(api.get("/1.0/instances/IN1/tenants"), (200, json!([])));
    let listed = json!([{"id": "tenant1", "name": "My Tenant"}]);
    assert_eq!(api.get("/1.0/instances/IN2/tenants"), (200, listed));
    api.refused("POST", path, Some(json!({"id": "IN9"})), 404);
    let why = api.refused("POST", path, Some(json!({"ID": "IN1"})), 400);
    assert_eq!(why, "ID: unknown field `ID`; the only one here is `id`");
    api.refused("POST", path, Some(json!({"id": 1})), 400);
    api.refused("POST", path, Some(json!({})), 400);
    api.refused("POST", "/1.0/tenants/nobody/instance", Some(json!({"id": "IN1"})), 404);

    assert_eq!(api.call("DELETE", path, None), (204, Value::Null));
    api.refused("GET", path, None, 404);
    api.call("POST", path, Some(json!({"id": "IN2"})));
    assert_eq!(api.call("DELETE", "/1.0/instances/IN2", None), (204, Value::Null));
    api.refused("GET", path, None, 404);
    api.refused("GET", "/1.0/instances/IN2/tenants", None, 404);
    assert_eq!(api.get("/1.0/tenants/tenant1"), (200, json!({"id": "tenant1", "name": "My Tenant"})));
}

#[test]
fn what_a_tenant_may_use_is_given_and_taken_away() {
    let api = Api::start();
    tenant(&api, "tenant1");
    let list = "/1.0/tenants/tenant1/integrations";
    assert_eq!(api.get(list), (200, json!([])));
    for id in ["salesforce", "datasift", "echo", "datasift"] {
        let answer = json!({"tenant": "tenant1", "integration": id});
        assert_eq!(api.post(&format!("{list}/{id}")), (201, answer));
    }
    assert_eq!(api.get(list), (200, json!(["salesforce", "datasift", "echo"])));
    assert_eq!(api.call("DELETE", &format!("{list}/datasift"), None), (204, Value::Null));
    let why = api.refused("DELETE", &format!("{list}/datasift"), None, 404);
    assert_eq!(why, "Tenant tenant1 has no Integration with the id datasift");
    api.refused("POST", &format!("{list}/datasfit"), None, 404);
    api.refused("POST", "/1.0/tenants/nobody/integrations/echo", None, 404);
    assert_eq!(api.get(list), (200, json!(["salesforce", "echo"])));
}

#[test]
fn an_integration_of_the_catalogue_is_made_changed_and_deleted() {
    let api = Api::start();
    let mine = json!({"id": "pager", "type": "pager", "display": "Pager", "schema": [{"label": "Key", "param": "key"}]});
    assert_eq!(api.create("/1.0/integrations", mine.clone()), mine);
    assert_eq!(api.get("/1.0/integrations").1.as_array().unwrap().len(), 9);
    let (status, changed) = api.call("PUT", "/1.0/integrations/pager", Some(json!({"display": "P"})));
    assert_eq!((status, &changed["display"]), (200, &json!("P")));
    tenant(&api, "tenant1");
    api.post("/1.0/tenants/tenant1/integrations/pager");
    assert_eq!(api.call("DELETE", "/1.0/integrations/pager", None), (204, Value::Null));
    api.refused("GET", "/1.0/integrations/pager", None, 404);
    assert_eq!(api.get("/1.0/tenants/tenant1/integrations"), (200, json!([])));
    // What was shipped and is changed is the person's own.
    assert_eq!(api.call("PUT", "/1.0/integrations/echo", Some(json!({"display": "E"}))).0, 200);
    let echo = api.document(&Key::cluster(Kind::Integration, "echo"));
    assert!(echo.metadata.annotations.is_empty(), "{:?}", echo.metadata);
    let broken = json!({"id": "a", "type": "a", "display": "a", "schema": [{"label": "x"}]});
    let why = api.refused("POST", "/1.0/integrations", Some(broken), 400);
    assert_eq!(why, "schema[0]: `param` is missing");
}

#[test]
fn a_user_is_made_with_credentials_that_are_told_once_or_never() {
    let api = Api::start();
    tenant(&api, "userevents");
    let mut created = user(&api, "ian@userevents.com", &["userevents"]);
    let secret = created.as_object_mut().unwrap().remove("client-secret").unwrap();
    assert_eq!(secret.as_str().unwrap().len(), 44);
    let id = created["client-id"].clone();
    assert_eq!(id.as_str().unwrap().len(), 32);
    let ian = json!({"email": "ian@userevents.com", "name": "Ian Bishop", "client-id": id, "tenants": ["userevents"]});
    assert_eq!(created, ian);
    let path = "/1.0/users/ian@userevents.com";
    assert_eq!(api.get(path), (200, ian.clone()));
    assert_eq!(api.get("/1.0/users"), (200, json!([ian])));

    let key = Key::cluster(Kind::User, "ian@userevents.com");
    let stored = |api: &Api| {
        let Spec::User(user) = api.document(&key).spec else { panic!("{key}") };
        user
    };
    let before = stored(&api);
    assert!(before.password_hash.as_ref().unwrap().starts_with("$argon2id$v=19$"));
    assert_eq!(before.client_secret_hash.as_ref().unwrap().len(), 64);
    let text = api.document(&key).to_value().to_string();
    assert!(!text.contains("butter") && !text.contains(secret.as_str().unwrap()), "{text}");

    // As it is shown it can be put back; another password is another hash, and nothing else.
    let writes = api.metrics.store_writes.get();
    assert_eq!(api.call("PUT", path, Some(ian.clone())), (200, ian.clone()));
    assert_eq!(api.metrics.store_writes.get(), writes);
    assert_eq!(api.call("PUT", path, Some(json!({"password": "jam"}))), (200, ian));
    let after = stored(&api);
    assert_ne!(after.password_hash, before.password_hash);
    assert_eq!(after.client_secret_hash, before.client_secret_hash);

    let (status, reset) = api.post(&format!("{path}/client-secret"));
    assert_eq!((status, &reset["client-id"]), (200, &id));
    assert_ne!(reset["client-secret"], secret);
    assert_ne!(stored(&api).client_secret_hash, before.client_secret_hash);
    assert_eq!(api.get(path).1.get("client-secret"), None);
    let (_, renamed) = api.call("PUT", path, Some(json!({"name": "John Smith"})));
    assert_eq!(renamed["name"], "John Smith");
    assert_eq!(api.call("DELETE", path, None), (204, Value::Null));
    api.refused("POST", &format!("{path}/client-secret"), None, 404);
}

#[test]
fn what_is_wrong_with_a_user_is_said_and_no_password_is_repeated() {
    let api = Api::start();
    let good = json!({"email": "a@b", "name": "A", "password": "butter"});
    for (name, value, why) in [
        ("email", json!("a"), "email: \"a\" is not an email address"),
        ("email", json!(null), "`email` is missing"),
        ("password", json!(null), "`password` is missing"),
        ("password", json!(["butter"]), "password: it has to be a string of 1 to 1024 bytes"),
        ("password", json!(""), "password: "),
        ("tenants", json!(["nobody"]), "tenants[0]: Tenant nobody does not exist"),
        ("tenants", json!("x"), "tenants: "),
        ("pasword", json!("butter"), "pasword: unknown field `pasword`; did you mean `password`?"),
        ("id", json!("a@b"), "id: unknown field `id`; known here: email, name, client-id, tenants, password"),
        ("password-hash", json!("x"), "password-hash: it is no parameter here; give `password`"),
        (
            "client-secret-hash",
            json!("x"),
            "client-secret-hash: it is no parameter here; client secrets are generated",
        ),
        ("client-id", json!("mine"), "client-id: it is generated"),
    ] {
        let mut body = good.clone();
        body[name] = value;
        let said = api.refused("POST", "/1.0/users", Some(body), 400);
        assert!(said.starts_with(why), "{said}");
        assert!(!said.contains("butter"), "{said}");
    }
    assert_eq!(api.create("/1.0/users", good.clone())["tenants"], json!([]));
    api.refused("POST", "/1.0/users", Some(good), 409);
    for body in
        [json!({"password": null}), json!({"client-id": "other"}), json!({"email": "c@d"}), json!({"id": 1})]
    {
        api.refused("PUT", "/1.0/users/a@b", Some(body), 400);
    }
}

#[test]
fn access_to_a_tenant_is_given_and_taken_and_goes_with_the_tenant() {
    let api = Api::start();
    for id in ["userevents", "other"] {
        tenant(&api, id);
    }
    user(&api, "ian@userevents.com", &["userevents"]);
    user(&api, "admin@userevents.com", &[]);
    let admin = "/1.0/users/admin@userevents.com/tenants";
    let answer = json!({"user": "admin@userevents.com", "tenant": "userevents"});
    assert_eq!(api.post(&format!("{admin}/userevents")), (201, answer));
    api.post(&format!("{admin}/other"));
    assert_eq!(api.get(admin), (200, json!(["userevents", "other"])));
    let users = json!(["admin@userevents.com", "ian@userevents.com"]);
    assert_eq!(api.get("/1.0/tenants/userevents/users"), (200, users));
    api.refused("POST", &format!("{admin}/nobody"), None, 404);
    api.refused("POST", "/1.0/users/nobody@x/tenants/other", None, 404);
    assert_eq!(api.call("DELETE", &format!("{admin}/other"), None), (204, Value::Null));
    api.refused("DELETE", &format!("{admin}/other"), None, 404);

    assert_eq!(api.call("DELETE", "/1.0/tenants/userevents", None), (204, Value::Null));
    assert_eq!(api.get(admin), (200, json!([])));
    // A later tenant of that name is another one: nobody has access to it.
    tenant(&api, "userevents");
    assert_eq!(api.get("/1.0/tenants/userevents/users"), (200, json!([])));
}

#[test]
fn nobody_keeps_access_to_a_tenant_that_is_deleted_while_access_is_given() {
    let api = Api::start();
    let emails = ["a@x", "b@x", "c@x"];
    emails.iter().for_each(|email| drop(user(&api, email, &[])));
    for round in 0..30 {
        tenant(&api, "t");
        std::thread::scope(|scope| {
            for email in emails {
                let api = &api;
                scope.spawn(move || {
                    let (status, _) = api.post(&format!("/1.0/users/{email}/tenants/t"));
                    assert!(matches!(status, 201 | 404), "{status}");
                });
            }
            std::thread::sleep(std::time::Duration::from_millis(round % 6));
            assert_eq!(api.call("DELETE", "/1.0/tenants/t", None).0, 204);
        });
        // As it is stored, whatever is shown.
        for email in emails {
            let names = api.document(&Key::cluster(Kind::User, email)).names();
            assert!(names.is_empty(), "round {round}: {email} names {names:?}");
        }
    }
}

#[test]
fn a_tenant_of_very_many_users_is_deleted_with_all_that_names_it() {
    let api = Api::start();
    tenant(&api, "crowd");
    let users: String = (0..150)
        .map(|n| format!("---\napiVersion: mainstay.dev/v1\nkind: User\nmetadata: {{name: u{n}@x}}\nspec: {{name: u, tenants: [crowd]}}\n"))
        .collect();
    api.apply(&users, "catalogue");
    assert_eq!(api.get("/1.0/tenants/crowd/users").1.as_array().unwrap().len(), 150);
    assert_eq!(api.call("DELETE", "/1.0/tenants/crowd", None), (204, Value::Null));
    for user in api.get("/1.0/users").1.as_array().unwrap() {
        assert_eq!(user["tenants"], json!([]), "{user}");
    }
}

#[test]
fn a_tenant_of_users_too_large_for_one_transaction_can_be_deleted() {
    let api = Api::start();
    tenant(&api, "crowd");
    for n in 0..3 {
        let user = json!({"email": format!("u{n}@x"), "name": "x".repeat(600_000), "password": "p", "tenants": ["crowd"]});
        api.create("/1.0/users", user);
    }
    assert_eq!(api.call("DELETE", "/1.0/tenants/crowd", None), (204, Value::Null));
    for user in api.get("/1.0/users").1.as_array().unwrap() {
        assert_eq!(user["tenants"], json!([]));
    }
}

#[test]
fn what_a_folder_keeps_naming_is_not_deleted_here() {
    let api = Api::start();
    tenant(&api, "red");
    api.apply(
        "apiVersion: mainstay.dev/v1\nkind: User\nmetadata: {name: a@b}\nspec: {name: a, tenants: [red]}\n",
        "fleet",
    );
    let why = api.refused("DELETE", "/1.0/tenants/red", None, 409);
    assert_eq!(why, "User a@b refers to Tenant red and stands in fleet/web.yaml; change it there first");
    tenant(&api, "blue");
    let why = api.refused("POST", "/1.0/users/a@b/tenants/blue", None, 409);
    assert_eq!(why, "User a@b: tenants: fleet/web.yaml says otherwise; change it there");
    // What it is silent about is given here.
    assert_eq!(api.post("/1.0/users/a@b/client-secret").0, 200);
}

#[test]
fn a_change_can_be_meant_for_one_version_only() {
    let api = Api::start();
    let etag =
        |response: &ureq::http::Response<ureq::Body>| response.headers()["etag"].to_str().unwrap().to_owned();
    let body = json!({"name": "a", "zk": "z", "redis": "r"}).to_string();
    let json = ("Content-Type", "application/json");
    let created = etag(&api.send_with("POST", "/1.0/instances", &[json], body.as_bytes()));
    let chosen = with_id("x", json!({"name": "a", "zk": "z", "redis": "r"})).to_string();
    let made = etag(&api.send_with("POST", "/1.0/instances", &[json], chosen.as_bytes()));
    assert_eq!(etag(&api.send("GET", "/1.0/instances/x", None, b"")), made);

    let one = "/1.0/instances/IN1";
    let retrieved = api.send("GET", one, None, b"");
    assert_eq!(etag(&retrieved), created);
    let put = |condition: &str, name: &str| {
        let body = json!({ "name": name }).to_string();
        api.send_with("PUT", one, &[json, ("If-Match", condition)], body.as_bytes())
    };
    let second = put(&created, "b");
    assert_eq!(second.status(), 200);
    let second = etag(&second);
    assert_ne!(second, created);
    assert_eq!(etag(&api.send("GET", one, None, b"")), second);
    let (status, answer) = read(put(&created, "c"));
    assert_eq!(status, 412);
    assert!(answer["error"].as_str().unwrap().contains("was changed meanwhile"), "{answer}");
    assert_eq!(api.get(one).1["name"], "b");
    assert_eq!(put(&format!("W/{second}"), "c").status(), 412, "a weak version is no match");
    assert_eq!(put(&format!("\"x\", {second}"), "b").status(), 200, "one of them, and nothing to write");
    for condition in ["7", "\"7", "", "*, \"7\""] {
        assert_eq!(put(condition, "c").status(), 400, "{condition}");
    }
    assert_eq!(put("*", "d").status(), 200);

    let third = etag(&api.send("GET", one, None, b""));
    let get = |condition: &str| api.send_with("GET", one, &[("If-None-Match", condition)], b"");
    let mut unchanged = get(&format!("{second}, W/{third}"));
    assert_eq!((unchanged.status().as_u16(), etag(&unchanged)), (304, third.clone()));
    assert_eq!(unchanged.body_mut().read_to_string().unwrap(), "");
    assert_eq!(get(&second).status(), 200);
    assert_eq!(get("nonsense").status(), 400);
    let delete = |condition: &str| api.send_with("DELETE", one, &[("If-Match", condition)], b"");
    assert_eq!(delete(&second).status(), 412);
    assert_eq!(delete(&third).status(), 204);
    assert_eq!(delete("*").status(), 404);
}
