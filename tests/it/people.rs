//! People who do all there is with their inboxes, while all breaks.
//!
//! Each takes one step after the other, alone with an inbox, so a model says what every
//! answer and every page must be. What was not answered may have been done, or not, or is
//! done a moment later: a marker is sent behind it, and the inbox must then be as one of
//! these makes it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use doorbell::client;
use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use crate::{history::Check, process::PATIENCE};

mod backend;
mod deed;
mod follower;
mod known;
mod person;

use backend::Backend;
use deed::Node;
use follower::Followed;
use known::Known;
use person::Person;

const PEOPLE: usize = 6;

/// Before what became of what was not answered.
const DOUBT: &str = "in doubt: ";

/// How often each was so, over all people.
type Tally = Arc<Mutex<BTreeMap<String, usize>>>;

/// That of a person, where what is said to all is said to nobody else who is known.
fn organization(name: &str) -> String {
    format!("people of {name}")
}

/// What a service refuses in spite of what was asked is a finding, unless what is done
/// to it deserves it. All else is the connection.
fn passes(error: &client::Error, tolerated: &[&str]) -> Check {
    match error.reason() {
        Some(reason) if !tolerated.contains(&reason.as_str()) => {
            Err(format!("refused with {reason}: {error}"))
        }
        _ => Ok(()),
    }
}

/// What nobody has done yet.
fn missing(tally: &Tally) -> Vec<String> {
    let tally = tally.lock().unwrap();
    let mut kinds = [deed::kinds(), person::kinds()].concat();
    kinds.retain(|kind| !tally.contains_key(kind));
    kinds
}

/// All people, and who follows their inboxes.
pub struct People {
    nodes: Vec<Vec<Node>>,
    stop: watch::Sender<bool>,
    people: JoinSet<Result<(usize, Known), String>>,
    /// The revisions that the inboxes end with.
    goal: watch::Sender<Option<[u64; PEOPLE]>>,
    followers: JoinSet<Result<Followed, String>>,
    tally: Tally,
}

impl People {
    /// They begin, on the nodes at `urls`. A call may be refused for a reason of
    /// `tolerated`; then it is in doubt.
    pub fn start(urls: &[String], tolerated: &'static [&'static str], random: &mut StdRng) -> Self {
        let mut all = Self {
            nodes: Vec::new(),
            stop: watch::Sender::new(false),
            people: JoinSet::new(),
            goal: watch::Sender::new(None),
            followers: JoinSet::new(),
            tally: Tally::default(),
        };
        for at in 0..PEOPLE {
            let name = format!("p{at}");
            let nodes: Vec<_> = urls.iter().map(|url| Node::new(url, &name)).collect();
            all.nodes.push(nodes.clone());
            let url = urls[at % urls.len()].clone();
            let followed = follower::follow(at, url, name.clone(), all.goal.subscribe());
            all.followers.spawn(followed);
            let random = StdRng::seed_from_u64(random.next_u64());
            let backend = Backend::new(urls, &name, tolerated);
            let person = Person::new(name, nodes, backend, tolerated, random, all.tally.clone());
            let stop = all.stop.subscribe();
            let lived = async move { Ok((at, person.live(stop).await?)) };
            all.people.spawn(lived);
        }
        all
    }

    /// A finding that is there already.
    pub fn look(&mut self) -> Check {
        let person = self.people.try_join_next();
        let person = person.map(|ended| ended.unwrap().map(drop));
        let follower = self.followers.try_join_next();
        let follower = follower.map(|ended| ended.unwrap().map(drop));
        match person.or(follower) {
            Some(Ok(())) => panic!("somebody ended before they were told to"),
            Some(finding) => finding,
            None => Ok(()),
        }
    }

    /// They end, with all there. What they know and what their followers have is the
    /// same, and everything was done and not only tried.
    #[expect(clippy::print_stdout, reason = "what the run has proved")]
    pub async fn finish(mut self) -> Check {
        self.stop.send_replace(true);
        let mut known: [Known; PEOPLE] = Default::default();
        while let Some(ended) = self.people.join_next().await {
            let (at, knows) = ended.unwrap()?;
            known[at] = knows;
        }
        let goal = known.each_ref().map(|known| known.head().revision);
        self.goal.send_replace(Some(goal));
        let come = async {
            while let Some(followed) = self.followers.join_next().await {
                let Followed { at, rows, head } = followed.unwrap()?;
                let checked = known[at].check_inbox(&rows, head);
                checked.map_err(|finding| format!("who follows p{at}: {finding}"))?;
            }
            Ok::<_, String>(())
        };
        let come = timeout(2 * PATIENCE, come).await;
        come.map_err(|_| format!("who follows does not come to {goal:?}"))??;
        let missing = missing(&self.tally);
        let tally = self.tally.lock().unwrap();
        let (doubts, done): (Vec<_>, Vec<_>) =
            tally.iter().partition(|(what, _)| what.starts_with(DOUBT));
        let sum: usize = done.iter().map(|(_, count)| **count).sum();
        println!("{PEOPLE} people, revisions {goal:?}, {sum} done: {done:?}, {doubts:?}");
        if !missing.is_empty() {
            return Err(format!("never done: {missing:?}"));
        }
        Ok(())
    }
}
