//! A database of maps that loads and writes as an engine does.

use std::sync::Arc;

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::model::{Content, Field};

const NOW: Timestamp = Timestamp::from_micros(1_000_000);

type Place = (InboxKey, Revision);
type Stored = (Notification, Option<(String, Fingerprint)>);

#[derive(Clone, Debug, Default, PartialEq)]
struct Database {
    rows: BTreeMap<Place, Stored>,
    heads: BTreeMap<InboxKey, StoredHead>,
}

impl Database {
    fn of(&self, inbox: &InboxKey) -> impl Iterator<Item = &Notification> {
        let rows = self.rows.iter().filter(move |((of, _), _)| of == inbox);
        rows.map(|(_, (notification, _))| notification)
    }

    /// What an engine loads for `batch`.
    fn before(&self, batch: &[Mutation]) -> Before {
        let mut before = Before::default();
        for inbox in inboxes(batch) {
            let head = self.heads.get(inbox);
            before.heads.extend(head.map(|head| (inbox.clone(), *head)));
        }
        for (inbox, wanted) in keys(batch) {
            for ((of, _), (notification, keyed)) in &self.rows {
                if let Some((key, fingerprint)) = keyed
                    && (of, key.as_str()) == (inbox, wanted)
                {
                    let keys = before.keyed.entry(inbox.clone()).or_default();
                    keys.insert(key.clone(), (notification.row.id, *fingerprint));
                    before.add_whole(inbox.clone(), notification.clone());
                }
            }
        }
        for (inbox, key) in collapse_keys(batch) {
            let of_key = |row: &&Notification| row.collapse_key.as_deref() == Some(key);
            for row in self.of(inbox).filter(of_key) {
                if row.row.state.is_unread() {
                    before.add(inbox.clone(), state(row));
                }
            }
        }
        let [named, whole] = ids(batch);
        for (inbox, id) in named {
            let row = self.of(inbox).find(|row| row.row.id == id);
            row.into_iter()
                .for_each(|row| before.add(inbox.clone(), state(row)));
        }
        for (inbox, id) in whole {
            let row = self.of(inbox).find(|row| row.row.id == id);
            row.into_iter()
                .for_each(|row| before.add_whole(inbox.clone(), row.clone()));
        }
        for (inbox, through) in seen(batch) {
            let unread = self.of(inbox).filter(|row| row.row.is_unseen(through));
            let unread = u32::try_from(unread.count()).unwrap();
            before.unread_above.insert((inbox.clone(), through), unread);
        }
        before
    }

    fn commit(&mut self, batch: &[Mutation]) -> Committed {
        let plan = plan(batch, self.before(batch), NOW);
        for (place, write) in plan.rows {
            match write {
                RowWrite::Insert {
                    notification,
                    keyed,
                } => {
                    let former = self.rows.insert(place, (notification, keyed));
                    assert_eq!(former, None, "a row was made twice");
                }
                RowWrite::Delete { .. } => drop(self.rows.remove(&place)),
                RowWrite::Update { row, content, .. } => {
                    let notification = &mut self.rows.get_mut(&place).unwrap().0;
                    notification.row = row;
                    notification.content = content.unwrap_or(notification.content.clone());
                }
            }
        }
        self.heads.extend(plan.heads);
        plan.committed
    }

    /// Promise 4, for both counts.
    fn check(&self) {
        for (
            inbox,
            StoredHead {
                head,
                row_count,
                floor,
                ..
            },
        ) in &self.heads
        {
            let count = |is: &dyn Fn(&Notification) -> bool| {
                u32::try_from(self.of(inbox).filter(|row| is(row)).count()).unwrap()
            };
            let unread = count(&|row| row.row.state.is_unread());
            let unseen = count(&|row| row.row.is_unseen(head.seen_through));
            assert_eq!((head.unread_count, head.unseen_count), (unread, unseen));
            assert_eq!(*row_count, count(&|row| row.row.state.removed.is_none()));
            for row in self.of(inbox).filter(|row| row.row.state.removed.is_some()) {
                assert_eq!(
                    *row.content,
                    Content::blank(),
                    "a removed row says something"
                );
            }
            assert!(self.of(inbox).all(|row| row.row.revision <= head.revision));
            assert!(*floor <= head.revision);
        }
    }
}

impl Database {
    /// Who holds a position at the floor or above has heard of each row that is no more.
    fn check_floor(&self, former: &Self) {
        for ((inbox, sequence), (row, _)) in &former.rows {
            let stored = &self.heads[inbox];
            let is_deleted = !self.rows.contains_key(&(inbox.clone(), *sequence));
            assert!(!is_deleted || row.row.revision <= stored.floor);
            assert!(former.heads[inbox].floor <= stored.floor);
        }
    }
}

/// As an engine loads what it needs no content of.
fn state(row: &Notification) -> Known {
    Known {
        image: Image::State(row.row),
        collapse: Known::whole(row.clone()).collapse,
    }
}

fn inbox(user: usize) -> InboxKey {
    InboxKey::parse("acme", ["ann", "bob"][user % 2]).unwrap()
}

fn content(title: usize) -> Arc<Content> {
    Arc::new(Content::new("test", title.to_string()))
}

/// A wish that becomes a mutation when its turn comes.
#[derive(Clone, Debug)]
enum Wish {
    Send {
        user: usize,
        key: Option<usize>,
        title: usize,
        collapse: Option<usize>,
        /// 0: none; 1: past; 2: to come.
        expiry: usize,
        is_silent: bool,
    },
    Edit {
        user: usize,
        /// Of the ids that there will be; also ones of the other inbox.
        ids: Vec<u128>,
        edit: Edit,
        view: View,
        through: Option<u64>,
    },
    Delete {
        user: usize,
        ids: Vec<u128>,
        why: Deletion,
    },
    Update {
        user: usize,
        of: Result<u128, usize>,
        title: usize,
        ring: bool,
    },
    Seen {
        user: usize,
        through: u64,
    },
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        Just(Edit::Read),
        Just(Edit::Unread),
        Just(Edit::Archive),
        Just(Edit::Unarchive),
        Just(Edit::Remove(RemovalCause::User)),
    ]
}

fn view() -> impl Strategy<Value = View> {
    prop_oneof![Just(View::Inbox), Just(View::Archived), Just(View::All)]
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        (
            0..2usize,
            option::of(0..3usize),
            0..2usize,
            option::of(0..2usize),
            0..3usize,
            any::<bool>()
        )
            .prop_map(
                |(user, key, title, collapse, expiry, is_silent)| Wish::Send {
                    user,
                    key,
                    title,
                    collapse,
                    expiry,
                    is_silent
                }
            ),
        (
            0..2usize,
            vec(1..12u128, 1..5),
            edit(),
            view(),
            option::of(0..12u64)
        )
            .prop_map(|(user, ids, edit, view, through)| Wish::Edit {
                user,
                ids,
                edit,
                view,
                through
            }),
        (
            0..2usize,
            vec(1..12u128, 1..5),
            prop_oneof![Just(Deletion::Purge), Just(Deletion::Erasure)]
        )
            .prop_map(|(user, ids, why)| Wish::Delete { user, ids, why }),
        (
            0..2usize,
            prop_oneof![(1..12u128).prop_map(Ok), (0..3usize).prop_map(Err)],
            0..3usize,
            any::<bool>()
        )
            .prop_map(|(user, of, title, ring)| Wish::Update {
                user,
                of,
                title,
                ring
            }),
        (0..2usize, 0..12u64).prop_map(|(user, through)| Wish::Seen { user, through }),
    ]
}

/// Ids count up, so that later wishes can name them.
fn mutations(wishes: Vec<Wish>) -> Vec<Mutation> {
    (1..)
        .zip(wishes)
        .map(|(id, wish)| match wish {
            Wish::Send {
                user,
                key,
                title,
                collapse,
                expiry,
                is_silent,
            } => Mutation::Send(NewNotification {
                idempotency_key: key.map(|key| key.to_string()),
                collapse_key: collapse.map(|key| key.to_string().into()),
                expire_time: [
                    None,
                    Some(NOW),
                    Some(Timestamp::from_micros(NOW.as_micros() + 1)),
                ][expiry],
                is_silent,
                ..NewNotification::new(
                    inbox(user),
                    Uuid::from_u128(id),
                    content(title),
                    "backend".into(),
                )
            }),
            Wish::Edit {
                user,
                ids,
                edit,
                view,
                through,
            } => Mutation::Edit {
                inbox: inbox(user),
                ids: ids.into_iter().map(Uuid::from_u128).collect(),
                edit,
                view,
                through: through.map(Revision::new),
            },
            Wish::Delete { user, ids, why } => Mutation::Delete {
                inbox: inbox(user),
                ids: ids.into_iter().map(Uuid::from_u128).collect(),
                why,
            },
            Wish::Update {
                user,
                of,
                title,
                ring,
            } => Mutation::Update(Correction {
                inbox: inbox(user),
                of: match of {
                    Ok(id) => Named::Id(Uuid::from_u128(id)),
                    Err(key) => Named::Key(key.to_string()),
                },
                content: content(title),
                fields: vec![Field::Title],
                ring,
            }),
            Wish::Seen { user, through } => Mutation::Seen {
                inbox: inbox(user),
                through: Revision::new(through),
            },
        })
        .collect()
}

proptest! {
    /// However mutations are gathered, each has the outcome, and each revision the
    /// event, that it has alone; and the counts are those of the rows.
    #[test]
    fn a_batch_is_its_members_one_after_the_other(
        wishes in vec(wish(), 1..30),
        sizes in vec(1..8usize, 30),
    ) {
        let all = mutations(wishes);
        let (mut alone, mut gathered) = (Database::default(), Database::default());
        let mut rest = all.as_slice();
        for size in sizes {
            let (batch, after) = rest.split_at(size.min(rest.len()));
            rest = after;
            let together = gathered.commit(batch);
            let mut outcomes = Vec::new();
            let mut runs: HashMap<InboxKey, Vec<InboxEvent>> = HashMap::new();
            for mutation in batch {
                let before = alone.heads.get(mutation.inbox()).copied().unwrap_or_default();
                let former = alone.clone();
                let committed = alone.commit(std::slice::from_ref(mutation));
                alone.check();
                alone.check_floor(&former);
                outcomes.extend(committed.outcomes);
                for (inbox, run) in committed.runs {
                    prop_assert_eq!(run.len(), 1, "a mutation is one change at most");
                    prop_assert_eq!(run[0].head.revision, before.head.revision.next());
                    prop_assert_eq!(run[0].head, alone.heads[&inbox].head);
                    runs.entry(inbox).or_default().extend(run);
                }
            }
            prop_assert_eq!(together.outcomes, outcomes);
            prop_assert_eq!(together.runs.into_iter().collect::<HashMap<_, _>>(), runs);
            prop_assert_eq!(&gathered, &alone);
        }
    }
}

#[test]
fn what_changes_nothing_takes_no_revision() {
    let mut database = Database::default();
    let read = |ids: Vec<u128>| Wish::Edit {
        user: 0,
        ids,
        edit: Edit::Read,
        view: View::All,
        through: None,
    };
    let send = Wish::Send {
        user: 0,
        key: None,
        title: 0,
        collapse: None,
        expiry: 0,
        is_silent: false,
    };
    let seen = Wish::Seen {
        user: 0,
        through: 1,
    };
    database.commit(&mutations(vec![send, read(vec![1]), seen.clone()]));
    let before = database.clone();
    let committed = database.commit(&mutations(vec![read(vec![1, 2]), seen]));
    assert_eq!(database, before);
    assert!(committed.runs.is_empty());
}
