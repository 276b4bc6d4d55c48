//! Ansible's INI form of an inventory, line by line.

use super::ansible::{Inventory, Variable};

/// What the lines of a section are.
enum Section {
    Hosts(String),
    Children(String),
    Variables(String),
    /// Something that was noted already.
    Unknown,
}

/// Reads an inventory.
pub(super) fn read(text: &str, inventory: &mut Inventory) {
    let mut section = Section::Hosts("ungrouped".into());
    for (line, raw) in (1..).zip(text.lines()) {
        let trimmed = raw.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(head) = trimmed.strip_prefix('[').and_then(|rest| section_head(rest)) {
            section = match head.split_once(':') {
                None => Section::Hosts(head.to_owned()),
                Some((group, "children")) => Section::Children(group.to_owned()),
                Some((group, "vars")) => Section::Variables(group.to_owned()),
                Some((_, _)) => {
                    inventory.note(line, "this kind of section is not understood; its lines are left out");
                    Section::Unknown
                }
            };
            if let Section::Hosts(group) | Section::Children(group) | Section::Variables(group) = &section {
                inventory.group(group);
            }
            continue;
        }
        match &section {
            Section::Unknown => {}
            Section::Hosts(group) => host(trimmed, line, group, inventory),
            Section::Children(group) => match words(trimmed) {
                Ok(words) if words.len() == 1 => inventory.child(group, &words[0]),
                Ok(_) | Err(_) => inventory.note(line, "a line here is the name of a group"),
            },
            Section::Variables(group) => match trimmed.split_once('=') {
                Some((name, value)) => {
                    let value = value.trim();
                    let bare =
                        ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
                    let value = bare.unwrap_or(value).to_owned();
                    inventory.group_variable(group, Variable { line, name: name.trim().to_owned(), value });
                }
                None => inventory.note(line, "a line here is NAME=VALUE"),
            },
        }
    }
}

/// What stands in the brackets of a section's head; a host's range has brackets too, and more after them.
fn section_head(rest: &str) -> Option<&str> {
    let (head, after) = rest.split_once(']')?;
    let after = after.trim_start();
    (after.is_empty() || after.starts_with(['#', ';'])).then_some(head.trim())
}

fn host(text: &str, line: u64, group: &str, inventory: &mut Inventory) {
    let words = match words(text) {
        Ok(words) => words,
        Err(why) => return inventory.note(line, why),
    };
    let Some((pattern, rest)) = words.split_first() else { return };
    let mut variables = Vec::new();
    for word in rest {
        match word.split_once('=') {
            Some((name, value)) => {
                variables.push(Variable { line, name: name.to_owned(), value: value.to_owned() });
            }
            None => inventory.note(line, "what stands after a host is NAME=VALUE; the rest is left out"),
        }
    }
    inventory.hosts(group, pattern, line, &variables);
}

/// The words of a line, as a shell would split it: quotes keep blanks, `#` after a blank begins a comment.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some('"') | None, '\\') => word.get_or_insert_default().extend(characters.next()),
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed; the line is left out".into());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn a_line_is_split_as_a_shell_does_it() {
        let split = |text: &str| words(text).unwrap_or_default().join("|");
        assert_eq!(split("a b=c  d='e f' g=\"h \\\" i\" # j"), "a|b=c|d=e f|g=h \" i");
        assert_eq!(split("a#b ''"), "a#b|");
        assert!(words("a 'b").is_err());
    }
}
