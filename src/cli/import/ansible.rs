//! Ansible's inventories: hosts in groups, with variables that the more special one overrides.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::manifest::NodeText;
use super::{Found, MAX_HOSTS, Machine, Note, ini, range};
use crate::model::id::check_id;
use crate::model::locate::{self, Located, escape};

/// A variable and where it stands. Its value is shown to nobody.
#[derive(Clone)]
pub(super) struct Variable {
    pub(super) line: u64,
    pub(super) name: String,
    pub(super) value: String,
}

#[derive(Default)]
struct Host {
    line: u64,
    port: Option<String>,
    variables: Vec<Variable>,
}

#[derive(Default)]
struct Group {
    hosts: BTreeSet<String>,
    children: BTreeSet<String>,
    variables: Vec<Variable>,
}

/// An inventory as it is read.
#[derive(Default)]
pub(super) struct Inventory {
    /// In the order of the file.
    order: Vec<String>,
    hosts: BTreeMap<String, Host>,
    groups: BTreeMap<String, Group>,
    notes: Vec<Note>,
}

impl Inventory {
    pub(super) fn note(&mut self, line: u64, text: impl Into<String>) {
        self.notes.push(Note { line, text: text.into() });
    }

    pub(super) fn group(&mut self, name: &str) {
        self.groups.entry(name.to_owned()).or_default();
    }

    pub(super) fn child(&mut self, parent: &str, child: &str) {
        self.group(child);
        self.groups.entry(parent.to_owned()).or_default().children.insert(child.to_owned());
    }

    pub(super) fn group_variable(&mut self, group: &str, variable: Variable) {
        self.groups.entry(group.to_owned()).or_default().variables.push(variable);
    }

    /// Hosts by a pattern, in a group.
    pub(super) fn hosts(&mut self, group: &str, pattern: &str, line: u64, variables: &[Variable]) {
        let names = match range::expand(pattern) {
            Ok(names) => names,
            Err(why) => return self.note(line, format!("the hosts are left out: {why}")),
        };
        for name in names {
            let (name, port) = split_port(&name);
            if !self.hosts.contains_key(name) {
                if self.order.len() >= MAX_HOSTS {
                    return self
                        .note(line, format!("from here on hosts are left out: there are over {MAX_HOSTS}"));
                }
                self.order.push(name.to_owned());
            }
            let host = self.hosts.entry(name.to_owned()).or_insert_with(|| Host { line, ..Host::default() });
            host.port = port.map(str::to_owned).or(host.port.take());
            host.variables.extend_from_slice(variables);
            self.groups.entry(group.to_owned()).or_default().hosts.insert(name.to_owned());
        }
    }
}

/// `host:port`; what has more colons is an IPv6 address.
fn split_port(name: &str) -> (&str, Option<&str>) {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match name.rsplit_once(':') {
        Some((host, port)) if is_port(port) && !host.contains(':') => (host, Some(port)),
        Some((host, port)) if is_port(port) && host.starts_with('[') && host.ends_with(']') => {
            (&host[1..host.len() - 1], Some(port))
        }
        Some(_) | None => (name, None),
    }
}

/// Reads an inventory in one of its forms.
///
/// # Errors
/// When it has another one.
pub(super) fn read(file: &str, text: &str) -> Result<Found, String> {
    if text.starts_with("#!") {
        return Err(format!("{file} is a program that makes an inventory; only a file of hosts can be read"));
    }
    let mut inventory = Inventory::default();
    if is_yaml(file, text) {
        for document in locate::read(text, Some(file)).map_err(|problem| problem.to_string())? {
            let Value::Object(groups) = &document.value else {
                return Err(format!("{file}: an inventory in YAML is a map of groups"));
            };
            for (name, group) in groups {
                yaml_group(&document, &format!("/{}", escape(name)), name, group, &mut inventory);
            }
        }
    } else {
        ini::read(text, &mut inventory);
    }
    Ok(found(inventory))
}

fn is_yaml(file: &str, text: &str) -> bool {
    let ending = file.rsplit_once('.').map(|(_, ending)| ending);
    if ending.is_some_and(|ending| matches!(ending, "yaml" | "yml" | "json")) {
        return true;
    }
    if ending == Some("ini") {
        return false;
    }
    let mut lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    let is_key = |line: &str| line.ends_with(':') && !line.contains(' ');
    lines.next().is_some_and(|line| line == "---" || line.starts_with('{') || is_key(line))
}

fn yaml_group(from: &Located, pointer: &str, name: &str, group: &Value, inventory: &mut Inventory) {
    let line = |pointer: &str| from.key_at(pointer).map_or(1, |(line, _)| line);
    inventory.group(name);
    let fields = match group {
        Value::Null => return,
        Value::Object(fields) => fields,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return inventory
                .note(line(pointer), "a group is a map of hosts, vars and children; it is left out");
        }
    };
    for (field, value) in fields {
        let at = format!("{pointer}/{field}");
        match (field.as_str(), value) {
            ("hosts" | "vars" | "children", Value::Null) => {}
            ("hosts", Value::Object(hosts)) => {
                for (pattern, variables) in hosts {
                    let at = format!("{at}/{}", escape(pattern));
                    let variables = yaml_variables(from, &at, variables, inventory);
                    inventory.hosts(name, pattern, line(&at), &variables);
                }
            }
            ("vars", variables @ Value::Object(_)) => {
                for variable in yaml_variables(from, &at, variables, inventory) {
                    inventory.group_variable(name, variable);
                }
            }
            ("children", Value::Object(children)) => {
                for (child, group) in children {
                    inventory.child(name, child);
                    yaml_group(from, &format!("{at}/{}", escape(child)), child, group, inventory);
                }
            }
            _ => {
                inventory.note(line(&at), "not understood; a group has hosts, vars and children, each a map")
            }
        }
    }
}

fn yaml_variables(
    from: &Located,
    pointer: &str,
    variables: &Value,
    inventory: &mut Inventory,
) -> Vec<Variable> {
    let mut found = Vec::new();
    for (name, value) in variables.as_object().into_iter().flatten() {
        let line = from.key_at(&format!("{pointer}/{}", escape(name))).map_or(1, |(line, _)| line);
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Null => continue,
            Value::Array(_) | Value::Object(_) => {
                inventory.note(line, format!("{name} is left out"));
                continue;
            }
        };
        found.push(Variable { line, name: name.clone(), value: text });
    }
    found
}

/// The machines of an inventory.
fn found(inventory: Inventory) -> Found {
    let Inventory { order, hosts, groups, notes } = inventory;
    let mut found = Found { nodes: Vec::new(), notes };
    let parents = parents(&groups);
    for name in order {
        let Some(host) = hosts.get(&name) else { continue };
        if let Err(why) = check_id(&name) {
            found.note(host.line, format!("the host is left out: {why}"));
            continue;
        }
        let of = groups_of(&name, &groups, &parents);
        let mut node =
            NodeText { id: name.clone(), name: name.clone(), host: name.clone(), ..NodeText::default() };
        if let Some(port) = &host.port {
            take(
                &mut node,
                &Variable { line: host.line, name: "ansible_port".into(), value: port.clone() },
                &mut found,
            );
        }
        let general = of.iter().filter_map(|group| groups.get(group)).flat_map(|group| &group.variables);
        for variable in general.chain(&host.variables) {
            take(&mut node, variable, &mut found);
        }
        let named = of.into_iter().filter(|group| group != "all" && group != "ungrouped");
        node.labels = named.map(|group| (group, "true".to_owned())).collect();
        node.port = node.port.filter(|port| *port != 22);
        if node.is_local {
            node = NodeText { port: None, user: String::new(), identity_file: None, ..node };
        }
        found.nodes.push(Machine { line: host.line, node });
    }
    // Maps were read by name.
    found.nodes.sort_by_key(|machine| machine.line);
    found.notes.sort();
    found
}

/// Whose children each group is.
fn parents(groups: &BTreeMap<String, Group>) -> BTreeMap<&str, Vec<&str>> {
    let mut parents: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, group) in groups {
        for child in &group.children {
            parents.entry(child).or_default().push(name);
        }
    }
    parents
}

/// All groups that a host is in, the more general first: `all`, then those that are farthest above the host, each as far as its
/// shortest way; of the same distance by name, as Ansible does it.
fn groups_of(
    host: &str,
    groups: &BTreeMap<String, Group>,
    parents: &BTreeMap<&str, Vec<&str>>,
) -> Vec<String> {
    let mut distance: BTreeMap<&str, usize> = BTreeMap::new();
    let mut next: Vec<&str> = groups
        .iter()
        .filter(|(_, group)| group.hosts.contains(host))
        .map(|(name, _)| name.as_str())
        .collect();
    let mut steps = 0;
    while !next.is_empty() {
        next.retain(|group| !distance.contains_key(group));
        distance.extend(next.iter().map(|group| (*group, steps)));
        next = next.iter().flat_map(|group| parents.get(group).into_iter().flatten().copied()).collect();
        steps += 1;
    }
    distance.insert("all", usize::MAX);
    let mut names: Vec<(usize, &str)> = distance.into_iter().map(|(name, steps)| (steps, name)).collect();
    names.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(other.1)));
    names.into_iter().map(|(_, name)| name.to_owned()).collect()
}

/// Takes over a variable, or notes why not. Never shows its value.
fn take(node: &mut NodeText, variable: &Variable, found: &mut Found) {
    let Variable { line, name, value } = variable;
    let lower = name.to_ascii_lowercase();
    if ["pass", "secret", "token"].iter().any(|word| lower.contains(word)) {
        let how = "write `password-from` in the Node, or have it log in by key";
        return found.note(*line, format!("{name} is not copied, for it is a secret; {how}"));
    }
    if value.contains("{{") || value.starts_with("$ANSIBLE_VAULT") {
        return found
            .note(*line, format!("{name} is left out: a template or an encrypted value is not evaluated"));
    }
    match lower.as_str() {
        "ansible_host" | "ansible_ssh_host" => node.host.clone_from(value),
        "ansible_port" | "ansible_ssh_port" => match value.parse() {
            Ok(port) if port > 0 => node.port = Some(port),
            Ok(_) | Err(_) => found.note(*line, format!("{name} is no port from 1 to 65535; it is left out")),
        },
        "ansible_user" | "ansible_ssh_user" => node.user.clone_from(value),
        "ansible_ssh_private_key_file" | "ansible_private_key_file" => {
            if !value.starts_with(['/', '~']) {
                found.note(*line, format!("{name} is a relative path: in a manifest it is relative to that"));
            }
            node.identity_file = Some(value.clone());
        }
        "ansible_connection" => match value.as_str() {
            "local" => node.is_local = true,
            "ssh" | "smart" | "paramiko" | "paramiko_ssh" => node.is_local = false,
            _ => found
                .note(*line, format!("{name} is none that there is here: ssh and local are; ssh is taken")),
        },
        _ if lower.starts_with("ansible_ssh_") && lower.ends_with("_args") => {
            found.note(
                *line,
                format!(
                    "{name} is left out; write what it says into an ssh_config, and name that by `ssh-config`"
                ),
            );
        }
        _ => found.note(*line, format!("{name} is left out: a Node has nothing like it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machines(file: &str, text: &str) -> Vec<NodeText> {
        read(file, text).unwrap().nodes.into_iter().map(|machine| machine.node).collect()
    }

    fn notes(file: &str, text: &str) -> Vec<String> {
        let notes = read(file, text).unwrap().notes;
        notes.iter().map(|Note { line, text }| format!("{line}: {text}")).collect()
    }

    const INI: &str = "alone ansible_connection=local\n[web]\nweb[1:2] ansible_user=one\n[web:vars]\nansible_user = two\n\
                       ansible_port=2222\n[prod:children]\nweb\n[prod:vars]\nansible_port=1\nansible_host=10.0.0.1\n[all:vars]\nansible_host=x\n";

    #[test]
    fn the_more_special_variable_wins_and_groups_become_labels() {
        let nodes = machines("hosts", INI);
        assert_eq!(nodes.len(), 3);
        assert!(nodes[0].is_local && nodes[0].labels.is_empty() && nodes[0].host == "x");
        let web = &nodes[2];
        assert_eq!((web.id.as_str(), web.user.as_str(), web.host.as_str()), ("web2", "one", "10.0.0.1"));
        assert_eq!(web.port, Some(2222));
        assert_eq!(web.labels.keys().collect::<Vec<_>>(), ["prod", "web"]);
    }

    #[test]
    fn both_forms_say_the_same() {
        let yaml = "all:\n  vars: {ansible_host: x}\n  hosts:\n    alone: {ansible_connection: local}\n  children:\n    prod:\n      \
                    vars: {ansible_port: 1, ansible_host: 10.0.0.1}\n      children:\n        web:\n          hosts:\n            \
                    web[1:2]:\n              ansible_user: one\n          vars: {ansible_user: two, ansible_port: 2222}\n";
        assert_eq!(machines("hosts.yaml", yaml), machines("hosts", INI));
        assert_eq!(machines("inventory", yaml), machines("hosts", INI));
    }

    #[test]
    fn a_circle_of_groups_ends() {
        let nodes = machines("hosts", "[a]\nx\n[a:children]\nb\n[b:children]\na\n");
        assert_eq!(nodes[0].labels.keys().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn no_secret_is_copied_and_no_value_is_shown() {
        let text = "x ansible_password=butter ansible_become_pass=butter ansible_user='{{ butter }}' odd=butter ansible_port=butter\n";
        let found = read("hosts", text).unwrap();
        assert_eq!(found.notes.len(), 5);
        assert!(!format!("{found:?}").contains("butter"), "{found:?}");
    }

    #[test]
    fn what_is_not_understood_is_told_with_its_line() {
        assert_eq!(
            notes("hosts", "x\n[a:b]\ny\n[c]\nz[2:1]\n'q\n"),
            [
                "2: this kind of section is not understood; its lines are left out",
                "5: the hosts are left out: [2:1]: write two numbers, the smaller one first, and at most 10000 apart",
                "6: a quote is not closed; the line is left out",
            ]
        );
        assert_eq!(
            notes("hosts.yml", "web:\n  hosts: [a]\n  host: {}\n"),
            ["2: not understood; a group has hosts, vars and children, each a map"; 2]
                .map(str::to_owned)
                .into_iter()
                .zip(["2", "3"])
                .map(|(note, line)| format!("{line}{}", &note[1..]))
                .collect::<Vec<_>>()
        );
        assert!(read("hosts", "#!/bin/sh\n").is_err());
        assert!(read("hosts.yaml", "- a\n").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(?s).{0,200}", lines in "([a-z\\[\\]:=' #\\\\\"0-9]{0,20}\n){0,10}") {
            for file in ["hosts", "hosts.yaml"] {
                let _ = read(file, &text);
                let _ = read(file, &lines);
            }
        }
    }
}
