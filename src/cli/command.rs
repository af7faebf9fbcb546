//! The commands, and how flags and variables become one of them.
//!
//! Flags go before `DOORBELL_…` variables, and those before defaults; an empty
//! variable is none. What is refused is refused in one line that names it, a
//! variable that no command knows included: a setting with a typing error in
//! its name must not silently be its default.

use std::{
    ffi::{OsStr, OsString},
    io,
};

use clap::{
    Arg, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{
    broadcast::BroadcastArgs,
    doctor::DoctorArgs,
    erase::EraseArgs,
    follow_ups::FollowUpsArgs,
    healthcheck::HealthcheckArgs,
    inbox::{CountArgs, MarkSeenArgs, RecentArgs},
    preferences::{PreferencesArgs, TypeDefaultsArgs},
    retract::RetractArgs,
    selection::SelectionArgs,
    send::{ScheduleArgs, SendArgs},
    sends::{CancelArgs, SendsArgs},
    shell::{CompletionsArgs, ManArgs},
    timeline::TimelineArgs,
    token::TokenArgs,
    topic::TopicArgs,
    update::UpdateArgs,
    watch::WatchArgs,
};
use crate::config::{self, Config, LogSettings, StoreSettings};

/// In-app notifications over gRPC, gRPC-web and Connect: durable, ordered, resumable.
#[derive(Parser)]
#[command(name = "doorbell", version, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// A working service for this machine, with tokens and lines to paste
    Dev(Box<Config>),
    /// The service, as it is run in production
    Serve(Box<Config>),
    /// Brings the database's schema up to date, and ends
    Migrate(MigrateArgs),
    /// Says what is wrong with the settings of `serve`, and with the way to the service
    Doctor(Box<DoctorArgs>),
    /// Makes a token for given claims
    Token(TokenArgs),
    /// Sends a notification
    Send(SendArgs),
    /// Sends a notification later
    Schedule(ScheduleArgs),
    /// Says something to everybody
    Broadcast(BroadcastArgs),
    /// Lists broadcasts and sends for later and to topics, or shows how far one is
    Sends(SendsArgs),
    /// Stops a broadcast, or a send for later or to a topic
    Cancel(CancelArgs),
    /// Lists the notifications that nobody looked at in time
    FollowUps(FollowUpsArgs),
    /// Says who is a member of which topic
    Topic(TopicArgs),
    /// Corrects a notification
    Update(UpdateArgs),
    /// Takes notifications back
    Retract(RetractArgs),
    /// Shows an inbox live, and comes back after a cut
    Watch(WatchArgs),
    /// Prints the unread count of an inbox
    Count(CountArgs),
    /// Lists an inbox, newest first
    Recent(RecentArgs),
    /// Marks notifications as read
    Read(SelectionArgs),
    /// Marks notifications as unread again
    Unread(SelectionArgs),
    /// Puts notifications away into the archive
    Archive(SelectionArgs),
    /// Brings notifications back from the archive
    Unarchive(SelectionArgs),
    /// Removes notifications for good
    Remove(SelectionArgs),
    /// Says that the caller has looked: at all there is, or up to a sequence
    Seen(MarkSeenArgs),
    /// Says which types of notifications the caller wants, and lists them
    Preferences(PreferencesArgs),
    /// Says which types people have who said nothing of them, and lists them
    TypeDefaults(TypeDefaultsArgs),
    /// Says what became of a notification; for operators
    Timeline(TimelineArgs),
    /// Deletes an inbox, or all of a tenant's, for good; for operators
    Erase(EraseArgs),
    /// Asks a running service for its health: exit code 0 when it serves
    Healthcheck(HealthcheckArgs),
    /// Prints the completions of a shell
    #[command(hide = true)]
    Completions(CompletionsArgs),
    /// Writes the man pages
    #[command(hide = true)]
    Man(ManArgs),
}

/// What `migrate` takes.
#[derive(Args, Clone, Debug)]
pub struct MigrateArgs {
    /// Make all clients load anew: for a database that was restored, or failed over to a replica
    /// that lagged
    #[arg(long)]
    pub new_epoch: bool,
    /// Where the data is.
    #[command(flatten)]
    pub store: StoreSettings,
    /// What is logged.
    #[command(flatten)]
    pub log: LogSettings,
}

/// Why a command ended without success, in one line.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It was not begun: what it was told cannot be.
    #[error("{}", one_line(.0))]
    Refused(String),
    /// It went wrong.
    #[error("{}", one_line(.0))]
    Failed(String),
    /// Who reads the output left first, as `head` does: no error.
    #[error("nobody reads the output")]
    Unread,
}

impl Failure {
    /// The exit code: 2 for what was refused, 1 for what went wrong, 0 for what nobody reads.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 2,
            Self::Failed(_) => 1,
            Self::Unread => 0,
        }
    }
}

impl From<super::Error> for Failure {
    fn from(error: super::Error) -> Self {
        match (&error, error.exit_code()) {
            (super::Error::Output(error), _) if error.kind() == io::ErrorKind::BrokenPipe => {
                Self::Unread
            }
            (_, 2) => Self::Refused(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        Self::Refused(error.to_string())
    }
}

/// What the command line asks for.
pub enum Parsed {
    /// A command.
    Run(Box<Command>),
    /// A help text or the version, to be printed.
    Show(clap::Error),
}

/// All commands, whose settings may come from variables too.
pub fn commands() -> clap::Command {
    config::settable(Arguments::command())
}

/// Reads the command line: its words, the program's name first, and the names
/// of the variables there are. (The values of those that are known come from
/// the process itself.)
///
/// # Errors
///
/// [`Failure::Refused`], always.
pub fn parse(
    words: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = OsString>,
) -> Result<Parsed, Failure> {
    let command = commands();
    let reading = unset_empty(command.clone(), &|name| std::env::var_os(name));
    let read = reading
        .try_get_matches_from(words)
        .and_then(|matches| Ok((Arguments::from_arg_matches(&matches)?, matches)));
    match read {
        Ok((arguments, matches)) => {
            refuse_blank_ends(&command, &matches)?;
            refuse_unknown(&command, variables)?;
            check(&arguments.command)?;
            Ok(Parsed::Run(Box::new(arguments.command)))
        }
        Err(error) if !error.use_stderr() => Ok(Parsed::Show(error)),
        Err(error) => Err(Failure::Refused(explain(&error, &command))),
    }
}

fn check(command: &Command) -> Result<(), config::Error> {
    match command {
        Command::Dev(config) | Command::Serve(config) => config.check(),
        _ => Ok(()),
    }
}

/// Refuses a setting with something at its ends that eyes do not see: a blank, the
/// line end of `echo`, a byte order mark. Whoever set it may mean it or not, and the
/// other side (who signs tokens, say) may count it or not.
fn refuse_blank_ends(
    command: &clap::Command,
    matches: &clap::ArgMatches,
) -> Result<(), config::Error> {
    let Some((name, matches)) = matches.subcommand() else {
        return Ok(());
    };
    let Some(command) = command.find_subcommand(name) else {
        return Ok(());
    };
    refuse_blank_ends(command, matches)?;
    let args = command.get_arguments();
    // What is a list trims its own members.
    for arg in args.filter(|arg| arg.get_env().is_some() && arg.get_value_delimiter().is_none()) {
        let mut values = matches.get_raw(arg.get_id().as_str()).into_iter().flatten();
        if values.any(|value| config::has_blank_ends(&value.to_string_lossy())) {
            return Err(config::Error::new(
                arg.get_long().unwrap_or_default(),
                config::BLANK_ENDS,
            ));
        }
    }
    Ok(())
}

/// Takes the variable from each argument whose variable is empty.
fn unset_empty(
    command: clap::Command,
    value: &dyn Fn(&OsStr) -> Option<OsString>,
) -> clap::Command {
    let is_empty = |arg: &Arg| {
        arg.get_env()
            .and_then(value)
            .is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|arg| match is_empty(&arg) {
            true => arg.env(None::<&str>),
            false => arg,
        })
        .mut_subcommands(|command| unset_empty(command, value))
}

/// Every argument of every command.
fn arguments(command: &clap::Command) -> Vec<&Arg> {
    let own = command.get_arguments();
    own.chain(command.get_subcommands().flat_map(arguments))
        .collect()
}

const PREFIX: &str = "DOORBELL_";

fn refuse_unknown(
    command: &clap::Command,
    variables: impl IntoIterator<Item = OsString>,
) -> Result<(), Failure> {
    let known: Vec<_> = arguments(command)
        .into_iter()
        .filter_map(Arg::get_env)
        .collect();
    let unknown = variables.into_iter().filter(|name| {
        let text = name.to_string_lossy();
        text.starts_with(PREFIX) && !known.contains(&name.as_os_str()) && !is_service_link(&text)
    });
    let Some(name) = unknown.min() else {
        return Ok(());
    };
    let name = name.to_string_lossy();
    let advice = match nearest(command, &name) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => "unset it, or see `doorbell serve --help` for those there are".to_owned(),
    };
    Err(Failure::Refused(format!(
        "there is no setting {name}: {advice}"
    )))
}

/// Whether Kubernetes may have set this variable: it sets some for each Service, in
/// every pod of the namespace, and ours may be named `doorbell` or `doorbell-…`.
/// No setting has such a name.
fn is_service_link(name: &str) -> bool {
    let is_number = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.split("_PORT_").skip(1).any(is_number)
}

/// The variable whose flag clap would guess for that of an unknown one.
fn nearest(command: &clap::Command, name: &str) -> Option<String> {
    let flag = name.strip_prefix(PREFIX)?.to_lowercase().replace('_', "-");
    let words = [
        "doorbell".to_owned(),
        "serve".to_owned(),
        format!("--{flag}"),
    ];
    let error = command.clone().try_get_matches_from(words).err()?;
    match error.get(ContextKind::SuggestedArg)? {
        ContextValue::String(nearest) => Some(config::variable(nearest.trim_start_matches("--"))),
        _ => None,
    }
}

/// Clap's error in one line. Where it is about a value, the line names the
/// variable too, since that is where the value may come from.
fn explain(error: &clap::Error, command: &clap::Command) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let commands = command.get_subcommands().map(clap::Command::get_name);
        let commands = commands.collect::<Vec<_>>().join(", ");
        return format!("say what to do: {commands}; `doorbell --help` tells more");
    }
    let text = error.render().to_string();
    let about = text.lines().map(str::trim).take_while(|line| {
        !line.starts_with("Usage:") && !line.starts_with("For more information")
    });
    let about = about.filter(|line| !line.is_empty());
    let about = about.map(|line| line.strip_prefix("error: ").unwrap_or(line));
    let about = about.collect::<Vec<_>>().join("; ").replace(":; ", ": ");
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else {
        return about;
    };
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let flag = shown.trim_start_matches("--");
    let flag = &flag[..flag.find(|c| !is_in_name(c)).unwrap_or(flag.len())];
    let setting = arguments(command)
        .into_iter()
        .find(|arg| arg.get_long() == Some(flag) && arg.get_env().is_some());
    let Some(arg) = setting else {
        return about;
    };
    let named = format!("--{flag} ({})", config::variable(flag));
    if arg.is_hide_env_values_set() {
        return format!("the value of {named} is refused");
    }
    about.replace(&format!("'{shown}'"), &named)
}

fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
