use std::sync::Arc;

use super::*;

/// What was logged.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
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

#[tokio::test(start_paused = true)]
async fn what_happens_often_is_said_seldom_with_how_often() {
    let seldom = Seldom::new(2);
    assert_eq!(seldom.now(), Some(1));
    assert_eq!(seldom.now(), Some(1));
    for _ in 0..5 {
        assert_eq!(seldom.now(), None);
    }
    tokio::time::advance(INTERVAL).await;
    assert_eq!(seldom.now(), Some(6));
    assert_eq!(seldom.now(), Some(1));
    assert_eq!(seldom.now(), None);
    tokio::time::advance(INTERVAL - Duration::from_millis(1)).await;
    assert_eq!(seldom.now(), None);
}
