//! Logs: lines for eyes on a terminal, one JSON object a line otherwise.
//!
//! Logs go to standard error; standard output belongs to what a command was
//! asked for. A line never holds a token, a secret, a title or a body.

use std::io::{self, IsTerminal as _};

use tracing::Dispatch;
use tracing_subscriber::{
    EnvFilter, Layer as _,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    registry,
    util::SubscriberInitExt as _,
};

use crate::config::{Error, LogFormat, LogSettings};

/// What libraries say below a warning is about them, not about Doorbell.
/// Settings come after it, and the last word on a target counts.
const QUIET: &str =
    "h2=warn,hyper=warn,hyper_util=warn,rustls=warn,sqlx=warn,tonic=warn,tower=warn";

/// Begins to log. Where logging has begun already, it goes on as it was.
///
/// # Errors
///
/// When the filter cannot be read.
pub fn init(settings: &LogSettings) -> Result<(), Error> {
    let dispatch = dispatch(settings, io::stderr().is_terminal(), io::stderr)?;
    // The only failure is that logging has begun: by another test of this
    // process, or by a program that embeds us and knows better.
    let _ = dispatch.try_init();
    Ok(())
}

fn dispatch<W>(settings: &LogSettings, is_terminal: bool, writer: W) -> Result<Dispatch, Error>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder()
        .parse(format!("{QUIET},{}", settings.log))
        .map_err(|error| {
            Error::new(
                "log",
                format!("is no filter: {error}; write `debug` or `info,doorbell=trace`"),
            )
        })?;
    let lines = fmt::layer().with_writer(writer).with_ansi(is_terminal);
    let human = match settings.log_format {
        LogFormat::Auto => is_terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let lines = if human {
        lines.boxed()
    } else {
        lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .boxed()
    };
    Ok(registry().with(filter).with(lines).into())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What was logged.
    #[derive(Clone, Default)]
    pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        pub(crate) fn json(&self) -> Vec<serde_json::Value> {
            self.text()
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        }
    }

    /// Logs of this thread, until the guard is dropped.
    pub(crate) fn captured(
        log: &str,
        log_format: LogFormat,
    ) -> (Lines, tracing::subscriber::DefaultGuard) {
        let lines = Lines::default();
        let settings = LogSettings {
            log: log.to_owned(),
            log_format,
        };
        let writer = {
            let lines = lines.clone();
            move || lines.clone()
        };
        let dispatch = dispatch(&settings, false, writer).unwrap();
        (lines, tracing::dispatcher::set_default(&dispatch))
    }

    #[test]
    fn json_is_one_object_a_line_with_the_span() {
        let (lines, _guard) = captured("info", LogFormat::Auto);
        tracing::error_span!("call", method = "SendInApp").in_scope(|| {
            tracing::info!(rows = 3, "two\nlines");
        });
        let lines = lines.json();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["level"], "INFO");
        assert_eq!(lines[0]["message"], "two\nlines");
        assert_eq!(lines[0]["rows"], 3);
        assert_eq!(lines[0]["span"]["method"], "SendInApp");
    }

    #[test]
    fn a_human_line_is_no_json_and_has_no_colour_off_a_terminal() {
        let (lines, _guard) = captured("info", LogFormat::Human);
        tracing::info!(rows = 3, "hello");
        let text = lines.text();
        assert!(text.ends_with("hello rows=3\n"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn libraries_are_quiet_unless_asked_for() {
        let (lines, guard) = captured("debug", LogFormat::Human);
        tracing::info!(target: "h2::codec", "chatter");
        tracing::warn!(target: "h2::codec", "trouble");
        tracing::debug!("ours");
        drop(guard);
        let text = lines.text();
        assert!(!text.contains("chatter"), "{text}");
        assert!(text.contains("trouble") && text.contains("ours"), "{text}");

        let (lines, _guard) = captured("info,h2=debug", LogFormat::Human);
        tracing::debug!(target: "h2::codec", "wanted");
        assert!(lines.text().contains("wanted"));
    }

    #[test]
    fn a_filter_that_is_none_is_refused_by_its_name() {
        let settings = LogSettings {
            log: "doorbell=loud".to_owned(),
            log_format: LogFormat::Auto,
        };
        let refused = dispatch(&settings, false, io::stderr)
            .unwrap_err()
            .to_string();
        assert!(
            refused.starts_with("--log (DOORBELL_LOG) is no filter: "),
            "{refused}"
        );
        assert_eq!(refused.lines().count(), 1);
    }
}
