//! The line that a problem is about, with a caret under the place: for people who look for it.
//!
//! A line of a manifest can hold a secret, and nobody can tell all of them by their look. So a value is shown only where the schema has no place
//! for a secret: where the names of the field and of all around it are known to be harmless. Of any other value only where it begins is
//! shown, and of a line that is not plainly `field: value`, nothing at all.
//!
//! **Invariant:** nothing is shown of a password, of `env`, `options`, a command, an annotation, a URL, or of text over several lines.
//! **Absent here:** excerpts of JSON, and of YAML in braces: which field a line of it is in can't be told from the line.

use super::locate::Position;

/// Longest part of a line that is shown, in characters.
const WIDTH: usize = 100;

/// Fields whose value can't be a secret, of which is shown what was written.
const HARMLESS: [&str; 41] = [
    "after",
    "apiVersion",
    "display",
    "failover",
    "fenced",
    "grace-seconds",
    "health",
    "instance",
    "interval-seconds",
    "ip-address",
    "keep",
    "kind",
    "lease",
    "log",
    "log-level",
    "max-size",
    "max-unavailable",
    "metadata",
    "min-ready-seconds",
    "name",
    "namespace",
    "node",
    "nodes",
    "on-failure",
    "port",
    "reload",
    "replace",
    "replicas",
    "running",
    "seconds",
    "service",
    "sha256",
    "signal",
    "spec",
    "start",
    "status",
    "stop",
    "tcp",
    "transport",
    "type",
    "update",
];

/// The line at a place of a text, and a caret below that place; none where the line could hold a secret.
///
/// ```
/// let text = "kind: Service\nspec:\n  replicsa: 3\n  type: wep\n";
/// let shown = |at| mainstay::model::excerpt::excerpt(text, at);
/// assert_eq!(shown((4, 9)).as_deref(), Some("  4 |   type: wep\n    |         ^"));
/// assert_eq!(shown((3, 3)).as_deref(), Some("  3 |   replicsa: …\n    |   ^"));
/// ```
pub fn excerpt(text: &str, at: Position) -> Option<String> {
    let (number, column) = (usize::try_from(at.0).ok()?, usize::try_from(at.1).ok()?);
    let above: Vec<&str> = text.lines().take(number).collect();
    let (line, above) = (number == above.len()).then(|| above.split_last())??;
    let field = Field::parse(line)?;
    // What stands in braces has names of its own, and a comment says anything.
    let mut is_harmless = HARMLESS.contains(&field.name) && !field.value.contains(['{', '#']);
    let mut indent = field.indent;
    for outer in above.iter().rev() {
        if *outer == "---" || indent == 0 {
            break;
        }
        let trimmed = outer.trim_start();
        let is_outer = outer.len() - trimmed.len() < indent;
        if trimmed.is_empty() || trimmed.starts_with('#') || !is_outer {
            continue;
        }
        let outer = Field::parse(outer)?;
        if outer.indent >= indent {
            // `- name: x` above a field of the same item.
            continue;
        }
        // Else this line may be in the middle of its text.
        if !outer.value.is_empty() {
            return None;
        }
        is_harmless &= HARMLESS.contains(&outer.name);
        indent = outer.indent;
    }
    let mut shown = line[..line.len() - field.value.len()].to_owned();
    let value_from = shown.chars().count();
    if is_harmless {
        shown.push_str(field.value);
    } else if !field.value.is_empty() {
        shown.push('…');
    }
    let last = if is_harmless { shown.chars().count() } else { value_from };
    let column = column.saturating_sub(1).min(last);
    if column >= WIDTH || shown.chars().any(|c| c.is_control()) {
        return None;
    }
    let shown: String = shown.chars().take(WIDTH).collect();
    Some(format!("{number:>3} | {shown}\n{:>3} | {:column$}^", "", ""))
}

/// A line of block YAML that gives a field a value.
struct Field<'a> {
    /// Where the name begins, in bytes.
    indent: usize,
    name: &'a str,
    /// What stands behind the colon, without a comment that is all there is.
    value: &'a str,
}

impl Field<'_> {
    fn parse(line: &str) -> Option<Field<'_>> {
        let mut rest = line.trim_start_matches(' ');
        while let Some(item) = rest.strip_prefix("- ") {
            rest = item.trim_start_matches(' ');
        }
        let indent = line.len() - rest.len();
        let (name, value) = rest.split_once(':')?;
        let is_name = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        let is_value = value.is_empty() || value.starts_with(' ');
        let value = value.trim_start_matches(' ');
        let value = if value.starts_with('#') { "" } else { value };
        (is_name && is_value).then_some(Field { indent, name, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "\
apiVersion: mainstay.dev/v1
kind: Node
metadata:
  name: ND1
spec:
  name: box
  prot: 22
  password: butter
  pasword: butter
  password-from: {env: butter}
  env:
    name: butter
  health:
    - port: 80
      tcp: h
  update: {password: butter}
  name: x # butter
---
key: |
  name: butter
'quoted
name': butter
";

    fn shown(line: u64, column: u64) -> Option<String> {
        excerpt(NODE, (line, column))
    }

    #[test]
    fn the_line_is_shown_with_a_caret_under_the_place() {
        assert_eq!(shown(2, 7).unwrap(), "  2 | kind: Node\n    |       ^");
        assert_eq!(shown(4, 9).unwrap(), "  4 |   name: ND1\n    |         ^");
        assert_eq!(shown(15, 7).unwrap(), " 15 |       tcp: h\n    |       ^");
    }

    #[test]
    fn of_a_field_that_nobody_knows_only_the_name_is_shown() {
        assert_eq!(shown(7, 3).unwrap(), "  7 |   prot: …\n    |   ^");
        assert_eq!(shown(16, 21).unwrap(), " 16 |   update: …\n    |           ^");
        assert_eq!(shown(9, 12).unwrap(), "  9 |   pasword: …\n    |            ^");
    }

    #[test]
    fn what_could_be_secret_is_never_shown() {
        for line in 0..30 {
            for column in [0, 1, 5, 12, 1000, u64::MAX] {
                let shown = shown(line, column).unwrap_or_default();
                assert!(!shown.contains("butter") || shown.contains("kind: Node"), "{shown}");
            }
        }
        // In the middle of a text over several lines.
        assert_eq!(
            [shown(20, 3), shown(21, 1), shown(22, 1), shown(0, 1), shown(99, 1)],
            [const { None }; 5]
        );
    }

    #[test]
    fn a_line_that_is_long_or_odd_moves_no_terminal() {
        let long = format!("name: {}\nkind: \u{1b}[2J\n", "x".repeat(1000));
        assert!(excerpt(&long, (1, 7)).unwrap().chars().count() < 2 * WIDTH);
        assert_eq!(excerpt(&long, (2, 1)), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(?s).{0,80}", line in 0u64..9, column in 0u64..99) {
            let _ = excerpt(&text, (line, column));
        }
    }
}
