//! `google.protobuf.Struct` as JSON, and back.

use prost_types::{ListValue, Struct, Value as Proto, value::Kind};
use serde_json::{Map, Number, Value};

/// The object that a struct is. The wire's map is sorted by key, so equal structs
/// are equal text. What JSON lacks (NaN, infinities, a value without a kind) is
/// null; [`problem`] finds it.
pub fn object(data: &Struct) -> Map<String, Value> {
    let fields = data.fields.iter();
    fields
        .map(|(name, field)| (name.clone(), value(field)))
        .collect()
}

fn value(proto: &Proto) -> Value {
    match &proto.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(*value),
        Some(Kind::NumberValue(value)) => number(*value),
        Some(Kind::StringValue(value)) => Value::String(value.clone()),
        Some(Kind::StructValue(value)) => Value::Object(object(value)),
        Some(Kind::ListValue(list)) => Value::Array(list.values.iter().map(value).collect()),
    }
}

/// A whole number is written as one: 3, not 3.0.
fn number(number: f64) -> Value {
    match whole(number) {
        Some(whole) => Value::from(whole),
        None => Number::from_f64(number).map_or(Value::Null, Value::Number),
    }
}

/// The whole number that a double is, where it is exactly one.
pub fn whole(number: f64) -> Option<i64> {
    /// Up to it every whole number is itself as a double (2^53).
    const WHOLE: f64 = 9_007_199_254_740_992.0;
    let is_negative_zero = number == 0.0 && number.is_sign_negative();
    if number.fract() != 0.0 || number.abs() > WHOLE || is_negative_zero {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is whole and within 2^53"
    )]
    Some(number as i64)
}

/// The struct that an object is.
pub fn to_struct(object: &Map<String, Value>) -> Struct {
    let fields = object.iter();
    Struct {
        fields: fields
            .map(|(name, value)| (name.clone(), to_proto(value)))
            .collect(),
    }
}

fn to_proto(value: &Value) -> Proto {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        Value::String(value) => Kind::StringValue(value.clone()),
        Value::Array(values) => Kind::ListValue(ListValue {
            values: values.iter().map(to_proto).collect(),
        }),
        Value::Object(object) => Kind::StructValue(to_struct(object)),
    };
    Proto { kind: Some(kind) }
}

/// What keeps a struct from being JSON of at most `depth` levels that every
/// database can hold, in words for its sender.
pub fn problem(data: &Struct, depth: usize) -> Option<String> {
    check_object(data, depth)
        .map_err(|problem| match problem {
            Problem::TooDeep => format!("must be at most {depth} levels deep"),
            Problem::Other(text) => text.to_owned(),
        })
        .err()
}

enum Problem {
    TooDeep,
    Other(&'static str),
}

fn check_object(object: &Struct, levels: usize) -> Result<(), Problem> {
    let levels = levels.checked_sub(1).ok_or(Problem::TooDeep)?;
    let mut fields = object.fields.iter();
    fields.try_for_each(|(name, value)| {
        check_text(name)?;
        check_value(value, levels)
    })
}

fn check_value(value: &Proto, levels: usize) -> Result<(), Problem> {
    match &value.kind {
        None => Err(Problem::Other("has a value without a kind")),
        Some(Kind::NumberValue(number)) if !number.is_finite() => {
            Err(Problem::Other("must not contain NaN or an infinity"))
        }
        Some(Kind::StringValue(text)) => check_text(text),
        Some(Kind::StructValue(object)) => check_object(object, levels),
        Some(Kind::ListValue(list)) => {
            let levels = levels.checked_sub(1).ok_or(Problem::TooDeep)?;
            let mut values = list.values.iter();
            values.try_for_each(|value| check_value(value, levels))
        }
        Some(Kind::NullValue(_) | Kind::BoolValue(_) | Kind::NumberValue(_)) => Ok(()),
    }
}

fn check_text(text: &str) -> Result<(), Problem> {
    if text.contains('\0') {
        return Err(Problem::Other("must not contain U+0000"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn structure(value: &Value) -> Struct {
        to_struct(value.as_object().unwrap())
    }

    #[test]
    fn data_comes_back_as_it_went() {
        let data = json!({
            "null": null, "yes": true, "whole": 3, "half": -0.5, "text": "ä",
            "list": [1, "two", {"three": []}], "object": {"a": {}},
        });
        assert_eq!(Value::Object(object(&structure(&data))), data);
        assert_eq!(problem(&structure(&data), 4), None);
    }

    #[test]
    fn what_json_or_a_database_lacks_is_named() {
        let of = |kind| Struct {
            fields: [("a".to_owned(), Proto { kind })].into(),
        };
        let named = |data: &Struct| problem(data, 16).unwrap();
        assert!(named(&of(None)).contains("without a kind"));
        assert!(named(&of(Some(Kind::NumberValue(f64::NAN)))).contains("NaN"));
        assert!(named(&of(Some(Kind::StringValue("\0".into())))).contains("U+0000"));
        let deep = structure(&json!({"a": [{"b": 1}]}));
        assert_eq!(problem(&deep, 3), None);
        assert!(problem(&deep, 2).unwrap().contains("2 levels"));
    }
}
