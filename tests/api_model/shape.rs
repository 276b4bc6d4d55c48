//! What an answer has to look like, where not all of it can be known before.

use std::collections::BTreeMap;

use serde_json::Value;

#[derive(Debug, Clone)]
pub(crate) enum Shape {
    /// This and nothing else.
    Is(Value),
    /// A text that begins so.
    Starts(String),
    /// A text with so many characters.
    Long(usize),
    /// True or false.
    Flag,
    /// Not there, or this.
    May(Box<Shape>),
    /// Any of these.
    Any(Vec<Shape>),
    /// An object with these fields and no others.
    Fields(BTreeMap<String, Shape>),
    /// A list of these, in this order.
    List(Vec<Shape>),
}

impl From<Value> for Shape {
    fn from(value: Value) -> Shape {
        Shape::Is(value)
    }
}

impl Shape {
    /// Any text.
    pub(crate) fn text() -> Shape {
        Shape::Starts(String::new())
    }

    /// Not there.
    pub(crate) fn none() -> Shape {
        Shape::May(Box::new(Shape::Any(Vec::new())))
    }

    pub(crate) fn fields<const N: usize>(fields: [(&str, Shape); N]) -> Shape {
        Shape::Fields(fields.into_iter().map(|(name, shape)| (name.to_owned(), shape)).collect())
    }

    /// An object of which all is known, and some more.
    pub(crate) fn with(known: &Value, more: impl IntoIterator<Item = (&'static str, Shape)>) -> Shape {
        let known = known.as_object().expect("an object").iter();
        let known = known.map(|(name, value)| (name.clone(), Shape::Is(value.clone())));
        Shape::Fields(known.chain(more.into_iter().map(|(name, shape)| (name.to_owned(), shape))).collect())
    }

    /// Where a value is not like this.
    pub(crate) fn differs(&self, at: &str, found: Option<&Value>) -> Option<String> {
        let differs = || {
            let found = found.map_or_else(|| "nothing".to_owned(), Value::to_string);
            Some(format!("{at}: {found} is not {self:?}"))
        };
        match (self, found) {
            (Shape::May(_), None) => None,
            (Shape::May(shape), Some(_)) => shape.differs(at, found),
            (Shape::Is(value), Some(found)) if value == found => None,
            (Shape::Starts(start), Some(Value::String(text))) if text.starts_with(start) => None,
            (Shape::Long(length), Some(Value::String(text))) if text.len() == *length => None,
            (Shape::Flag, Some(Value::Bool(_))) => None,
            (Shape::Any(shapes), found) if shapes.iter().any(|shape| shape.differs(at, found).is_none()) => {
                None
            }
            (Shape::List(shapes), Some(Value::Array(items))) if shapes.len() == items.len() => {
                let mut pairs = shapes.iter().zip(items).enumerate();
                pairs.find_map(|(n, (shape, item))| shape.differs(&format!("{at}/{n}"), Some(item)))
            }
            (Shape::Fields(fields), Some(Value::Object(object))) => {
                let unknown = object.keys().find(|name| !fields.contains_key(*name));
                if let Some(name) = unknown {
                    return Some(format!("{at}: there is {name} besides: {}", object[name]));
                }
                fields
                    .iter()
                    .find_map(|(name, shape)| shape.differs(&format!("{at}/{name}"), object.get(name)))
            }
            _ => differs(),
        }
    }
}
