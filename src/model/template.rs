//! Templates in `command` and `env`: one string in, one string out. What comes out is one argument, whatever it holds.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::{Environment, UndefinedBehavior};
use serde_json::{Map, Value};

/// Steps that rendering one template may take; bounds loops.
const FUEL: u64 = 50_000;

/// Longest result in bytes (Linux takes no single argument over 128 KiB).
pub const MAX_RENDERED_BYTES: usize = 64 * 1024;

/// Renders templates. What is undefined is an error, never an empty string.
pub struct Renderer {
    environment: Environment<'static>,
}

impl Default for Renderer {
    fn default() -> Renderer {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        Renderer { environment }
    }
}

impl Renderer {
    /// Checks the syntax.
    ///
    /// # Errors
    /// What is wrong, in one line.
    pub fn check(&self, template: &str) -> Result<(), String> {
        refuse_nul(template)?;
        self.environment.template_from_str(template).map(drop).map_err(|error| one_line(&error))
    }

    /// What a template asks its context for: a name, or a path such as `instance.zk` where it is plain. Nothing of a template that
    /// can't be read.
    pub fn variables(&self, template: &str) -> BTreeSet<String> {
        if !template.contains('{') {
            return BTreeSet::new();
        }
        let template = self.environment.template_from_str(template);
        template.map(|template| template.undeclared_variables(true).into_iter().collect()).unwrap_or_default()
    }

    /// Renders a template over a context.
    ///
    /// # Errors
    /// What is wrong, in one line: syntax, something undefined, too long, too costly.
    pub fn render(&self, template: &str, context: &Context) -> Result<String, String> {
        if !template.contains('{') {
            refuse_nul(template)?;
            return Ok(template.to_owned());
        }
        let rendered =
            self.environment.render_str(template, context.0.clone()).map_err(|error| one_line(&error))?;
        refuse_nul(&rendered)?;
        if rendered.len() > MAX_RENDERED_BYTES {
            return Err(format!("the result is over {MAX_RENDERED_BYTES} bytes"));
        }
        Ok(rendered)
    }
}

fn refuse_nul(text: &str) -> Result<(), String> {
    if text.contains('\0') { Err("a NUL byte can't be in an argument or a variable".into()) } else { Ok(()) }
}

fn one_line(error: &minijinja::Error) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    first.split(" (in <string>").next().unwrap_or(first).to_owned()
}

/// One of the things that templates may use. It is read once, and copies of it cost nothing. A field `token-ttl` of it, at whatever
/// depth, is there as `token_ttl` too: in a template a dash is a minus.
#[derive(Debug, Clone)]
pub struct Part(minijinja::Value);

impl From<Value> for Part {
    fn from(value: Value) -> Part {
        Part(minijinja::Value::from(minijinja::value::Serde(with_aliases(value))))
    }
}

/// Everything that templates may use, by name.
#[derive(Debug, Clone)]
pub struct Context(minijinja::Value);

impl FromIterator<(&'static str, Part)> for Context {
    fn from_iter<T: IntoIterator<Item = (&'static str, Part)>>(parts: T) -> Context {
        let parts: BTreeMap<_, _> = parts.into_iter().map(|(name, Part(value))| (name, value)).collect();
        Context(minijinja::Value::from_object(parts))
    }
}

/// Adds `token_ttl` beside each `token-ttl`, at every depth.
pub fn with_aliases(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut all = Map::new();
            for (name, field) in fields {
                let field = with_aliases(field);
                if name.contains('-') {
                    all.entry(name.replace('-', "_")).or_insert_with(|| field.clone());
                }
                all.insert(name, field);
            }
            Value::Object(all)
        }
        Value::Array(items) => Value::Array(items.into_iter().map(with_aliases).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn options(options: Value) -> Context {
        [("options", Part::from(options))].into_iter().collect()
    }

    #[test]
    fn what_is_undefined_is_an_error() {
        let renderer = Renderer::default();
        let context = options(json!({"port": 8082, "token-ttl": 5}));
        assert_eq!(renderer.render("--port={{ options.port }}", &context).as_deref(), Ok("--port=8082"));
        assert_eq!(renderer.render("{{ options.token_ttl }}", &context).as_deref(), Ok("5"));
        assert_eq!(renderer.render("{{ options['token-ttl'] }}", &context).as_deref(), Ok("5"));
        assert!(renderer.render("{{ options.prot }}", &context).is_err());
    }

    #[test]
    fn what_a_template_asks_for_is_told() {
        let told = |template: &str| Vec::from_iter(Renderer::default().variables(template));
        assert_eq!(told("{{ instance.zk }}:{{ options['port'] }}"), ["instance.zk", "options"]);
        assert_eq!(told("{% for url in instance.urls %}{{ url }}{% endfor %}"), ["instance.urls"]);
        assert_eq!(told("plain"), [""; 0]);
        assert_eq!(told("{{ broken"), [""; 0]);
    }

    #[test]
    fn what_comes_out_is_never_read_again() {
        let context = options(json!({"name": "$(reboot) {{ x }} ' \" ; \n"}));
        let rendered = Renderer::default().render("{{ options.name }}", &context);
        assert_eq!(rendered.as_deref(), Ok("$(reboot) {{ x }} ' \" ; \n"));
    }

    #[test]
    fn a_template_can_not_run_for_ever() {
        let endless = "{% for i in range(90000) %}{% for j in range(90000) %}x{% endfor %}{% endfor %}";
        assert!(Renderer::default().render(endless, &options(json!({}))).is_err());
    }
}
