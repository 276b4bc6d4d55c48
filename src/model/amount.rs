//! Amounts as people write them: times such as `90s`, shares such as `25%`.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A time in whole seconds, written `90s`, `15m`, `2h`, or as a plain number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub u32);

impl Seconds {
    /// The time in milliseconds.
    pub const fn ms(self) -> u64 {
        self.0 as u64 * 1000
    }

    fn parse(text: &str) -> Option<Seconds> {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let factor = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u32>().ok().filter(|_| is_number)?.checked_mul(factor).map(Seconds)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0)
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Seconds, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let number = value.as_u64().and_then(|seconds| u32::try_from(seconds).ok()).map(Seconds);
        number
            .or_else(|| value.as_str().and_then(Seconds::parse))
            .ok_or_else(|| D::Error::custom("not a time; write `90s`, `15m` or `2h`"))
    }
}

impl JsonSchema for Seconds {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Seconds".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A time: `90s`, `15m`, `2h`, or a number of seconds.",
            "anyOf": [
                { "type": "string", "pattern": "^[0-9]{1,9}[smh]$" },
                { "type": "integer", "minimum": 0, "maximum": 4_294_967_295_u32 }
            ]
        })
    }
}

/// A number of processes, written as such or as a share of all of them, such as `25%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// So many.
    Count(u32),
    /// So many of a hundred, rounded down; 1 to 100.
    Percent(u8),
}

impl Share {
    /// How many that is of so many, and at least one: none would be a wait without an end.
    pub const fn of(self, all: u32) -> u32 {
        let count = match self {
            Share::Count(count) => count,
            Share::Percent(percent) => (all as u64 * percent as u64 / 100) as u32,
        };
        if count == 0 { 1 } else { count }
    }

    fn parse(text: &str) -> Option<Share> {
        let digits = text.strip_suffix('%')?;
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        let percent = digits.parse::<u8>().ok().filter(|_| is_number)?;
        (1..=100).contains(&percent).then_some(Share::Percent(percent))
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Share::Count(count) => serializer.serialize_u32(*count),
            Share::Percent(percent) => serializer.collect_str(&format_args!("{percent}%")),
        }
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Share, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
        count
            .filter(|count| *count > 0)
            .map(Share::Count)
            .or_else(|| value.as_str().and_then(Share::parse))
            .ok_or_else(|| D::Error::custom("neither a number above 0 nor a share such as `25%`"))
    }
}

impl JsonSchema for Share {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of processes, or a share of all of them such as `25%`.",
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": 4_294_967_295_u32 },
                { "type": "string", "pattern": "^(100|[1-9][0-9]?)%$" }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_time_is_read_as_people_write_it() {
        let read = |value: Value| serde_json::from_value::<Seconds>(value).ok().map(|seconds| seconds.0);
        assert_eq!(
            [json!("90s"), json!("15m"), json!("2h"), json!(7)].map(read),
            [Some(90), Some(900), Some(7200), Some(7)]
        );
        let wrong = [
            json!("90"),
            json!("s"),
            json!(""),
            json!("-1s"),
            json!("+1s"),
            json!("9é"),
            json!("9999999h"),
            json!(-1),
        ];
        assert_eq!(wrong.map(read), [None; 8]);
        assert_eq!(serde_json::to_value(Seconds(60)).expect("it is a string"), json!("60s"));
    }

    #[test]
    fn a_share_is_never_none_of_them() {
        let read = |value: Value| serde_json::from_value::<Share>(value).ok();
        assert_eq!(read(json!("25%")).map(|share| share.of(10)), Some(2));
        assert_eq!(read(json!("25%")).map(|share| share.of(3)), Some(1));
        assert_eq!(read(json!(4)).map(|share| share.of(3)), Some(4));
        assert_eq!([json!(0), json!("0%"), json!("101%"), json!("+5%"), json!("5")].map(read), [None; 5]);
    }
}
