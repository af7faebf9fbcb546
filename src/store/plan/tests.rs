//! What must hold whatever the batches: the plan's writes are applied to rows in
//! memory, as an engine applies them to its tables.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::model::Content;

/// The rows of all inboxes, and their heads.
#[derive(Default)]
struct Tables {
    heads: HashMap<InboxKey, Head>,
    rows: HashMap<(InboxKey, Uuid), Insert>,
}

impl Tables {
    /// What an engine loads for a batch.
    fn before(&self, batch: &[Mutation]) -> Before {
        let mut before = Before::default();
        for inbox in inboxes(batch) {
            if let Some(head) = self.heads.get(inbox) {
                before.heads.insert(inbox.clone(), *head);
            }
        }
        for (inbox, key) in keys(batch) {
            let keyed = self.rows.values().find_map(|row| {
                let (its_key, fingerprint) = row.keyed.as_ref()?;
                (row.inbox == *inbox && its_key == key).then(|| Keyed {
                    notification: row.notification.clone(),
                    fingerprint: *fingerprint,
                })
            });
            if let Some(keyed) = keyed {
                let keys = before.keyed.entry(inbox.clone()).or_default();
                keys.insert(key.to_owned(), keyed);
            }
        }
        for (inbox, id) in ids(batch) {
            let row = self.rows.get(&(inbox.clone(), id));
            if row.is_some_and(|row| row.notification.is_unread()) {
                before.unread.entry(inbox.clone()).or_default().insert(id);
            }
        }
        before
    }

    fn write(&mut self, plan: Plan) {
        for insert in plan.inserts {
            let at = (insert.inbox.clone(), insert.notification.id);
            let before = self.rows.insert(at, insert);
            assert!(before.is_none(), "a row is made once");
        }
        for mark in plan.marks {
            let row = self.rows.get_mut(&(mark.inbox, mark.id)).unwrap();
            let row = &mut row.notification;
            assert!(row.is_unread(), "a row is read once");
            row.read_at = Some(mark.read_at);
            row.revision = mark.revision;
        }
        self.heads.extend(plan.heads);
    }

    fn of<'t>(&'t self, inbox: &'t InboxKey) -> impl Iterator<Item = &'t Notification> {
        let rows = self.rows.values().filter(move |row| row.inbox == *inbox);
        rows.map(|row| &row.notification)
    }

    /// Promises 3 and 4, and the order of an inbox.
    fn check(&self) {
        for (inbox, head) in &self.heads {
            let unread = self.of(inbox).filter(|row| row.is_unread()).count();
            assert_eq!(head.unread_count as usize, unread, "{inbox:?}");
            let mut rows: Vec<_> = self.of(inbox).collect();
            rows.sort_by_key(|row| row.sequence);
            assert!(
                rows.is_sorted_by(|a, b| a.sequence < b.sequence && a.created_at < b.created_at)
            );
            let last = rows.iter().map(|row| row.revision).max().unwrap();
            assert_eq!(
                (head.revision, head.last_created_at),
                (last, rows[rows.len() - 1].created_at)
            );
            for row in rows {
                assert!(row.sequence <= row.revision);
                assert!(row.read_at.is_none_or(|at| at >= row.created_at));
            }
        }
    }
}

fn inbox() -> impl Strategy<Value = InboxKey> {
    (0..2, 0..2).prop_map(|(organization, user)| {
        InboxKey::parse(&format!("o{organization}"), &format!("u{user}")).unwrap()
    })
}

/// Sends with few keys and contents, and marks of what may be there: ids are those of
/// the sends, numbered in their order.
fn mutation() -> impl Strategy<Value = Mutation> {
    let send = (inbox(), prop::option::of(0..3_u8), 0..2_u8).prop_map(|(inbox, key, title)| {
        Mutation::Send(NewNotification {
            inbox,
            id: Uuid::nil(),
            content: Arc::new(Content {
                kind: "test".into(),
                title: format!("title {title}"),
                body: None,
                entity_type: None,
                entity_id: None,
                action_url: None,
                data: None,
            }),
            idempotency_key: key.map(|key| format!("key {key}")),
            sender: "backend".into(),
        })
    });
    let mark = (inbox(), vec(1..40_u128, 1..6)).prop_map(|(inbox, ids)| Mutation::MarkRead {
        inbox,
        notification_ids: ids.into_iter().map(Uuid::from_u128).collect(),
    });
    prop_oneof![3 => send, 2 => mark]
}

proptest! {
    #[test]
    fn heads_and_answers_are_those_of_the_rows_whatever_happens(
        batches in vec((vec(mutation(), 1..8), 0..50_i64), 1..8),
    ) {
        let (mut tables, mut made) = (Tables::default(), 0);
        for (mut batch, now) in batches {
            for mutation in &mut batch {
                if let Mutation::Send(new) = mutation {
                    made += 1;
                    new.id = Uuid::from_u128(made);
                }
            }
            let plan = plan(&batch, tables.before(&batch), Timestamp::from_micros(now));
            let heads_before = tables.heads.clone();
            let committed = plan.committed.outcomes.clone();
            // Each inbox's events take each revision once, up to the head.
            for (inbox, run) in &plan.committed.runs {
                let before = heads_before.get(inbox).copied().unwrap_or_default();
                let mut expected = before.revision;
                for event in run {
                    expected = expected.next();
                    prop_assert_eq!(event.revision, expected);
                }
                let last = run.last().unwrap();
                let head = plan.heads[inbox];
                prop_assert_eq!((head.revision, head.unread_count), (last.revision, last.unread_count));
            }
            prop_assert_eq!(plan.committed.runs.len(), plan.heads.len());
            tables.write(plan);
            tables.check();
            for (mutation, outcome) in batch.iter().zip(&committed) {
                if let (Mutation::Send(new), Outcome::Sent { notification, duplicate, .. }) =
                    (mutation, outcome)
                {
                    prop_assert_eq!(&notification.content, &new.content);
                    prop_assert_eq!(notification.id != new.id, *duplicate);
                    prop_assert!(tables.rows.contains_key(&(new.inbox.clone(), notification.id)));
                }
            }
        }
    }
}
