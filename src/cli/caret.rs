//! The line of a text that something is wrong with, and a caret below the place.
//!
//! **Invariant:** no line is shown that may hold a secret. What could be one is told by the words around it, so this hides more than
//! is secret.

use super::client::printable;

/// Words in a field's name that say that a secret follows.
const TELLTALE: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "private",
    "api-key",
    "apikey",
    "api_key",
    "access-key",
];

/// Longest line that is shown, in characters; of a longer one nothing is, for its place could not be told.
const MAX_LINE_CHARS: usize = 200;

/// The line with this number and a caret below this column, both from 1; none when there is no such line, or it is not to be shown.
pub(super) fn line(text: &str, (line, column): (u64, u64)) -> Option<String> {
    let at = usize::try_from(line.checked_sub(1)?).ok()?;
    let column = usize::try_from(column.checked_sub(1)?).ok()?;
    let lines: Vec<&str> = text.lines().take(at + 1).collect();
    let shown = *lines.get(at)?;
    let length = shown.chars().count();
    if shown.trim().is_empty() || length > MAX_LINE_CHARS || column > length || may_be_secret(&lines) {
        return None;
    }
    // A tab is as wide as the terminal likes, and other control characters are left out: a blank for each, so that the caret fits.
    let shown: String = shown.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    Some(format!("  {number} | {}\n  {margin} | {}^\n", printable(shown.trim_end()), " ".repeat(column)))
}

/// Whether the last of these lines holds a secret, or goes on with one.
fn may_be_secret(lines: &[&str]) -> bool {
    let Some((last, before)) = lines.split_last() else { return false };
    if is_telltale(last) {
        return true;
    }
    let mut depth = indent(last);
    // Until the line is found that begins the value which this one is part of, whatever stands at any depth may be that.
    let mut is_begun = begins_value(last);
    for line in before.iter().rev() {
        if line.starts_with("---") {
            return false;
        }
        if line.trim().is_empty() {
            continue;
        }
        // A quote that is not closed in its line: what follows is in it, whatever it looks like.
        let is_open = is_telltale(line) && (is_odd(line, '"') || is_odd(line, '\''));
        let is_around = indent(line) < depth || !is_begun;
        if is_open || (is_around && is_telltale(line)) {
            return true;
        }
        if is_around {
            depth = depth.min(indent(line));
        }
        is_begun = is_begun || begins_value(line);
    }
    false
}

fn is_telltale(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    TELLTALE.iter().any(|word| line.contains(word)) || has_login(&line)
}

/// Whether there is an address that may have a password in it, such as `redis://:butter@host`.
fn has_login(line: &str) -> bool {
    line.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', ' ', '"', '\'']).next().unwrap_or_default();
        authority.contains('@')
    })
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '-']).len()
}

/// Whether a line has a field or an item of its own, and is not the rest of a longer value.
fn begins_value(line: &str) -> bool {
    let line = line.trim_start();
    let name = line.split(':').next().unwrap_or_default();
    let is_name = name.len() < line.len()
        && name
            .trim_matches('"')
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_./ {\"".contains(&byte));
    line.starts_with("- ") || line.starts_with('#') || is_name
}

fn is_odd(line: &str, quote: char) -> bool {
    line.chars().filter(|c| *c == quote).count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_below_the_place() {
        assert_eq!(line("a: 1\n  prot: 22\n", (2, 3)).as_deref(), Some("  2 |   prot: 22\n    |   ^\n"));
        assert_eq!(line("\tä\u{1b}[31m: x\n", (1, 3)).as_deref(), Some("  1 |  ä [31m: x\n    |   ^\n"));
        assert_eq!(line("a: 1\n", (2, 1)), None);
        assert_eq!(line("a: 1\n", (1, 9)), None);
        assert_eq!(line("a: 1\n", (0, 0)), None);
    }

    #[test]
    fn no_line_of_a_secret_is_shown() {
        let secret = [
            "spec:\n  password: butter\n",
            "spec: {name: a, \"Password\": butter}\n",
            "spec:\n  password: |\n    butter\n",
            "spec:\n  password:\n    butter\n",
            "spec:\n  password: >-\n\n    some\n    butter\n",
            "spec:\n  password: \"some\nbutter: x\n",
            "spec: {password:\nbutter}\n",
            "{\"password\":\n\"butter\"}\n",
            "password: [\n  butter\n",
            "env:\n  API_TOKEN:\n  - name: butter\n",
            "redis: redis://:butter@host:6379\n",
            "redis: 'https://a:butter@host/x'\n",
        ];
        for text in secret {
            let at = text.lines().position(|line| line.contains("butter")).unwrap() as u64;
            assert_eq!(line(text, (at + 1, 1)), None, "{text}");
        }
    }

    #[test]
    fn what_follows_a_secret_is_shown() {
        let shown = [
            ("spec:\n  password: butter\n  prot: 22\n", 3),
            ("spec:\n  password: |\n    butter\n  prot: 22\n", 4),
            ("spec: {password: butter}\n---\nkind: Node\n", 3),
            ("redis: redis://host:6379\n", 1),
        ];
        for (text, at) in shown {
            assert!(line(text, (at, 1)).is_some(), "{text}");
        }
    }
}
