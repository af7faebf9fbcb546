//! The commands, and how flags and variables become one of them.
//!
//! Flags go before `DOORBELL_…` variables, and those before defaults; an empty
//! variable is none. What is refused is refused in one line that names it, a
//! variable that no command knows included: a setting with a typing error in
//! its name must not silently be its default.

use std::ffi::{OsStr, OsString};

use clap::{
    Arg, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{healthcheck::HealthcheckArgs, token::TokenArgs};
use crate::config::{self, Config, LogSettings, StoreSettings};

/// In-app notifications over gRPC and gRPC-web: durable, ordered, resumable.
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
    /// Makes a token for given claims
    Token(TokenArgs),
    /// Sends a notification
    Send(super::send::SendArgs),
    /// Shows an inbox live, and comes back after a cut
    Watch(super::watch::WatchArgs),
    /// Prints the unread count of an inbox
    Unread(super::inbox::UnreadArgs),
    /// Lists an inbox, newest first
    Recent(super::inbox::RecentArgs),
    /// Marks notifications as read
    Read(super::inbox::MarkReadArgs),
    /// Asks a running service for its health: exit code 0 when it serves
    Healthcheck(HealthcheckArgs),
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
}

impl Failure {
    /// The exit code: 2 for what was refused, 1 for what went wrong.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 2,
            Self::Failed(_) => 1,
        }
    }
}

impl From<super::Error> for Failure {
    fn from(error: super::Error) -> Self {
        match error.exit_code() {
            2 => Self::Refused(error.to_string()),
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
    let command = Arguments::command();
    let reading = unset_empty(command.clone(), &|name| std::env::var_os(name));
    let read = reading
        .try_get_matches_from(words)
        .and_then(|matches| Arguments::from_arg_matches(&matches));
    match read {
        Ok(arguments) => {
            refuse_unknown(&known_variables(&command), variables)?;
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

/// The variables of all commands: what one knows is no error for another.
fn known_variables(command: &clap::Command) -> Vec<String> {
    let names = arguments(command).into_iter().filter_map(Arg::get_env);
    let mut known: Vec<_> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    known.sort_unstable();
    known.dedup();
    known
}

const PREFIX: &str = "DOORBELL_";

fn refuse_unknown(
    known: &[String],
    variables: impl IntoIterator<Item = OsString>,
) -> Result<(), Failure> {
    let names: Vec<_> = variables
        .into_iter()
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.starts_with(PREFIX))
        .collect();
    // The Services of the namespace that are named `doorbell` or `doorbell-…`.
    let services: Vec<_> = names
        .iter()
        .filter_map(|name| name.strip_suffix("_SERVICE_HOST"))
        .chain(["DOORBELL"])
        .collect();
    let is_link = |name: &str| {
        services
            .iter()
            .any(|service| is_service_link(name, service))
    };
    let mut unknown: Vec<_> = names
        .iter()
        .filter(|name| !known.contains(name) && !is_link(name))
        .collect();
    unknown.sort_unstable();
    let Some(name) = unknown.first() else {
        return Ok(());
    };
    // A guess must have most of the name right.
    let most = ((name.len() - PREFIX.len()) / 3).min(3);
    let nearest = known.iter().min_by_key(|known| distance(known, name));
    let advice = match nearest.filter(|nearest| distance(nearest, name) <= most) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => "unset it, or see `doorbell serve --help` for those there are".to_owned(),
    };
    Err(Failure::Refused(format!(
        "there is no setting {name}: {advice}"
    )))
}

/// Whether Kubernetes sets this variable for a Service, which it writes like this:
/// then it is in the environment of every pod of the namespace, ours too.
fn is_service_link(name: &str, service: &str) -> bool {
    let is_port = |rest: &str| {
        let mut parts = rest.split('_');
        let is_number = parts.next().is_some_and(|port| port.parse::<u16>().is_ok());
        is_number
            && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
            && matches!(parts.next(), None | Some("PROTO" | "PORT" | "ADDR"))
            && parts.next().is_none()
    };
    let Some(rest) = name.strip_prefix(service) else {
        return false;
    };
    matches!(rest, "_SERVICE_HOST" | "_SERVICE_PORT" | "_PORT")
        || rest
            .strip_prefix("_SERVICE_PORT_")
            .is_some_and(|port| !port.is_empty())
        || rest.strip_prefix("_PORT_").is_some_and(is_port)
}

/// How many letters must be put in, left out or replaced (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
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
mod tests {
    use rstest::rstest;

    use super::*;

    fn parse_line(line: &str, variables: &[&str]) -> Result<Parsed, Failure> {
        parse(
            line.split_whitespace().map(OsString::from),
            variables.iter().map(OsString::from),
        )
    }

    fn refusal(line: &str) -> String {
        let failure = parse_line(line, &[]).err().unwrap();
        assert_eq!(failure.exit_code(), 2);
        let text = failure.to_string();
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    }

    fn config(line: &str) -> Box<Config> {
        if let Parsed::Run(command) = parse_line(line, &[]).unwrap()
            && let Command::Serve(config) | Command::Dev(config) = *command
        {
            return config;
        }
        panic!("{line} is another command")
    }

    #[test]
    fn the_command_tree_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_setting_is_a_flag_and_the_variable_of_that_name() {
        let command = Arguments::command();
        for arg in arguments(&command) {
            if let Some(name) = arg.get_env() {
                let flag = arg.get_long().unwrap();
                assert_eq!(name.to_string_lossy(), config::variable(flag));
                let name = name.to_str().unwrap();
                assert!(!is_service_link(name, "DOORBELL"), "{name}");
                assert!(arg.get_help().is_some(), "{flag} has no help");
            }
        }
        for name in ["dev", "serve", "migrate"] {
            for arg in command.find_subcommand(name).unwrap().get_arguments() {
                let id = arg.get_id();
                // What is done once is no setting.
                let is_setting = arg.get_env().is_some() || id == "new_epoch";
                assert!(is_setting, "{id} of {name} has no variable");
            }
        }
    }

    #[test]
    fn settings_are_read() {
        let config = config(
            "doorbell serve --write-batch 7 --heartbeat-interval 5s --reflection \
             --cors-origins https://a.example,https://b.example \
             --metrics-listen 127.0.0.1:9100 --log-format json",
        );
        assert_eq!(config.writer.write_batch, 7);
        assert_eq!(
            *config.feed.heartbeat_interval,
            std::time::Duration::from_secs(5)
        );
        assert!(config.http.reflection);
        assert_eq!(config.http.cors_origins.len(), 2);
        assert!(config.http.metrics_listen.is_some());
        assert_eq!(config.log.log_format, config::LogFormat::Json);
    }

    #[rstest]
    #[case("doorbell serve", false)]
    #[case("doorbell serve --reflection", true)]
    #[case("doorbell serve --reflection=true", true)]
    #[case("doorbell serve --reflection=1", true)]
    #[case("doorbell serve --reflection=false", false)]
    fn a_flag_of_yes_and_no_is_read(#[case] line: &str, #[case] expected: bool) {
        assert_eq!(config(line).http.reflection, expected);
    }

    #[rstest]
    #[case(
        "doorbell serve --heartbeat-intervall 5s",
        "unexpected argument '--heartbeat-intervall' found; \
         tip: a similar argument exists: '--heartbeat-interval'"
    )]
    #[case(
        "doorbell serve --write-batch many",
        "invalid value 'many' for --write-batch (DOORBELL_WRITE_BATCH): \
         invalid digit found in string"
    )]
    #[case(
        "doorbell serve --write-batch 0",
        "--write-batch (DOORBELL_WRITE_BATCH) must be from 1 to 10000, is 0"
    )]
    #[case(
        "doorbell serve --log-format pretty",
        "invalid value 'pretty' for --log-format (DOORBELL_LOG_FORMAT); \
         [possible values: auto, human, json]"
    )]
    #[case(
        "doorbell serve --cors-origins https://a.example/",
        "invalid value 'https://a.example/' for --cors-origins (DOORBELL_CORS_ORIGINS): \
         an origin ends after its host and port: no path, no `/` at the end"
    )]
    #[case(
        "doorbell sevre",
        "unrecognized subcommand 'sevre'; tip: a similar subcommand exists: 'serve'"
    )]
    #[case(
        "doorbell token --organization acme --user ann --lifetime 0s",
        "invalid value '0s' for '--lifetime <DURATION>': must be from 1s to ten years"
    )]
    #[case(
        "doorbell token",
        "the following required arguments were not provided: \
         --organization <ORGANIZATION>; --user <USER>"
    )]
    fn a_refusal_is_one_line(#[case] line: &str, #[case] expected: &str) {
        assert_eq!(refusal(line), expected);
    }

    #[test]
    fn without_a_command_it_names_those_there_are() {
        let text = refusal("doorbell");
        assert!(text.starts_with("say what to do: dev, serve, "), "{text}");
        assert!(text.ends_with("; `doorbell --help` tells more"), "{text}");
    }

    #[rstest]
    #[case("doorbell --help")]
    #[case("doorbell serve --help")]
    #[case("doorbell --version")]
    fn help_is_no_refusal(#[case] line: &str) {
        assert!(matches!(
            parse_line(line, &["DOORBELL_UNKNOWN"]),
            Ok(Parsed::Show(_))
        ));
    }

    #[test]
    fn an_unknown_variable_is_refused_and_a_typing_error_is_guessed() {
        let refusal = |name| {
            let failure = parse_line("doorbell serve", &["PATH", name]).err().unwrap();
            assert_eq!(failure.exit_code(), 2);
            failure.to_string()
        };
        assert_eq!(
            refusal("DOORBELL_HEARTBEAT_INTERVALL"),
            "there is no setting DOORBELL_HEARTBEAT_INTERVALL: \
             did you mean DOORBELL_HEARTBEAT_INTERVAL?"
        );
        assert!(refusal("DOORBELL_X").ends_with("for those there are"));
        assert!(refusal("DOORBELL_").ends_with("for those there are"));
        assert_eq!(
            refusal("DOORBELL_COFFEE_STRENGTH"),
            "there is no setting DOORBELL_COFFEE_STRENGTH: \
             unset it, or see `doorbell serve --help` for those there are"
        );
    }

    #[test]
    fn known_variables_of_any_command_and_those_of_others_are_accepted() {
        let names = ["DOORBELL_DATA_DIR", "DOORBELL_URL", "DOORBELLS", "HOME"];
        assert!(parse_line("doorbell serve", &names).is_ok());
    }

    #[rstest]
    #[case("DOORBELL_SERVICE_HOST", true)]
    #[case("DOORBELL_SERVICE_PORT", true)]
    #[case("DOORBELL_SERVICE_PORT_GRPC", true)]
    #[case("DOORBELL_PORT", true)]
    #[case("DOORBELL_PORT_50051_TCP", true)]
    #[case("DOORBELL_PORT_50051_TCP_PROTO", true)]
    #[case("DOORBELL_PORT_50051_TCP_PORT", true)]
    #[case("DOORBELL_PORT_50051_UDP_ADDR", true)]
    #[case("DOORBELL_PORT_GRPC", false)]
    #[case("DOORBELL_PORT_50051", false)]
    #[case("DOORBELL_PORT_50051_TCP_OTHER", false)]
    #[case("DOORBELL_PORT_50051_TCP_PORT_X", false)]
    #[case("DOORBELL_PORT_99999_TCP", false)]
    #[case("DOORBELL_SERVICE_PORT_", false)]
    #[case("DOORBELL_SERVICE_NAME", false)]
    fn the_service_links_of_kubernetes_are_not_ours(#[case] name: &str, #[case] link: bool) {
        assert_eq!(is_service_link(name, "DOORBELL"), link);
        assert_eq!(parse_line("doorbell serve", &[name]).is_ok(), link);
    }

    #[test]
    fn those_of_a_service_beside_it_are_not_ours_either() {
        let links = [
            "DOORBELL_NATS_SERVICE_HOST",
            "DOORBELL_NATS_SERVICE_PORT_CLIENT",
            "DOORBELL_NATS_PORT",
            "DOORBELL_NATS_PORT_4222_TCP_ADDR",
        ];
        assert!(parse_line("doorbell serve", &links).is_ok());
        // Without such a Service it is a typing error.
        assert!(parse_line("doorbell serve", &links[1..]).is_err());
        let other = ["DOORBELL_NATS_SERVICE_HOST", "DOORBELL_NATS_PORTS"];
        assert!(parse_line("doorbell serve", &other).is_err());
    }

    #[test]
    fn an_empty_variable_is_none() {
        let command = unset_empty(Arguments::command(), &|name| match name.to_str() {
            Some("DOORBELL_WRITE_BATCH") => Some(OsString::new()),
            Some("DOORBELL_WRITE_QUEUE") => Some("9".into()),
            _ => None,
        });
        let serve = command.find_subcommand("serve").unwrap();
        let has_variable = |id: &str| {
            let mut args = serve.get_arguments();
            args.find(|arg| arg.get_id() == id)
                .unwrap()
                .get_env()
                .is_some()
        };
        assert!(!has_variable("write_batch"));
        assert!(has_variable("write_queue"));
        assert!(has_variable("replay_limit"));
    }

    #[test]
    fn a_secret_is_not_repeated() {
        let command = clap::Command::new("doorbell").arg(
            Arg::new("pin")
                .long("pin")
                .env("DOORBELL_PIN")
                .hide_env_values(true)
                .value_parser(clap::value_parser!(u16)),
        );
        let words = ["doorbell", "--pin", "hunter2"];
        let error = command.clone().try_get_matches_from(words).unwrap_err();
        assert_eq!(
            explain(&error, &command),
            "the value of --pin (DOORBELL_PIN) is refused"
        );
    }

    #[test]
    fn distances_count_letters() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn a_failure_is_one_line_with_its_code() {
        let failure = Failure::Failed("the store\n  broke\n\n".to_owned());
        assert_eq!(failure.to_string(), "the store; broke");
        assert_eq!(failure.exit_code(), 1);
    }
}
