//! `doorbell send`: puts one notification into an inbox, into many, or into those of a
//! topic, now or later.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{ConnectionArgs, Error, content::ContentArgs, send_to_many, sends, text, write_json};
use crate::{
    client::{
        self, FollowUpOptions, FollowUpUnless, SendInAppRequest, SendInAppResponse,
        SendToManyRequest, SendToTopicRequest, Suppressed,
    },
    clock::{Clock as _, SystemClock},
    random::{Random, SystemRandom},
};

/// What to send, and to whom.
#[derive(Args, Clone)]
pub struct SendArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// The tenant
    #[arg(long, value_name = "ID")]
    pub organization: String,
    /// The person; or --to-many or --topic
    #[arg(
        long,
        value_name = "ID",
        required_unless_present_any = ["to_many", "topic"],
        conflicts_with_all = ["to_many", "topic"]
    )]
    pub user: Option<String>,
    /// A file with people, one a line, or - for what is piped in: each gets it
    #[arg(long, value_name = "FILE")]
    pub to_many: Option<PathBuf>,
    /// A topic: each of its members gets it
    #[arg(long, value_name = "ID", conflicts_with = "to_many")]
    pub topic: Option<String>,
    /// When to deliver it, at most 90 days ahead: a time, or a while, such as 2h
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub deliver_time: Option<SystemTime>,
    /// What kind of notification it is, in your words
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: String,
    /// The text to show first
    #[arg(long, value_name = "TEXT")]
    pub title: String,
    /// The rest of what it says
    #[command(flatten)]
    pub content: ContentArgs,
    /// Takes the place of the unread notification of the same key
    #[arg(long, value_name = "KEY")]
    pub collapse_key: Option<String>,
    /// When it is of no use any more: a time, such as 2026-12-24T18:00:00Z, or a while, such as 2h
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub expire_time: Option<SystemTime>,
    /// Do not ring: it is in the inbox and in its counts, and nothing more
    #[arg(long)]
    pub silent: bool,
    /// Have backends told if nobody looks for so long after it came: see doorbell follow-ups
    #[arg(long, value_name = "DURATION")]
    pub follow_up: Option<humantime::Duration>,
    /// What makes that needless
    #[arg(long, value_enum, default_value = "read", requires = "follow_up")]
    pub unless: UnlessArg,
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

/// What to send later, and to whom.
#[derive(Args, Clone)]
#[command(mut_arg("deliver_time", |arg| arg.hide(true)))]
pub struct ScheduleArgs {
    /// When to deliver it, at most 90 days ahead: a time, or a while, such as 2h
    #[arg(value_name = "WHEN", value_parser = moment, conflicts_with = "deliver_time")]
    pub at: SystemTime,
    /// What, and to whom
    #[command(flatten)]
    pub send: SendArgs,
}

impl From<ScheduleArgs> for SendArgs {
    fn from(args: ScheduleArgs) -> Self {
        Self {
            deliver_time: Some(args.at),
            ..args.send
        }
    }
}

/// What makes a follow-up needless.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum UnlessArg {
    /// They looked at the list that it is in
    Seen,
    /// They read it
    Read,
}

fn follow_up(after: Option<humantime::Duration>, unless: UnlessArg) -> Option<FollowUpOptions> {
    let unless = match unless {
        UnlessArg::Seen => FollowUpUnless::Seen,
        UnlessArg::Read => FollowUpUnless::Read,
    };
    let after = prost_types::Duration::try_from(*after?).ok();
    let unless = unless.into();
    Some(FollowUpOptions { after, unless })
}

/// Sends, and prints the answer.
pub async fn run(args: SendArgs) -> Result<(), Error> {
    let client = args.connection.client()?;
    let patience = args.patience.into();
    let as_json = args.json;
    if let Some(file) = &args.to_many {
        let users = send_to_many::read_users("--to-many", file)?;
        let request = request_for_many(args);
        return send_to_many::run(&client, request, &users, patience, as_json).await;
    }
    if args.topic.is_some() {
        let request = request_to_topic(args);
        let call = async || client.send_to_topic(request.clone()).await;
        let answer = client.patiently(patience, call).await?;
        let send = answer.send.unwrap_or_default();
        return sends::accepted(&mut io::stdout().lock(), &send, answer.duplicate, as_json);
    }
    let request = request(args);
    let to = format!(
        "{} of {}",
        request.recipient_user_id, request.organization_id
    );
    let response = client.send_in_app_patiently(request, patience).await?;
    let out = &mut io::stdout().lock();
    match &response.send {
        Some(send) => sends::accepted(out, send, response.duplicate, as_json),
        None => print(out, &response, &to, as_json),
    }
}

fn request(args: SendArgs) -> SendInAppRequest {
    SendInAppRequest {
        actions: args.content.buttons(),
        organization_id: args.organization,
        recipient_user_id: args.user.unwrap_or_default(),
        r#type: args.kind,
        title: args.title,
        body: args.content.body,
        entity_type: args.content.entity_type,
        entity_id: args.content.entity_id,
        action_url: args.content.action_url,
        data: args.content.data,
        idempotency_key: args.idempotency_key,
        image_url: args.content.image_url,
        expire_time: args.expire_time.map(Into::into),
        collapse_key: args.collapse_key,
        silent: args.silent,
        deliver_time: args.deliver_time.map(Into::into),
        follow_up: follow_up(args.follow_up, args.unless),
    }
}

pub(super) fn random_key() -> String {
    let random: &dyn Random = &SystemRandom;
    random.uuid_v7(SystemClock.now()).to_string()
}

fn request_to_topic(args: SendArgs) -> SendToTopicRequest {
    SendToTopicRequest {
        organization_id: args.organization,
        topic_id: args.topic.unwrap_or_default(),
        content: Some(args.content.said(args.kind, args.title)),
        idempotency_key: args.idempotency_key.unwrap_or_else(random_key),
        expire_time: args.expire_time.map(Into::into),
        collapse_key: args.collapse_key,
        silent: args.silent,
        deliver_time: args.deliver_time.map(Into::into),
        follow_up: follow_up(args.follow_up, args.unless),
    }
}

fn request_for_many(args: SendArgs) -> SendToManyRequest {
    SendToManyRequest {
        organization_id: args.organization,
        recipient_user_ids: Vec::new(),
        content: Some(args.content.said(args.kind, args.title)),
        idempotency_key: args.idempotency_key.unwrap_or_else(random_key),
        expire_time: args.expire_time.map(Into::into),
        collapse_key: args.collapse_key,
        silent: args.silent,
        deliver_time: args.deliver_time.map(Into::into),
        follow_up: follow_up(args.follow_up, args.unless),
    }
}

/// Why there is no notification, as JSON has it.
pub(super) fn suppressed(why: Suppressed) -> Option<&'static str> {
    match why {
        Suppressed::Unspecified => None,
        Suppressed::Expired => Some("expired"),
        Suppressed::Muted => Some("muted"),
    }
}

pub(super) fn moment(text: &str) -> Result<SystemTime, String> {
    let Ok(after) = humantime::parse_duration(text) else {
        return humantime::parse_rfc3339(text).map_err(|_| {
            "give a time, such as 2026-12-24T18:00:00Z, or a while, such as 2h".into()
        });
    };
    let now = u64::try_from(SystemClock.now().as_micros()).unwrap_or_default();
    let at = after.checked_add(Duration::from_micros(now));
    let at = at.and_then(|at| SystemTime::UNIX_EPOCH.checked_add(at));
    at.ok_or_else(|| "that is too far away".into())
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
            "suppressed": suppressed(response.suppressed()),
            "head": client::json::head(&head),
        });
        return Ok(write_json(out, &value)?);
    }
    let why = match response.suppressed() {
        Suppressed::Unspecified => None,
        Suppressed::Expired => Some("its time is over already"),
        Suppressed::Muted => Some("they do not want this type"),
    };
    if let Some(why) = why {
        writeln!(out, "not sent to {}: {why}", text::line(to))?;
        return Ok(());
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
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_time_is_a_moment_or_a_while_from_now() {
        let (now, later) = (moment("0s").unwrap(), moment("2h").unwrap());
        let between = later.duration_since(now).unwrap();
        assert!((7200..7260).contains(&between.as_secs()));
        let then = moment("1970-01-01T00:00:07Z").unwrap();
        assert_eq!(then, SystemTime::UNIX_EPOCH + Duration::from_secs(7));
        for bad in ["tomorrow", "", "-1h", "2026-12-24"] {
            assert!(moment(bad).unwrap_err().contains("2h"), "{bad}");
        }
    }

    #[test]
    fn the_answer_is_a_line_or_an_object() {
        let response = SendInAppResponse {
            notification: None,
            duplicate: true,
            suppressed: 0,
            send: None,
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
            json!({"duplicate": true, "notification": null, "suppressed": null, "head": {
                "revision": 7, "unread_count": 3, "unseen_count": 0, "seen_through": 0,
            }})
        );
    }
}
