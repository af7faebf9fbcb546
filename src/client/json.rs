//! What the client shows, as JSON: the names of the proto, times in RFC 3339,
//! absent fields left out.

use prost_types::{ListValue, Struct, Value as Proto, value::Kind};
use serde_json::{Map, Number, Value, json};

use crate::{clock::Timestamp, proto::Notification};

/// A notification as a JSON object.
pub fn notification(notification: &Notification) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            object.insert(name.to_owned(), value);
        }
    };
    let text = |text: &Option<String>| text.as_ref().map(|text| json!(text));
    let time =
        |time: &Option<prost_types::Timestamp>| time.as_ref().map(|time| json!(rfc3339(time)));
    put("id", Some(json!(notification.id)));
    put("sequence", Some(json!(notification.sequence)));
    put("revision", Some(json!(notification.revision)));
    put("type", Some(json!(notification.r#type)));
    put("title", Some(json!(notification.title)));
    put("body", text(&notification.body));
    put("entity_type", text(&notification.entity_type));
    put("entity_id", text(&notification.entity_id));
    put("action_url", text(&notification.action_url));
    put("data", notification.data.as_ref().map(from_struct));
    put("created_at", time(&notification.created_at));
    put("read_at", time(&notification.read_at));
    put("archived_at", time(&notification.archived_at));
    Value::Object(object)
}

/// RFC 3339 in UTC, with microseconds.
pub fn rfc3339(time: &prost_types::Timestamp) -> String {
    timestamp(time).to_string()
}

pub(super) fn timestamp(time: &prost_types::Timestamp) -> Timestamp {
    let micros = time.seconds.saturating_mul(1_000_000);
    Timestamp::from_micros(micros.saturating_add(i64::from(time.nanos / 1000)))
}

/// The object that a `data` field is.
pub fn from_struct(data: &Struct) -> Value {
    let fields = data.fields.iter();
    Value::Object(
        fields
            .map(|(name, value)| (name.clone(), from_proto(value)))
            .collect(),
    )
}

fn from_proto(value: &Proto) -> Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => json!(value),
        Some(Kind::NumberValue(value)) => number(*value),
        Some(Kind::StringValue(value)) => json!(value),
        Some(Kind::StructValue(value)) => from_struct(value),
        Some(Kind::ListValue(list)) => Value::Array(list.values.iter().map(from_proto).collect()),
    }
}

/// A whole number is written as one: 3, not 3.0.
fn number(value: f64) -> Value {
    /// Whole numbers up to here are exact in a double.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
        let whole = value as i64;
        return Value::Number(whole.into());
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// The `data` field that an object is; nothing else is one.
pub fn to_struct(value: &Value) -> Option<Struct> {
    let fields = value.as_object()?.iter();
    Some(Struct {
        fields: fields
            .map(|(name, value)| (name.clone(), to_proto(value)))
            .collect(),
    })
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
        Value::Object(_) => Kind::StructValue(to_struct(value).unwrap_or_default()),
    };
    Proto { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_comes_back_as_it_went() {
        let object = json!({
            "null": null, "yes": true, "whole": 3, "half": -0.5, "text": "ä",
            "list": [1, "two", {"three": []}], "object": {"a": {}},
        });
        assert_eq!(from_struct(&to_struct(&object).unwrap()), object);
        assert_eq!(to_struct(&json!([])), None);
    }

    #[test]
    fn a_notification_has_the_proto_s_names_and_no_absent_field() {
        let shown = notification(&Notification {
            id: "i".into(),
            sequence: 7,
            revision: 8,
            r#type: "t".into(),
            title: "T".into(),
            entity_id: Some("e".into()),
            created_at: Some(prost_types::Timestamp {
                seconds: 1,
                nanos: 2_000,
            }),
            ..Notification::default()
        });
        let expected = json!({
            "id": "i", "sequence": 7, "revision": 8, "type": "t", "title": "T",
            "entity_id": "e", "created_at": "1970-01-01T00:00:01.000002Z",
        });
        assert_eq!(shown, expected);
    }
}
