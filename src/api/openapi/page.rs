//! The reference page: the description as Markdown, for people.

use std::fmt::Write;

use serde_json::Value;

/// The methods, in the order in which they are shown.
const METHODS: [&str; 4] = ["get", "post", "put", "delete"];

/// The page of a description.
pub fn page(document: &Value) -> String {
    let mut page = Page { document, text: String::new() };
    page.line("# The API");
    page.line("Made from `schemas/openapi.json`, which the server answers at `/openapi.json`; `mainstay schema schemas --page docs/api.md` writes both.");
    page.line(text(&document["info"]["description"]));
    page.errors();
    for tag in all(&document["tags"]) {
        page.section(tag);
    }
    page.line("## Objects");
    page.line("In bold what is always there, or has to be given.");
    for (name, schema) in fields(&document["components"]["schemas"]) {
        page.object(name, schema);
    }
    page.text
}

struct Page<'a> {
    document: &'a Value,
    text: String,
}

impl Page<'_> {
    /// A paragraph.
    fn line(&mut self, line: impl AsRef<str>) {
        let line = line.as_ref();
        if !line.is_empty() {
            self.text.push_str(line);
            self.text.push_str("\n\n");
        }
    }

    fn table(&mut self, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        let rows: Vec<Vec<String>> = rows.into_iter().collect();
        if rows.is_empty() {
            return;
        }
        let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        self.text.push_str(&row(head.iter().map(|cell| (*cell).to_owned()).collect()));
        self.text.push_str(&row(vec!["---".to_owned(); head.len()]));
        for cells in rows {
            self.text.push_str(&row(cells.iter().map(|cell| cell.replace('|', "\\|")).collect()));
        }
        self.text.push('\n');
    }

    fn code(&mut self, language: &str, code: &str) {
        self.line(format!("```{language}\n{code}\n```"));
    }

    /// What a reference stands for.
    fn resolved<'v>(&'v self, value: &'v Value) -> &'v Value {
        let target = value.get("$ref").and_then(Value::as_str);
        target.and_then(|target| self.document.pointer(target.trim_start_matches('#'))).unwrap_or(value)
    }

    fn errors(&mut self) {
        self.line("## Errors");
        let mut found = std::collections::BTreeMap::new();
        for (_, operations) in fields(&self.document["paths"]) {
            for (status, response) in fields(operations).flat_map(|(_, one)| fields(&one["responses"])) {
                if response.get("$ref").is_some() {
                    found.insert(status, text(&self.resolved(response)["description"]).to_owned());
                }
            }
        }
        let rows: Vec<_> = found.into_iter().map(|(status, about)| vec![status.to_owned(), about]).collect();
        self.table(&["Code", "Why"], rows);
    }

    fn section(&mut self, tag: &Value) {
        self.line(format!("## {}", text(&tag["name"])));
        self.line(text(&tag["description"]));
        let document = self.document;
        for (path, operations) in fields(&document["paths"]) {
            for method in METHODS {
                let Some(operation) = operations.get(method) else { continue };
                if all(&operation["tags"]).any(|name| *name == tag["name"]) {
                    self.operation(path, method, operation);
                }
            }
        }
    }

    fn operation(&mut self, path: &str, method: &str, operation: &Value) {
        self.line(format!("### {}", text(&operation["summary"])));
        self.code("", &format!("{} {path}", method.to_uppercase()));
        self.line(text(&operation["description"]));
        let parameters: Vec<Vec<String>> = all(&operation["parameters"])
            .map(|one| {
                vec![
                    format!("`{}`", text(&one["name"])),
                    text(&one["in"]).to_owned(),
                    kind(&one["schema"]),
                    text(&one["description"]).to_owned(),
                ]
            })
            .collect();
        self.table(&["Parameter", "In", "Type", "Meaning"], parameters);
        let body = json_of(&operation["requestBody"]);
        if let Some(body) = body {
            self.line(format!("Takes {}.", kind(&body["schema"])));
        }
        let mut refusals = Vec::new();
        for (status, response) in fields(&operation["responses"]) {
            if response.get("$ref").is_some() {
                refusals.push(status);
                continue;
            }
            let (media, content) = fields(&response["content"]).next().unwrap_or(("", &Value::Null));
            self.line(match media {
                "" => format!("Answers {status}."),
                "application/json" => format!("Answers {status} and {}.", kind(&content["schema"])),
                media => format!("Answers {status} and `{media}`."),
            });
        }
        let role = operation.get("x-role").map_or("nobody has to be known", |role| text(role));
        self.line(format!("Refused with {}. Role: {role}.", refusals.join(", ")));
        self.example(path, method, operation, body);
    }

    fn example(&mut self, path: &str, method: &str, operation: &Value, body: Option<&Value>) {
        let mut at = path.to_owned();
        for one in all(&operation["parameters"]).filter(|one| one["in"] == "path") {
            at = at.replace(&format!("{{{}}}", text(&one["name"])), text(&one["example"]));
        }
        let mut curl = match method {
            "get" => format!("curl localhost:8080{at}"),
            method => format!("curl -X {} localhost:8080{at}", method.to_uppercase()),
        };
        if let Some(body) = body {
            let example = body.get("example").map(Value::to_string).unwrap_or_default();
            let _ = write!(curl, " \\\n     -H 'Content-Type: application/json' \\\n     -d '{example}'");
        }
        self.code("sh", &curl);
        let answers = fields(&operation["responses"]).filter(|(status, _)| status.starts_with('2'));
        if let Some(example) = answers.filter_map(|(_, answer)| json_of(answer)?.get("example")).next() {
            self.code("json", &format!("{example:#}"));
        }
    }

    fn object(&mut self, name: &str, schema: &Value) {
        self.line(format!("### {name}"));
        self.line(text(&schema["description"]));
        let required: Vec<&str> = all(&schema["required"]).filter_map(Value::as_str).collect();
        // What has to be there stands first, in its own order.
        let mut names: Vec<&str> = required.clone();
        names.extend(
            fields(&schema["properties"]).map(|(name, _)| name).filter(|name| !required.contains(name)),
        );
        let rows: Vec<Vec<String>> = names
            .into_iter()
            .map(|name| {
                let field = &schema["properties"][name];
                let shown = if required.contains(&name) { format!("**{name}**") } else { name.to_owned() };
                vec![shown, kind(field), text(&field["description"]).replace('\n', " ")]
            })
            .collect();
        if rows.is_empty() {
            self.line(format!("{}.", kind(schema)));
        }
        self.table(&["Name", "Type", "Meaning"], rows);
    }
}

/// A schema in a few words.
fn kind(schema: &Value) -> String {
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let name = target.rsplit('/').next().unwrap_or(target);
        return format!("[{name}](#{})", name.to_lowercase());
    }
    let quoted = |value: &Value| format!("`{}`", text(value));
    if let Some(one) = schema.get("const") {
        return quoted(one);
    }
    if schema.get("enum").is_some() {
        return all(&schema["enum"]).map(quoted).collect::<Vec<_>>().join(", ");
    }
    for key in ["oneOf", "anyOf"] {
        if schema.get(key).is_some() && schema.get("type").is_none() {
            return all(&schema[key]).map(kind).collect::<Vec<_>>().join(" or ");
        }
    }
    let one = &schema["type"];
    match one.as_array() {
        Some(kinds) => kinds.iter().map(|one| named(text(one), schema)).collect::<Vec<_>>().join(" or "),
        None => named(text(one), schema),
    }
}

fn named(name: &str, schema: &Value) -> String {
    match name {
        "array" => format!("array of {}", kind(&schema["items"])),
        "object" if fields(&schema["properties"]).count() == 1 => {
            let one = fields(&schema["properties"]).map(|(name, one)| format!("{name}: {}", kind(one)));
            format!("object of {}", one.collect::<String>())
        }
        "object" if schema.get("properties").is_some() => {
            let names: Vec<String> =
                fields(&schema["properties"]).map(|(name, _)| format!("`{name}`")).collect();
            format!("object of {}", names.join(", "))
        }
        "object" if schema["additionalProperties"].is_object() => {
            format!("object of {}", kind(&schema["additionalProperties"]))
        }
        "null" => "null".to_owned(),
        "" => "anything".to_owned(),
        other => other.to_owned(),
    }
}

/// What is said of a body in JSON.
fn json_of(body: &Value) -> Option<&Value> {
    body.pointer("/content/application~1json")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn all(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn fields(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}
