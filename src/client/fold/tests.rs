use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::proto::{CaughtUp, Changed, Connected, Heartbeat, Reconnect, Reset, Seen};

const EPOCH: &str = "one";

fn timestamp(revision: u64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(revision).unwrap(),
        nanos: 0,
    }
}

fn row(sequence: u64) -> Notification {
    Notification {
        id: format!("id-{sequence}"),
        sequence,
        revision: sequence,
        title: format!("title {sequence}"),
        created_at: Some(timestamp(sequence)),
        ..Notification::default()
    }
}

fn head(revision: u64, unread_count: u32) -> Head {
    Head {
        revision,
        unread_count,
        ..Head::default()
    }
}

fn page(rows: &[u64], revision: u64, unread_count: u32, more: bool) -> GetRecentResponse {
    GetRecentResponse {
        notifications: rows.iter().copied().map(row).collect(),
        next_page_token: if more { "more".into() } else { String::new() },
        epoch: EPOCH.into(),
        head: Some(head(revision, unread_count)),
    }
}

fn message(position: u64, event: Event) -> SubscribeResponse {
    SubscribeResponse {
        position,
        head: Some(head(position, 0)),
        ring: matches!(event, Event::Notification(_)),
        event: Some(event),
    }
}

fn connected(position: u64, epoch: &str) -> SubscribeResponse {
    message(
        position,
        Event::Connected(Connected {
            epoch: epoch.into(),
            ..Connected::default()
        }),
    )
}

fn sequences(inbox: &Inbox) -> Vec<u64> {
    inbox
        .notifications()
        .iter()
        .map(|row| row.sequence)
        .collect()
}

fn loaded(rows: &[u64], revision: u64, more: bool) -> Inbox {
    let mut inbox = Inbox::new(3);
    inbox.load(page(rows, revision, 1, more));
    inbox
}

#[test]
fn a_new_notification_rings_once_and_the_oldest_leaves_the_window() {
    let mut inbox = loaded(&[3, 2, 1], 3, false);
    let new = message(4, Event::Notification(row(4)));
    let effect = inbox.apply(&new);
    assert!(effect.ring && effect.changed);
    assert_eq!(sequences(&inbox), [4, 3, 2]);
    assert_eq!(inbox.position(), Some(4));
    let again = inbox.apply(&new);
    assert!(!again.ring && !again.changed);
    // Changed, but already out of the list.
    let old = Notification {
        revision: 5,
        ..row(1)
    };
    let old = SubscribeResponse {
        ring: false,
        ..message(5, Event::Notification(old))
    };
    assert!(!inbox.apply(&old).ring);
    assert_eq!(sequences(&inbox), [4, 3, 2]);
    assert_eq!(inbox.position(), Some(5));
}

#[test]
fn a_row_older_than_the_loaded_window_is_not_inserted() {
    let older = |revision| Notification { revision, ..row(2) };
    let mut partial = loaded(&[5, 4], 6, true);
    partial.apply(&message(7, Event::Notification(older(7))));
    assert_eq!(sequences(&partial), [5, 4]);
    let mut complete = loaded(&[5, 4], 6, false);
    complete.apply(&message(7, Event::Notification(older(7))));
    assert_eq!(sequences(&complete), [5, 4, 2]);
}

#[test]
fn the_copy_with_the_higher_revision_wins() {
    let mut inbox = loaded(&[3, 2], 9, false);
    let copy = |revision, title: &str| {
        let copy = Notification {
            revision,
            title: title.into(),
            ..row(2)
        };
        message(revision, Event::Notification(copy))
    };
    inbox.apply(&copy(11, "later"));
    inbox.apply(&copy(10, "earlier"));
    assert_eq!(inbox.notifications()[1].title, "later");
}

#[test]
fn an_archived_row_leaves_and_its_echo_does_not_bring_it_back() {
    let mut inbox = loaded(&[3, 2], 3, false);
    let archived = Notification {
        revision: 4,
        archived_at: Some(timestamp(4)),
        ..row(3)
    };
    assert!(
        inbox
            .apply(&message(4, Event::Notification(archived)))
            .changed
    );
    assert_eq!(sequences(&inbox), [2]);
    inbox.apply(&message(3, Event::Notification(row(3))));
    assert_eq!(sequences(&inbox), [2]);
    assert_eq!(inbox.position(), Some(4));
}

fn read(sequence: u64, revision: u64) -> ChangedNotification {
    ChangedNotification {
        id: format!("id-{sequence}"),
        sequence,
        revision,
        read_at: Some(timestamp(revision)),
        ..ChangedNotification::default()
    }
}

fn changed(position: u64, notifications: Vec<ChangedNotification>) -> SubscribeResponse {
    message(position, Event::Changed(Changed { notifications }))
}

#[test]
fn a_changed_row_applies_above_its_copy_whatever_the_position() {
    let mut inbox = loaded(&[3, 2], 3, false);
    inbox.apply(&changed(3, vec![read(2, 2)]));
    assert_eq!(inbox.notifications()[1].read_at, None);
    assert!(
        inbox
            .apply(&changed(5, vec![read(2, 5), read(1, 5)]))
            .changed
    );
    assert_eq!(inbox.notifications()[1].read_at, Some(timestamp(5)));
    assert_eq!(inbox.notifications()[1].revision, 5);
    // Rows that share a revision can be repeated, and none is lost.
    assert!(
        inbox
            .apply(&changed(5, vec![read(2, 5), read(3, 5)]))
            .changed
    );
    assert_eq!(inbox.notifications()[0].read_at, Some(timestamp(5)));
    inbox.apply(&changed(6, vec![read(2, 4)]));
    assert_eq!(inbox.notifications()[1].revision, 5);
}

#[test]
fn a_removed_or_archived_row_leaves_and_one_that_came_back_is_there() {
    let mut inbox = loaded(&[4, 3, 2], 4, false);
    let removed = ChangedNotification {
        removed_at: Some(timestamp(5)),
        ..read(4, 5)
    };
    let archived = ChangedNotification {
        archived_at: Some(timestamp(5)),
        ..read(3, 5)
    };
    assert!(inbox.apply(&changed(5, vec![removed, archived])).changed);
    assert_eq!(sequences(&inbox), [2]);
    let back = ChangedNotification {
        notification: Some(Notification {
            revision: 6,
            ..row(3)
        }),
        ..read(3, 6)
    };
    let effect = inbox.apply(&changed(6, vec![back]));
    assert!(effect.changed && !effect.ring);
    assert_eq!(sequences(&inbox), [3, 2]);
}

#[test]
fn what_was_seen_changes_the_head_alone() {
    let mut inbox = loaded(&[3, 2], 3, false);
    let seen = SubscribeResponse {
        head: Some(Head {
            seen_through: 3,
            ..head(4, 2)
        }),
        ..message(4, Event::Seen(Seen {}))
    };
    assert!(inbox.apply(&seen).changed);
    assert_eq!(inbox.head().seen_through, 3);
    assert_eq!(inbox.position(), Some(4));
}

#[test]
fn the_count_is_that_of_the_highest_revision_seen() {
    let mut inbox = loaded(&[], 10, false);
    let heartbeat = |revision, unread_count| SubscribeResponse {
        position: 10,
        head: Some(head(revision, unread_count)),
        ring: false,
        event: Some(Event::Heartbeat(Heartbeat {})),
    };
    assert!(inbox.apply(&heartbeat(12, 7)).changed);
    assert!(!inbox.apply(&heartbeat(11, 3)).changed);
    assert_eq!(*inbox.head(), head(12, 7));
    // The head that came along is not what was delivered.
    assert_eq!(inbox.position(), Some(10));
}

#[test]
fn a_reset_and_an_unknown_event_above_the_position_ask_for_a_load() {
    let unknown = |position| SubscribeResponse {
        position,
        head: Some(head(position, 1)),
        ..SubscribeResponse::default()
    };
    let mut inbox = loaded(&[3], 3, false);
    assert_eq!(inbox.apply(&unknown(3)).then, Then::Continue);
    assert_eq!(inbox.position(), Some(3));
    assert_eq!(inbox.apply(&unknown(4)).then, Then::Load);
    assert_eq!(inbox.position(), None);

    let mut inbox = loaded(&[3], 3, false);
    let reset = |epoch: &str| {
        let epoch = epoch.into();
        message(3, Event::Reset(Reset { epoch }))
    };
    assert_eq!(inbox.apply(&reset(EPOCH)).then, Then::Load);
    // Shown until the load has come.
    assert_eq!(sequences(&inbox), [3]);
    assert_eq!(inbox.apply(&reset("two")).then, Then::Load);
    assert_eq!(sequences(&inbox), [0; 0]);
}

#[test]
fn another_epoch_drops_what_there_is() {
    let mut inbox = loaded(&[3], 30, false);
    assert_eq!(inbox.apply(&connected(30, EPOCH)).then, Then::Continue);
    assert_eq!(inbox.apply(&connected(30, "two")).then, Then::Load);
    assert_eq!(sequences(&inbox), [0; 0]);
    assert_eq!((inbox.head().revision, inbox.position()), (0, None));
    assert_eq!(inbox.epoch(), None);
}

#[test]
fn an_epoch_that_was_not_known_is_taken_over() {
    let mut inbox = Inbox::resume(3, 5, None);
    assert_eq!(inbox.apply(&connected(5, "two")).then, Then::Continue);
    assert_eq!((inbox.epoch(), inbox.position()), (Some("two"), Some(5)));
    let replayed = SubscribeResponse {
        ring: false,
        ..message(6, Event::Notification(row(6)))
    };
    let effect = inbox.apply(&replayed);
    assert!(effect.changed && !effect.ring);
    assert!(inbox.apply(&message(7, Event::Notification(row(7)))).ring);
}

#[test]
fn reconnect_says_how_long() {
    let mut inbox = loaded(&[], 1, false);
    let reconnect = |seconds, nanos| {
        let after = Some(prost_types::Duration { seconds, nanos });
        message(1, Event::Reconnect(Reconnect { after }))
    };
    assert_eq!(
        inbox.apply(&reconnect(2, 500_000_000)).then,
        Then::ComeBack(Duration::from_millis(2500))
    );
    assert_eq!(
        inbox.apply(&reconnect(-2, 0)).then,
        Then::ComeBack(Duration::ZERO)
    );
}

/// What a case of `tests/folds.json` gives to the fold.
fn said(apply: &Value) -> SubscribeResponse {
    let number = |name: &str| apply[name].as_u64();
    let count = |name| u32::try_from(number(name).unwrap_or(0)).unwrap();
    let position = number("position").unwrap();
    let text = |name: &str| apply[name].as_str().map(str::to_owned);
    let event = if let Some(epoch) = text("connected") {
        Some(Event::Connected(Connected {
            epoch,
            ..Connected::default()
        }))
    } else if let Some(epoch) = text("reset") {
        Some(Event::Reset(Reset { epoch }))
    } else if apply["notification"].is_object() {
        Some(Event::Notification(case_row(&apply["notification"])))
    } else if let Some(rows) = apply["changed"].as_array() {
        let row = |row: &Value| state(&case_row(row), row["whole"] == true);
        Some(Event::Changed(Changed {
            notifications: rows.iter().map(row).collect(),
        }))
    } else if apply["seen"] == true {
        Some(Event::Seen(Seen {}))
    } else if apply["caughtUp"] == true {
        Some(Event::CaughtUp(CaughtUp {}))
    } else if apply["heartbeat"] == true {
        Some(Event::Heartbeat(Heartbeat {}))
    } else {
        None
    };
    SubscribeResponse {
        position,
        head: Some(Head {
            revision: number("revision").unwrap_or(position),
            unread_count: count("unread"),
            unseen_count: count("unseen"),
            seen_through: number("seenThrough").unwrap_or(0),
        }),
        ring: apply["ring"] == true,
        event,
    }
}

fn case_row(said: &Value) -> Notification {
    let sequence = said["sequence"].as_u64().unwrap();
    let time = |name: &str| (said[name] == true).then(|| timestamp(1));
    Notification {
        revision: said["revision"].as_u64().unwrap_or(sequence),
        read_at: time("read"),
        archived_at: time("archived"),
        removed_at: time("removed"),
        title: said["title"].as_str().unwrap_or_default().to_owned(),
        ..row(sequence)
    }
}

/// The cases that the browser's fold is judged by, too.
#[test]
fn the_cases_of_both_folds() {
    let text = include_str!("../../../tests/folds.json");
    let cases: Vec<Value> = serde_json::from_str(text).unwrap();
    assert!(cases.len() > 10);
    for case in &cases {
        let window = case["window"].as_u64().unwrap_or(100);
        let mut inbox = Inbox::new(usize::try_from(window).unwrap());
        for step in case["steps"].as_array().unwrap() {
            let (load, apply) = (&step["load"], &step["apply"]);
            if load.is_object() {
                let rows = load["rows"].as_array().unwrap();
                let number = |name: &str| u32::try_from(load[name].as_u64().unwrap_or(0)).unwrap();
                inbox.load(GetRecentResponse {
                    notifications: rows.iter().map(case_row).collect(),
                    next_page_token: String::from(if load["more"] == true { "more" } else { "" }),
                    epoch: EPOCH.into(),
                    head: Some(Head {
                        revision: load["revision"].as_u64().unwrap(),
                        unread_count: number("unread"),
                        unseen_count: number("unseen"),
                        seen_through: 0,
                    }),
                });
            } else if apply.is_object() {
                let effect = inbox.apply(&said(apply));
                let rings = step["rings"] == true;
                let loads = step["then"] == "load";
                let found = (effect.ring, effect.then == Then::Load);
                assert_eq!(found, (rings, loads), "{}: {step}", case["name"]);
            } else {
                let rows = inbox.notifications();
                let read = rows.iter().filter(|row| row.read_at.is_some());
                let found = json!({
                    "rows": rows.iter().map(|row| [row.sequence, row.revision]).collect::<Vec<_>>(),
                    "titles": rows.iter().map(|row| &row.title).collect::<Vec<_>>(),
                    "read": read.map(|row| row.sequence).collect::<Vec<_>>(),
                    "position": inbox.position(),
                    "revision": inbox.head().revision,
                    "unread": inbox.head().unread_count,
                    "unseen": inbox.head().unseen_count,
                    "seenThrough": inbox.head().seen_through,
                });
                for (name, expected) in step.as_object().unwrap() {
                    assert_eq!(&found[name], expected, "{}: {name} of {step}", case["name"]);
                }
            }
        }
    }
}

/// One change of the model's inbox, by indices that are taken modulo what there
/// is.
#[derive(Clone, Debug)]
enum Change {
    Send,
    MarkRead(Vec<prop::sample::Index>),
    Archive(prop::sample::Index),
    Unarchive(prop::sample::Index),
    Remove(prop::sample::Index),
    Look,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        5 => Just(Change::Send),
        3 => prop::collection::vec(any::<prop::sample::Index>(), 1..4).prop_map(Change::MarkRead),
        2 => any::<prop::sample::Index>().prop_map(Change::Archive),
        1 => any::<prop::sample::Index>().prop_map(Change::Unarchive),
        1 => any::<prop::sample::Index>().prop_map(Change::Remove),
        1 => Just(Change::Look),
    ]
}

/// The server's inbox at one revision, and the live message that led there.
#[derive(Clone, Default)]
struct Snapshot {
    rows: BTreeMap<u64, Notification>,
    seen_through: u64,
    live: SubscribeResponse,
}

impl Snapshot {
    fn is_unread(row: &Notification) -> bool {
        row.read_at.is_none() && is_in_inbox(row)
    }

    fn head(&self, revision: u64) -> Head {
        let unread = || self.rows.values().filter(|row| Self::is_unread(row));
        let unseen = unread().filter(|row| row.sequence > self.seen_through);
        Head {
            revision,
            unread_count: u32::try_from(unread().count()).unwrap(),
            unseen_count: u32::try_from(unseen.count()).unwrap(),
            seen_through: self.seen_through,
        }
    }

    fn listed(&self) -> Vec<Notification> {
        let shown = |row: &&Notification| is_in_inbox(row);
        self.rows.values().rev().filter(shown).cloned().collect()
    }

    fn sequences(&self, is: impl Fn(&Notification) -> bool) -> Vec<u64> {
        let rows = self.rows.values().filter(|row| is(row));
        rows.map(|row| row.sequence).collect()
    }
}

/// A row's state as an event tells it, with the whole row where a screen may lack it.
fn state(row: &Notification, is_back: bool) -> ChangedNotification {
    ChangedNotification {
        id: row.id.clone(),
        sequence: row.sequence,
        revision: row.revision,
        read_at: row.read_at,
        archived_at: row.archived_at,
        removed_at: row.removed_at,
        removal_cause: 0,
        notification: is_back.then(|| row.clone()),
    }
}

/// All revisions of the inbox; the index is the revision.
fn history(changes: &[Change]) -> Vec<Snapshot> {
    let mut snapshots = vec![Snapshot::default()];
    for change in changes {
        let mut next = snapshots.last().unwrap().clone();
        let revision = snapshots.len() as u64;
        let unread = next.sequences(Snapshot::is_unread);
        let present = next.sequences(is_in_inbox);
        let archived = next.sequences(|row| row.archived_at.is_some() && row.removed_at.is_none());
        let mut edit = |sequence: &u64, is_back, set: &dyn Fn(&mut Notification)| {
            let row = next.rows.get_mut(sequence).unwrap();
            set(row);
            row.revision = revision;
            Event::Changed(Changed {
                notifications: vec![state(row, is_back)],
            })
        };
        let now = Some(timestamp(revision));
        let event = match change {
            Change::Send => {
                next.rows.insert(revision, row(revision));
                Event::Notification(row(revision))
            }
            Change::MarkRead(picks) if !unread.is_empty() => {
                let mut notifications = BTreeMap::new();
                for pick in picks {
                    let row = next.rows.get_mut(pick.get(&unread)).unwrap();
                    row.read_at = now;
                    row.revision = revision;
                    notifications.insert(row.sequence, state(row, false));
                }
                Event::Changed(Changed {
                    notifications: notifications.into_values().collect(),
                })
            }
            Change::Archive(pick) if !present.is_empty() => {
                edit(pick.get(&present), false, &|row| row.archived_at = now)
            }
            Change::Unarchive(pick) if !archived.is_empty() => {
                edit(pick.get(&archived), true, &|row| row.archived_at = None)
            }
            Change::Remove(pick) if !present.is_empty() => {
                edit(pick.get(&present), false, &|row| row.removed_at = now)
            }
            Change::Look if next.seen_through + 1 < revision => {
                next.seen_through = revision - 1;
                Event::Seen(Seen {})
            }
            // Changes nothing, so takes no revision.
            _ => continue,
        };
        next.live = SubscribeResponse {
            position: revision,
            head: Some(next.head(revision)),
            ring: matches!(event, Event::Notification(_)),
            event: Some(event),
        };
        snapshots.push(next);
    }
    snapshots
}

/// The rows that changed after `from`, as of `to`, and `caught_up`.
fn catch_up(history: &[Snapshot], from: u64, to: u64, heal: bool) -> Vec<SubscribeResponse> {
    let snapshot = &history[usize::try_from(to).unwrap()];
    let mut rows: Vec<_> = snapshot
        .rows
        .values()
        .filter(|row| row.revision > from)
        .collect();
    rows.sort_by_key(|row| (row.revision, row.sequence));
    let mut position = from;
    let mut messages = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let is_last = rows
            .get(index + 1)
            .is_none_or(|next| next.revision > row.revision);
        if is_last {
            position = row.revision;
        }
        let is_unseen = Snapshot::is_unread(row) && row.sequence > snapshot.seen_through;
        messages.push(SubscribeResponse {
            position,
            head: Some(snapshot.head(to)),
            ring: heal && row.sequence > from && is_unseen,
            event: Some(match row.removed_at {
                Some(_) => Event::Changed(Changed {
                    notifications: vec![state(row, false)],
                }),
                None => Event::Notification((*row).clone()),
            }),
        });
    }
    messages.push(SubscribeResponse {
        position: to,
        head: Some(snapshot.head(to)),
        ring: false,
        event: Some(Event::CaughtUp(CaughtUp {})),
    });
    messages
}

/// One stream: how many messages the one before went on while this one, which
/// takes over, was being opened; how far the inbox is by then; where it lags;
/// which messages are repeated; where it is cut.
#[derive(Clone, Debug)]
struct Leg {
    overlap: usize,
    head: prop::sample::Index,
    heal: Option<(prop::sample::Index, prop::sample::Index)>,
    repeat: Option<(prop::sample::Index, usize)>,
    cut: prop::sample::Index,
}

fn leg() -> impl Strategy<Value = Leg> {
    let index = any::<prop::sample::Index>;
    (
        0..6usize,
        index(),
        prop::option::of((index(), index())),
        prop::option::of((index(), 1..5usize)),
        index(),
    )
        .prop_map(|(overlap, head, heal, repeat, cut)| Leg {
            overlap,
            head,
            heal,
            repeat,
            cut,
        })
}

/// What the service sends after `from`, to a client that has seen a head of
/// `seen`: heads do not go back.
fn stream(history: &[Snapshot], leg: &Leg, from: u64, seen: u64) -> Vec<SubscribeResponse> {
    let last = history.len() as u64 - 1;
    let between = |index: &prop::sample::Index, low: u64| {
        low + index.index(usize::try_from(last - low + 1).unwrap()) as u64
    };
    let head = between(&leg.head, seen);
    let mut messages = vec![SubscribeResponse {
        head: Some(history[usize::try_from(head).unwrap()].head(head)),
        ..connected(from, EPOCH)
    }];
    messages.extend(catch_up(history, from, head, false));
    let (lag_from, lag_to) = match &leg.heal {
        Some((start, end)) => {
            let start = between(start, head);
            (start, between(end, start))
        }
        None => (last, last),
    };
    let live = |from: u64, to: u64| {
        (from + 1..=to).map(|revision| history[usize::try_from(revision).unwrap()].live.clone())
    };
    messages.extend(live(head, lag_from));
    if leg.heal.is_some() {
        messages.extend(catch_up(history, lag_from, lag_to, true));
        messages.extend(live(lag_to, last));
    }
    if let Some((index, count)) = &leg.repeat {
        // `connected` comes once.
        let start = 1 + index.index(messages.len() - 1);
        let end = messages.len().min(start + count);
        let again = messages[start..end].to_vec();
        messages.splice(end..end, again);
    }
    messages
}

/// Folds all `legs`, the `end` uncut, and compares with the server's state.
fn check(changes: &[Change], legs: &[Leg], end: &Leg, loaded_at: usize, window: usize) {
    let history = history(changes);
    let last = history.len() - 1;
    let start = &history[loaded_at % history.len()];
    let mut inbox = Inbox::new(window);
    let all = start.listed();
    inbox.load(GetRecentResponse {
        notifications: all.iter().take(window).cloned().collect(),
        next_page_token: if all.len() > window {
            "more".into()
        } else {
            String::new()
        },
        epoch: EPOCH.into(),
        head: Some(start.head(start.live.position)),
    });

    let mut rings: BTreeMap<String, u32> = BTreeMap::new();
    let mut moments = vec![(inbox.position().unwrap(), inbox.head().revision)];
    for (number, leg) in legs.iter().chain([end]).enumerate() {
        let opened = moments.len().saturating_sub(1 + leg.overlap);
        let (from, seen) = moments[opened];
        let mut messages = stream(&history, leg, from, seen);
        // The next stream takes over from this one, or resumes after its cut.
        moments = vec![(inbox.position().unwrap(), inbox.head().revision)];
        if number < legs.len() {
            messages.truncate(leg.cut.index(messages.len() + 1));
        }
        for message in &messages {
            let before = (inbox.position(), inbox.head().revision);
            let effect = inbox.apply(message);
            assert_eq!(effect.then, Then::Continue);
            let is_first = matches!(message.event, Some(Event::Connected(_)));
            assert!(is_first || inbox.position() >= before.0, "it went back");
            assert!(inbox.head().revision >= before.1, "the count went back");
            let moment = (inbox.position().unwrap(), inbox.head().revision);
            if is_first {
                moments = vec![moment];
            } else {
                moments.push(moment);
            }
            let revision = inbox.head().revision;
            let head = history[usize::try_from(revision).unwrap()].head(revision);
            assert_eq!(*inbox.head(), head, "a count of another revision");
            if effect.ring {
                let Some(Event::Notification(row)) = &message.event else {
                    panic!("{message:?} rang");
                };
                assert!(message.ring && row.sequence > start.live.position);
                *rings.entry(row.id.clone()).or_default() += 1;
            }
        }
    }

    assert!(rings.values().all(|times| *times == 1), "{rings:?}");
    assert_eq!(inbox.position(), Some(last as u64));
    assert_eq!(*inbox.head(), history[last].head(last as u64));
    let mut expected = history[last].listed();
    expected.retain(|row| row.sequence >= inbox.oldest_sequence);
    assert_eq!(inbox.notifications(), expected);
    assert!(inbox.notifications().len() <= window);
    if window > history.len() {
        assert_eq!(inbox.oldest_sequence, 0, "nothing had to leave the list");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_cuts_repeats_heals_and_take_overs_lead_to_the_server_s_state(
        changes in prop::collection::vec(change(), 1..40),
        legs in prop::collection::vec(leg(), 0..8),
        end in leg(),
        loaded_at in 0..40usize,
        window in prop_oneof![Just(100usize), 1..8usize],
    ) {
        check(&changes, &legs, &end, loaded_at, window);
    }
}
