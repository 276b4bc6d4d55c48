//! Text to values that know where they stood.
//!
//! JSON is read as YAML, of which it is a subset, so both have one reader, the same limits and the same positions.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_yaml::Spanned;
use serde_yaml::options::DuplicateKeyPolicy;

use super::problem::Problem;

/// Largest text that is read, in bytes.
pub const MAX_TEXT_BYTES: usize = 4 * 1024 * 1024;

/// Deepest nesting of a document.
pub const MAX_DEPTH: usize = 64;

/// Line and column, both from 1.
pub type Position = (u64, u64);

/// Where a field stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The field's name.
    pub key: Position,
    /// Its value.
    pub value: Position,
}

/// A value and where each of its parts stood.
#[derive(Debug, Clone, Default)]
pub struct Located {
    /// The value.
    pub value: Value,
    marks: BTreeMap<String, Mark>,
}

impl Located {
    /// A value that did not come from text.
    pub fn unmarked(value: Value) -> Located {
        Located { value, marks: BTreeMap::new() }
    }

    /// Where the parts stood, without what they were: that may hold a secret, and is not needed for long.
    pub fn only_marks(self) -> Located {
        Located { value: Value::Null, marks: self.marks }
    }

    /// Where the value at this JSON pointer (RFC 6901) stands, or else the nearest part around it.
    pub fn value_at(&self, pointer: &str) -> Option<Position> {
        self.nearest(pointer).map(|mark| mark.value)
    }

    /// Where the name of the field at this JSON pointer stands, or else the nearest part around it.
    pub fn key_at(&self, pointer: &str) -> Option<Position> {
        self.nearest(pointer).map(|mark| mark.key)
    }

    fn nearest(&self, pointer: &str) -> Option<Mark> {
        let mut pointer = pointer;
        loop {
            if let Some(mark) = self.marks.get(pointer) {
                return Some(*mark);
            }
            pointer = &pointer[..pointer.rfind('/')?];
        }
    }
}

/// Reads every document of a text. Empty documents are left out. `file` only names the text in problems.
///
/// # Errors
/// The first thing that is not YAML, or is over a limit.
pub fn read(text: &str, file: Option<&str>) -> Result<Vec<Located>, Problem> {
    let problem =
        |at, message: String| Problem { file: file.map(str::to_owned), at, path: String::new(), message };
    if text.len() > MAX_TEXT_BYTES {
        return Err(problem(
            None,
            format!("the text is over {MAX_TEXT_BYTES} bytes; split it into several files"),
        ));
    }
    let options = serde_yaml::options! {
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false, // the lines around an error may hold a password
        budget: serde_yaml::budget! { max_depth: MAX_DEPTH },
    };
    let documents: Vec<Spanned<Shape>> =
        serde_yaml::from_multiple_with_options(text, options).map_err(|error| {
            let at = error.location().map(|place| (place.line(), place.column()));
            problem(at, format!("not readable as YAML or JSON: {}", without_position(&error.to_string())))
        })?;
    Ok(documents
        .into_iter()
        .filter(|document| document.value != Shape::Plain(Value::Null))
        .map(|document| {
            let mut marks = BTreeMap::new();
            let value = flatten(document, None, String::new(), &mut marks);
            Located { value, marks }
        })
        .collect())
}

/// The parser puts the position at an end of its message; ours stands in front of every message.
fn without_position(message: &str) -> &str {
    let first = message.lines().next().unwrap_or(message);
    let body = match first.split_once(": ") {
        Some((position, rest)) if position.contains("line ") && position.contains("column ") => rest,
        _ => first,
    };
    body.split(" at line ").next().unwrap_or(body).trim_end_matches([',', ' '])
}

fn flatten(
    part: Spanned<Shape>,
    key: Option<Position>,
    pointer: String,
    marks: &mut BTreeMap<String, Mark>,
) -> Value {
    let value = (part.referenced.line(), part.referenced.column());
    marks.insert(pointer.clone(), Mark { key: key.unwrap_or(value), value });
    match part.value {
        Shape::Plain(value) => value,
        Shape::List(items) => Value::Array(
            items
                .into_iter()
                .enumerate()
                .map(|(at, item)| flatten(item, None, format!("{pointer}/{at}"), marks))
                .collect(),
        ),
        Shape::Map(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, field)| {
                    let at = (name.referenced.line(), name.referenced.column());
                    let inner = format!("{pointer}/{}", escape(&name.value));
                    let value = flatten(field, Some(at), inner, marks);
                    (name.value, value)
                })
                .collect::<Map<_, _>>(),
        ),
    }
}

/// One step of a JSON pointer (RFC 6901, section 3).
pub(crate) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// `/spec/nodes/0` as people write it: `spec.nodes[0]`.
pub(crate) fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for step in pointer.split('/').skip(1) {
        let name = step.replace("~1", "/").replace("~0", "~");
        if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
            path.push_str(&format!("[{name}]"));
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&name);
        }
    }
    path
}

#[derive(Debug, PartialEq)]
enum Shape {
    Plain(Value),
    List(Vec<Spanned<Shape>>),
    Map(Vec<(Spanned<String>, Spanned<Shape>)>),
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shape, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Plain(Value::Null))
    }
    fn visit_none<E>(self) -> Result<Shape, E> {
        Ok(Shape::Plain(Value::Null))
    }
    fn visit_bool<E>(self, v: bool) -> Result<Shape, E> {
        Ok(Shape::Plain(Value::Bool(v)))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Shape, E> {
        Ok(Shape::Plain(v.into()))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Shape, E> {
        Ok(Shape::Plain(v.into()))
    }
    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Shape, E> {
        match Number::from_f64(v) {
            Some(number) => Ok(Shape::Plain(Value::Number(number))),
            None => Err(E::custom("a number has to be finite")),
        }
    }
    fn visit_str<E>(self, v: &str) -> Result<Shape, E> {
        Ok(Shape::Plain(Value::String(v.to_owned())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Shape::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Shape::Map(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_knows_its_line_and_column() {
        let text = "a: 1\nb:\n  - x\n  - c/d: {e: true}\n---\nf: g\n";
        let documents = read(text, None).unwrap();
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[0].value["b"][1]["c/d"]["e"], Value::Bool(true));
        assert_eq!(documents[0].value_at("/b/0"), Some((3, 5)));
        assert_eq!(documents[0].key_at("/b/1/c~1d"), Some((4, 5)));
        assert_eq!(documents[0].value_at("/b/1/nowhere"), documents[0].value_at("/b/1"));
        assert_eq!(documents[1].key_at("/f"), Some((6, 1)));
    }

    #[test]
    fn json_is_read_by_the_same_reader() {
        let documents = read("{\"a\": [1, {\"b\": \"c\"}]}", None).unwrap();
        assert_eq!(documents[0].value, serde_json::json!({"a": [1, {"b": "c"}]}));
        assert_eq!(documents[0].value_at("/a/1/b"), Some((1, 17)));
    }

    #[test]
    fn bad_yaml_says_where_and_never_shows_the_lines_around_it() {
        let problem = read("password: butter\nb: [1, 2\nc: d\n", Some("x.yaml")).unwrap_err();
        assert!(problem.at.is_some(), "{problem}");
        assert!(!problem.to_string().contains("butter"), "{problem}");
        assert!(problem.to_string().starts_with("x.yaml:"), "{problem}");
    }

    #[test]
    fn a_key_given_twice_is_an_error() {
        let problem = read("a: 1\na: 2\n", None).unwrap_err();
        assert_eq!(problem.at.map(|(line, _)| line), Some(2), "{problem}");
    }

    #[test]
    fn nesting_and_aliases_are_bounded() {
        assert!(read(&"[".repeat(10_000), None).is_err());
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                    g: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
        assert!(read(bomb, None).is_err());
    }

    #[test]
    fn words_that_older_yaml_took_for_booleans_stay_words() {
        let documents = read("a: yes\nb: off\nc: true\n", None).unwrap();
        assert_eq!(documents[0].value, serde_json::json!({"a": "yes", "b": "off", "c": true}));
    }
}
