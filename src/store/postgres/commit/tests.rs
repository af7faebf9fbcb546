//! What settles a doubt, held against a model of a server and of the way to it.

use std::sync::Arc;

use futures_util::FutureExt as _;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::*;
use crate::{
    model::{Content, PartOf, View},
    store::{Edit, plan::RowWrite},
};

const NOW: Timestamp = Timestamp::from_micros(1_000_000);

fn inbox(user: &str) -> InboxKey {
    InboxKey::parse("acme", user).unwrap()
}

fn send(user: &str, id: u128, key: Option<&str>) -> Mutation {
    Mutation::Send(NewNotification {
        idempotency_key: key.map(str::to_owned),
        ..NewNotification::new(
            inbox(user),
            Uuid::from_u128(id),
            Arc::new(Content::new("test", "a title")),
            "backend".into(),
        )
    })
}

fn part_of() -> PartOf {
    PartOf {
        organization_id: OrganizationId::parse("acme").unwrap(),
        send_id: Uuid::from_u128(77),
        accepted_at: Timestamp::from_micros(500_000),
    }
}

fn mark(user: &str, id: u128) -> Mutation {
    Mutation::Edit {
        inbox: inbox(user),
        ids: vec![Uuid::from_u128(id)],
        edit: Edit::Read,
        view: View::Inbox,
        through: None,
    }
}

fn see(user: &str, through: u64) -> Mutation {
    Mutation::Seen {
        inbox: inbox(user),
        through: Revision::new(through),
    }
}

/// What becomes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Done,
    /// It does not reach the server.
    LostBefore,
    /// Its answer is lost.
    LostAfter,
    /// It is given up, and comes to the server later.
    Late,
    /// The server ends it.
    Refused,
}

/// A statement of sends that was given up.
struct Late {
    batch: Vec<Mutation>,
    id: Uuid,
}

#[derive(Default)]
struct Server {
    before: Before,
    rows: HashMap<(InboxKey, Uuid), Notification>,
    commits: HashSet<Uuid>,
    late: Vec<Late>,
    /// The head of each revision.
    history: HashMap<(InboxKey, Revision), Head>,
    /// The inboxes that each batch changed, by its id.
    applied: Vec<(Uuid, HashSet<InboxKey>)>,
}

impl Server {
    fn plan(&self, batch: &[Mutation]) -> Plan {
        plan::plan(batch, self.load(batch), NOW)
    }

    fn load(&self, batch: &[Mutation]) -> Before {
        let mut before = self.before.clone();
        for ((inbox, _), found) in &self.rows {
            before.add_whole(inbox.clone(), found.clone());
        }
        for (inbox, through) in plan::seen(batch) {
            let rows = self.rows.iter().filter(|((of, _), _)| of == inbox);
            let unseen = rows.filter(|(_, found)| found.row.is_unseen(through));
            let unseen = u32::try_from(unseen.count()).unwrap();
            before.unread_above.insert((inbox.clone(), through), unseen);
        }
        before
    }

    fn apply(&mut self, plan: &Plan, id: Uuid) {
        assert!(self.commits.insert(id), "an id was committed twice");
        for ((inbox, _), write) in &plan.rows {
            match write {
                RowWrite::Delete { .. } => unreachable!("these batches delete nothing"),
                RowWrite::Insert {
                    notification,
                    keyed,
                } => {
                    if let Some((used, fingerprint)) = keyed {
                        let first = (notification.row.id, *fingerprint);
                        let keys = self.before.keyed.entry(inbox.clone()).or_default();
                        assert!(keys.insert(used.clone(), first).is_none());
                    }
                    let place = (inbox.clone(), notification.row.id);
                    assert!(self.rows.insert(place, notification.clone()).is_none());
                }
                RowWrite::Update { row, .. } => {
                    self.rows.get_mut(&(inbox.clone(), row.id)).unwrap().row = *row;
                }
            }
        }
        for (inbox, run) in &plan.committed.runs {
            for event in run.iter() {
                let at = (inbox.clone(), event.head.revision);
                let former = self.history.insert(at, event.head);
                assert!(former.is_none(), "a revision was given twice");
            }
        }
        for (inbox, head) in &plan.heads {
            self.before.heads.insert(inbox.clone(), *head);
        }
        if !plan.heads.is_empty() {
            let changed = plan.heads.keys().cloned().collect();
            self.applied.push((id, changed));
        }
    }

    /// The one statement: what it did.
    fn send(&mut self, batch: &[Mutation], id: Uuid) -> Option<Before> {
        let plan = self.plan(batch);
        if self.commits.contains(&id) || plan.rows.len() < batch.len() {
            return None;
        }
        self.apply(&plan, id);
        let heads = plan.heads.into_iter().collect();
        Some(Before {
            heads,
            ..Before::default()
        })
    }

    fn what_was_late_comes(&mut self) {
        for Late { batch, id } in std::mem::take(&mut self.late) {
            self.send(&batch, id);
        }
    }
}

/// A connection to the server; what it wrote goes with it unless it commits.
struct Fake<'s> {
    server: &'s mut Server,
    random: &'s mut StdRng,
    /// How often a step fails, of a hundred.
    faults: u32,
    id: Uuid,
    batch: Vec<Mutation>,
    is_written: bool,
    claimed: bool,
}

impl Fake<'_> {
    fn fate(&mut self, fates: &[Fate]) -> Fate {
        if self.random.random_range(0..100) < self.faults {
            *fates.choose(self.random).unwrap()
        } else {
            Fate::Done
        }
    }

    fn step(&mut self) -> Result<(), Error> {
        match self.fate(&[Fate::LostBefore, Fate::Refused]) {
            Fate::LostBefore => Err(lost()),
            Fate::Refused => Err(held()),
            _ => Ok(()),
        }
    }
}

fn lost() -> Error {
    Error::Unavailable("lost".into())
}

fn held() -> Error {
    Error::Held("held".into())
}

impl Link for Fake<'_> {
    async fn send(
        &mut self,
        sends: &Sends<'_>,
        proof: Proof<'_>,
        _: Timestamp,
    ) -> Told<Option<Before>> {
        let all = [Fate::LostBefore, Fate::LostAfter, Fate::Late, Fate::Refused];
        let batch: Vec<_> = sends
            .rows
            .iter()
            .copied()
            .cloned()
            .map(Mutation::Send)
            .collect();
        match self.fate(&all) {
            Fate::Done => Told::Done(self.server.send(&batch, proof.id)),
            Fate::Refused => Told::Undone(held()),
            fate => {
                match fate {
                    Fate::LostAfter => drop(self.server.send(&batch, proof.id)),
                    Fate::Late => self.server.late.push(Late {
                        batch,
                        id: proof.id,
                    }),
                    _ => {}
                }
                Told::Unknown(lost())
            }
        }
    }

    async fn begin(&mut self) -> Result<(), Error> {
        (self.is_written, self.claimed) = (false, false);
        self.step()
    }

    async fn claim(&mut self, proof: Proof<'_>) -> Result<bool, Error> {
        if self.random.random() {
            self.server.what_was_late_comes();
        }
        self.step().map_err(|_| lost())?;
        self.claimed = !self.server.commits.contains(&proof.id);
        Ok(self.claimed)
    }

    async fn load(&mut self, batch: &[Mutation]) -> Result<Before, Error> {
        self.step()?;
        Ok(self.server.load(batch))
    }

    async fn write(&mut self, plan: &Plan, proof: Proof<'_>) -> Result<(), Error> {
        self.step()?;
        assert_eq!(proof.id, self.id);
        self.claimed = true;
        self.is_written = !plan.heads.is_empty();
        Ok(())
    }

    async fn commit(&mut self) -> Told<()> {
        let fate = self.fate(&[Fate::LostBefore, Fate::LostAfter, Fate::Refused]);
        if matches!(fate, Fate::Done | Fate::LostAfter) {
            assert!(self.claimed, "what is committed has its proof");
            // Nobody wrote beside it, so it is what was planned.
            let plan = if self.is_written {
                self.server.plan(&self.batch)
            } else {
                Plan::default()
            };
            self.server.apply(&plan, self.id);
        }
        match fate {
            Fate::Done => Told::Done(()),
            Fate::Refused => Told::Undone(held()),
            _ => Told::Unknown(lost()),
        }
    }

    async fn find(&mut self, batch: &[Mutation]) -> Result<Found, Error> {
        self.step()?;
        let found = plan::sends(batch).filter_map(|new| {
            let key = (new.inbox.clone(), new.id);
            let row = self.server.rows.get(&key)?.clone();
            Some((key, (row, self.server.before.heads[&new.inbox].head)))
        });
        Ok(found.collect())
    }
}

/// A batch of a few mutations, with keys and marks that meet others.
fn batch(random: &mut StdRng, server: &Server, next_id: &mut u128) -> Vec<Mutation> {
    let only_sends = random.random_bool(0.6);
    (0..random.random_range(1..4))
        .map(|_| {
            let user = *["ann", "bob"].choose(random).unwrap();
            let rows: Vec<_> = server.rows.keys().collect();
            match rows.choose(random) {
                Some((inbox, id)) if !only_sends && random.random_bool(0.6) => {
                    if random.random_bool(0.7) {
                        mark(inbox.user_id.as_str(), id.as_u128())
                    } else {
                        see(inbox.user_id.as_str(), random.random_range(0..8))
                    }
                }
                _ => {
                    *next_id += 1;
                    let keys = [None, None, Some("one"), Some("two"), Some("three")];
                    let mut new = send(user, *next_id, *keys.choose(random).unwrap());
                    if let Mutation::Send(new) = &mut new
                        && random.random_bool(0.2)
                    {
                        new.part_of = Some(part_of());
                    }
                    new
                }
            }
        })
        .collect()
}

/// Answers are lost before and after a commit, several in a row, statements come late,
/// others write meanwhile: each batch is committed once at most, who is told that it was
/// is told what it did, and who is told that it was not never finds it later.
#[test]
fn what_is_told_is_what_was_committed() {
    let mut doubts = 0;
    for seed in 0..20_000 {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut server, mut next_id) = (Server::default(), 0);
        for _ in 0..4 {
            // Somebody cancels what it may be part of, or it begins.
            let part = (part_of().organization_id, part_of().send_id);
            if random.random() {
                server.before.under_way.insert(part);
            } else {
                server.before.under_way.remove(&part);
            }
            let batch = batch(&mut random, &server, &mut next_id);
            let mut commit = Commit::new(&batch, NOW);
            commit.id = Uuid::from_u128(random.random());
            let id = commit.id;
            let mut attempts = 0;
            let answer = loop {
                attempts += 1;
                let mut link = Fake {
                    server: &mut server,
                    faults: if attempts < 12 { 40 } else { 0 },
                    random: &mut random,
                    id,
                    batch: batch.clone(),
                    is_written: false,
                    claimed: false,
                };
                let attempt = commit.attempt(&mut link).now_or_never().unwrap();
                match attempt {
                    Ok(committed) => break Ok(committed),
                    Err(error) if commit.doubt.is_none() => break Err(error),
                    Err(_) => doubts += 1,
                }
                if random.random_bool(0.3) {
                    server.what_was_late_comes();
                }
                if random.random_bool(0.3) {
                    let other = self::batch(&mut random, &server, &mut next_id);
                    let plan = server.plan(&other);
                    server.apply(&plan, Uuid::from_u128(random.random()));
                }
                assert!(attempts < 100, "seed {seed}: it is never settled");
            };
            server.what_was_late_comes();
            let applied = server.applied.iter().filter(|(applied, _)| *applied == id);
            let applied: Vec<_> = applied.collect();
            match answer {
                Ok(committed) => told_truly(seed, &server, &committed, &applied),
                Err(error) => assert!(applied.is_empty(), "seed {seed}: {error}"),
            }
        }
    }
    assert!(doubts > 10_000, "only {doubts} doubts");
}

fn told_truly(
    seed: u64,
    server: &Server,
    committed: &Committed,
    applied: &[&(Uuid, HashSet<InboxKey>)],
) {
    let mut told = HashSet::new();
    for (inbox, run) in &committed.runs {
        assert!(told.insert(inbox.clone()), "seed {seed}");
        for event in run.iter() {
            let at = (inbox.clone(), event.head.revision);
            assert_eq!(server.history[&at], event.head, "seed {seed}");
        }
    }
    told.extend(committed.unknown_counts.iter().cloned());
    let changed = applied.first().map(|(_, changed)| changed.clone());
    assert_eq!(told, changed.unwrap_or_default(), "seed {seed}");
    for outcome in &committed.outcomes {
        if let Outcome::Sent(Ok(Sent { notification, .. })) = outcome {
            let mut rows = server.rows.iter();
            let row = rows.find(|((_, id), _)| *id == notification.row.id);
            let row = row
                .unwrap_or_else(|| panic!("seed {seed}: it is not there"))
                .1;
            assert_eq!(row.row.sequence, notification.row.sequence, "seed {seed}");
        }
    }
}

/// Where an inbox has changed since, its sends are answered with the present head, and
/// its rooms have to look.
#[test]
fn counts_that_are_gone_are_not_told() {
    let mut server = Server::default();
    let batch = [send("ann", 1, None), send("bob", 2, None)];
    server.send(&batch, Uuid::from_u128(1)).unwrap();
    server
        .send(&[send("bob", 3, None)], Uuid::from_u128(2))
        .unwrap();
    let found = server.rows.iter().map(|(key, row)| {
        let head = server.before.heads[&key.0].head;
        (key.clone(), (row.clone(), head))
    });
    let committed = sent_by(&batch, &found.collect()).unwrap();
    let [(ann, run)] = &committed.runs[..] else {
        panic!("{:?}", committed.runs);
    };
    let told: Vec<_> = run.iter().map(|event| event.head.revision.get()).collect();
    assert_eq!((ann, told), (&inbox("ann"), vec![1]));
    assert_eq!(committed.unknown_counts, [inbox("bob")]);
    assert!(matches!(
        committed.outcomes[1],
        Outcome::Sent(Ok(Sent { head, .. })) if (head.revision.get(), head.unread_count) == (2, 2)
    ));
    assert!(sent_by(&batch, &Found::new()).is_none());
}
