//! `doorbell follow-ups`: the notifications that nobody looked at in time.

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::Args;

use super::{ConnectionArgs, Error, PATIENCE, text, write_json};
use crate::client::{self, FollowUp, FollowUpUnless, ListFollowUpsRequest};

/// How long one call waits for the next: shorter than the client does for its answer.
const WAIT: Duration = Duration::from_secs(10);

/// Which of them.
#[derive(Args, Clone)]
pub struct FollowUpsArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// The tenant
    #[arg(long, value_name = "ID")]
    pub organization: String,
    /// Those after this position, the number that a line begins with; from the first where none is
    /// given
    #[arg(long, value_name = "POSITION", requires = "epoch")]
    pub after: Option<u64>,
    /// The epoch of that position, which stands after it: all is listed anew where it is over
    #[arg(long, value_name = "EPOCH")]
    pub epoch: Option<String>,
    /// Go on, and print each as it comes
    #[arg(long)]
    pub follow: bool,
    /// Print each as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Lists them, to the end or for ever.
pub async fn run(args: FollowUpsArgs) -> Result<(), Error> {
    let client = args.connection.client()?;
    let wait = if args.follow { WAIT } else { Duration::ZERO };
    let mut request = ListFollowUpsRequest {
        organization_id: args.organization,
        after_position: args.after.unwrap_or_default(),
        epoch: args.epoch.unwrap_or_default(),
        limit: 0,
        wait: prost_types::Duration::try_from(wait).ok(),
    };
    loop {
        let call = async || client.list_follow_ups(request.clone()).await;
        let answer = client.patiently(PATIENCE, call).await?;
        for follow_up in &answer.follow_ups {
            print(
                &mut io::stdout().lock(),
                follow_up,
                &answer.epoch,
                args.json,
            )?;
        }
        if answer.follow_ups.is_empty() && !args.follow {
            return Ok(());
        }
        request.after_position = answer.position;
        request.epoch = answer.epoch;
    }
}

fn print(
    out: &mut impl Write,
    follow_up: &FollowUp,
    epoch: &str,
    as_json: bool,
) -> Result<(), Error> {
    if as_json {
        return Ok(write_json(out, &client::json::follow_up(follow_up, epoch))?);
    }
    let notification = follow_up.notification.clone().unwrap_or_default();
    let due = follow_up.due_time.as_ref().map(client::json::rfc3339);
    let what = match follow_up.unless() {
        FollowUpUnless::Seen => "seen",
        _ => "read",
    };
    writeln!(
        out,
        "{} {}  {}  not {what} by {}  {}",
        follow_up.position,
        text::line(epoch),
        text::line(&follow_up.user_id),
        due.unwrap_or_default(),
        text::notification(&notification),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Notification;

    #[test]
    fn a_follow_up_is_a_line_that_says_who_did_not_do_what() {
        let follow_up = FollowUp {
            position: 7,
            user_id: "ann\x1b[2J".into(),
            notification: Some(Notification {
                title: "Ann wrote".into(),
                ..Notification::default()
            }),
            unless: FollowUpUnless::Seen.into(),
            due_time: Some(prost_types::Timestamp {
                seconds: 7,
                nanos: 0,
            }),
        };
        let mut out = Vec::new();
        print(&mut out, &follow_up, "e", false).unwrap();
        let line = String::from_utf8(out).unwrap();
        // With both one can go on after it.
        assert!(line.starts_with("7 e  ann"), "{line}");
        assert!(
            line.contains("not seen by 1970-01-01T00:00:07.000000Z") && line.contains("Ann wrote"),
            "{line}"
        );
        assert!(!line.contains('\x1b'), "{line}");
    }
}
