//! Reads the words of a line as the node's shell does: what `protocol::quote` makes, and nothing more.

/// The words, each as it was before it was quoted.
pub(crate) fn words(line: &str) -> Vec<String> {
    let (mut all, mut word, mut begun) = (Vec::new(), String::new(), false);
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            ' ' => {
                if begun {
                    all.push(std::mem::take(&mut word));
                }
                begun = false;
                continue;
            }
            '\'' => {
                let end = rest.find('\'').expect("a quote ends");
                word.push_str(&rest[..end]);
                rest = &rest[end + 1..];
            }
            '\\' => {
                let next = rest.chars().next().expect("something is escaped");
                word.push(next);
                rest = &rest[next.len_utf8()..];
            }
            '"' => {
                rest = rest.strip_prefix("$NL\"").expect("only a newline stands in double quotes");
                word.push('\n');
            }
            other => word.push(other),
        }
        begun = true;
    }
    if begun {
        all.push(word);
    }
    all
}

#[test]
fn a_line_is_read_as_its_shell_would() {
    let text = ["a b", "", "it's\n$HOME `x`", "plain/1.0"];
    let line: Vec<String> = text.iter().map(|word| mainstay::node::protocol::quote(word)).collect();
    assert_eq!(words(&line.join(" ")), text);
}
