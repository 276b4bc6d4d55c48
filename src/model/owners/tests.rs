use super::*;
use crate::model::admit::{Admitted, Origin, admit_text};
use crate::model::kinds::ServiceSpec;
use crate::model::secret::{KEY_BYTES, Sealer};

const NOW: &str = "2026-01-01T00:00:00Z";
const FOLDER: &str = "folder /etc/fleet";
const OPS: &str = "set ops";

fn service(spec: &str) -> Admitted {
    admitted(&format!(
        "apiVersion: mainstay.dev/v1\nkind: Service\nmetadata: {{name: SV1, namespace: IN1}}\nspec: {{name: a, type: auth{spec}}}\n"
    ))
}

fn admitted(text: &str) -> Admitted {
    admit_text(text, &Origin::default(), &Sealer::new([1; KEY_BYTES])).unwrap().remove(0)
}

/// A new object of somebody.
fn new(manager: &str, admitted: &Admitted) -> Document {
    let mut document = admitted.document.clone();
    document.metadata.managed_fields = born(&admitted.statement(), manager, Operation::Apply, NOW);
    document
}

fn again(current: &Document, manager: &str, admitted: &Admitted) -> Result<Document, Vec<String>> {
    applied(current, &admitted.statement(), manager, false, NOW).map_err(|refused| match refused {
        Refused::Conflicts(conflicts) => {
            conflicts.into_iter().map(|conflict| format!("{} {}", conflict.pointer, conflict.owner)).collect()
        }
        Refused::Unfit(error) => panic!("{error}"),
    })
}

fn spec(document: &Document) -> &ServiceSpec {
    let Spec::Service(service) = &document.spec else { panic!("{document:?}") };
    service
}

/// As `/1.0` does.
fn set_running(current: &Document, running: bool) -> Result<Document, Vec<Conflict>> {
    let wanted = ServiceSpec { running: Some(running), ..spec(current).clone() };
    changed(current, Spec::Service(wanted), API, NOW)
}

#[test]
fn what_is_applied_again_is_the_same_object() {
    let text = service(", env: {A: x}, options: {port: 80}, replicas: 2, failover: {replace: {after: 60s}}");
    let document = new(FOLDER, &text);
    assert_eq!(again(&document, FOLDER, &text), Ok(document));
}

#[test]
fn silence_takes_away_what_was_said_and_nothing_that_others_have_set() {
    let document = new(FOLDER, &service(", env: {A: x, B: y}"));
    let document = again(&document, OPS, &service(", env: {C: z}")).unwrap();
    let document = set_running(&document, false).unwrap();
    let document = again(&document, FOLDER, &service(", env: {B: y}")).unwrap();
    assert_eq!(spec(&document).env.keys().collect::<Vec<_>>(), ["B", "C"]);
    assert_eq!(spec(&document).running, Some(false));
    let document = again(&document, OPS, &service("")).unwrap();
    assert_eq!(spec(&document).env.keys().collect::<Vec<_>>(), ["B"]);
    assert_eq!(document.metadata.managed_fields.managers().collect::<Vec<_>>(), [API, FOLDER, OPS]);
}

#[test]
fn a_field_that_others_have_set_to_something_else_is_a_conflict_that_names_them() {
    let document = new(FOLDER, &service(", env: {A: x}"));
    let found = again(&document, OPS, &service(", env: {A: y}")).unwrap_err();
    assert_eq!(found, [format!("/spec/env/A {FOLDER}")]);
    let stopped = set_running(&document, false).unwrap();
    assert_eq!(again(&stopped, FOLDER, &service(", running: true")).unwrap_err(), ["/spec/running /1.0"]);
    let declared = again(&document, FOLDER, &service(", running: true")).unwrap();
    let conflict = Conflict { pointer: "/spec/running".into(), owner: FOLDER.into() };
    assert_eq!(set_running(&declared, false), Err(vec![conflict]));
}

#[test]
fn two_who_say_the_same_own_it_together_and_it_stays_until_both_are_silent() {
    let document = new(FOLDER, &service(", env: {A: x}"));
    let document = again(&document, OPS, &service(", env: {A: x}")).unwrap();
    assert_eq!(document.metadata.managed_fields.of("/spec/env/A").collect::<Vec<_>>(), [FOLDER, OPS]);
    let document = again(&document, FOLDER, &service("")).unwrap();
    assert_eq!(spec(&document).env["A"], "x");
    let document = again(&document, OPS, &service("")).unwrap();
    assert_eq!(spec(&document).env.len(), 0);
}

#[test]
fn force_takes_the_field_from_the_others() {
    let document = new(FOLDER, &service(", env: {A: x}"));
    let statement = service(", env: {A: y}").statement();
    let document = applied(&document, &statement, OPS, true, NOW).unwrap();
    assert_eq!(document.metadata.managed_fields.of("/spec/env/A").collect::<Vec<_>>(), [OPS]);
    assert_eq!(again(&document, FOLDER, &service(", env: {A: x}")).unwrap_err(), ["/spec/env/A set ops"]);
}

#[test]
fn what_makes_sense_as_a_whole_is_owned_as_one() {
    let text = ", replicas: 1, failover: {fenced: {lease: 30s}}";
    let document = new(FOLDER, &service(text));
    let found = again(&document, OPS, &service(", replicas: 1, failover: {replace: {after: 60s}}"));
    assert_eq!(found.unwrap_err(), [format!("/spec/failover {FOLDER}")]);
}

#[test]
fn a_part_and_what_it_is_a_part_of_are_in_each_other_s_way() {
    let document = new(FOLDER, &service(", options: {a: 1}"));
    let found = again(&document, OPS, &service(", options: {a: {b: 1}}")).unwrap_err();
    assert_eq!(found, [format!("/spec/options/a/b {FOLDER}")]);
    let document = again(&document, FOLDER, &service(", options: {a: {b: 1}}")).unwrap();
    assert_eq!(Value::from(spec(&document).options.clone().unwrap()), json!({"a": {"b": 1}}));
    let found = again(&document, OPS, &service(", options: {a: 1}")).unwrap_err();
    assert_eq!(found, [format!("/spec/options/a {FOLDER}")]);
}

#[test]
fn what_the_door_fills_in_is_stated_by_nobody() {
    let node = "apiVersion: mainstay.dev/v1\nkind: Node\nmetadata: {name: ND1, namespace: IN1, labels: {a/b: c}}\n\
                spec: {name: a, ip-address: h, username: u, password: butter}\n";
    let document = new(FOLDER, &admitted(node));
    let fields: Vec<_> = document.metadata.managed_fields.fields_of(FOLDER).collect();
    assert_eq!(
        fields,
        ["/metadata/labels/a~1b", "/spec/ip-address", "/spec/name", "/spec/password", "/spec/username"]
    );
}

#[test]
fn it_is_stored_as_kubernetes_writes_it_and_read_back() {
    let node = "apiVersion: mainstay.dev/v1\nkind: Node\nmetadata: {name: ND1, namespace: IN1, labels: {a/b: c}}\n\
                spec: {name: a, ip-address: h, username: u}\n";
    let owners = new(FOLDER, &admitted(node)).metadata.managed_fields;
    let stored = serde_json::to_value(&owners).unwrap();
    assert_eq!(
        stored,
        json!([{
            "manager": FOLDER, "operation": "Apply", "apiVersion": API_VERSION, "time": NOW, "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {"f:a/b": {}}},
                "f:spec": {"f:ip-address": {}, "f:name": {}, "f:username": {}},
            },
        }])
    );
    assert_eq!(serde_json::from_value::<Owners>(stored).unwrap(), owners);
}

/// What one of three writers does next.
#[derive(Debug, Clone)]
enum Act {
    /// The folder or the set states these variables, and no other.
    States(&'static str, BTreeMap<String, String>),
    /// `/1.0` sets a variable, or takes it away.
    Sets(String, Option<String>),
}

mod property {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn act() -> impl Strategy<Value = Act> {
        let (name, value) = ("[ABC]", "[xy]");
        let stated = proptest::collection::btree_map(name, value, 0..3);
        prop_oneof![
            (prop_oneof![Just(FOLDER), Just(OPS)], stated).prop_map(|(who, all)| Act::States(who, all)),
            (name, proptest::option::of(value)).prop_map(|(name, value)| Act::Sets(name, value)),
        ]
    }

    /// What each has set, in plain: the model.
    type Wishes = BTreeMap<&'static str, BTreeMap<String, String>>;

    /// Who has set one of these to something else.
    fn opponents(wishes: &Wishes, who: &str, name: &str, value: Option<&str>) -> Vec<&'static str> {
        let others = wishes.iter().filter(|(other, _)| **other != who);
        let opposed = others.filter(|(_, set)| set.get(name).is_some_and(|set| Some(set.as_str()) != value));
        opposed.map(|(other, _)| *other).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn three_who_write_one_object_lose_no_field_and_hear_of_every_conflict(acts in prop::collection::vec(act(), 1..25)) {
            let mut document = new(FOLDER, &service(""));
            let mut wishes = Wishes::new();
            for act in acts {
                let (who, result, wanted, opposed) = match &act {
                    Act::States(who, all) => {
                        let env = serde_json::to_string(all).unwrap();
                        let opposed: Vec<String> = all.iter().flat_map(|(name, value)| {
                            opponents(&wishes, who, name, Some(value)).into_iter().map(move |other| format!("/spec/env/{name} {other}"))
                        }).collect();
                        (*who, again(&document, who, &service(&format!(", env: {env}"))), all.clone(), opposed)
                    }
                    Act::Sets(name, value) => {
                        let mut wanted = spec(&document).clone();
                        match value {
                            Some(value) => drop(wanted.env.insert(name.clone(), value.clone())),
                            None => drop(wanted.env.remove(name)),
                        }
                        let is_change = wanted != *spec(&document);
                        let opposed: Vec<String> = opponents(&wishes, API, name, value.as_deref()).into_iter()
                            .map(|other| format!("/spec/env/{name} {other}")).collect();
                        let result = changed(&document, Spec::Service(wanted), API, NOW).map_err(|conflicts| {
                            conflicts.into_iter().map(|conflict| format!("{} {}", conflict.pointer, conflict.owner)).collect()
                        });
                        let mut own = wishes.get(API).cloned().unwrap_or_default();
                        match value {
                            Some(value) if is_change => drop(own.insert(name.clone(), value.clone())),
                            Some(_) => {}
                            None => drop(own.remove(name)),
                        }
                        (API, result, own, opposed)
                    }
                };
                let is_refused = result.is_err();
                match result {
                    Ok(after) => {
                        prop_assert_eq!(opposed, Vec::<String>::new(), "{:?} is in nobody's way", act);
                        wishes.insert(who, wanted);
                        document = after;
                    }
                    // And nothing is changed.
                    Err(said) => prop_assert_eq!(said, opposed),
                }
                let all: BTreeMap<String, String> =
                    wishes.values().flatten().map(|(name, value)| (name.clone(), value.clone())).collect();
                prop_assert_eq!(&spec(&document).env, &all, "{:?}", wishes);
                if let Act::States(who, all) = &act && !is_refused {
                    let env = serde_json::to_string(all).unwrap();
                    let same = again(&document, who, &service(&format!(", env: {env}")));
                    prop_assert_eq!(same.as_ref(), Ok(&document), "what is said again changes nothing");
                }
            }
        }
    }
}
