//! `doorbell send`: puts one notification into an inbox.

use std::io::Write;

use clap::Args;
use serde_json::{Number, Value, json};

use super::{ConnectionArgs, Error, text, write_json};
use crate::client::{self, SendInAppRequest, SendInAppResponse};

/// What to send, and to whom.
#[derive(Args, Clone)]
pub struct SendArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// The tenant
    #[arg(long, value_name = "ID")]
    pub organization: String,
    /// The person
    #[arg(long, value_name = "ID")]
    pub user: String,
    /// What kind of notification it is, in your words
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: String,
    /// The text to show first
    #[arg(long, value_name = "TEXT")]
    pub title: String,
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
    /// Anything else: a JSON object
    #[arg(long, value_name = "JSON")]
    pub data: Option<String>,
    /// Makes a repeated send safe; a random one where none is given
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Try again for this long when an error may pass
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub patience: humantime::Duration,
    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Sends, and prints the answer.
pub async fn run(args: SendArgs) -> Result<(), Error> {
    let client = args.connection.client()?;
    let patience = args.patience.into();
    let as_json = args.json;
    let request = request(args)?;
    let to = format!(
        "{} of {}",
        request.recipient_user_id, request.organization_id
    );
    let response = client.send_in_app_patiently(request, patience).await?;
    print(&mut std::io::stdout().lock(), &response, &to, as_json)
}

fn request(args: SendArgs) -> Result<SendInAppRequest, Error> {
    let data = args.data.map(|text| {
        let value: Value = serde_json::from_str(&text)
            .map_err(|error| Error::Usage(format!("--data is not JSON: {error}")))?;
        if let Some(number) = inexact(&value) {
            return Err(Error::Usage(format!(
                "--data: {number} is beyond 2^53, and would come as another number: \
                 send it as a string, \"{number}\""
            )));
        }
        let object = value.as_object();
        object
            .map(client::json::to_struct)
            .ok_or_else(|| Error::Usage("--data must be a JSON object, such as {\"n\": 1}".into()))
    });
    Ok(SendInAppRequest {
        organization_id: args.organization,
        recipient_user_id: args.user,
        r#type: args.kind,
        title: args.title,
        body: args.body,
        entity_type: args.entity_type,
        entity_id: args.entity_id,
        action_url: args.action_url,
        data: data.transpose()?,
        idempotency_key: args.idempotency_key,
        ..SendInAppRequest::default()
    })
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

fn print(
    out: &mut impl Write,
    response: &SendInAppResponse,
    to: &str,
    as_json: bool,
) -> Result<(), Error> {
    let head = response.head.unwrap_or_default();
    if as_json {
        let notification = response.notification.as_ref();
        let value = json!({
            "notification": notification.map(client::json::notification),
            "duplicate": response.duplicate,
            "head": client::json::head(&head),
        });
        return Ok(write_json(out, &value)?);
    }
    let id = response
        .notification
        .as_ref()
        .map_or("", |notification| notification.id.as_str());
    let what = if response.duplicate {
        "was sent before, with the same key: nothing changed"
    } else {
        "sent"
    };
    writeln!(
        out,
        "{} to {}: {what}; revision {}, {}",
        text::line(id),
        text::line(to),
        head.revision,
        text::unread(head.unread_count),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: SendArgs,
    }

    fn parse(more: &[&str]) -> SendArgs {
        let needed = [
            "send",
            "--token",
            "t",
            "--organization",
            "acme",
            "--user",
            "ann",
            "--type",
            "comment",
            "--title",
            "Hello",
        ];
        Command::try_parse_from(needed.iter().chain(more))
            .unwrap()
            .args
    }

    #[test]
    fn data_is_a_json_object() {
        let sent = request(parse(&["--data", r#"{"n": [1, null]}"#])).unwrap();
        let data = Value::Object(crate::proto::json::object(&sent.data.unwrap()));
        assert_eq!(data, json!({"n": [1, null]}));
        for bad in ["[1]", "1", "{"] {
            let error = request(parse(&["--data", bad])).unwrap_err();
            assert!(error.to_string().contains("--data"), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
        assert_eq!(request(parse(&[])).unwrap().data, None);
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
            let data = format!(r#"{{"deep": [{{"id": {text}}}]}}"#);
            match request(parse(&["--data", &data])) {
                Ok(_) => assert!(is_taken, "{text}"),
                Err(error) => {
                    assert!(!is_taken, "{text}");
                    assert!(error.to_string().contains("as a string"), "{error}");
                    assert_eq!(error.exit_code(), 2);
                }
            }
        }
    }

    #[test]
    fn the_answer_is_a_line_or_an_object() {
        let response = SendInAppResponse {
            notification: None,
            duplicate: true,
            suppressed: 0,
            head: Some(client::Head {
                revision: 7,
                unread_count: 3,
                ..client::Head::default()
            }),
        };
        let shown = |as_json| {
            let mut out = Vec::new();
            print(&mut out, &response, "ann of acme", as_json).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert!(shown(false).ends_with("; revision 7, 3 unread\n"));
        assert!(shown(false).contains("sent before"));
        let value: Value = serde_json::from_str(&shown(true)).unwrap();
        assert_eq!(
            value,
            json!({"duplicate": true, "notification": null, "head": {
                "revision": 7, "unread_count": 3, "unseen_count": 0, "seen_through": 0,
            }})
        );
    }
}
