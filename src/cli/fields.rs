//! What the fields of documents mean, from the published schemas: `mainstay explain KIND.field`.

use serde_json::{Value, json};

use super::kind::kind;
use crate::model::document::schema;
use crate::model::id::did_you_mean;
use crate::model::meta::API_VERSION;

/// Widest line of text.
const WIDTH: usize = 100;

/// A field of a kind's documents.
pub(super) struct Field {
    kind: &'static str,
    schema: Value,
    /// From the document on.
    path: Vec<String>,
    /// Where it stands in the schema: all shapes that it may have, and what is said of it.
    place: Place,
}

/// A part of a schema, by what leads to it.
#[derive(Debug, Clone)]
struct Place {
    part: Value,
    /// Said of the alternative that it is a field of, for fields that have no words of their own.
    otherwise: Option<String>,
    is_required: bool,
}

impl Field {
    /// The field that was typed: a kind, then the names of fields with dots between. What is no field of a document is one of its spec.
    ///
    /// # Errors
    /// A sentence that says which kinds or fields there are.
    pub(super) fn find(typed: &str) -> Result<Field, String> {
        let mut steps = typed.split('.').filter(|step| !step.is_empty()).map(str::to_owned).peekable();
        let kind = kind(&steps.next().unwrap_or_default())?;
        let schema = schema(kind);
        let top = schema["properties"].as_object().into_iter().flatten();
        let is_top = |name: &String| top.clone().any(|(field, _)| field == name);
        let mut path = Vec::new();
        let mut place = Place { part: schema.clone(), otherwise: None, is_required: true };
        let implied = steps.peek().filter(|name| !is_top(name)).map(|_| "spec".to_owned());
        for name in implied.into_iter().chain(steps) {
            let (fields, any) = within(&schema, &place.part);
            place = match (fields.iter().find(|(field, _)| *field == name), any) {
                (Some((_, found)), _) => found.clone(),
                (None, Some(any)) => Place { part: any, otherwise: None, is_required: false },
                (None, None) => return Err(no_field(kind.name(), &path, &name, &fields)),
            };
            path.push(name);
        }
        Ok(Field { kind: kind.name(), schema, path, place })
    }

    /// What people read.
    pub(super) fn told(&self, recursive: bool) -> String {
        let Field { kind, schema, path, place } = self;
        let mut told = format!("KIND:     {kind}\nVERSION:  {API_VERSION}\n");
        if !path.is_empty() {
            let required = if place.is_required { ", required" } else { "" };
            told.push_str(&format!(
                "FIELD:    {} <{}>{required}\n",
                path.join("."),
                type_of(schema, &place.part)
            ));
        }
        // Of a document what counts is its spec; all else is the same for all.
        let whole = path.is_empty();
        let spec = Place { part: schema["properties"]["spec"].clone(), ..place.clone() };
        let place = if whole { &spec } else { place };
        let about = description(schema, place);
        if let Some(about) = about {
            told.push_str(&format!("\nDESCRIPTION:\n{}", wrapped(&about, 4)));
        }
        let more = more(schema, &place.part);
        if !more.is_empty() {
            told.push('\n');
            more.iter().for_each(|line| told.push_str(&format!("{line}\n")));
        }
        let values = values(schema, &place.part);
        if !values.is_empty() {
            told.push_str("\nVALUES:\n");
            for (value, about) in values {
                told.push_str(&format!("  {value}\n"));
                told.push_str(&about.map_or(String::new(), |about| wrapped(&about, 4)));
            }
        }
        let (fields, any) = within(schema, &place.part);
        if !fields.is_empty() {
            told.push_str(if whole { "\nFIELDS of spec:\n" } else { "\nFIELDS:\n" });
        }
        for (name, field) in &fields {
            if recursive {
                told.push_str(&tree(schema, name, field, 1));
            } else {
                told.push_str(&head(schema, name, field, 1));
                told.push_str(&description(schema, field).map_or(String::new(), |about| wrapped(&about, 4)));
            }
        }
        if let (true, Some(any)) = (fields.is_empty(), any) {
            let (inner, _) = within(schema, &any);
            if !inner.is_empty() {
                told.push_str("\nFIELDS of each:\n");
            }
            inner.iter().for_each(|(name, field)| told.push_str(&head(schema, name, field, 1)));
        }
        if whole {
            let kind = kind.to_lowercase();
            told.push_str(&format!(
                "\nBeside its spec a document has apiVersion, kind, metadata and, where it is shown, status: {kind}.metadata\n"
            ));
        }
        told
    }

    /// The same for programs.
    pub(super) fn value(&self, recursive: bool) -> Value {
        let mut value = object(&self.schema, &self.place, if recursive { usize::MAX } else { 1 });
        value["kind"] = self.kind.into();
        value["field"] = self.path.join(".").into();
        value
    }
}

fn object(schema: &Value, place: &Place, depth: usize) -> Value {
    let mut value = json!({ "type": type_of(schema, &place.part), "required": place.is_required });
    if let Some(about) = description(schema, place) {
        value["description"] = about.into();
    }
    if let Some(default) = place.part.get("default") {
        value["default"] = default.clone();
    }
    let values: Vec<String> = values(schema, &place.part).into_iter().map(|(value, _)| value).collect();
    if !values.is_empty() {
        value["values"] = values.into();
    }
    let (fields, _) = within(schema, &place.part);
    if depth > 0 && !fields.is_empty() {
        value["fields"] =
            fields.iter().map(|(name, field)| (name.clone(), object(schema, field, depth - 1))).collect();
    }
    value
}

fn no_field(kind: &str, path: &[String], name: &str, fields: &[(String, Place)]) -> String {
    let place = [&[kind.to_owned()], path].concat().join(".");
    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    let fix = match did_you_mean(name, names.iter().copied()) {
        Some(meant) => format!("did you mean {meant}?"),
        None if names.is_empty() => "it has none".into(),
        None => format!("there are {}", names.join(", ")),
    };
    format!("{place} has no field {name:?}; {fix}")
}

/// All shapes that a part may have, but for null, which people do not write.
fn shapes<'a>(schema: &'a Value, part: &'a Value) -> Vec<&'a Value> {
    if let Some(name) = part["$ref"].as_str() {
        return schema.pointer(name.trim_start_matches('#')).map_or(vec![], |part| shapes(schema, part));
    }
    match part["anyOf"].as_array().or_else(|| part["oneOf"].as_array()) {
        Some(several) => several.iter().flat_map(|part| shapes(schema, part)).collect(),
        None if part["type"] == "null" => Vec::new(),
        None => vec![part],
    }
}

/// What it is made of: its fields, by name but those first that are required; and what stands under any name, if it is a map.
fn within(schema: &Value, part: &Value) -> (Vec<(String, Place)>, Option<Value>) {
    let all = shapes(schema, part);
    let is_one = all.len() == 1;
    let mut fields = Vec::new();
    let mut any = None;
    for shape in all {
        if !shape["items"].is_null() {
            return within(schema, &shape["items"]);
        }
        let required = |name: &str| {
            let names = shape["required"].as_array().into_iter().flatten();
            is_one && names.clone().any(|required| required == name)
        };
        for (name, part) in shape["properties"].as_object().into_iter().flatten() {
            let otherwise = shape["description"].as_str().filter(|_| !is_one).map(str::to_owned);
            let place = Place { part: part.clone(), otherwise, is_required: required(name) };
            fields.push((name.clone(), place));
        }
        if shape["additionalProperties"].is_object() {
            any = Some(shape["additionalProperties"].clone());
        }
    }
    fields.sort_by_key(|(_, field)| !field.is_required);
    (fields, any)
}

/// The type in a word or two.
fn type_of(schema: &Value, part: &Value) -> String {
    let mut names: Vec<String> = Vec::new();
    for shape in shapes(schema, part) {
        let one = shape["type"].as_str().or_else(|| {
            let several = shape["type"].as_array()?.iter().filter_map(Value::as_str);
            several.into_iter().find(|name| *name != "null")
        });
        let name = match one {
            Some("array") => format!("[]{}", type_of(schema, &shape["items"])),
            Some("object") if shape["additionalProperties"].is_object() => {
                format!("map[string]{}", type_of(schema, &shape["additionalProperties"]))
            }
            Some(name) => name.to_owned(),
            None if !shape["const"].is_null() => "string".into(),
            None => "any".into(),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(" or ")
}

/// What is said of it: its own words, else those of its type.
fn description(schema: &Value, place: &Place) -> Option<String> {
    let own = place.part["description"].as_str().map(str::to_owned);
    let of_type = || {
        let several = place.part["anyOf"].as_array().into_iter().flatten();
        let referred = several.chain([&place.part]).find_map(|part| part["$ref"].as_str())?;
        schema.pointer(referred.trim_start_matches('#'))?["description"].as_str().map(str::to_owned)
    };
    own.or_else(|| place.otherwise.clone()).or_else(of_type).map(|text| text.replace('\n', " "))
}

/// Default, range and form, a line each.
fn more(schema: &Value, part: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(default) = part.get("default") {
        lines.push(format!("DEFAULT:  {}", plain(default)));
    }
    for shape in shapes(schema, part) {
        // What only says how large a number can be stored is no rule of the field.
        let most = shape["maximum"].as_u64().filter(|most| *most != u64::from(u32::MAX));
        match (&shape["minimum"], most) {
            (Value::Number(least), Some(most)) => lines.push(format!("RANGE:    {least} to {most}")),
            (Value::Number(least), None) => lines.push(format!("RANGE:    {least} or more")),
            (_, Some(most)) => lines.push(format!("RANGE:    up to {most}")),
            (_, None) => {}
        }
        if let Some(pattern) = shape["pattern"].as_str() {
            lines.push(format!("PATTERN:  {pattern}"));
        }
    }
    lines
}

/// The values that it may have, where these are listed, and what each means.
fn values(schema: &Value, part: &Value) -> Vec<(String, Option<String>)> {
    let mut values = Vec::new();
    for shape in shapes(schema, part) {
        for value in shape["enum"].as_array().into_iter().flatten() {
            values.push((plain(value), None));
        }
        if let Some(value) = shape.get("const") {
            values.push((plain(value), shape["description"].as_str().map(str::to_owned)));
        }
    }
    values
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A field's name and type.
fn head(schema: &Value, name: &str, field: &Place, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let required = if field.is_required { ", required" } else { "" };
    format!("{indent}{name} <{}>{required}\n", type_of(schema, &field.part))
}

/// The same of a field and all that it is made of.
fn tree(schema: &Value, name: &str, field: &Place, depth: usize) -> String {
    let mut told = head(schema, name, field, depth);
    let (fields, any) = within(schema, &field.part);
    let inner = if fields.is_empty() { any.map(|any| within(schema, &any).0) } else { Some(fields) };
    for (name, field) in inner.iter().flatten() {
        told.push_str(&tree(schema, name, field, depth + 1));
    }
    told
}

/// The text in lines that are not too wide.
fn wrapped(text: &str, indent: usize) -> String {
    let margin = " ".repeat(indent);
    let mut told = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && indent + line.chars().count() + 1 + word.chars().count() > WIDTH {
            told.push_str(&format!("{margin}{line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    told.push_str(&format!("{margin}{line}\n"));
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    fn told(typed: &str) -> String {
        Field::find(typed).map_or_else(|error| error, |field| field.told(false))
    }

    #[test]
    fn a_field_is_found_with_its_type_range_and_words() {
        assert_eq!(
            told("svc.update.min-ready-seconds"),
            "KIND:     Service\nVERSION:  mainstay.dev/v1\nFIELD:    spec.update.min-ready-seconds <integer>\n\n\
             DESCRIPTION:\n    Seconds that a new process must have done its work before the next is replaced, 0 to 3600; unset\n    \
             means 0.\n\nRANGE:    0 to 3600\n"
        );
        assert_eq!(told("service.spec.update.min-ready-seconds"), told("SVC.update.min-ready-seconds"));
        assert!(told("st.stop.signal").contains("DEFAULT:  TERM"));
        assert!(told("no.transport").contains("\n  local\n    The controller's own machine"));
    }

    #[test]
    fn lists_maps_and_alternatives_are_gone_through() {
        assert!(told("service.env").contains("<map[string]string>"));
        assert!(told("service.nodes").contains("<[]string>"));
        assert!(told("service.failover.fenced.lease").contains("How long a lease lasts"));
        assert!(told("integration.endpoint.sends.message.text.enum").contains("The values that it may take"));
        assert!(told("node.password-from").contains("  env <string>\n    An environment variable"));
        assert!(told("node.metadata.labels").contains("For people and selectors"));
    }

    #[test]
    fn what_is_no_field_is_told_which_was_meant() {
        assert_eq!(told("node.prot"), "Node.spec has no field \"prot\"; did you mean port?");
        assert_eq!(told("node.port.x"), "Node.spec.port has no field \"x\"; it has none");
        assert!(told("pod").contains("is no kind"));
        assert!(told("").contains("is no kind"));
    }

    #[test]
    fn every_field_that_people_write_is_explained() {
        fn walk(schema: &Value, path: &str, place: &Place) {
            let (fields, any) = within(schema, &place.part);
            for (name, field) in &fields {
                assert!(description(schema, field).is_some(), "{path}.{name} has no words");
                assert!(!type_of(schema, &field.part).is_empty(), "{path}.{name} has no type");
                walk(schema, &format!("{path}.{name}"), field);
            }
            if let Some(any) = any {
                walk(schema, path, &Place { part: any, otherwise: None, is_required: false });
            }
        }
        for kind in Kind::ALL {
            let schema = schema(kind);
            let part = schema["properties"]["spec"].clone();
            walk(&schema, kind.name(), &Place { part, otherwise: None, is_required: true });
        }
    }
}
