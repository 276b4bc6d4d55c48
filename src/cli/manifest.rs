//! Manifests that we write for people: text with comments, which no serializer keeps.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::locate;

/// A Node document to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NodeText {
    /// Its id.
    pub(super) id: String,
    /// What people call it.
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    /// Address, host name, or an alias of `ssh_config`.
    pub(super) host: String,
    /// None where it is the usual one, or the `ssh_config`'s.
    pub(super) port: Option<u16>,
    /// Empty for a node that is this machine.
    pub(super) user: String,
    pub(super) identity_file: Option<String>,
    pub(super) host_key: Option<String>,
    pub(super) ssh_config: Option<String>,
    pub(super) is_local: bool,
}

impl NodeText {
    /// The document.
    pub(super) fn document(&self, instance: &str) -> String {
        let mut text = format!(
            "apiVersion: mainstay.dev/v1\nkind: Node\nmetadata:\n  name: {}\n  namespace: {}\n",
            scalar(&self.id),
            scalar(instance)
        );
        if !self.labels.is_empty() {
            text.push_str("  labels:\n");
        }
        for (name, value) in &self.labels {
            // Always quoted: a label's value is text, also where it looks like something else.
            text.push_str(&format!("    {}: {}\n", scalar(name), Value::from(value.as_str())));
        }
        text.push_str("spec:\n");
        let mut field = |name: &str, value: &str| text.push_str(&format!("  {name}: {value}\n"));
        field("name", &scalar(&self.name));
        field("ip-address", &scalar(&self.host));
        if self.is_local {
            field("transport", "local");
        }
        if let Some(port) = self.port {
            field("port", &port.to_string());
        }
        if !self.user.is_empty() {
            field("username", &scalar(&self.user));
        }
        for (name, value) in [
            ("identity-file", &self.identity_file),
            ("ssh-config", &self.ssh_config),
            ("host-key", &self.host_key),
        ] {
            if let Some(value) = value {
                field(name, &scalar(value));
            }
        }
        text
    }
}

/// A text as a YAML scalar: plain where that is read as the same text, else quoted as in JSON.
pub(super) fn scalar(text: &str) -> String {
    let is_plain = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._/~@+= -".contains(&byte))
        && locate::read(&format!("a: {text}\n"), None)
            .is_ok_and(|read| read.len() == 1 && read[0].value["a"] == text);
    if is_plain { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scalar_is_read_as_the_text_that_it_was() {
        for text in ["IN1", "~/.ssh/id_ed25519", "192.0.2.10", "ssh-ed25519 AAAAC3+/=", "a b"] {
            assert_eq!(scalar(text), text);
        }
        for text in ["", "true", "22", "1e3", "~", "null", "a: b", "- a", " a", "a ", "a\nb", "#", "ä"] {
            assert!(scalar(text).starts_with('"'), "{text}");
        }
        for text in [
            "true", "22", "0x10", "0o7", "1_000", ".5", ".inf", "--- a", "=", "a #b", "a\tb", "@a", "+1",
            "1:2",
        ] {
            let written = scalar(text);
            let read = locate::read(&format!("a: {written}\n"), None).unwrap();
            assert_eq!(read[0].value["a"], text);
        }
    }
}
