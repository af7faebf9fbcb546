//! `doorbell send --to-many`: sends one content to each user that a file names.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Error, sends, text, usage, write_json};
use crate::{
    client::{Client, SendResult, SendToManyRequest, Suppressed},
    config::MAX_RECIPIENTS,
};

/// Users, one a line; blank lines are skipped. `-` is what is piped in.
pub fn read_users(flag: &str, file: &Path) -> Result<Vec<String>, Error> {
    let wrong = |error: io::Error| usage(flag, &file.display(), &error);
    let lines: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(file).map_err(wrong)?))
    };
    let mut users = Vec::new();
    for line in lines.lines() {
        let line = line.map_err(wrong)?;
        let user = line.trim();
        if !user.is_empty() {
            users.push(user.to_owned());
        }
    }
    if users.is_empty() {
        return Err(Error::Usage(format!(
            "{flag} {}: names no user: write one a line",
            file.display()
        )));
    }
    Ok(users)
}

/// Sends `request` to all of `users`, a call for each thousand, and prints what came of
/// it; on a terminal, with a bar while it goes on.
pub async fn run(
    client: &Client,
    mut request: SendToManyRequest,
    users: &[String],
    patience: Duration,
    as_json: bool,
) -> Result<(), Error> {
    if request.deliver_time.is_some() {
        return later(client, request, users, patience, as_json).await;
    }
    // Hidden by itself where it is no terminal.
    let bar = ProgressBar::new(users.len() as u64).with_style(style());
    let mut out = io::stdout().lock();
    let mut told = Told::default();
    for users in users.chunks(MAX_RECIPIENTS) {
        request.recipient_user_ids = users.to_vec();
        let results = client.send_to_many_patiently(request.clone(), patience);
        let results = results.await.map_err(|error| {
            let error = Error::from(error);
            incomplete(&error.to_string(), &request.idempotency_key)
        })?;
        for result in results {
            told.count(&result);
            bar.suspend(|| print(&mut out, &result, as_json))?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    told.end(&mut out, users.len(), &request.idempotency_key, as_json)
}

/// Has the service send it later, a send for each thousand.
async fn later(
    client: &Client,
    request: SendToManyRequest,
    users: &[String],
    patience: Duration,
    as_json: bool,
) -> Result<(), Error> {
    // Nothing, unless the time is past by the service's clock.
    let mut at_once = None;
    for (number, users) in users.chunks(MAX_RECIPIENTS).enumerate() {
        let mut of_these = request.clone();
        of_these.recipient_user_ids = users.to_vec();
        // The key of a send is of the organization: those after the first need their own.
        if number > 0 {
            of_these.idempotency_key = format!("{} {}", request.idempotency_key, number + 1);
        }
        let call = async || client.send_to_many(of_these.clone()).await;
        let answer = client.patiently(patience, call).await.map_err(|error| {
            let error = Error::from(error);
            incomplete(&error.to_string(), &request.idempotency_key)
        })?;
        let mut out = io::stdout().lock();
        if let Some(send) = answer.send {
            sends::accepted(&mut out, &send, answer.duplicate, as_json)?;
            continue;
        }
        let told = at_once.get_or_insert_with(Told::default);
        for result in &answer.results {
            told.count(result);
            print(&mut out, result, as_json)?;
        }
    }
    let Some(told) = at_once else { return Ok(()) };
    let mut out = io::stdout().lock();
    told.end(&mut out, users.len(), &request.idempotency_key, as_json)
}

/// With the key that was used, the same command completes what is missing.
fn incomplete(problem: &str, key: &str) -> Error {
    let key = text::line(key);
    Error::Incomplete(format!(
        "{problem}; the same again with --idempotency-key {key} sends to those who are left"
    ))
}

/// How a bar looks.
pub(super) fn style() -> ProgressStyle {
    const TEMPLATE: &str = "{bar:30} {pos} of {len}, {per_sec}, {eta} left";
    ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// How many there were of each kind.
#[derive(Default)]
struct Told {
    sent: usize,
    duplicate: usize,
    expired: usize,
    muted: usize,
    failed: usize,
}

impl Told {
    fn count(&mut self, result: &SendResult) {
        let of_its_kind = match result {
            SendResult { error: Some(_), .. } => &mut self.failed,
            SendResult {
                duplicate: true, ..
            } => &mut self.duplicate,
            _ => match result.suppressed() {
                Suppressed::Unspecified => &mut self.sent,
                Suppressed::Expired => &mut self.expired,
                Suppressed::Muted => &mut self.muted,
            },
        };
        *of_its_kind += 1;
    }

    /// Says what came of it, to so many users with that key; an error where some failed.
    fn end(
        &self,
        out: &mut impl Write,
        users: usize,
        key: &str,
        as_json: bool,
    ) -> Result<(), Error> {
        if !as_json {
            writeln!(out, "{}", self.line())?;
        }
        if self.failed > 0 {
            let problem = format!("{} of {users} failed", self.failed);
            return Err(incomplete(&problem, key));
        }
        Ok(())
    }

    fn line(&self) -> String {
        let Self {
            sent,
            duplicate,
            expired,
            muted,
            failed,
        } = self;
        let others = [
            (duplicate, "had it already"),
            (expired, "not sent: its time is over already"),
            (muted, "not sent: they do not want this type"),
            (failed, "failed"),
        ];
        let others = others.into_iter().filter(|(count, _)| **count > 0);
        let others = others.map(|(count, what)| format!("; {count} {what}"));
        format!("sent to {sent}{}", others.collect::<String>())
    }
}

/// One result: all of them as JSON, for people only what failed.
fn print(out: &mut impl Write, result: &SendResult, as_json: bool) -> io::Result<()> {
    let user = &result.recipient_user_id;
    let error = result.error.as_ref();
    if as_json {
        let id = &result.notification_id;
        let value = json!({
            "recipient_user_id": user,
            "notification_id": (!id.is_empty()).then_some(id),
            "duplicate": result.duplicate,
            "suppressed": super::send::suppressed(result.suppressed()),
            "error": error.map(|error| json!({
                "reason": error.reason().text(),
                "message": error.message,
                "passing": error.passing,
            })),
        });
        return write_json(out, &value);
    }
    if let Some(error) = error {
        let reason = error.reason().text();
        let message = text::line(&error.message);
        writeln!(out, "{}: {reason}: {message}", text::line(user))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{ErrorReason, SendError};

    #[test]
    fn users_are_lines_and_blank_ones_are_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("users");
        std::fs::write(&file, "ann\n\n  bob \r\nann smith").unwrap();
        assert_eq!(
            read_users("--to-many", &file).unwrap(),
            ["ann", "bob", "ann smith"]
        );
        std::fs::write(&file, "\n \n").unwrap();
        let error = read_users("--to-many", &file).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("one a line"), "{error}");
        let error = read_users("--to-many", Path::new("/nowhere/users")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/users"), "{error}");
    }

    #[test]
    fn each_result_is_counted_once_and_a_failure_is_a_line() {
        let failed = SendResult {
            recipient_user_id: "bob".into(),
            error: Some(SendError {
                reason: ErrorReason::StoreUnavailable.into(),
                message: "the store\x1b[2J does not answer".into(),
                passing: true,
            }),
            ..SendResult::default()
        };
        let late = SendResult {
            suppressed: Suppressed::Expired.into(),
            ..SendResult::default()
        };
        let mut told = Told::default();
        let mut out = Vec::new();
        for result in [&SendResult::default(), &failed, &late] {
            told.count(result);
            print(&mut out, result, false).unwrap();
        }
        assert_eq!(
            told.line(),
            "sent to 1; 1 not sent: its time is over already; 1 failed"
        );
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("bob: STORE_UNAVAILABLE: the store"),
            "{text}"
        );
        assert!(!text.contains('\x1b'), "{text}");
    }
}
