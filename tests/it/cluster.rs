//! Several nodes of the real binary on one Postgres and one NATS, and what breaks
//! between them.
//!
//! What is wrong with the service is returned as a finding, so that the oracle can
//! see that deliberate bugs are found; what is wrong with a test panics.

use std::{process::Command, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use doorbell::{
    bus::{self, Bus, nats::Nats as NatsBus},
    clock::Timestamp,
    config::{BusSettings, FeedSettings, WriterSettings},
    hub::Received,
    inbox::{
        Inboxes,
        feed::{Event as FeedEvent, Resume},
    },
    model::{Change, Content, Head, InboxEvent, InboxKey, NewNotification, Revision, Run},
    proto::{
        GetUnreadCountRequest, SendInAppRequest, SubscribeRequest, SubscribeResponse,
        subscribe_response::Event,
    },
    random::SeededRandom,
};
use nkeys::KeyPair;
use prost::Message as _;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::{Value, json};
use tokio::{
    task::{JoinSet, block_in_place},
    time::{Instant, sleep, timeout},
};
use tonic::Streaming;
use uuid::Uuid;

use crate::{
    calls::{counts, mark, page},
    engines::{self, Break, Nats, PgBouncer, Postgres, Proxy},
    history::Check,
    load::{Load, Survived},
    people::People,
    process::{PATIENCE, run},
    server::{Client, DOORBELL, Server, Setup, free_port},
    support::{self, WildClock},
};

/// An event that came by the bus is there within this; one that a heartbeat would
/// have found comes much later.
const PROMPT: Duration = Duration::from_secs(8);
/// So long that nothing in these tests is found by it.
const NO_HEARTBEAT: &str = "10m";

/// Nodes, each with its own way to Postgres and to NATS.
pub struct Cluster {
    pub postgres: Postgres,
    nats: Nats,
    pub database: String,
    pub to_postgres: Vec<Proxy>,
    to_nats: Vec<Proxy>,
    pub nodes: Vec<Server>,
}

impl Cluster {
    pub async fn start(nodes: usize, variables: &[(&str, &str)]) -> Self {
        let postgres = block_in_place(Postgres::start);
        let nats = block_in_place(Nats::start);
        let database = postgres.create_database().await;
        let mut cluster = Self {
            postgres,
            nats,
            database,
            to_postgres: vec![],
            to_nats: vec![],
            nodes: vec![],
        };
        for _ in 0..nodes {
            let to_postgres = Proxy::start(cluster.postgres.address).await;
            let to_nats = Proxy::start(cluster.nats.address).await;
            let name = engines::database_of(&cluster.database);
            let mut setup = Setup::new()
                .with("DATABASE_URL", engines::url(to_postgres.address, name))
                .with("NATS_URL", format!("nats://{}", to_nats.address))
                .with("DATABASE_STATEMENT_TIMEOUT", "2s")
                .with("DATABASE_CONNECT_TIMEOUT", "2s");
            for (name, value) in variables {
                setup.variables.insert((*name).into(), (*value).into());
            }
            cluster.nodes.push(block_in_place(|| setup.start()));
            cluster.to_postgres.push(to_postgres);
            cluster.to_nats.push(to_nats);
        }
        cluster
    }

    /// With this deliberate bug, in a build that has them.
    async fn with_bug(nodes: usize, bug: &str, heartbeat: &str) -> Self {
        let variables = [
            ("SABOTAGE", bug),
            ("DOORBELL_HEARTBEAT_INTERVAL", heartbeat),
        ];
        Self::start(nodes, &variables).await
    }

    /// Starts a node that was killed or told to drain; whoever drained ended well.
    pub fn start_again(&mut self, node: usize, was_told: bool) {
        let server = &mut self.nodes[node];
        let status = server.wait(PATIENCE);
        assert_eq!(status.success(), was_told, "{status}: {}", server.log());
        self.nodes[node] = server.setup.clone().start();
    }

    pub fn log(&self) -> String {
        let is_complaint = |line: &&str| line.contains("\"ERROR\"") || line.contains("\"WARN\"");
        let complaints = |node: &Server| {
            let log = node.log();
            let lines: Vec<_> = log.lines().filter(is_complaint).collect();
            let last = &lines[lines.len().saturating_sub(12)..];
            format!("{}:\n{}", node.setup.listen, last.join("\n"))
        };
        self.nodes
            .iter()
            .map(complaints)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// What can be held against the database while the load goes on: each send has a
    /// title of its own, so what was committed again under another id is found where it
    /// happens, and not only when all is told.
    /// What was removed has no title any more.
    async fn check_sent_once(&self) -> Check {
        let query = "SELECT count(*) FROM (SELECT 1 FROM notifications \
                     WHERE removed_at IS NULL GROUP BY organization_id, user_id, title \
                     HAVING count(*) > 1) AS twice";
        match engines::number(&self.database, query).await {
            0 => Ok(()),
            twice => Err(format!("{twice} sends are in the database twice")),
        }
    }

    /// What other eyes than the service's see in the database.
    pub async fn check(&self) -> Check {
        for (what, query) in [
            (
                "each unread count is a count of the rows",
                "SELECT count(*) FROM inboxes AS i WHERE unread_count <> (SELECT count(*) \
                 FROM notifications AS n WHERE (n.organization_id, n.user_id) = \
                 (i.organization_id, i.user_id) AND read_at IS NULL AND archived_at IS NULL \
                 AND removed_at IS NULL)",
            ),
            (
                "each unseen count is a count of the rows",
                "SELECT count(*) FROM inboxes AS i WHERE unseen_count <> (SELECT count(*) \
                 FROM notifications AS n WHERE (n.organization_id, n.user_id) = \
                 (i.organization_id, i.user_id) AND read_at IS NULL AND archived_at IS NULL \
                 AND removed_at IS NULL AND n.sequence > i.seen_through)",
            ),
            // A look has no row, and raises `seen_through` by one at least. Where people do
            // all there is, a row can change twice: their own model holds that.
            (
                "each revision from 1 to the head is the making or the reading of a row, or a look",
                "SELECT count(*) FROM (SELECT 1 FROM inboxes AS i JOIN (SELECT organization_id, \
                 user_id, revision AS at FROM notifications UNION SELECT organization_id, user_id, \
                 sequence FROM notifications) AS c USING (organization_id, user_id) \
                 WHERE organization_id NOT LIKE 'people of %' \
                 GROUP BY organization_id, user_id, i.revision, i.seen_through \
                 HAVING i.revision - count(*) NOT BETWEEN 0 AND i.seen_through OR min(at) <> 1 \
                 OR max(at) > i.revision OR i.seen_through >= i.revision) AS wrong",
            ),
            (
                "created_at strictly increases",
                "SELECT count(*) FROM (SELECT created_at, lag(created_at) OVER (PARTITION BY \
                 organization_id, user_id ORDER BY sequence) AS former FROM notifications) AS n \
                 WHERE former >= created_at",
            ),
        ] {
            let wrong = engines::number(&self.database, query).await;
            if wrong != 0 {
                return Err(format!("not true of {wrong} in the database: {what}"));
            }
        }
        Ok(())
    }
}

fn request(title: &str, key: Option<&str>) -> SendInAppRequest {
    SendInAppRequest {
        organization_id: "acme".into(),
        recipient_user_id: "ann".into(),
        r#type: "test".into(),
        title: title.into(),
        idempotency_key: key.map(str::to_owned),
        ..SendInAppRequest::default()
    }
}

/// A stream that was opened live at the head.
async fn live(node: &Server) -> Streaming<SubscribeResponse> {
    let mut ann = node.user("acme", "ann").await;
    let stream = ann.subscribe(SubscribeRequest::default()).await.unwrap();
    let mut stream = stream.into_inner();
    let connected = stream.message().await.unwrap().unwrap();
    assert!(matches!(connected.event, Some(Event::Connected(_))));
    stream
}

/// The next message that is no heartbeat.
async fn next(stream: &mut Streaming<SubscribeResponse>) -> Result<SubscribeResponse, String> {
    loop {
        let message = timeout(PROMPT, stream.message())
            .await
            .map_err(|_| "nothing comes to a stream of another node".to_owned())?
            .map_err(|status| status.to_string())?
            .ok_or("the stream ended")?;
        if !matches!(message.event, Some(Event::Heartbeat(_))) {
            return Ok(message);
        }
    }
}

/// The title of the notification that comes next; what only closes a heal is
/// passed over.
async fn rung(stream: &mut Streaming<SubscribeResponse>) -> Result<String, String> {
    loop {
        match next(stream).await?.event {
            Some(Event::Notification(notification)) => return Ok(notification.title),
            Some(Event::CaughtUp(_)) => {}
            other => return Err(format!("{other:?}")),
        }
    }
}

/// Waits until a stream that was just opened is left to the bus: a second after
/// its first stream a node checks the rooms of an organization.
async fn until_left_to_the_bus() {
    sleep(Duration::from_millis(1500)).await;
}

/// What is done to a cluster under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    KillPostgres,
    PausePostgres,
    CutPostgres,
    BreakCommits,
    KillNats,
    CutNats,
    KillNode,
    Drain,
}

use Fault::{
    BreakCommits, CutNats, CutPostgres, Drain, KillNats, KillNode, KillPostgres, PausePostgres,
};

/// Of each, one at a time.
const OF_POSTGRES: [Fault; 4] = [KillPostgres, PausePostgres, CutPostgres, BreakCommits];
const OF_THE_REST: [Fault; 4] = [KillNats, CutNats, KillNode, Drain];

/// What a COMMIT of each node goes through.
const BREAKS: [Break; 3] = [Break::After, Break::Before, Break::After];

impl Cluster {
    /// `faults` begin, last for a moment together, and end. No node has two of
    /// them.
    async fn suffer(
        &mut self,
        faults: &[Fault],
        busy: &mut Busy,
        random: &mut StdRng,
    ) -> Result<(), String> {
        let mut nodes: Vec<usize> = (0..self.nodes.len()).collect();
        nodes.shuffle(random);
        let broken = self.broken();
        let (struck, spared) = nodes.split_at(faults.len());
        for (fault, node) in faults.iter().zip(struck) {
            self.begin(*fault, *node, spared).await;
        }
        // A pause up to beyond the time that a statement may take.
        let most = if faults.contains(&PausePostgres) {
            4500
        } else {
            1200
        };
        sleep(Duration::from_millis(random.random_range(100..most))).await;
        // What only one node lacks, the others go on without.
        if !faults
            .iter()
            .any(|fault| [KillPostgres, PausePostgres].contains(fault))
        {
            progress(busy, 20, self).await?;
        }
        let broken = broken + BREAKS.len() * (1 + spared.len());
        for (fault, node) in faults.iter().zip(struck) {
            self.end(*fault, *node, broken).await;
        }
        Ok(())
    }

    async fn begin(&self, fault: Fault, node: usize, spared: &[usize]) {
        match fault {
            KillPostgres => block_in_place(|| self.postgres.kill()),
            PausePostgres => self.postgres.pause(),
            CutPostgres => self.to_postgres[node].cut().await,
            BreakCommits => {
                for node in spared.iter().chain([&node]) {
                    self.to_postgres[*node].break_commits(&BREAKS);
                }
            }
            KillNats => block_in_place(|| self.nats.kill()),
            CutNats => self.to_nats[node].cut().await,
            KillNode => self.nodes[node].signal("KILL"),
            Drain => self.nodes[node].signal("TERM"),
        }
    }

    async fn end(&mut self, fault: Fault, node: usize, broken: usize) {
        match fault {
            KillPostgres => block_in_place(|| self.postgres.restart()),
            PausePostgres => self.postgres.resume(),
            CutPostgres => self.to_postgres[node].mend(),
            BreakCommits => {
                let deadline = Instant::now() + PATIENCE;
                while self.broken() < broken {
                    assert!(Instant::now() < deadline, "no commits: {}", self.log());
                    sleep(Duration::from_millis(5)).await;
                }
            }
            KillNats => block_in_place(|| self.nats.restart()),
            CutNats => self.to_nats[node].mend(),
            KillNode | Drain => block_in_place(|| self.start_again(node, fault == Drain)),
        }
    }

    fn broken(&self) -> usize {
        self.to_postgres.iter().map(Proxy::broken).sum()
    }
}

/// All who are at work while all breaks.
struct Busy {
    load: Load,
    people: People,
}

impl Busy {
    /// A finding that is there already.
    fn look(&mut self) -> Check {
        self.load.look().and_then(|()| self.people.look())
    }

    /// Ends all work, with all there, and holds everything against everything.
    async fn finish(self) -> Check {
        self.people.finish().await?;
        let Survived { .. } = self.load.finish().await?;
        Ok(())
    }
}

/// Waits for so many answered writes of the load, or for a finding.
async fn progress(busy: &mut Busy, writes: usize, cluster: &Cluster) -> Check {
    let enough = busy.load.answered() + writes;
    let deadline = Instant::now() + PATIENCE;
    while busy.load.answered() < enough {
        busy.look()
            .map_err(|finding| format!("{finding}\n{}", cluster.log()))?;
        assert!(Instant::now() < deadline, "no load: {}", cluster.log());
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Three nodes under load and with people, while everything breaks: in turn, then two at once.
pub async fn suffer_all(seed: u64, bug: &str) -> Check {
    let mut random = StdRng::seed_from_u64(seed);
    let settings = [
        ("SABOTAGE", bug),
        ("DOORBELL_HEARTBEAT_INTERVAL", "1s"),
        ("DOORBELL_ROOM_CAPACITY", "2"),
        ("DOORBELL_REPLAY_PAGE", "7"),
        ("DOORBELL_REPLAY_LIMIT", "1000000"),
        ("DOORBELL_WRITE_BATCH", "8"),
        ("DOORBELL_OPERATOR_ROLE", "operator"),
    ];
    let mut cluster = Cluster::start(3, &settings).await;
    let urls: Vec<_> = cluster.nodes.iter().map(Server::url).collect();
    let tolerated = &["STORE_UNAVAILABLE", "DRAINING"];
    let mut busy = Busy {
        people: People::start(&urls, tolerated, &mut random),
        load: Load::start(urls, tolerated, &mut random),
    };
    let (mut of_postgres, mut of_the_rest) = (OF_POSTGRES, OF_THE_REST);
    let mut alone = [OF_POSTGRES, OF_THE_REST].concat();
    alone.shuffle(&mut random);
    of_postgres.shuffle(&mut random);
    of_the_rest.shuffle(&mut random);
    let pairs = of_postgres.iter().zip(of_the_rest);
    let together = pairs.map(|(one, other)| vec![*one, other]);
    for faults in alone.into_iter().map(|fault| vec![fault]).chain(together) {
        progress(&mut busy, 120, &cluster).await?;
        cluster.check_sent_once().await?;
        cluster.suffer(&faults, &mut busy, &mut random).await?;
    }
    progress(&mut busy, 120, &cluster).await?;
    let finished = busy.finish().await;
    finished.map_err(|finding| format!("{finding}\n{}", cluster.log()))?;
    cluster.check().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_keep_the_promises_whatever_breaks() {
    let seed = rand::random();
    let survived = suffer_all(seed, "").await;
    survived.unwrap_or_else(|finding| panic!("{finding}\n(seed {seed})"));
}

/// An event is on the streams of another node at once, and only when it is
/// committed.
pub async fn rings_elsewhere(bug: &str) -> Check {
    let cluster = Cluster::with_bug(2, bug, NO_HEARTBEAT).await;
    let mut stream = live(&cluster.nodes[1]).await;
    let mut sender = cluster.nodes[0].sender().await;
    let mut ann = cluster.nodes[1].user("acme", "ann").await;
    for number in 1..=5 {
        let sent = sender.send_in_app(request(&format!("number {number}"), None));
        let sent = sent.await.unwrap().into_inner().notification.unwrap();
        let came = next(&mut stream).await?;
        let head = ann
            .get_unread_count(GetUnreadCountRequest::default())
            .await
            .unwrap()
            .into_inner();
        let (shown, there) = (counts(came.head).0, counts(head.head).0);
        if there < shown {
            return Err(format!(
                "a stream shows revision {shown}, and the head is {there}"
            ));
        }
        let Some(Event::Notification(notification)) = came.event else {
            return Err(format!("{:?}", came.event));
        };
        if shown != number || notification.id != sent.id {
            return Err(format!("revision {shown} for number {number}"));
        }
    }
    // While its commit waits nobody may see it.
    cluster.to_postgres[0].hold_commits(true);
    let held = tokio::spawn(async move { sender.send_in_app(request("held", None)).await });
    if let Ok(seen) = timeout(Duration::from_secs(2), stream.message()).await {
        return Err(format!("a stream shows what is not committed: {seen:?}"));
    }
    cluster.to_postgres[0].hold_commits(false);
    held.await.unwrap().unwrap();
    assert_eq!(rung(&mut stream).await?, "held");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_on_the_streams_of_other_nodes_at_once() {
    rings_elsewhere("").await.unwrap();
}

/// What was sent while a node had no NATS is found when it has it again, long
/// before a heartbeat.
pub async fn finds_what_was_missed(bug: &str) -> Check {
    let cluster = Cluster::with_bug(2, bug, NO_HEARTBEAT).await;
    let mut stream = live(&cluster.nodes[1]).await;
    let mut sender = cluster.nodes[0].sender().await;
    sender.send_in_app(request("before", None)).await.unwrap();
    assert_eq!(rung(&mut stream).await?, "before");
    until_left_to_the_bus().await;
    cluster.to_nats[1].cut().await;
    sender
        .send_in_app(request("meanwhile", None))
        .await
        .unwrap();
    let nothing = timeout(Duration::from_millis(300), stream.message()).await;
    assert!(nothing.is_err(), "it is cut from the bus: {nothing:?}");
    cluster.to_nats[1].mend();
    let found = rung(&mut stream).await?;
    (found == "meanwhile")
        .then_some(())
        .ok_or_else(|| format!("{found:?} comes in its place"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_had_no_nats_finds_what_it_missed() {
    finds_what_was_missed("").await.unwrap();
}

/// A commit whose answer is lost is there once, whether it reached Postgres or
/// not, and its event too.
pub async fn commits_once(bug: &str) -> Check {
    let cluster = Cluster::with_bug(1, bug, NO_HEARTBEAT).await;
    let mut stream = live(&cluster.nodes[0]).await;
    let mut sender = cluster.nodes[0].sender().await;
    // The first makes the head, which is a commit too.
    sender.send_in_app(request("first", None)).await.unwrap();
    rung(&mut stream).await?;
    let mut revision = 1;
    for how in [Break::After, Break::Before] {
        cluster.to_postgres[0].break_commits(&[how]);
        let title = format!("{how:?}");
        let sent = sender.send_in_app(request(&title, None)).await;
        let sent = sent.map_err(|status| status.to_string())?.into_inner();
        revision += 1;
        let came = rung(&mut stream).await?;
        let query = format!("SELECT count(*) FROM notifications WHERE title = '{title}'");
        let rows = engines::number(&cluster.database, &query).await;
        let said = counts(sent.head).0;
        if (rows, said, came.as_str()) != (1, revision, title.as_str()) {
            return Err(format!("{how:?}: {rows} rows, revision {said}, {came:?}"));
        }
        // A mark has no row of its own to look for.
        cluster.to_postgres[0].break_commits(&[how]);
        let mut ann = cluster.nodes[0].user("acme", "ann").await;
        let marked = ann.mark_read(mark([sent.notification.unwrap().id])).await;
        let marked = marked.map_err(|status| status.to_string())?.into_inner();
        revision += 1;
        // Where the send was looked up for long, the stream had healed before.
        let mut came = next(&mut stream).await?;
        while matches!(came.event, Some(Event::CaughtUp(_))) {
            came = next(&mut stream).await?;
        }
        let said = (counts(marked.head).0, counts(came.head).0);
        if (marked.changed_count, said) != (1, (revision, revision)) {
            return Err(format!("{how:?}: {marked:?}, {came:?}"));
        }
    }
    assert_eq!(cluster.to_postgres[0].broken(), 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_there_once() {
    commits_once("").await.unwrap();
}

/// When Postgres does not come back in time nobody knows, and a repeat with the
/// same key tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stays_in_doubt_is_unavailable_and_a_repeat_tells() {
    let cluster = Cluster::with_bug(1, "", NO_HEARTBEAT).await;
    let mut stream = live(&cluster.nodes[0]).await;
    let mut sender = cluster.nodes[0].sender().await;
    sender.send_in_app(request("first", None)).await.unwrap();
    assert_eq!(rung(&mut stream).await.unwrap(), "first");
    let proxy = &cluster.to_postgres[0];
    proxy.break_commits(&[Break::After]);
    let doubtful = request("doubtful", Some("key"));
    let send = tokio::spawn({
        let (mut sender, request) = (sender.clone(), doubtful.clone());
        async move { sender.send_in_app(request).await }
    });
    while proxy.broken() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    proxy.cut().await;
    let status = timeout(PATIENCE, send).await.unwrap().unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
    assert!(status.message().contains("may or may not"), "{status}");
    proxy.mend();
    // It did happen: the room is checked when the store answers again.
    assert_eq!(rung(&mut stream).await.unwrap(), "doubtful");
    let repeated = sender.send_in_app(doubtful).await.unwrap().into_inner();
    assert!(repeated.duplicate);
    assert_eq!(counts(repeated.head).0, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_sent_at_once_through_all_nodes_is_one_notification() {
    let cluster = Cluster::with_bug(3, "", NO_HEARTBEAT).await;
    let mut streams = Vec::new();
    let mut senders = Vec::<Client>::new();
    for node in &cluster.nodes {
        streams.push(live(node).await);
        senders.push(node.sender().await);
    }
    let mut sends = JoinSet::new();
    for number in 0..64 {
        let mut sender = senders[number % senders.len()].clone();
        sends.spawn(async move { sender.send_in_app(request("once", Some("key"))).await });
    }
    let mut first = Vec::new();
    let mut ids = std::collections::HashSet::new();
    while let Some(sent) = sends.join_next().await {
        let sent = sent.unwrap().unwrap().into_inner();
        assert_eq!(counts(sent.head), (1, 1));
        ids.insert(sent.notification.unwrap().id);
        first.extend((!sent.duplicate).then_some(()));
    }
    assert_eq!((ids.len(), first.len()), (1, 1));
    senders[0]
        .send_in_app(request("the next", None))
        .await
        .unwrap();
    for stream in &mut streams {
        assert_eq!(rung(stream).await.unwrap(), "once");
        assert_eq!(rung(stream).await.unwrap(), "the next");
    }
}

/// Follows ann's inbox, and goes on at another node when its own is drained.
struct Follower {
    node: usize,
    stream: Streaming<SubscribeResponse>,
    position: u64,
    shown: Vec<String>,
}

impl Follower {
    async fn open(cluster: &Cluster, node: usize) -> Self {
        Self {
            node,
            stream: live(&cluster.nodes[node]).await,
            position: 0,
            shown: Vec::new(),
        }
    }

    async fn resume(&mut self, cluster: &Cluster, node: usize) {
        let mut ann = cluster.nodes[node].user("acme", "ann").await;
        let resumed = ann.subscribe(SubscribeRequest {
            after_revision: Some(self.position),
            epoch: None,
        });
        self.stream = resumed.await.unwrap().into_inner();
        self.node = node;
    }

    /// Takes the next message.
    async fn take(&mut self) -> Result<Option<Event>, tonic::Status> {
        let message = timeout(PROMPT, self.stream.message()).await.unwrap()?;
        let message = message.expect("a stream ends with its reason");
        self.position = message.position;
        if let Some(Event::Notification(notification)) = &message.event {
            self.shown.push(notification.title.clone());
        }
        Ok(message.event)
    }

    /// Takes what comes until the node sends it away.
    async fn until_drained(&mut self) {
        let mut was_told = false;
        let status = loop {
            match self.take().await {
                Ok(Some(Event::Reconnect(_))) => was_told = true,
                Ok(event) => assert!(!was_told, "{event:?} after a reconnect"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
        assert!(was_told, "it was not told to come back");
    }
}

/// Three nodes are drained in turn while somebody sends: every stream is told to
/// come back, comes back on another node after its position, and misses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_costs_no_stream_a_notification() {
    const NODES: usize = 3;
    let mut cluster = Cluster::with_bug(NODES, "", NO_HEARTBEAT).await;
    let mut followers = Vec::new();
    for node in 0..NODES {
        followers.push(Follower::open(&cluster, node).await);
    }
    let mut sent = Vec::new();
    for drained in 0..NODES {
        let mut sender = cluster.nodes[(drained + 1) % NODES].sender().await;
        for number in 0..20 {
            if number == 5 {
                cluster.nodes[drained].signal("TERM");
            }
            let title = format!("number {}", sent.len() + 1);
            sender.send_in_app(request(&title, None)).await.unwrap();
            sent.push(title);
        }
        for follower in followers
            .iter_mut()
            .filter(|follower| follower.node == drained)
        {
            follower.until_drained().await;
            follower.resume(&cluster, (drained + 2) % NODES).await;
        }
        block_in_place(|| cluster.start_again(drained, true));
    }
    for follower in &mut followers {
        while follower.shown.len() < sent.len() {
            follower.take().await.unwrap();
        }
        assert_eq!(follower.shown, sent, "on node {}", follower.node);
    }
}

/// As a node of a version to come may speak.
#[derive(Clone, PartialEq, prost::Message)]
struct Strange {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    node: Vec<u8>,
    #[prost(string, tag = "3")]
    organization_id: String,
    #[prost(string, tag = "4")]
    user_id: String,
    #[prost(bytes = "vec", tag = "6")]
    database: Vec<u8>,
    #[prost(string, tag = "17")]
    news: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_cannot_read_is_a_gap_that_it_heals() {
    let mut cluster = Cluster::with_bug(2, "", NO_HEARTBEAT).await;
    // What one of them says does not reach the other.
    let setup = cluster
        .nodes
        .remove(0)
        .kill()
        .with("NATS_PREFIX", "elsewhere");
    cluster.nodes.insert(0, block_in_place(|| setup.start()));
    let mut stream = live(&cluster.nodes[1]).await;
    let mut sender = cluster.nodes[0].sender().await;
    until_left_to_the_bus().await;
    let nats = async_nats::connect(cluster.nats.url()).await.unwrap();
    const SUBJECT: &str = "doorbell.organization.822b33ad87c148a0a20a5ba7cd5ebcaa";
    let strange = Strange {
        version: 2,
        node: vec![7; 16],
        organization_id: "acme".into(),
        user_id: "ann".into(),
        database: engines::id(&cluster.database).await.into_bytes().to_vec(),
        news: "of a kind that nobody knows".into(),
    };
    for (title, payload) in [
        ("of another version", strange.encode_to_vec()),
        ("not even that", b"\xff\xff\xff".to_vec()),
    ] {
        sender.send_in_app(request(title, None)).await.unwrap();
        let nothing = timeout(Duration::from_millis(200), stream.message()).await;
        assert!(nothing.is_err(), "{nothing:?}");
        nats.publish(SUBJECT, payload.into()).await.unwrap();
        assert_eq!(rung(&mut stream).await.unwrap(), title);
        let end = next(&mut stream).await.unwrap().event;
        assert!(matches!(end, Some(Event::CaughtUp(_))), "{end:?}");
    }
}

/// Sends go on without NATS, and other nodes show them within a heartbeat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_nats_sends_go_on_and_streams_heal_within_a_heartbeat() {
    let mut cluster = Cluster::with_bug(2, "", "1s").await;
    let pages = free_port();
    let setup = cluster.nodes.remove(1).kill().with("METRICS_LISTEN", pages);
    cluster.nodes.push(block_in_place(|| setup.start()));
    let mut stream = live(&cluster.nodes[1]).await;
    block_in_place(|| cluster.nats.kill());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ready = page(pages, "/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 200 "), "{ready}");
        if ready.contains("NATS is away") {
            break;
        }
        assert!(Instant::now() < deadline, "{ready}");
        sleep(Duration::from_millis(50)).await;
    }
    let metrics = page(pages, "/metrics").await;
    assert!(
        metrics.contains("\ndoorbell_bus_connected 0\n"),
        "{metrics}"
    );
    let mut sender = cluster.nodes[0].sender().await;
    for title in ["one", "two"] {
        sender.send_in_app(request(title, None)).await.unwrap();
        assert_eq!(rung(&mut stream).await.unwrap(), title);
    }
    // A node that starts without it serves, too.
    let setup = cluster.nodes[0].setup.clone();
    drop(cluster.nodes);
    let node = block_in_place(|| setup.start());
    let mut ann = node.user("acme", "ann").await;
    let head = ann
        .get_unread_count(GetUnreadCountRequest::default())
        .await
        .unwrap();
    assert_eq!(counts(head.into_inner().head), (2, 2));
}

/// A failover is no reason for all streams to come back at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_stopped_and_started_ends_no_stream() {
    let cluster = Cluster::with_bug(1, "", "10s").await;
    let mut stream = live(&cluster.nodes[0]).await;
    block_in_place(|| cluster.postgres.kill());
    // By then the heartbeat was due, and the store was asked.
    let nothing = timeout(Duration::from_secs(11), stream.message()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    block_in_place(|| cluster.postgres.restart());
    let heartbeat = timeout(PROMPT, stream.message()).await.unwrap();
    let heartbeat = heartbeat.unwrap().unwrap().event;
    assert!(
        matches!(heartbeat, Some(Event::Heartbeat(_))),
        "{heartbeat:?}"
    );
    let mut sender = cluster.nodes[0].sender().await;
    sender.send_in_app(request("after", None)).await.unwrap();
    assert_eq!(rung(&mut stream).await.unwrap(), "after");
}

/// A database that is older than what its clients saw.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_epoch_makes_clients_of_a_restored_database_load_anew() {
    let postgres = Postgres::shared();
    let database = postgres.create_database().await;
    let node = |database: &str| {
        let setup = Setup::new()
            .with("DATABASE_URL", database)
            .with("HEARTBEAT_INTERVAL", "1s");
        block_in_place(|| setup.start())
    };
    let first = node(&database);
    let mut sender = first.sender().await;
    sender.send_in_app(request("kept", None)).await.unwrap();
    let restored = postgres.copy_of(engines::database_of(&database)).await;
    sender.send_in_app(request("lost", None)).await.unwrap();
    let mut ann = first.user("acme", "ann").await;
    let stream = ann.subscribe(SubscribeRequest::default()).await.unwrap();
    let connected = stream.into_inner().message().await.unwrap().unwrap();
    let (position, event) = (connected.position, connected.event);
    let Some(Event::Connected(connected)) = event else {
        panic!("{event:?}");
    };
    drop(first);

    // Another inbox grows beyond what the client saw, under the same numbers.
    let second = node(&restored);
    let mut sender = second.sender().await;
    for title in ["new", "newer"] {
        sender.send_in_app(request(title, None)).await.unwrap();
    }
    let mut running = live(&second).await;
    let mut migrate = Command::new(DOORBELL);
    migrate
        .args(["migrate", "--new-epoch"])
        .env("DOORBELL_DATABASE_URL", &restored);
    block_in_place(|| run(&mut migrate)).ok();
    // A stream that is open hears of it, without a restart of its node.
    let told = next(&mut running).await.unwrap();
    let Some(Event::Reset(reset)) = told.event else {
        panic!("{:?}", told.event);
    };
    assert_ne!(reset.epoch, connected.epoch);
    let mut ann = second.user("acme", "ann").await;
    let resumed = ann.subscribe(SubscribeRequest {
        after_revision: Some(position),
        epoch: Some(connected.epoch),
    });
    let mut stream = resumed.await.unwrap().into_inner();
    stream.message().await.unwrap();
    let told = next(&mut stream).await.unwrap();
    assert!(
        matches!(told.event, Some(Event::Reset(_))),
        "{:?}",
        told.event
    );
}

/// Whoever forgot the bus on one node of several is told so at its start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_nats_is_refused_beside_nodes_that_have_it() {
    let cluster = Cluster::start(2, &[]).await;
    let name = engines::database_of(&cluster.database);
    let database = engines::url(cluster.postgres.address, name);
    let mut forgetful = Setup::new().with("DATABASE_URL", &database).spawn();
    let status = block_in_place(|| forgetful.wait(PATIENCE));
    assert_eq!(status.code(), Some(2));
    let log = forgetful.log();
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains("DOORBELL_NATS_URL"), "{log}");
    // A tool is none of them.
    let mut migrate = Command::new(DOORBELL);
    migrate
        .arg("migrate")
        .env("DOORBELL_DATABASE_URL", &database);
    block_in_place(|| run(&mut migrate)).ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_node_without_nats_is_refused() {
    let database = Postgres::shared().create_database().await;
    let setup = Setup::new().with("DATABASE_URL", &database);
    let _node = block_in_place(|| setup.start());
    let mut second = Setup::new().with("DATABASE_URL", &database).spawn();
    let status = block_in_place(|| second.wait(PATIENCE));
    assert_eq!(status.code(), Some(2));
    let log = second.log();
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains("DOORBELL_NATS_URL"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_behind_a_pooler_serves() {
    let postgres = Postgres::shared();
    let direct = postgres.create_database().await;
    let pooler = block_in_place(|| PgBouncer::start(postgres));
    let pooled = engines::url(pooler.address, engines::database_of(&direct));
    let setup = Setup::new()
        .with("DATABASE_URL", &pooled)
        .with("DATABASE_DIRECT_URL", &direct)
        .with("DATABASE_POOLER", true);
    let node = block_in_place(|| setup.start());
    let mut stream = live(&node).await;
    let mut sender = node.sender().await;
    let mut sends = JoinSet::new();
    for number in 0..50 {
        let mut sender = sender.clone();
        let request = request(&format!("number {number}"), Some(&format!("key {number}")));
        sends.spawn(async move { sender.send_in_app(request).await });
    }
    while let Some(sent) = sends.join_next().await {
        sent.unwrap().unwrap();
    }
    for _ in 0..50 {
        rung(&mut stream).await.unwrap();
    }
    let again = sender
        .send_in_app(request("number 7", Some("key 7")))
        .await
        .unwrap();
    assert!(again.into_inner().duplicate);
}

/// Order and counts do not come from clocks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_with_clocks_an_hour_apart_keep_order_and_counts() {
    let database = Postgres::shared().create_database().await;
    let nats = block_in_place(Nats::start);
    let random = Arc::new(SeededRandom::new(1));
    let mut nodes = Vec::new();
    for hours in [-1, 1] {
        let clock = WildClock::default();
        let off = hours * 1_800_000_000;
        clock.0.store(off, std::sync::atomic::Ordering::SeqCst);
        let feeds = FeedSettings {
            heartbeat_interval: Duration::from_secs(3600).into(),
            room_capacity: 64,
            ..FeedSettings::default()
        };
        let settings = BusSettings {
            nats_url: Some(nats.url().into()),
            ..BusSettings::default()
        };
        // Each has its own randomness: it is what tells them apart on the bus.
        let chance = Arc::new(SeededRandom::new(
            hours.unsigned_abs() + u64::from(hours > 0),
        ));
        let bus = NatsBus::open(&settings, Uuid::nil(), bus::hub(&feeds), chance)
            .await
            .unwrap();
        let store = Arc::new(support::postgres(&database).await);
        let writer = WriterSettings::default();
        let clock = Arc::new(clock);
        nodes.push(Inboxes::new(
            store,
            Bus::Nats(bus),
            clock,
            random.clone(),
            feeds,
            &writer,
        ));
    }
    let ann = InboxKey::parse("acme", "ann").unwrap();
    let never = Timestamp::from_seconds(i64::MAX);
    let mut feeds = Vec::new();
    for node in &nodes {
        let mut feed = node
            .subscribe(&ann, Resume::default(), never)
            .await
            .unwrap();
        feed.next().await.unwrap().unwrap();
        feeds.push(feed);
    }
    for number in 0..40_usize {
        let node = &nodes[number % 3 % 2];
        let content = Content::new("test", format!("number {number}"));
        let new = NewNotification::new(
            ann.clone(),
            node.new_id(),
            Arc::new(content),
            "backend".into(),
        );
        node.send(new).await.unwrap();
    }
    for feed in &mut feeds {
        let (mut last, mut seen) = (Timestamp::default(), 0);
        while seen < 40 {
            let message = timeout(PROMPT, feed.next()).await.unwrap();
            let message = message.unwrap().unwrap();
            // None is read: each count is the number of its revision.
            let head = message.head;
            assert_eq!(u64::from(head.unread_count), head.revision.get());
            let created_at = match &message.event {
                FeedEvent::Live(live) => live.event().created_at.expect("it rings"),
                // The bus may have been late for the first of them.
                FeedEvent::Notification(row) => row.created_at,
                _ => continue,
            };
            seen += 1;
            assert!(created_at > last, "{created_at:?} after {last:?}");
            last = created_at;
        }
    }
}

/// One event, of this revision.
fn run_at(revision: u64) -> Run {
    let head = Head {
        revision: Revision::new(revision),
        ..Head::default()
    };
    let change = Change::Seen;
    vec![InboxEvent { head, change }]
}

/// Whether a run that one node publishes comes to a room of another.
async fn reaches(one: &Bus, other: &Bus) -> bool {
    let ann = InboxKey::parse("acme", "ann").unwrap();
    let deadline = Instant::now() + PROMPT;
    while one.trouble().is_some() || other.trouble().is_some() {
        if Instant::now() > deadline {
            return false;
        }
        sleep(Duration::from_millis(20)).await;
    }
    let mut subscription = other.join(&ann).await.unwrap();
    one.publish(&ann, &run_at(1));
    let came = timeout(PROMPT, async {
        while !matches!(subscription.receive().await, Received::Run(_)) {}
    });
    came.await.is_ok()
}

/// A node's end of NATS. The seed tells it from others.
async fn on_nats(settings: &BusSettings, seed: u64) -> Bus {
    on_nats_for(Uuid::nil(), settings, seed).await
}

async fn on_nats_for(database: Uuid, settings: &BusSettings, seed: u64) -> Bus {
    let hub = bus::hub(&FeedSettings::default());
    let random = Arc::new(SeededRandom::new(seed));
    let nats = NatsBus::open(settings, database, hub, random);
    Bus::Nats(nats.await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_another_database_are_not_heard() {
    let nats = block_in_place(Nats::start);
    let settings = BusSettings {
        nats_url: Some(nats.url().into()),
        ..BusSettings::default()
    };
    let ours = on_nats(&settings, 1).await;
    assert!(ours.trouble().is_none(), "away after a good start");
    let theirs = on_nats_for(Uuid::from_u128(1), &settings, 2).await;
    let beside = on_nats(&settings, 3).await;
    let ann = InboxKey::parse("acme", "ann").unwrap();
    let mut subscription = ours.join(&ann).await.unwrap();
    theirs.publish(&ann, &run_at(7));
    theirs.close().await;
    // On the same subject, so it comes behind.
    beside.publish(&ann, &run_at(1));
    let received = timeout(PROMPT, subscription.receive()).await.unwrap();
    let Received::Run(run) = received else {
        panic!("{received:?}");
    };
    assert_eq!(run[0].head.revision, Revision::new(1));
}

/// A NATS that lets this user in and forbids the subjects is no way to other nodes,
/// until it allows them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nats_that_forbids_the_subjects_is_said_to() {
    let directory = tempfile::tempdir().unwrap();
    let config = |permissions: &str| {
        let user = format!("{{user: bell, password: hunter2, permissions: {permissions}}}");
        let text = format!("authorization: {{ users: [ {user} ] }}\n");
        support::write(&directory, "nats.conf", &text)
    };
    for forbidding in [
        r#"{publish: "other.>", subscribe: ">"}"#,
        r#"{publish: ">", subscribe: "other.>"}"#,
    ] {
        let file = config(forbidding);
        let nats = block_in_place(|| Nats::start_with(&["-c", &file]));
        let pages = free_port();
        let database = Postgres::shared().create_database().await;
        let setup = Setup::new()
            .with("DATABASE_URL", database)
            .with("METRICS_LISTEN", pages)
            .with("NATS_URL", format!("nats://bell:hunter2@{}", nats.address));
        let node = block_in_place(|| setup.start());
        let ready = async |expected: &str, connected: &str| {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let answer = page(pages, "/readyz").await;
                let metrics = page(pages, "/metrics").await;
                let gauge = format!("\ndoorbell_bus_connected {connected}\n");
                let is_ready = answer.starts_with("HTTP/1.1 200 ");
                if is_ready && answer.contains(expected) && metrics.contains(&gauge) {
                    return;
                }
                assert!(Instant::now() < deadline, "{answer}: {}", node.log());
                sleep(Duration::from_millis(50)).await;
            }
        };
        ready("NATS does not pass on", "0").await;
        let warnings = || {
            let log = node.log();
            let warnings = log.lines().filter(|line| line.contains("\"WARN\""));
            warnings.map(str::to_owned).collect::<Vec<_>>()
        };
        let mut sender = node.sender().await;
        for _ in 0..5 {
            sender.send_in_app(request("a title", None)).await.unwrap();
        }
        let told = warnings()
            .into_iter()
            .filter(|line| line.contains("does not pass on"));
        assert_eq!(told.count(), 1, "{:?}", warnings());
        assert!(warnings().len() <= 2, "{:?}", warnings());
        // Its operator mends that, and the connection stands.
        config(r#"{publish: ">", subscribe: ">"}"#);
        nats.reload();
        ready("\r\n\r\nready\n", "1").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_to_nats_is_encrypted_and_takes_a_password() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let certificate = support::write(&directory, "cert.pem", &made.cert.pem());
    let key = support::write(&directory, "key.pem", &made.signing_key.serialize_pem());
    let nats = block_in_place(|| {
        let tls = ["--tls", "--tlscert", &certificate, "--tlskey", &key];
        Nats::start_with(&[&tls[..], &["--user", "bell", "--pass", "hunter2"]].concat())
    });
    let node = async |login: &str, seed| {
        let settings = BusSettings {
            nats_url: Some(format!("tls://{login}@{}", nats.address).into()),
            nats_ca_file: Some(certificate.clone().into()),
            ..BusSettings::default()
        };
        on_nats(&settings, seed).await
    };
    let (one, other) = (node("bell:hunter2", 1).await, node("bell:hunter2", 2).await);
    assert!(reaches(&one, &other).await);
    let stranger = node("bell:wrong", 3).await;
    sleep(Duration::from_millis(500)).await;
    assert!(
        stranger.trouble().is_some(),
        "it does not know the password"
    );
}

/// What `issuer` says of `subject`
/// (<https://docs.nats.io/running-a-nats-service/nats_admin/security/jwt>).
fn nats_token(issuer: &KeyPair, subject: &KeyPair, what: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "jti": subject.public_key(),
        "iat": 1_700_000_000,
        "iss": issuer.public_key(),
        "sub": subject.public_key(),
        "name": "a test",
        "nats": what,
    });
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let signed = format!("{}.{}", part(&header), part(&claims));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credentials_file_opens_nats() {
    let directory = tempfile::tempdir().unwrap();
    let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
    let of_the_operator = nats_token(
        &operator,
        &operator,
        &json!({"type": "operator", "version": 2}),
    );
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
        "wildcards": true, "conn": -1, "leaf": -1,
    });
    let of_the_account = nats_token(
        &operator,
        &account,
        &json!({"type": "account", "version": 2, "limits": limits}),
    );
    let config = format!(
        "operator: {of_the_operator}\nresolver: MEMORY\nresolver_preload: {{ {}: {of_the_account} }}\n",
        account.public_key()
    );
    let config = support::write(&directory, "nats.conf", &config);
    let credentials = |name: &str, account: &KeyPair| {
        let user = KeyPair::new_user();
        let what = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
        let token = nats_token(account, &user, &what);
        let seed = user.seed().unwrap();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        support::write(&directory, name, &text)
    };
    let nats = block_in_place(|| Nats::start_with(&["-c", &config]));
    let node = async |credentials: String, seed| {
        let settings = BusSettings {
            nats_url: Some(nats.url().into()),
            nats_creds_file: Some(credentials.into()),
            ..BusSettings::default()
        };
        on_nats(&settings, seed).await
    };
    let one = node(credentials("one", &account), 1).await;
    let other = node(credentials("other", &account), 2).await;
    assert!(reaches(&one, &other).await);
    let stranger = node(credentials("stranger", &KeyPair::new_account()), 3).await;
    sleep(Duration::from_millis(500)).await;
    assert!(stranger.trouble().is_some(), "no operator vouches for it");
}

#[test]
fn settings_of_nats_that_cannot_be_used_are_refused_in_one_line() {
    let node = |variables: &[(&str, &str)]| {
        let mut setup = Setup::new().with("DATABASE_URL", "postgres://127.0.0.1:1/x");
        for (name, value) in variables {
            setup = setup.with(name, value);
        }
        let mut server = setup.spawn();
        let status = server.wait(PATIENCE);
        (status.code(), server.log())
    };
    for (variables, says) in [
        (&[("NATS_CREDS_FILE", "/nowhere")][..], "--nats-url"),
        (
            &[("NATS_URL", "nats://x"), ("NATS_PREFIX", "a b")],
            "--nats-prefix",
        ),
        (
            &[("NATS_URL", "nats://x"), ("DATABASE_URL", "sqlite://x.db")],
            "several nodes on one Postgres",
        ),
        (&[("DATABASE_POOLER", "true")], "--database-direct-url"),
    ] {
        let (code, log) = node(variables);
        assert_eq!(code, Some(2), "{log}");
        assert!(log.contains(says), "{log}");
        assert_eq!(log.lines().count(), 1, "{log}");
    }
}
