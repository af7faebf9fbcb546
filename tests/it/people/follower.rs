//! Who follows somebody's inbox through all that breaks, as a Rust service would.

use std::{collections::HashSet, time::Duration};

use doorbell::{client, proto::Notification};
use tokio::{sync::watch, time::timeout};

use super::{PEOPLE, organization};
use crate::{history::Head, process::PATIENCE, server::user_token};

/// More than there ever are in an inbox: the list is whole.
const WINDOW: usize = 100;

/// What a follower has in the end, the newest first.
pub struct Followed {
    pub at: usize,
    pub rows: Vec<Notification>,
    pub head: Head,
}

/// Follows until the goal is there and reached.
pub async fn follow(
    at: usize,
    url: String,
    name: String,
    mut goal: watch::Receiver<Option<[u64; PEOPLE]>>,
) -> Result<Followed, String> {
    let options = client::Options {
        window: WINDOW,
        backoff_base: Duration::from_millis(20),
        backoff_cap: Duration::from_millis(200),
        ..client::Options::default()
    };
    let token = client::TokenSource::fixed(&user_token(&organization(&name), &name));
    let client = client::Client::new(&url, token, options).unwrap();
    let mut watch = client.watch();
    let mut rang = HashSet::new();
    loop {
        let inbox = watch.inbox();
        if let Some(goal) = *goal.borrow_and_update()
            && inbox.position() == Some(goal[at])
        {
            return Ok(Followed {
                at,
                rows: inbox.notifications().to_vec(),
                head: Head::from(Some(*inbox.head())),
            });
        }
        let update = tokio::select! {
            update = timeout(PATIENCE, watch.next()) => update,
            _ = goal.changed() => continue,
        };
        let update = update.map_err(|_| format!("silence at who follows {name}"))?;
        let update = update
            .expect("it ends with its error")
            .map_err(|error| format!("who follows {name} ended: {error}"))?;
        if let client::Event::Notification {
            notification,
            ring: true,
        } = update.event
        {
            let bell = (notification.id, notification.ring_revision);
            if bell.1 == 0 {
                return Err(format!("who follows {name} heard a silent {}", bell.0));
            }
            if let Some((id, revision)) = rang.replace(bell) {
                return Err(format!("who follows {name} heard {id} of {revision} twice"));
            }
        }
    }
}
