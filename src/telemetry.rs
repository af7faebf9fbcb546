//! Logs: lines for eyes on a terminal, one JSON object a line otherwise.
//!
//! Logs go to standard error; standard output belongs to what a command was
//! asked for. A line never holds a token, a secret, a title or a body.
//!
//! Who logs never waits: lines go through a bounded queue to a thread that writes
//! them. Where nobody reads them fast enough they are dropped and counted, and the
//! log says so once it can.

use std::{
    io::{self, IsTerminal as _},
    panic,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::Dispatch;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    registry,
    util::SubscriberInitExt as _,
};

use crate::{
    config::{Error, LogFormat, LogSettings},
    metrics,
};

/// What libraries say below a warning is about them, not about Doorbell.
/// Settings come after it, and the last word on a target counts.
const QUIET: &str =
    "h2=warn,hyper=warn,hyper_util=warn,rustls=warn,sqlx=warn,tonic=warn,tower=warn";

/// The most lines that wait to be written: some megabytes.
const QUEUED_LINES: usize = 8192;
/// What happens again and again is said this often.
const INTERVAL: Duration = Duration::from_secs(10);

/// The log; dropping it writes what is queued, for at most about a second.
#[must_use]
pub struct Log {
    _writer: WorkerGuard,
    _watch: AbortOnDropHandle<()>,
}

/// Begins to log, in a runtime. Where logging has begun already, it goes on as it was.
///
/// # Errors
///
/// When the filter cannot be read.
pub fn init(settings: &LogSettings) -> Result<Log, Error> {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUED_LINES)
        .lossy(true)
        .finish(io::stderr());
    let dropped = writer.error_counter();
    let dispatch = dispatch(settings, io::stderr().is_terminal(), move || writer.clone())?;
    // The only failure is that logging has begun: by another test of this
    // process, or by a program that embeds us and knows better.
    if dispatch.try_init().is_ok() {
        // The hook that there is would wait for who reads standard error.
        panic::set_hook(Box::new(|panicked| tracing::error!("{panicked}")));
    }
    Ok(Log {
        _writer: guard,
        _watch: AbortOnDropHandle::new(tokio::spawn(watch(dropped))),
    })
}

/// Counts what was dropped, and says so seldom, for ever.
async fn watch(dropped: ErrorCounter) {
    const LOOK_EVERY: Duration = Duration::from_secs(1);
    let said = Seldom::new(1);
    let (mut seen, mut unsaid) = (0, 0);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let lines = dropped.dropped_lines() - seen;
        seen += lines;
        unsaid += lines;
        metrics::log_lines_left_out("unread", lines);
        if unsaid > 0 && said.now().is_some() {
            tracing::warn!(
                lines = unsaid,
                "lines were dropped: nobody read the log fast enough"
            );
            unsaid = 0;
        }
    }
}

/// Lets something be said so many times in ten seconds, and no more.
#[derive(Debug)]
pub struct Seldom {
    most: u32,
    /// Held for a look.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When these ten seconds began.
    began: Option<Instant>,
    said: u32,
    times: u64,
}

impl Seldom {
    /// At most so many times in ten seconds.
    pub fn new(most: u32) -> Self {
        Self {
            most,
            state: Mutex::default(),
        }
    }

    /// It happened. Whether to say so now, and how often it did since it was last said.
    pub fn now(&self) -> Option<u64> {
        let mut state = self.state.lock();
        state.times += 1;
        let now = Instant::now();
        if state.began.is_none_or(|began| now >= began + INTERVAL) {
            state.began = Some(now);
            state.said = 0;
        }
        if state.said == self.most {
            return None;
        }
        state.said += 1;
        Some(std::mem::take(&mut state.times))
    }
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
pub(crate) mod tests;
