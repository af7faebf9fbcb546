//! The command line: what each command takes and does.
//!
//! [`command`] parses it. Those commands that talk to a running service have their
//! arguments and what they do in a file each, all that select notifications in
//! [`selection`]; what comes from notifications is made harmless before a terminal sees
//! it.

pub mod broadcast;
pub mod command;
pub mod content;
pub mod dev;
pub mod doctor;
pub mod erase;
pub mod follow_ups;
pub mod healthcheck;
pub mod inbox;
pub mod preferences;
pub mod retract;
pub mod selection;
pub mod send;
pub mod send_to_many;
pub mod sends;
pub mod serve;
pub mod shell;
pub mod text;
pub mod timeline;
pub mod token;
pub mod topic;
pub mod update;
pub mod watch;

use std::{io, path::PathBuf, time::Duration};

use clap::Args;
use serde_json::Value;

use crate::client::{self, Client, Options, TokenSource};

/// How long a call that fails is tried again, where no flag says so.
const PATIENCE: Duration = Duration::from_secs(30);

/// How to reach the service, and as whom.
#[derive(Args, Clone)]
pub struct ConnectionArgs {
    /// Where the service is: http://host:port or https://host:port
    #[arg(
        long,
        env = "DOORBELL_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:50051"
    )]
    pub url: String,
    /// The token to show (a command line can be read by others on the machine: prefer a file)
    #[arg(
        long,
        env = "DOORBELL_TOKEN",
        value_name = "JWT",
        hide_env_values = true,
        conflicts_with = "token_file"
    )]
    pub token: Option<String>,
    /// A file with the token; read again when the token expires
    #[arg(long, env = "DOORBELL_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A file with the certificates (PEM) to trust in place of the system's
    #[arg(long, env = "DOORBELL_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

impl ConnectionArgs {
    /// A client as these arguments say.
    pub fn client(&self) -> Result<Client, Error> {
        let tokens = match (&self.token, &self.token_file) {
            (Some(token), _) => TokenSource::fixed(token),
            (None, Some(file)) => {
                // A watch would wait for a file that is not there; a person
                // would rather know.
                std::fs::metadata(file)
                    .map_err(|error| usage("--token-file", &file.display(), &error))?;
                TokenSource::file(file.clone())
            }
            (None, None) => {
                return Err(Error::Usage(
                    "no token: give --token-file, --token or DOORBELL_TOKEN".into(),
                ));
            }
        };
        let ca_pem = match &self.ca_file {
            Some(file) => Some(
                std::fs::read(file).map_err(|error| usage("--ca-file", &file.display(), &error))?,
            ),
            None => None,
        };
        let options = Options {
            ca_pem,
            ..Options::default()
        };
        Ok(Client::new(&self.url, tokens, options)?)
    }
}

/// Whose sends it is about.
#[derive(Args, Clone, Debug)]
pub struct ScopeArgs {
    /// The tenant; or --all-organizations
    #[arg(long, value_name = "ID", required_unless_present = "all_organizations")]
    pub organization: Option<String>,
    /// Everybody of all tenants: for a token whose organization is *
    #[arg(long, conflicts_with = "organization")]
    pub all_organizations: bool,
}

impl ScopeArgs {
    /// The tenant as a request names it: none where all are meant.
    fn organization_id(&self) -> String {
        self.organization.clone().unwrap_or_default()
    }
}

/// Whose inbox it is about.
#[derive(Args, Clone, Debug)]
pub struct RecipientArgs {
    /// The tenant
    #[arg(long, value_name = "ID")]
    pub organization: String,
    /// The person
    #[arg(long, value_name = "ID")]
    pub user: String,
}

/// Which notification it is about.
#[derive(Args, Clone, Debug)]
pub struct NamedArgs {
    /// The notification; or --idempotency-key
    #[arg(
        value_name = "ID",
        required_unless_present = "idempotency_key",
        conflicts_with = "idempotency_key"
    )]
    pub id: Option<String>,
    /// The key that it was sent with; or its id
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

fn usage(flag: &str, value: &dyn std::fmt::Display, error: &dyn std::fmt::Display) -> Error {
    Error::Usage(format!("{flag} {value}: {error}"))
}

/// Why a command failed: one clear line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was called wrongly.
    #[error("{0}")]
    Usage(String),
    /// The service, or the way to it.
    #[error("{}", text::line(&.0.to_string()))]
    Client(#[from] client::Error),
    /// It was done in part.
    #[error("{0}")]
    Incomplete(String),
    /// The output could not be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Error {
    /// 2 where the command was called wrongly, 1 where it failed.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Client(client::Error::Options(_)) => 2,
            Self::Client(_) | Self::Incomplete(_) | Self::Output(_) => 1,
        }
    }
}

/// Writes one JSON object as a line, at once.
fn write_json(out: &mut impl io::Write, value: &Value) -> io::Result<()> {
    writeln!(out, "{}", text::json(value))?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        connection: ConnectionArgs,
    }

    fn client(args: &[&str]) -> Result<Client, Error> {
        let args = ["doorbell"].iter().chain(args);
        let command =
            Command::try_parse_from(args).map_err(|error| Error::Usage(error.to_string()))?;
        command.connection.client()
    }

    #[test]
    fn a_wrong_connection_is_one_clear_line_and_a_usage_error() {
        let token = ["--token", "secret"];
        for (args, problem) in [
            (
                vec!["--token-file", "/nowhere/token"],
                "--token-file /nowhere/token",
            ),
            (
                vec!["--token", "secret", "--token-file", "x"],
                "cannot be used with",
            ),
            (
                [&token[..], &["--ca-file", "/nowhere/ca"]].concat(),
                "--ca-file /nowhere/ca",
            ),
            ([&token[..], &["--url", "localhost"]].concat(), "http://"),
        ] {
            let error = client(&args).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
            assert!(error.to_string().contains(problem), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert!(client(&token).is_ok());
    }
}
