//! `doorbell update`: corrects one notification.

use std::io::Write;

use clap::Args;
use prost_types::FieldMask;
use serde_json::json;

use super::{
    ConnectionArgs, Error, NamedArgs, RecipientArgs, content::ContentArgs, text, write_json,
};
use crate::client::{self, UpdateInAppRequest, UpdateInAppResponse};

/// Which notification, and what it says from now on.
#[derive(Args, Clone)]
pub struct UpdateArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// Whose inbox
    #[command(flatten)]
    pub recipient: RecipientArgs,
    /// Which of its notifications
    #[command(flatten)]
    pub named: NamedArgs,
    /// What kind of notification it is, in your words
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// The text to show first
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// The rest of what it says
    #[command(flatten)]
    pub content: ContentArgs,
    /// Take this field away; may be given again
    #[arg(long, value_name = "FIELD")]
    pub clear: Vec<Clearable>,
    /// Ring for it once more, where it is unread
    #[arg(long)]
    pub ring: bool,
    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What a notification can do without.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Clearable {
    /// More text
    Body,
    /// The kind of the thing it is about
    EntityType,
    /// The id of the thing it is about
    EntityId,
    /// Where a click leads
    ActionUrl,
    /// The image beside it
    ImageUrl,
    /// Its buttons
    Actions,
    /// Anything else
    Data,
}

impl Clearable {
    fn field(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::EntityType => "entity_type",
            Self::EntityId => "entity_id",
            Self::ActionUrl => "action_url",
            Self::ImageUrl => "image_url",
            Self::Actions => "actions",
            Self::Data => "data",
        }
    }
}

/// Corrects, and prints the answer.
pub async fn run(args: UpdateArgs) -> Result<(), Error> {
    let client = args.connection.client()?;
    let as_json = args.json;
    let answer = client.update_in_app(request(args)?).await?;
    print(&mut std::io::stdout().lock(), &answer, as_json)
}

fn request(args: UpdateArgs) -> Result<UpdateInAppRequest, Error> {
    let content = args.content;
    let given = [
        ("type", args.kind.is_some()),
        ("title", args.title.is_some()),
        ("body", content.body.is_some()),
        ("entity_type", content.entity_type.is_some()),
        ("entity_id", content.entity_id.is_some()),
        ("action_url", content.action_url.is_some()),
        ("image_url", content.image_url.is_some()),
        ("actions", !content.buttons().is_empty()),
        ("data", content.data.is_some()),
    ];
    let given = given.into_iter().filter(|(_, is_given)| *is_given);
    let mut paths: Vec<String> = given.map(|(field, _)| field.to_owned()).collect();
    for field in args.clear.iter().map(|field| field.field()) {
        if paths.iter().any(|path| path == field) {
            let problem = format!("{field} is given and cleared: do one of the two");
            return Err(Error::Usage(problem));
        }
        paths.push(field.to_owned());
    }
    if paths.is_empty() {
        let problem = "nothing to correct: give --title, --body or another field, or --clear FIELD";
        return Err(Error::Usage(problem.into()));
    }
    Ok(UpdateInAppRequest {
        organization_id: args.recipient.organization,
        recipient_user_id: args.recipient.user,
        notification_id: args.named.id,
        idempotency_key: args.named.idempotency_key,
        content: Some(content.said(
            args.kind.unwrap_or_default(),
            args.title.unwrap_or_default(),
        )),
        update_mask: Some(FieldMask { paths }),
        ring: args.ring,
    })
}

fn print(out: &mut impl Write, answer: &UpdateInAppResponse, as_json: bool) -> Result<(), Error> {
    let head = answer.head.unwrap_or_default();
    let notification = answer.notification.as_ref();
    if as_json {
        let value = json!({
            "notification": notification.map(client::json::notification),
            "changed": answer.changed,
            "head": client::json::head(&head),
        });
        return Ok(write_json(out, &value)?);
    }
    let id = notification.map_or("", |notification| &notification.id);
    let what = match answer.changed {
        true => "corrected",
        false => "said so already: nothing changed",
    };
    let unread = text::unread(head.unread_count);
    writeln!(
        out,
        "{}: {what}; revision {}, {unread}",
        text::line(id),
        head.revision
    )?;
    Ok(())
}
