use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::proto::{CaughtUp, Connected, Heartbeat, Reconnect, Reset};

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

fn page(rows: &[u64], revision: u64, unread_count: u32, more: bool) -> GetRecentResponse {
    GetRecentResponse {
        notifications: rows.iter().copied().map(row).collect(),
        next_page_token: if more { "more".into() } else { String::new() },
        epoch: EPOCH.into(),
        revision,
        unread_count,
    }
}

fn message(position: u64, event: Event) -> SubscribeResponse {
    SubscribeResponse {
        position,
        revision: position,
        unread_count: 0,
        replayed: false,
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
    assert!(!inbox.apply(&message(5, Event::Notification(old))).ring);
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

#[test]
fn marked_read_applies_above_the_position_only() {
    let mut inbox = loaded(&[3, 2], 3, false);
    let marked = |position| {
        let marked = MarkedRead {
            notification_ids: vec!["id-2".into(), "unknown".into()],
            read_at: Some(timestamp(position)),
        };
        message(position, Event::MarkedRead(marked))
    };
    inbox.apply(&marked(3));
    assert_eq!(inbox.notifications()[1].read_at, None);
    assert!(inbox.apply(&marked(4)).changed);
    assert_eq!(inbox.notifications()[1].read_at, Some(timestamp(4)));
    assert_eq!(inbox.notifications()[1].revision, 4);
    inbox.apply(&marked(4));
    assert_eq!(inbox.notifications()[1].read_at, Some(timestamp(4)));
}

#[test]
fn marked_read_leaves_a_later_copy_alone() {
    let mut inbox = loaded(&[3, 2], 3, false);
    let later = Notification {
        revision: 6,
        ..row(2)
    };
    // Caught up on in one state, out of the order of its changes.
    let ahead = SubscribeResponse {
        position: 3,
        ..message(6, Event::Notification(later))
    };
    inbox.apply(&ahead);
    let marked = MarkedRead {
        notification_ids: vec!["id-2".into()],
        read_at: Some(timestamp(5)),
    };
    assert!(!inbox.apply(&message(5, Event::MarkedRead(marked))).changed);
    assert_eq!(inbox.notifications()[1].revision, 6);
}

#[test]
fn the_count_is_that_of_the_highest_revision_seen() {
    let mut inbox = loaded(&[], 10, false);
    let heartbeat = |revision, unread_count| SubscribeResponse {
        position: 10,
        revision,
        unread_count,
        replayed: false,
        event: Some(Event::Heartbeat(Heartbeat {})),
    };
    assert!(inbox.apply(&heartbeat(12, 7)).changed);
    assert!(!inbox.apply(&heartbeat(11, 3)).changed);
    assert_eq!((inbox.revision(), inbox.unread_count()), (12, 7));
    // The head that came along is not what was delivered.
    assert_eq!(inbox.position(), Some(10));
}

#[test]
fn a_reset_and_an_unknown_event_above_the_position_ask_for_a_load() {
    let unknown = |position| SubscribeResponse {
        position,
        revision: position,
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
    assert_eq!((inbox.revision(), inbox.position()), (0, None));
    assert_eq!(inbox.epoch(), None);
}

#[test]
fn an_epoch_that_was_not_known_is_taken_over() {
    let mut inbox = Inbox::resume(3, 5, None);
    assert_eq!(inbox.apply(&connected(5, "two")).then, Then::Continue);
    assert_eq!((inbox.epoch(), inbox.position()), (Some("two"), Some(5)));
    let replayed = SubscribeResponse {
        replayed: true,
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

/// One change of the model's inbox, by indices that are taken modulo what there
/// is.
#[derive(Clone, Debug)]
enum Change {
    Send,
    MarkRead(Vec<prop::sample::Index>),
    Archive(prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        5 => Just(Change::Send),
        3 => prop::collection::vec(any::<prop::sample::Index>(), 1..4).prop_map(Change::MarkRead),
        2 => any::<prop::sample::Index>().prop_map(Change::Archive),
    ]
}

/// The server's inbox at one revision, and the live message that led there.
#[derive(Clone, Default)]
struct Snapshot {
    rows: BTreeMap<u64, Notification>,
    live: SubscribeResponse,
}

impl Snapshot {
    fn unread_count(&self) -> u32 {
        let unread = |row: &&Notification| row.read_at.is_none() && row.archived_at.is_none();
        u32::try_from(self.rows.values().filter(unread).count()).unwrap()
    }

    fn listed(&self) -> Vec<Notification> {
        let shown = |row: &&Notification| row.archived_at.is_none();
        self.rows.values().rev().filter(shown).cloned().collect()
    }
}

/// All revisions of the inbox; the index is the revision.
fn history(changes: &[Change]) -> Vec<Snapshot> {
    let mut snapshots = vec![Snapshot::default()];
    for change in changes {
        let mut next = snapshots.last().unwrap().clone();
        let revision = snapshots.len() as u64;
        let unread: Vec<u64> = next
            .rows
            .values()
            .filter(|row| row.read_at.is_none() && row.archived_at.is_none())
            .map(|row| row.sequence)
            .collect();
        let present: Vec<u64> = next.listed().iter().map(|row| row.sequence).collect();
        let event = match change {
            Change::Send => {
                next.rows.insert(revision, row(revision));
                Event::Notification(row(revision))
            }
            Change::MarkRead(picks) if !unread.is_empty() => {
                let mut ids = Vec::new();
                for pick in picks {
                    let row = next.rows.get_mut(pick.get(&unread)).unwrap();
                    if row.read_at.is_none() {
                        row.read_at = Some(timestamp(revision));
                        row.revision = revision;
                        ids.push(row.id.clone());
                    }
                }
                Event::MarkedRead(MarkedRead {
                    notification_ids: ids,
                    read_at: Some(timestamp(revision)),
                })
            }
            Change::Archive(pick) if !present.is_empty() => {
                let row = next.rows.get_mut(pick.get(&present)).unwrap();
                row.archived_at = Some(timestamp(revision));
                row.revision = revision;
                Event::Notification(row.clone())
            }
            // Changes nothing, so takes no revision.
            _ => continue,
        };
        next.live = SubscribeResponse {
            position: revision,
            revision,
            unread_count: next.unread_count(),
            replayed: false,
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
        messages.push(SubscribeResponse {
            position,
            revision: to,
            unread_count: snapshot.unread_count(),
            replayed: !(heal && row.sequence > from),
            event: Some(Event::Notification((*row).clone())),
        });
    }
    messages.push(SubscribeResponse {
        position: to,
        revision: to,
        unread_count: snapshot.unread_count(),
        replayed: true,
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
        revision: head,
        unread_count: history[usize::try_from(head).unwrap()].unread_count(),
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
        revision: start.live.revision,
        unread_count: start.unread_count(),
    });

    let mut rings: BTreeMap<String, u32> = BTreeMap::new();
    let mut moments = vec![(inbox.position().unwrap(), inbox.revision())];
    for (number, leg) in legs.iter().chain([end]).enumerate() {
        let opened = moments.len().saturating_sub(1 + leg.overlap);
        let (from, seen) = moments[opened];
        let mut messages = stream(&history, leg, from, seen);
        // The next stream takes over from this one, or resumes after its cut.
        moments = vec![(inbox.position().unwrap(), inbox.revision())];
        if number < legs.len() {
            messages.truncate(leg.cut.index(messages.len() + 1));
        }
        for message in &messages {
            let before = (inbox.position(), inbox.revision());
            let effect = inbox.apply(message);
            assert_eq!(effect.then, Then::Continue);
            let is_first = matches!(message.event, Some(Event::Connected(_)));
            assert!(is_first || inbox.position() >= before.0, "it went back");
            assert!(inbox.revision() >= before.1, "the count went back");
            let moment = (inbox.position().unwrap(), inbox.revision());
            if is_first {
                moments = vec![moment];
            } else {
                moments.push(moment);
            }
            let count = history[usize::try_from(inbox.revision()).unwrap()].unread_count();
            assert_eq!(inbox.unread_count(), count, "a count of another revision");
            if effect.ring {
                let Some(Event::Notification(row)) = &message.event else {
                    panic!("{message:?} rang");
                };
                assert!(!message.replayed && row.sequence > start.live.revision);
                *rings.entry(row.id.clone()).or_default() += 1;
            }
        }
    }

    assert!(rings.values().all(|times| *times == 1), "{rings:?}");
    assert_eq!(inbox.position(), Some(last as u64));
    assert_eq!(inbox.revision(), last as u64);
    assert_eq!(inbox.unread_count(), history[last].unread_count());
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
