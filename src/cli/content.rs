//! What a notification says, as arguments.

use clap::Args;
use serde_json::{Number, Value};

use crate::client::{self, Action, Content};

/// What it says beside its title.
#[derive(Args, Clone, Debug)]
pub struct ContentArgs {
    /// More text
    #[arg(long, value_name = "TEXT")]
    pub body: Option<String>,
    /// The kind of the thing it is about
    #[arg(long, value_name = "TYPE")]
    pub entity_type: Option<String>,
    /// The id of the thing it is about
    #[arg(long, value_name = "ID")]
    pub entity_id: Option<String>,
    /// Where a click leads: an absolute http(s) URL or a path
    #[arg(long, value_name = "URL")]
    pub action_url: Option<String>,
    /// An image to show beside it: a URL as --action-url
    #[arg(long, value_name = "URL")]
    pub image_url: Option<String>,
    /// A button, and where it leads; may be given again, three in all
    #[arg(long = "action", value_name = "LABEL=URL", value_parser = action)]
    pub actions: Vec<Action>,
    /// The button to press most likely; comes first
    #[arg(long, value_name = "LABEL=URL", value_parser = action)]
    pub primary_action: Option<Action>,
    /// Anything else: a JSON object
    #[arg(long, value_name = "JSON", value_parser = data)]
    pub data: Option<prost_types::Struct>,
}

impl ContentArgs {
    /// The buttons, in the order in which they are shown.
    pub fn buttons(&self) -> Vec<Action> {
        let primary = self.primary_action.iter().map(|action| Action {
            is_primary: true,
            ..action.clone()
        });
        primary.chain(self.actions.iter().cloned()).collect()
    }

    /// All of it, with a type and a title.
    pub fn said(self, kind: String, title: String) -> Content {
        Content {
            actions: self.buttons(),
            r#type: kind,
            title,
            body: self.body,
            entity_type: self.entity_type,
            entity_id: self.entity_id,
            action_url: self.action_url,
            data: self.data,
            image_url: self.image_url,
        }
    }
}

fn action(text: &str) -> Result<Action, String> {
    let (label, url) = text
        .split_once('=')
        .ok_or("write it as LABEL=URL, such as Reply=/posts/7#reply")?;
    Ok(Action {
        label: label.into(),
        url: url.into(),
        is_primary: false,
    })
}

fn data(text: &str) -> Result<prost_types::Struct, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    if let Some(number) = inexact(&value) {
        return Err(format!(
            "{number} is beyond 2^53, and would come as another number: \
             send it as a string, \"{number}\""
        ));
    }
    let object = value.as_object().map(client::json::to_struct);
    object.ok_or_else(|| "must be a JSON object, such as {\"n\": 1}".into())
}

/// A whole number that `data`, whose numbers are doubles, may not hold as it is.
fn inexact(value: &Value) -> Option<&Number> {
    const MOST: u64 = 1 << 53;
    match value {
        Value::Number(number) => {
            let is_exact = match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(whole), ..) => whole <= MOST,
                (_, Some(negative), _) => negative.unsigned_abs() <= MOST,
                // Beyond it every double is a whole number.
                (.., Some(double)) => double.abs() <= 9_007_199_254_740_992.0,
                _ => false,
            };
            (!is_exact).then_some(number)
        }
        Value::Array(values) => values.iter().find_map(inexact),
        Value::Object(fields) => fields.values().find_map(inexact),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn data_is_a_json_object() {
        let sent = data(r#"{"n": [1, null]}"#).unwrap();
        let sent = Value::Object(crate::proto::json::object(&sent));
        assert_eq!(sent, json!({"n": [1, null]}));
        for bad in ["[1]", "1", "{"] {
            assert!(data(bad).unwrap_err().contains("JSON"), "{bad}");
        }
    }

    #[test]
    fn whole_numbers_that_would_change_are_refused_with_the_way_out() {
        for (text, is_taken) in [
            ("9007199254740992", true),
            ("9007199254740993", false),
            ("-9007199254740992", true),
            ("-9007199254740993", false),
            ("18446744073709551615", false),
            ("123456789012345678901234567890", false),
            ("0.1", true),
            ("1e-300", true),
        ] {
            match data(&format!(r#"{{"deep": [{{"id": {text}}}]}}"#)) {
                Ok(_) => assert!(is_taken, "{text}"),
                Err(error) => {
                    assert!(!is_taken, "{text}");
                    assert!(error.contains("as a string"), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_button_is_its_label_and_its_url_which_may_have_equals_signs() {
        let button = action("Reply=/posts?id=7").unwrap();
        assert_eq!((&*button.label, &*button.url), ("Reply", "/posts?id=7"));
        assert!(action("Reply").unwrap_err().contains("LABEL=URL"));
    }
}
