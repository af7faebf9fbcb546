//! `doorbell preferences` and `doorbell type-defaults`: which types of notifications are
//! wanted.

use std::io::{self, Write};

use clap::Args;
use serde_json::json;

use super::{ConnectionArgs, Error, PATIENCE, text, write_json};
use crate::client::{
    Choice, GetPreferencesRequest, GetTypeDefaultsRequest, Preference, TypeDefault,
    UpdatePreferencesRequest, UpdateTypeDefaultsRequest,
};

/// What the caller wants.
#[derive(Args, Clone)]
pub struct PreferencesArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// A type to have
    #[arg(long, value_name = "TYPE")]
    pub on: Vec<String>,
    /// A type not to have
    #[arg(long, value_name = "TYPE")]
    pub off: Vec<String>,
    /// A type of which what the organization says is to hold
    #[arg(long, value_name = "TYPE")]
    pub default: Vec<String>,
    /// Print each as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What an organization says.
#[derive(Args, Clone)]
pub struct TypeDefaultsArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// The tenant
    #[arg(long, value_name = "ID")]
    pub organization: String,
    /// A type that everybody has who did not turn it off
    #[arg(long, value_name = "TYPE")]
    pub on: Vec<String>,
    /// A type that only those have who turned it on
    #[arg(long, value_name = "TYPE")]
    pub off: Vec<String>,
    /// A type that everybody has
    #[arg(long, value_name = "TYPE")]
    pub required: Vec<String>,
    /// A type of which nothing is to be said any more
    #[arg(long, value_name = "TYPE")]
    pub forget: Vec<String>,
    /// Print each as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Notes what is said, and prints what holds.
pub async fn run(args: PreferencesArgs) -> Result<(), Error> {
    let client = args.connection.client()?;
    let choices = |types: &[String], on: Option<bool>| {
        let choice = |kind: &String| Choice {
            r#type: kind.clone(),
            on,
        };
        types.iter().map(choice).collect::<Vec<_>>()
    };
    let choices = [
        choices(&args.on, Some(true)),
        choices(&args.off, Some(false)),
        choices(&args.default, None),
    ];
    let choices = choices.concat();
    let preferences = if choices.is_empty() {
        let answer = client.get_preferences(GetPreferencesRequest {}).await?;
        answer.preferences
    } else {
        let request = UpdatePreferencesRequest { choices };
        let call = async || client.update_preferences(request.clone()).await;
        client.patiently(PATIENCE, call).await?.preferences
    };
    let out = &mut io::stdout().lock();
    for preference in &preferences {
        print(out, preference, args.json)?;
    }
    Ok(())
}

fn print(out: &mut impl Write, of: &Preference, as_json: bool) -> Result<(), Error> {
    let Preference {
        r#type: kind,
        on,
        required,
        chosen,
    } = of;
    if as_json {
        let value = json!({"type": kind, "on": on, "required": required, "chosen": chosen});
        return Ok(write_json(out, &value)?);
    }
    let why = match (required, chosen) {
        (true, _) => "required",
        (false, true) => "chosen",
        (false, false) => "by default",
    };
    let on = if *on { "on" } else { "off" };
    writeln!(out, "{on:3}  {}  ({why})", text::line(kind))?;
    Ok(())
}

/// Notes what the organization says, and prints what it said then.
pub async fn defaults(args: TypeDefaultsArgs) -> Result<(), Error> {
    let client = args.connection.client()?;
    let defaults = |types: &[String], on, required| {
        let default = |kind: &String| TypeDefault {
            r#type: kind.clone(),
            on,
            required,
        };
        types.iter().map(default).collect::<Vec<_>>()
    };
    let defaults = [
        defaults(&args.on, true, false),
        defaults(&args.off, false, false),
        defaults(&args.required, true, true),
    ];
    let defaults = defaults.concat();
    let defaults = if defaults.is_empty() && args.forget.is_empty() {
        let request = GetTypeDefaultsRequest {
            organization_id: args.organization,
        };
        client.get_type_defaults(request).await?.defaults
    } else {
        let request = UpdateTypeDefaultsRequest {
            organization_id: args.organization,
            defaults,
            removed_types: args.forget,
        };
        let call = async || client.update_type_defaults(request.clone()).await;
        client.patiently(PATIENCE, call).await?.defaults
    };
    let out = &mut io::stdout().lock();
    for default in &defaults {
        print_default(out, default, args.json)?;
    }
    Ok(())
}

fn print_default(out: &mut impl Write, of: &TypeDefault, as_json: bool) -> Result<(), Error> {
    let TypeDefault {
        r#type: kind,
        on,
        required,
    } = of;
    if as_json {
        let value = json!({"type": kind, "on": on, "required": required});
        return Ok(write_json(out, &value)?);
    }
    let what = match (on, required) {
        (_, true) => "required",
        (true, false) => "on",
        (false, false) => "off",
    };
    writeln!(out, "{what:8}  {}", text::line(kind))?;
    Ok(())
}
