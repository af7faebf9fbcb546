//! `doorbell doctor`: what is wrong with a configuration, and with the way to it.
//!
//! It reads the settings as `serve` does, and looks at what they name: the database, NATS,
//! the keys, the clocks, the limits of the process, and, with a URL, what stands between a
//! screen and the service. Nothing is locked, and nothing is written by itself, so that it
//! can be run beside the service; but a stream that it opens by a URL is one of a person, who
//! takes what was broadcast. Each check is a small function that returns findings.

mod certificates;
mod clocks;
mod database;
mod keys;
mod limits;
mod nats;
mod stream;
mod way;

use std::{io, path::PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{command::Failure, text};
use crate::{
    clock::{Clock, SystemClock},
    config::Config,
    random::SystemRandom,
};

/// What is looked at.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// Where screens reach the service, to see whether streams pass: https://host:port
    #[arg(long, env = "DOORBELL_URL", value_name = "URL")]
    pub url: Option<String>,
    /// The token of a user for that [default: one that the secret of the settings signs]
    #[arg(
        long,
        env = "DOORBELL_TOKEN",
        value_name = "JWT",
        hide_env_values = true,
        conflicts_with = "token_file"
    )]
    pub token: Option<String>,
    /// A file with that token
    #[arg(long, env = "DOORBELL_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A file with the certificates (PEM) to trust the URL by, in place of the system's
    #[arg(long, env = "DOORBELL_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Print the findings as one JSON object
    #[arg(long)]
    pub json: bool,
    /// What the service would be told.
    #[command(flatten)]
    pub config: Config,
}

/// How it stands with what was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// Well.
    Ok,
    /// It works, and may hurt.
    Warning,
    /// It does not work.
    Fault,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }
}

/// One thing that was looked at: what it is like, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    level: Level,
    /// The part that it is about.
    about: &'static str,
    says: String,
    /// None where it is well.
    advice: Option<String>,
}

impl Finding {
    fn ok(about: &'static str, says: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            about,
            says: says.into(),
            advice: None,
        }
    }

    fn warning(about: &'static str, says: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            about,
            says: says.into(),
            advice: Some(advice.into()),
        }
    }

    fn fault(about: &'static str, says: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            level: Level::Fault,
            about,
            says: says.into(),
            advice: Some(advice.into()),
        }
    }
}

/// Looks at all there is, and prints what was found.
///
/// # Errors
///
/// [`Failure::Failed`] where there is a fault, or the output cannot be written.
pub async fn run(args: DoctorArgs) -> Result<(), Failure> {
    let mut findings = examine(&args, &SystemClock).await;
    // Stable: within a level they stay in the order of the parts.
    findings.sort_by_key(|finding| finding.level);
    let out = &mut io::stdout().lock();
    let written = if args.json {
        super::write_json(out, &as_json(&findings))
    } else {
        write_text(out, &findings)
    };
    written.map_err(super::Error::from)?;
    match count(&findings, Level::Fault) {
        0 => Ok(()),
        faults => Err(Failure::Failed(counted(faults, "fault"))),
    }
}

async fn examine(args: &DoctorArgs, clock: &dyn Clock) -> Vec<Finding> {
    let config = &args.config;
    let (database, nats, keys, way) = tokio::join!(
        database::examine(config, clock),
        nats::examine(config, &SystemRandom),
        keys::examine(&config.auth, clock),
        way::examine(args, clock),
    );
    let parts = [
        settings(config),
        database,
        nats,
        keys,
        certificates::examine(&config.server, clock),
        limits::examine(config),
        way,
    ];
    parts.into_iter().flatten().collect()
}

/// What parses but cannot work.
fn settings(config: &Config) -> Vec<Finding> {
    const ABOUT: &str = "settings";
    vec![match config.check() {
        Ok(()) => Finding::ok(ABOUT, "`doorbell serve` would take them"),
        Err(error) => Finding::fault(
            ABOUT,
            error.to_string(),
            "`doorbell serve` refuses to start: change the setting",
        ),
    }]
}

fn count(findings: &[Finding], level: Level) -> usize {
    findings
        .iter()
        .filter(|finding| finding.level == level)
        .count()
}

fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn as_json(findings: &[Finding]) -> Value {
    let each = findings.iter().map(|finding| {
        json!({
            "level": finding.level.name(),
            "about": finding.about,
            "says": finding.says,
            "advice": finding.advice,
        })
    });
    json!({
        "faults": count(findings, Level::Fault),
        "warnings": count(findings, Level::Warning),
        "findings": each.collect::<Vec<_>>(),
    })
}

/// Groups by level; what to do stands below what it is about. What comes from elsewhere
/// is made harmless.
fn write_text(out: &mut impl io::Write, findings: &[Finding]) -> io::Result<()> {
    let mut last = None;
    for finding in findings {
        if last.replace(finding.level) != Some(finding.level) {
            writeln!(out, "{}", finding.level.name())?;
        }
        writeln!(
            out,
            "  {:<12}  {}",
            finding.about,
            text::line(&finding.says)
        )?;
        if let Some(advice) = &finding.advice {
            writeln!(out, "  {:<12}  -> {}", "", text::line(advice))?;
        }
    }
    let faults = counted(count(findings, Level::Fault), "fault");
    let warnings = counted(count(findings, Level::Warning), "warning");
    writeln!(out, "{faults}, {warnings}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    /// A clock that stands still, at so many seconds.
    pub(super) struct At(pub(super) i64);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            Timestamp::from_seconds(self.0)
        }
    }

    #[test]
    fn findings_are_grouped_and_what_to_do_stands_below() {
        let findings = [
            Finding::ok("database", "is there"),
            Finding::ok("keys", "are there"),
            Finding::warning("limits", "are low", "raise them"),
            Finding::fault("nats", "is away\u{1b}[2J", "start it"),
        ];
        let mut out = Vec::new();
        write_text(&mut out, &findings).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "ok\n  database      is there\n  keys          are there\n\
             warning\n  limits        are low\n                -> raise them\n\
             fault\n  nats          is away\u{fffd}[2J\n                -> start it\n\
             1 fault, 1 warning\n"
        );
        let value = as_json(&findings);
        assert_eq!(
            (value["faults"].clone(), value["warnings"].clone()),
            (1.into(), 1.into())
        );
        assert_eq!(value["findings"][3]["level"], "fault");
        assert_eq!(value["findings"][0]["advice"], Value::Null);
    }
}
