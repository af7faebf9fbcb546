//! `doorbell count`, `recent` and `seen`: what is in an inbox, and that it was looked at.

use std::io::Write;

use clap::Args;
use serde_json::{Value, json};

use super::{ConnectionArgs, Error, selection::AboutArgs, text, write_json};
use crate::client::{
    Client, GetRecentRequest, GetRecentResponse, MarkSeenRequest, ReadInboxRequest, View, json,
};

/// Asks how many are unread.
#[derive(Args, Clone)]
pub struct CountArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// Also count those of this type; may be given again
    #[arg(long = "type", value_name = "TEXT")]
    pub types: Vec<String>,
    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Prints the unread count, and a line for each type that was asked for.
pub async fn count(args: CountArgs) -> Result<(), Error> {
    let answer = args
        .connection
        .client()?
        .get_unread_count(args.types)
        .await?;
    let head = answer.head.unwrap_or_default();
    let out = &mut std::io::stdout().lock();
    if args.json {
        let types: Vec<Value> = answer
            .types
            .iter()
            .map(|of| json!({"type": of.r#type, "unread_count": of.unread_count, "more": of.more}))
            .collect();
        let value = json!({"head": json::head(&head), "types": types});
        return Ok(write_json(out, &value)?);
    }
    writeln!(out, "{}", text::unread(head.unread_count))?;
    for of in &answer.types {
        let more = if of.more { "more than " } else { "" };
        let unread = text::unread(of.unread_count);
        writeln!(out, "{}: {more}{unread}", text::line(&of.r#type))?;
    }
    Ok(())
}

/// Lists what is in the inbox.
#[derive(Args, Clone)]
pub struct RecentArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// How many at most: 1 to 100
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(i32).range(1..=100))]
    pub limit: i32,
    /// Only those created after this moment, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<humantime::Timestamp>,
    /// Leave out what has been read
    #[arg(long)]
    pub unread_only: bool,
    /// What to list: the inbox, the archive, or both
    #[arg(long, value_name = "VIEW", default_value = "inbox")]
    pub view: ViewArg,
    /// Only those of this type; may be given again
    #[arg(long = "type", value_name = "TEXT")]
    pub types: Vec<String>,
    /// Only those about this thing
    #[command(flatten)]
    pub about: AboutArgs,
    /// For operators: an inbox of this tenant
    #[arg(long, value_name = "ID", requires = "user")]
    pub organization: Option<String>,
    /// For operators: the inbox of this person
    #[arg(long, value_name = "ID", requires = "organization")]
    pub user: Option<String>,
    /// Go on after a page: the token that it ended with
    #[arg(
        long,
        value_name = "TOKEN",
        default_value = "",
        hide_default_value = true
    )]
    pub page_token: String,
    /// Print the page as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What to list.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum ViewArg {
    /// What is neither archived nor removed
    Inbox,
    /// What is archived
    Archived,
    /// Both
    All,
}

impl From<ViewArg> for View {
    fn from(view: ViewArg) -> Self {
        match view {
            ViewArg::Inbox => Self::Inbox,
            ViewArg::Archived => Self::Archived,
            ViewArg::All => Self::All,
        }
    }
}

/// Prints a page, newest first.
pub async fn recent(args: RecentArgs) -> Result<(), Error> {
    let request = GetRecentRequest {
        limit: args.limit,
        since: args
            .since
            .map(|since| std::time::SystemTime::from(since).into()),
        page_token: args.page_token,
        unread_only: args.unread_only,
        view: View::from(args.view).into(),
        types: args.types,
        about: args.about.about(),
    };
    let client = args.connection.client()?;
    let page = match (args.organization, args.user) {
        (Some(organization_id), Some(user_id)) => {
            let request = ReadInboxRequest {
                organization_id,
                user_id,
                query: Some(request),
            };
            client.read_inbox(request).await?
        }
        _ => client.get_recent(request).await?,
    };
    let head = page.head.unwrap_or_default();
    let out = &mut std::io::stdout().lock();
    if args.json {
        let notifications: Vec<Value> = page.notifications.iter().map(json::notification).collect();
        let value = json!({
            "notifications": notifications,
            "next_page_token": page.next_page_token,
            "epoch": page.epoch,
            "head": json::head(&head),
        });
        return Ok(write_json(out, &value)?);
    }
    for notification in &page.notifications {
        writeln!(out, "{}", text::notification(notification))?;
    }
    writeln!(out, "{}", text::unread(head.unread_count))?;
    if !page.next_page_token.is_empty() {
        writeln!(
            out,
            "more: --page-token {}",
            text::line(&page.next_page_token)
        )?;
    }
    Ok(())
}

/// The head and the epoch, with the newest notification.
pub(super) async fn first_page(client: &Client) -> Result<GetRecentResponse, Error> {
    let request = GetRecentRequest {
        limit: 1,
        ..GetRecentRequest::default()
    };
    Ok(client.get_recent(request).await?)
}

/// Says that the person has looked.
#[derive(Args, Clone)]
pub struct MarkSeenArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// Up to the notification of this sequence; without it, at all there is
    #[arg(long, value_name = "N")]
    pub through_sequence: Option<u64>,
    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Marks as seen, and prints how many are still unseen.
pub async fn mark_seen(args: MarkSeenArgs) -> Result<(), Error> {
    let client = args.connection.client()?;
    let page = first_page(&client).await?;
    let newest = page.notifications.first().map_or(0, |row| row.sequence);
    let request = MarkSeenRequest {
        through_sequence: args.through_sequence.unwrap_or(newest),
        epoch: page.epoch,
    };
    let head = client.mark_seen(request).await?.head.unwrap_or_default();
    let out = &mut std::io::stdout().lock();
    if args.json {
        return Ok(write_json(out, &json!({"head": json::head(&head)}))?);
    }
    let unread = text::unread(head.unread_count);
    writeln!(out, "{} unseen; {unread}", head.unseen_count)?;
    Ok(())
}
