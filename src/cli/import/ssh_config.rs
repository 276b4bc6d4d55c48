//! An ssh_config's hosts: for each the first value of what it says, as ssh does it (ssh_config(5)).

use super::super::manifest::NodeText;
use super::{Found, MAX_HOSTS, Machine};
use crate::model::id::check_id;

/// What says nothing of how a host is reached, or what Mainstay decides itself.
const UNNEEDED: [&str; 40] = [
    "addkeystoagent",
    "batchmode",
    "canonicalizehostname",
    "checkhostip",
    "clearallforwardings",
    "compression",
    "connectionattempts",
    "connecttimeout",
    "controlmaster",
    "controlpath",
    "controlpersist",
    "dynamicforward",
    "escapechar",
    "exitonforwardfailure",
    "forwardagent",
    "forwardx11",
    "forwardx11trusted",
    "gatewayports",
    "globalknownhostsfile",
    "gssapiauthentication",
    "gssapidelegatecredentials",
    "hashknownhosts",
    "hostkeyalias",
    "identitiesonly",
    "localcommand",
    "localforward",
    "loglevel",
    "permitlocalcommand",
    "remotecommand",
    "remoteforward",
    "requesttty",
    "sendenv",
    "serveralivecountmax",
    "serveraliveinterval",
    "setenv",
    "stricthostkeychecking",
    "tcpkeepalive",
    "updatehostkeys",
    "userknownhostsfile",
    "visualhostkey",
];

struct Setting {
    line: u64,
    /// As it is written; compared in lower case.
    name: String,
    value: String,
}

struct Block {
    line: u64,
    patterns: Vec<String>,
    settings: Vec<Setting>,
}

impl Block {
    /// Whether it is of this host: one of its patterns fits, and none that is negated.
    fn is_of(&self, host: &str) -> bool {
        let is_refused =
            |pattern: &String| pattern.strip_prefix('!').is_some_and(|pattern| fits(pattern, host));
        self.patterns.iter().any(|pattern| fits(pattern, host)) && !self.patterns.iter().any(is_refused)
    }
}

/// Reads an ssh_config that lies at a path.
pub(super) fn read(text: &str, path: &str) -> Found {
    let mut found = Found::default();
    let blocks = blocks(text, &mut found);
    let mut names: Vec<(u64, &String)> = Vec::new();
    for block in &blocks {
        for pattern in block.patterns.iter().filter(|pattern| !pattern.contains(['*', '?', '!'])) {
            if !names.iter().any(|(_, name)| *name == pattern) {
                names.push((block.line, pattern));
            }
        }
    }
    names.truncate(MAX_HOSTS);
    for (line, name) in names {
        match check_id(name) {
            Ok(()) => {
                let node = node(name, &blocks, path, &mut found);
                found.nodes.push(Machine { line, node });
            }
            Err(why) => found.note(line, format!("the host is left out: {why}")),
        }
    }
    found
}

fn blocks(text: &str, found: &mut Found) -> Vec<Block> {
    // What stands before any Host is of all.
    let mut blocks = vec![Block { line: 1, patterns: vec!["*".into()], settings: Vec::new() }];
    for (line, raw) in (1..).zip(text.lines()) {
        let Some((name, value)) = setting(raw) else { continue };
        match name.to_ascii_lowercase().as_str() {
            "host" => {
                let patterns =
                    value.split_whitespace().map(|pattern| pattern.trim_matches('"').to_owned()).collect();
                blocks.push(Block { line, patterns, settings: Vec::new() });
            }
            "match" => {
                found.note(line, "Match is not understood; what it says is left out");
                blocks.push(Block { line, patterns: Vec::new(), settings: Vec::new() });
            }
            "include" => found.note(line, "Include is not followed; import what it names, too"),
            _ => {
                if let Some(block) = blocks.last_mut() {
                    let value = value.trim_matches('"').to_owned();
                    block.settings.push(Setting { line, name: name.to_owned(), value });
                }
            }
        }
    }
    blocks
}

/// The name and the value of a line, with blanks or one `=` between.
fn setting(raw: &str) -> Option<(&str, &str)> {
    let text = raw.trim();
    if text.is_empty() || text.starts_with('#') {
        return None;
    }
    let end = text.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let rest = rest.trim_start();
    Some((name, rest.strip_prefix('=').unwrap_or(rest).trim()))
}

/// ssh's patterns: `*` is any characters, `?` is one.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // Which beginnings of the text the pattern so far fits.
    let mut fitting = vec![false; text.len() + 1];
    fitting[0] = true;
    for part in pattern {
        let mut next = vec![false; text.len() + 1];
        for at in 0..=text.len() {
            next[at] = match part {
                '*' => fitting[at] || (at > 0 && next[at - 1]),
                _ => at > 0 && fitting[at - 1] && (part == '?' || part == text[at - 1]),
            };
        }
        fitting = next;
    }
    fitting[text.len()]
}

fn node(host: &str, blocks: &[Block], path: &str, found: &mut Found) -> NodeText {
    let mut node = NodeText { id: host.into(), name: host.into(), host: host.into(), ..NodeText::default() };
    let mut seen: Vec<String> = Vec::new();
    let mut only_ssh_knows = false;
    for Setting { line, name, value } in
        blocks.iter().filter(|block| block.is_of(host)).flat_map(|block| &block.settings)
    {
        let lower = name.to_ascii_lowercase();
        // The first one counts.
        if seen.contains(&lower) {
            continue;
        }
        seen.push(lower.clone());
        let is_known = match lower.as_str() {
            "hostname" => expand(value, &[('h', host)]).map(|value| node.host = value),
            "user" => expand(value, &[]).map(|value| node.user = value),
            "port" => value.parse().ok().map(|port| node.port = Some(port)),
            "identityfile" if value == "none" => Some(()),
            "identityfile" => expand(value, &[('d', "~")]).map(|value| node.identity_file = Some(value)),
            "proxyjump" | "proxycommand" if value == "none" => Some(()),
            known => UNNEEDED.contains(&known).then_some(()),
        };
        if is_known.is_none() {
            only_ssh_knows = true;
            found.note(*line, format!("{name}: only ssh knows what to do with it, so {host} has it read this file (`ssh-config`)"));
        }
    }
    node.port = node.port.filter(|port| *port != 22);
    if only_ssh_knows {
        let user = node.user;
        return NodeText {
            user,
            ssh_config: Some(path.to_owned()),
            id: host.into(),
            name: host.into(),
            host: host.into(),
            ..NodeText::default()
        };
    }
    node
}

/// The value with what some `%` stand for; none when it has another one.
fn expand(value: &str, known: &[(char, &str)]) -> Option<String> {
    let mut expanded = String::new();
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match c {
            '%' => match characters.next()? {
                '%' => expanded.push('%'),
                token => expanded.push_str(known.iter().find(|(name, _)| *name == token)?.1),
            },
            _ => expanded.push(c),
        }
    }
    Some(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(text: &str) -> Vec<NodeText> {
        read(text, "/etc/c").nodes.into_iter().map(|machine| machine.node).collect()
    }

    #[test]
    fn the_first_value_counts_and_wildcards_are_of_all_that_they_fit() {
        let text = "Host web db\n  HostName=%h.example.org\n  User one\nHost w*\n\tport 2222\nHost * !db\n User two\n identityFile \"%d/.ssh/k\"\n";
        let nodes = nodes(text);
        assert_eq!(nodes.len(), 2);
        assert_eq!((nodes[0].host.as_str(), nodes[0].user.as_str()), ("web.example.org", "one"));
        assert_eq!((nodes[0].port, nodes[0].identity_file.as_deref()), (Some(2222), Some("~/.ssh/k")));
        assert_eq!((nodes[1].port, &nodes[1].identity_file), (None, &None));
    }

    #[test]
    fn what_only_ssh_knows_is_left_to_ssh() {
        let found = read(
            "Host a\n User me\n Port 7\n ProxyJump b\nHost b\n ForwardAgent yes\n ProxyJump none\n",
            "/etc/c",
        );
        let node = &found.nodes[0].node;
        assert_eq!((node.ssh_config.as_deref(), node.host.as_str(), node.port), (Some("/etc/c"), "a", None));
        assert_eq!((node.user.as_str(), &found.nodes[1].node.ssh_config), ("me", &None));
        assert!(found.notes.len() == 1 && found.notes[0].line == 4);
    }

    #[test]
    fn include_and_match_are_told() {
        let found = read("Include other\nHost a\nMatch host a\n User x\nHost -bad\n", "/etc/c");
        assert_eq!(found.notes.iter().map(|note| note.line).collect::<Vec<_>>(), [1, 3, 5]);
        assert_eq!(found.nodes[0].node.user, "");
    }

    #[test]
    fn patterns_fit_as_ssh_says() {
        for (pattern, text) in
            [("*", ""), ("a*c", "abbc"), ("?b*", "ab"), ("192.168.0.?", "192.168.0.7"), ("a**", "a")]
        {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a", "ab"), ("?", ""), ("a*c", "abbd")] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(?s).{0,200}", lines in "((Host|Port|User|Hostname|Match|x) [a-z%*?!\"= ]{0,10}\n){0,10}") {
            let _ = read(&text, "/c");
            let _ = read(&lines, "/c");
        }
    }
}
