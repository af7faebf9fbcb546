//! `doorbell read`, `unread`, `archive`, `unarchive` and `remove`: which notifications,
//! and what is done with them.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::{ConnectionArgs, Error, inbox::first_page, text, write_json};
use crate::client::{About, Client, Selection, Through, Verb, json};

/// The thing that notifications are about.
#[derive(Args, Clone, Debug)]
pub struct AboutArgs {
    /// Those about the thing of this kind and of --entity-id
    #[arg(long, value_name = "TEXT", requires = "entity_id")]
    pub entity_type: Option<String>,
    /// Those about the thing of --entity-type and of this id
    #[arg(long, value_name = "TEXT", requires = "entity_type")]
    pub entity_id: Option<String>,
}

impl AboutArgs {
    /// The thing, where one was named.
    pub fn about(self) -> Option<About> {
        Some(About {
            entity_type: self.entity_type?,
            entity_id: self.entity_id?,
        })
    }
}

/// Those that are named, those about a thing, or all that were there at a position.
#[derive(Args, Clone)]
pub struct SelectionArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// The notifications
    #[arg(value_name = "ID", required_unless_present_any = ["entity_id", "all", "through"],
          conflicts_with_all = ["entity_type", "entity_id", "all", "through"])]
    pub ids: Vec<String>,
    /// Those about a thing
    #[command(flatten)]
    pub about: AboutArgs,
    /// All that are there now
    #[arg(long, conflicts_with_all = ["entity_type", "entity_id", "through"])]
    pub all: bool,
    /// All that were there at this revision: what came or changed since is left as it is
    #[arg(long, value_name = "REVISION", conflicts_with_all = ["entity_type", "entity_id"])]
    pub through: Option<u64>,
    /// The epoch that the revision was learned in; the present one without it
    #[arg(long, value_name = "EPOCH", requires = "through")]
    pub epoch: Option<String>,
    /// With --all or --through: only those of this type; may be given again
    #[arg(long = "type", value_name = "TEXT",
          conflicts_with_all = ["ids", "entity_type", "entity_id"])]
    pub types: Vec<String>,
    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Does it, and prints with how many it was done.
pub async fn edit(verb: Verb, args: SelectionArgs) -> Result<(), Error> {
    let client = args.connection.client()?;
    let as_json = args.json;
    let selection = select(args, &client).await?;
    let mut edited = client.edit(verb, selection.clone()).await?;
    let mut changed = edited.changed_count;
    while edited.more {
        edited = client.edit(verb, selection.clone()).await?;
        changed += edited.changed_count;
    }
    let out = &mut std::io::stdout().lock();
    if as_json {
        let value = json!({"changed_count": changed, "head": json::head(&edited.head)});
        return Ok(write_json(out, &value)?);
    }
    let done = match verb {
        Verb::Read => "marked as read",
        Verb::Unread => "marked as unread",
        Verb::Archive => "archived",
        Verb::Unarchive => "brought back from the archive",
        Verb::Remove => "removed",
    };
    let unread = text::unread(edited.head.unread_count);
    writeln!(out, "{changed} {done}; {unread}")?;
    Ok(())
}

async fn select(args: SelectionArgs, client: &Client) -> Result<Selection, Error> {
    if let Some(about) = args.about.about() {
        return Ok(Selection::About(about));
    }
    if !args.all && args.through.is_none() {
        return Ok(Selection::Ids(args.ids));
    }
    let (revision, epoch) = match (args.through, args.epoch) {
        (Some(revision), Some(epoch)) => (revision, epoch),
        (through, _) => {
            let page = first_page(client).await?;
            let now = page.head.unwrap_or_default().revision;
            (through.unwrap_or(now), page.epoch)
        }
    };
    Ok(Selection::Through(Through {
        revision,
        epoch,
        types: args.types,
    }))
}
