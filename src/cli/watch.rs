//! `doorbell watch`: a live inbox in the terminal, or as JSON for scripts.
//!
//! Runs until Ctrl-C (then it ends well) or until an error that no waiting
//! mends. With `--json` each line is an object:
//!
//! | field | what it is |
//! | --- | --- |
//! | `event` | `loaded`, `connected`, `notification`, `changed`, `seen`, `caught_up`, `heartbeat`, `reset`, `unknown`, `reconnect`, `disconnected` |
//! | `position`, `epoch` | where to resume (`--after`, `--epoch`); null while the inbox has to be loaded |
//! | `head` | `revision`, and of it `unread_count`, `unseen_count` (the badge) and `seen_through` |
//! | `notifications` | of `loaded`: the list, newest first; of `changed`: the states, with `removal_cause` where one is removed |
//! | `notification` | of `notification`: the row |
//! | `ring` | of `notification` and `changed`: whether to ring for it |
//! | `heartbeat_interval_seconds`, `token_expires_at` | of `connected` |
//! | `after_seconds` | of `reconnect`: the pause before it comes back |
//! | `error`, `reason`, `retry_in_seconds` | of `disconnected` |
//!
//! New fields and events may come; those there are stay.

use std::{
    collections::HashMap,
    future::Future,
    io::{self, IsTerminal as _, Write},
    time::Duration,
};

use clap::Args;
use serde_json::{Value, json};

use super::{ConnectionArgs, Error, text, write_json};
use crate::client::{
    self, ChangedNotification, Client, Event, Inbox, Notification, Position, RemovalCause, Update,
    Verb, Watch,
};

/// What to watch, and how to show it.
#[derive(Args, Clone)]
pub struct WatchArgs {
    /// How to reach the service
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// Print every event as one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Mark as read what is shown
    #[arg(long)]
    pub mark_read: bool,
    /// Begin after this position instead of loading the inbox
    #[arg(long, value_name = "POSITION")]
    pub after: Option<u64>,
    /// The epoch that the position was learned in
    #[arg(long, value_name = "EPOCH", requires = "after")]
    pub epoch: Option<String>,
    /// Do not ring the terminal's bell
    #[arg(long)]
    pub silent: bool,
}

/// Watches until Ctrl-C.
pub async fn run(args: WatchArgs) -> Result<(), Error> {
    let client = args.connection.client()?;
    let watch = match args.after {
        None => client.watch(),
        Some(after_revision) => client.watch_from(Position {
            after_revision,
            epoch: args.epoch.clone(),
        }),
    };
    let mut out = io::stdout();
    let view = if args.json {
        View::Json
    } else {
        View::Human(Human {
            is_terminal: out.is_terminal(),
            rings: !args.silent,
            state: "connecting".into(),
            unread_count: None,
            titles: HashMap::new(),
        })
    };
    let reader = args.mark_read.then_some(client);
    let interrupt = async {
        // Where no signal can be had, only the terminal's own kill is left.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    follow(watch, reader, view, &mut out, interrupt).await
}

/// Shows the updates of `watch` on `out` until `interrupt`.
async fn follow(
    mut watch: Watch,
    reader: Option<Client>,
    mut view: View,
    out: &mut impl Write,
    interrupt: impl Future<Output = ()>,
) -> Result<(), Error> {
    tokio::pin!(interrupt);
    loop {
        let update = tokio::select! {
            biased;
            () = &mut interrupt => {
                view.leave(out)?;
                return Ok(());
            }
            update = watch.next() => update,
        };
        let update = match update {
            Some(Ok(update)) => update,
            Some(Err(error)) => {
                view.leave(out)?;
                return Err(error.into());
            }
            None => return Ok(()),
        };
        view.show(&update, watch.inbox(), out)?;
        if let Some(client) = &reader {
            let ids = shown_unread(&update.event, watch.inbox());
            if !ids.is_empty() {
                let marked = tokio::select! {
                    biased;
                    () = &mut interrupt => {
                        view.leave(out)?;
                        return Ok(());
                    }
                    marked = client.edit(Verb::Read, ids) => marked,
                };
                // They stay unread, which the badge tells; an error that no
                // waiting mends ends it.
                match marked {
                    Err(error) if error.is_terminal() => {
                        view.leave(out)?;
                        return Err(error.into());
                    }
                    Err(error) => view.complain(&error, out)?,
                    Ok(_) => {}
                }
            }
        }
    }
}

/// What this update has put before the reader's eyes for the first time.
fn shown_unread(event: &Event, inbox: &Inbox) -> Vec<String> {
    let unread = |row: &&Notification| row.read_at.is_none() && row.archived_at.is_none();
    match event {
        Event::Loaded => inbox
            .notifications()
            .iter()
            .filter(unread)
            .map(|row| row.id.clone())
            .collect(),
        Event::Notification { notification, .. } => Some(&**notification)
            .filter(unread)
            .map(|row| row.id.clone())
            .into_iter()
            .collect(),
        _ => Vec::new(),
    }
}

enum View {
    Json,
    Human(Human),
}

impl View {
    fn show(&mut self, update: &Update, inbox: &Inbox, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Json => write_json(out, &as_json(update, inbox)),
            Self::Human(human) => human.show(update, inbox, out),
        }
    }

    fn complain(&mut self, error: &client::Error, out: &mut impl Write) -> io::Result<()> {
        match self {
            // The next `changed`, or its absence, tells a script.
            Self::Json => Ok(()),
            Self::Human(human) => {
                let text = format!(
                    "- could not mark as read: {}",
                    text::line(&error.to_string())
                );
                human.print(&[text], false, out)
            }
        }
    }

    /// Leaves the cursor on a line of its own.
    fn leave(&mut self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Human(human) if human.is_terminal => writeln!(out),
            _ => Ok(()),
        }
    }
}

fn as_json(update: &Update, inbox: &Inbox) -> Value {
    let (name, more) = match &update.event {
        Event::Loaded => {
            let rows = inbox.notifications().iter();
            let rows: Vec<Value> = rows.map(client::json::notification).collect();
            ("loaded", json!({ "notifications": rows }))
        }
        Event::Connected {
            heartbeat_interval,
            token_expires_at,
        } => (
            "connected",
            json!({
                "heartbeat_interval_seconds": heartbeat_interval.map(|interval| interval.as_secs_f64()),
                "token_expires_at": token_expires_at.map(|time| time.to_string()),
            }),
        ),
        Event::Notification { notification, ring } => (
            "notification",
            json!({
                "notification": client::json::notification(notification),
                "ring": ring,
            }),
        ),
        Event::Changed {
            notifications,
            ring,
        } => {
            let rows: Vec<Value> = notifications.iter().map(client::json::changed).collect();
            ("changed", json!({ "notifications": rows, "ring": ring }))
        }
        Event::Seen => ("seen", json!({})),
        Event::CaughtUp => ("caught_up", json!({})),
        Event::Heartbeat => ("heartbeat", json!({})),
        Event::Reset => ("reset", json!({})),
        Event::Unknown => ("unknown", json!({})),
        Event::Reconnect { after } => {
            ("reconnect", json!({ "after_seconds": after.as_secs_f64() }))
        }
        Event::Disconnected { error, retry_in } => (
            "disconnected",
            json!({
                "error": error.to_string(),
                "reason": error.reason(),
                "retry_in_seconds": retry_in.as_secs_f64(),
            }),
        ),
    };
    let mut object = json!({
        "event": name,
        "position": update.position,
        "epoch": update.epoch,
        "head": client::json::head(&update.head),
    });
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
    object
}

/// Lines that scroll by, and on a terminal a last line with the state.
struct Human {
    is_terminal: bool,
    rings: bool,
    state: String,
    /// As it was shown last.
    unread_count: Option<u32>,
    /// Of the list as it was: what has left it is told by its title.
    titles: HashMap<String, String>,
}

impl Human {
    fn show(&mut self, update: &Update, inbox: &Inbox, out: &mut impl Write) -> io::Result<()> {
        let mut lines = Vec::new();
        let mut ring = false;
        match &update.event {
            Event::Loaded => {
                // The newest last, next to those that come.
                let rows = inbox.notifications().iter().rev();
                lines.extend(rows.map(text::notification));
                if lines.is_empty() {
                    lines.push("- the inbox is empty".into());
                }
            }
            Event::Connected { .. } => {
                self.state = "connected".into();
                if !self.is_terminal {
                    lines.push("- connected".into());
                }
            }
            Event::Notification {
                notification,
                ring: is_new,
            } => {
                ring = *is_new && self.rings && self.is_terminal;
                if *is_new || update.changed {
                    lines.push(text::notification(notification));
                }
            }
            Event::Changed {
                notifications,
                ring: is_new,
            } => {
                ring = *is_new && self.rings && self.is_terminal;
                lines.extend(notifications.iter().map(|row| changed(row, &self.titles)));
            }
            Event::Seen | Event::CaughtUp | Event::Heartbeat | Event::Unknown => {}
            Event::Reset => lines.push("- the service cannot resume here: loading anew".into()),
            Event::Reconnect { after } => {
                let after = rounded(*after);
                lines.push(format!(
                    "- the service is about to stop: coming back in {after}"
                ));
                self.state = "waiting".into();
            }
            Event::Disconnected { error, retry_in } => {
                let retry_in = rounded(*retry_in);
                let error = text::line(&error.to_string());
                lines.push(format!(
                    "- disconnected: {error}; trying again in {retry_in}"
                ));
                self.state = "disconnected".into();
            }
        }
        let count = update.head.unread_count;
        let is_known = !matches!(update.event, Event::Disconnected { .. });
        if is_known && self.unread_count.replace(count) != Some(count) && !self.is_terminal {
            lines.push(format!("- {}", text::unread(count)));
        }
        self.print(&lines, ring, out)?;
        let rows = inbox.notifications().iter();
        self.titles = rows
            .map(|row| (row.id.clone(), row.title.clone()))
            .collect();
        Ok(())
    }

    fn print(&self, lines: &[String], ring: bool, out: &mut impl Write) -> io::Result<()> {
        const CLEAR_LINE: &str = "\r\x1b[K";
        if self.is_terminal {
            write!(out, "{CLEAR_LINE}")?;
        }
        for line in lines {
            writeln!(out, "{line}")?;
        }
        if ring {
            write!(out, "\x07")?;
        }
        if self.is_terminal {
            write!(out, "[{}]", self.state)?;
            if let Some(count) = self.unread_count {
                write!(out, " {}", text::unread(count))?;
            }
        }
        out.flush()
    }
}

/// What became of a notification, by its title where it is known. One that the list did
/// not have comes whole, as a new one does.
fn changed(row: &ChangedNotification, titles: &HashMap<String, String>) -> String {
    let title = titles.get(&row.id);
    if let (None, Some(whole)) = (title, &row.notification) {
        return text::notification(whole);
    }
    let became = if row.removed_at.is_some() {
        match row.removal_cause() {
            RemovalCause::Sender => "taken back",
            RemovalCause::Expired => "expired",
            RemovalCause::Replaced => "replaced by a later one",
            RemovalCause::User | RemovalCause::Unspecified => "removed",
        }
    } else if row.archived_at.is_some() {
        "archived"
    } else if row.read_at.is_some() {
        "read"
    } else {
        "unread"
    };
    format!("- {became}: {}", text::line(title.unwrap_or(&row.id)))
}

fn rounded(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::client::{
        GetRecentResponse, Head, Options, TokenSource,
        tests::{Ask, Server, connected, denied, notification as sent, page},
    };
    use crate::proto::MarkReadResponse;

    const HEAD: Head = Head {
        revision: 5,
        unread_count: 1,
        unseen_count: 1,
        seen_through: 0,
    };

    fn notification(id: &str, title: &str) -> Notification {
        Notification {
            id: id.into(),
            sequence: 5,
            revision: 5,
            r#type: "comment".into(),
            title: title.into(),
            ..Notification::default()
        }
    }

    fn inbox() -> Inbox {
        let mut inbox = Inbox::new(10);
        inbox.load(GetRecentResponse {
            notifications: vec![notification("a", "Ann\x1b[2J wrote")],
            epoch: "one".into(),
            head: Some(HEAD),
            ..GetRecentResponse::default()
        });
        inbox
    }

    fn update(event: Event) -> Update {
        Update {
            event,
            position: Some(5),
            epoch: Some("one".into()),
            head: HEAD,
            changed: true,
        }
    }

    fn rang() -> Update {
        update(Event::Notification {
            notification: Box::new(notification("b", "Bob\x07\nwrote")),
            ring: true,
        })
    }

    fn shown(human: &mut Human, update: &Update) -> String {
        let mut out = Vec::new();
        human.show(update, &inbox(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn human(is_terminal: bool) -> Human {
        Human {
            is_terminal,
            rings: true,
            state: "connecting".into(),
            unread_count: None,
            titles: HashMap::new(),
        }
    }

    #[test]
    fn a_terminal_has_a_list_a_bell_and_a_last_line() {
        let mut human = human(true);
        let list = shown(&mut human, &update(Event::Loaded));
        assert!(list.contains("Ann\u{fffd}[2J wrote"), "{list:?}");
        assert!(list.ends_with("[connecting] 1 unread"), "{list:?}");
        let connected = Event::Connected {
            heartbeat_interval: None,
            token_expires_at: None,
        };
        let state = shown(&mut human, &update(connected));
        assert_eq!(state, "\r\x1b[K[connected] 1 unread");
        let new = shown(&mut human, &rang());
        assert!(new.contains("Bob\u{fffd} wrote"), "{new:?}");
        assert_eq!(new.matches('\x07').count(), 1, "our own bell only: {new:?}");
        human.rings = false;
        assert!(!shown(&mut human, &rang()).contains('\x07'));
    }

    #[test]
    fn elsewhere_there_are_plain_lines() {
        let mut human = human(false);
        let list = shown(&mut human, &update(Event::Loaded));
        assert!(list.ends_with("(a)\n- 1 unread\n"), "{list:?}");
        let new = shown(&mut human, &rang());
        assert!(
            new.ends_with("(b)\n") && !new.contains(['\x1b', '\x07', '\r']),
            "{new:?}"
        );
        let row = |id: &str| ChangedNotification {
            id: id.into(),
            read_at: Some(prost_types::Timestamp::default()),
            ..ChangedNotification::default()
        };
        let archived = ChangedNotification {
            archived_at: Some(prost_types::Timestamp::default()),
            ..row("b")
        };
        let changed = Event::Changed {
            notifications: vec![row("a"), row("z\x1b"), archived],
            ring: false,
        };
        let changed = shown(&mut human, &update(changed));
        let expected = "- read: Ann\u{fffd}[2J wrote\n- read: z\u{fffd}\n- archived: b\n";
        assert_eq!(changed, expected);
        assert_eq!(shown(&mut human, &update(Event::Heartbeat)), "");
    }

    #[test]
    fn json_has_the_documented_fields() {
        let json = as_json(&rang(), &inbox());
        let expected = json!({
            "event": "notification", "position": 5, "epoch": "one", "ring": true,
            "head": {"revision": 5, "unread_count": 1, "unseen_count": 1, "seen_through": 0},
            "notification": client::json::notification(&notification("b", "Bob\x07\nwrote")),
        });
        assert_eq!(json, expected);
        let loaded = as_json(&update(Event::Loaded), &inbox());
        assert_eq!(loaded["notifications"][0]["id"], "a");
        let cut = update(Event::Disconnected {
            error: client::Error::Ended,
            retry_in: Duration::from_millis(1500),
        });
        let cut = as_json(&cut, &inbox());
        assert_eq!(cut["retry_in_seconds"], 1.5);
        assert_eq!(cut["reason"], Value::Null);
        assert_eq!(cut["error"], "the service ended the stream");
    }

    #[test]
    fn what_is_shown_unread_is_what_gets_marked() {
        assert_eq!(shown_unread(&Event::Loaded, &inbox()), ["a"]);
        assert_eq!(shown_unread(&rang().event, &inbox()), ["b"]);
        let read = Event::Notification {
            notification: Box::new(Notification {
                read_at: Some(prost_types::Timestamp::default()),
                ..notification("b", "Bob")
            }),
            ring: false,
        };
        assert!(shown_unread(&read, &inbox()).is_empty());
        assert!(shown_unread(&Event::Heartbeat, &inbox()).is_empty());
    }

    fn client(server: &Server) -> Client {
        Client::new(
            &server.url(),
            TokenSource::fixed("secret"),
            Options::default(),
        )
        .unwrap()
    }

    #[tokio::test]
    async fn it_marks_what_it_shows_and_ends_well_on_ctrl_c() {
        let mut server = Server::start("127.0.0.1:0");
        let client = client(&server);
        let (interrupt, interrupted) = oneshot::channel::<()>();
        let mut out = Vec::new();
        let watch = client.watch();
        let followed = follow(watch, Some(client), View::Json, &mut out, async {
            interrupted.await.unwrap();
        });
        let service = async {
            server.answer_recent(page(3, "one")).await;
            for ids in [vec!["id-3", "id-2", "id-1"], vec!["id-4"]] {
                // The load was shown, then the new one.
                if ids.len() == 1 {
                    let stream = server.accept().await;
                    stream.send(connected(3));
                    stream.send(sent(4));
                }
                let Ask::MarkRead(request, reply) = server.call().await.ask else {
                    panic!("not MarkRead");
                };
                assert_eq!(request.notification_ids, ids);
                reply.send(Ok(MarkReadResponse::default())).unwrap();
            }
            interrupt.send(()).unwrap();
        };
        let (result, ()) = tokio::join!(followed, service);
        result.unwrap();
        let out = String::from_utf8(out).unwrap();
        let events: Vec<Value> = out
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].clone())
            .take(3)
            .collect();
        assert_eq!(events, ["loaded", "connected", "notification"]);
    }

    #[tokio::test]
    async fn a_terminal_error_ends_it_with_a_line_that_tells_no_token() {
        let mut server = Server::start("127.0.0.1:0");
        let watch = client(&server).watch();
        let mut out = Vec::new();
        let followed = follow(watch, None, View::Json, &mut out, std::future::pending());
        let service = async {
            let Ask::Recent(_, reply) = server.call().await.ask else {
                panic!("not GetRecent");
            };
            reply.send(Err(denied("not a reader\x1b[2J"))).unwrap();
        };
        let (result, ()) = tokio::join!(followed, service);
        let error = result.unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert_eq!(
            error.to_string(),
            "PermissionDenied: not a reader\u{fffd}[2J"
        );
    }
}
