//! Text from elsewhere, made harmless for a terminal.

use serde_json::Value;

use crate::client::Notification;

/// One line without control characters or marks that reorder text: what others
/// wrote cannot move the cursor, set a title, ring, or pose as our own lines.
pub fn line(text: &str) -> String {
    let safe = |c: char| match c {
        '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
        c if c.is_control() || reorders(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(safe).collect()
}

/// An error with its causes: the text of some names none of them.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn reorders(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// JSON in one line, with every control character escaped: serde escapes those
/// below U+0020 only, and U+009B begins an escape sequence too.
pub fn json(value: &Value) -> String {
    let mut text = String::new();
    for c in value.to_string().chars() {
        if c.is_control() || reorders(c) || matches!(c, '\u{2028}' | '\u{2029}') {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
}

/// A notification as one line: when, whether it is unread, what it says.
pub fn notification(notification: &Notification) -> String {
    let mark = if notification.archived_at.is_some() {
        'x'
    } else if notification.read_at.is_some() {
        ' '
    } else {
        '*'
    };
    let when = notification.created_at.as_ref().map_or_else(
        || "-".to_owned(),
        |time| {
            let text = crate::client::json::rfc3339(time);
            text.split('.').next().unwrap_or_default().replace('T', " ")
        },
    );
    let mut text = format!(
        "{mark} {when}  {}  [{}]",
        line(&notification.title),
        line(&notification.r#type),
    );
    if let Some(body) = &notification.body {
        text.push_str(&format!("  {}", line(body)));
    }
    if let Some(url) = &notification.action_url {
        text.push_str(&format!("  {}", line(url)));
    }
    text.push_str(&format!("  ({})", line(&notification.id)));
    text
}

/// "1 unread", "3 unread".
pub fn unread(count: u32) -> String {
    format!("{count} unread")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn escape_sequences_and_new_lines_become_harmless() {
        let line = line("\x1b]0;owned\x07 a\r\nb\u{9b}2J\u{202e}c");
        assert_eq!(line, "\u{fffd}]0;owned\u{fffd} a  b\u{fffd}2J\u{fffd}c");
    }

    #[test]
    fn json_escapes_what_serde_leaves() {
        let value = json!({"title": "\x1b[2J\u{9b}2J\x7f\u{202e}ä"});
        let text = json(&value);
        assert_eq!(text, "{\"title\":\"\\u001b[2J\\u009b2J\\u007f\\u202eä\"}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }

    proptest! {
        #[test]
        fn no_text_reaches_the_terminal_with_control_characters(
            text in any::<String>(),
            body in proptest::option::of(any::<String>()),
        ) {
            let shown = notification(&Notification {
                id: text.clone(),
                r#type: text.clone(),
                title: text.clone(),
                action_url: body.clone(),
                body,
                ..Notification::default()
            });
            prop_assert!(!shown.chars().any(char::is_control), "{shown:?}");
            let value = json!({ "text": text });
            let shown = json(&value);
            prop_assert!(!shown.chars().any(char::is_control), "{shown:?}");
            prop_assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value);
        }
    }
}
