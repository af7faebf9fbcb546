//! Sends to topics on several nodes, while those die and Postgres does: nobody is left
//! out, nobody has it twice, and nobody gets what was cancelled.

use std::{collections::HashSet, time::Duration};

use doorbell::client::{
    self, CancelSendRequest, Client, Content, GetSendRequest, Options, Send, SendState,
    SendToTopicRequest, TokenSource,
};
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};

use crate::{
    cluster::Cluster,
    engines,
    history::Check,
    process::PATIENCE,
    server::{Server, sender_token},
};

/// So many that it takes many pieces.
const MEMBERS: u32 = 12_000;
/// The one is delivered to all, the other is stopped.
const TENANTS: [&str; 2] = ["acme", "globex"];

/// Who asks whichever node answers.
pub struct Backend(Vec<Client>);

impl Backend {
    pub fn of(nodes: &[Server]) -> Self {
        let client = |node: &Server| {
            let tokens = TokenSource::fixed(&sender_token("*"));
            let options = Options {
                call_timeout: Duration::from_secs(8),
                ..Options::default()
            };
            Client::new(&node.url(), tokens, options).unwrap()
        };
        Self(nodes.iter().map(client).collect())
    }

    pub async fn ask<A>(&self, call: impl AsyncFn(&Client) -> Result<A, client::Error>) -> A {
        let deadline = Instant::now() + 3 * PATIENCE;
        loop {
            for client in &self.0 {
                match call(client).await {
                    Ok(answer) => return answer,
                    Err(error) => assert!(error.may_pass(), "{error}"),
                }
            }
            assert!(Instant::now() < deadline, "no node answers");
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn send_to_topic(&self, tenant: &str) -> Send {
        let request = SendToTopicRequest {
            organization_id: tenant.into(),
            topic_id: "all".into(),
            content: Some(Content {
                r#type: "news".into(),
                title: "To all".into(),
                ..Content::default()
            }),
            idempotency_key: "once".into(),
            ..SendToTopicRequest::default()
        };
        let call = async |client: &Client| client.send_to_topic(request.clone()).await;
        self.ask(call).await.send.unwrap()
    }

    async fn get(&self, tenant: &str) -> Send {
        let request = GetSendRequest {
            organization_id: tenant.into(),
            idempotency_key: Some("once".into()),
            ..GetSendRequest::default()
        };
        let call = async |client: &Client| client.get_send(request.clone()).await;
        self.ask(call).await.send.unwrap()
    }

    async fn cancel(&self, tenant: &str, id: &str) -> Send {
        let request = CancelSendRequest {
            organization_id: tenant.into(),
            send_id: id.into(),
            ..CancelSendRequest::default()
        };
        let call = async |client: &Client| client.cancel_send(request.clone()).await;
        self.ask(call).await.send.unwrap()
    }

    /// Until so many have it.
    async fn until(&self, tenant: &str, delivered: u32, cluster: &Cluster) -> Send {
        let deadline = Instant::now() + 6 * PATIENCE;
        loop {
            let send = self.get(tenant).await;
            if send.delivered_count >= delivered {
                return send;
            }
            let late = Instant::now() > deadline;
            assert!(!late, "not delivered: {send:?}\n{}", cluster.log());
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// How many rows a tenant has, and of how many people.
async fn rows(cluster: &Cluster, tenant: &str) -> (i64, i64) {
    let of = format!("FROM notifications WHERE organization_id = '{tenant}'");
    let count = async |what| {
        let query = format!("SELECT count({what}) {of}");
        engines::number(&cluster.database, &query).await
    };
    (count("*").await, count("DISTINCT user_id").await)
}

/// Delivers to two topics while nodes and Postgres are killed, and stops one of them.
pub async fn delivers_once(bug: &str) -> Check {
    let mut cluster = Cluster::start(3, &[("SABOTAGE", bug)]).await;
    for tenant in TENANTS {
        let members = format!(
            "INSERT INTO topic_members (organization_id, topic_id, user_id) \
             SELECT '{tenant}', 'all', 'user-' || n FROM generate_series(1, {MEMBERS}) AS n"
        );
        engines::execute(&cluster.database, &members).await;
    }
    let backend = Backend::of(&cluster.nodes);
    let mut ids = HashSet::new();
    for tenant in TENANTS {
        ids.insert(backend.send_to_topic(tenant).await.id);
    }
    assert_eq!(ids.len(), 2);
    let stopped = backend.until("globex", 1, &cluster).await;

    // Whoever delivers is among them.
    for node in 0..3 {
        cluster.nodes[node].signal("KILL");
        block_in_place(|| cluster.start_again(node, false));
    }
    backend.until("acme", MEMBERS / 4, &cluster).await;
    let cancelled = backend.cancel("globex", &stopped.id).await;
    let had_it = rows(&cluster, "globex").await;
    if cancelled.state() != SendState::Cancelled {
        return Err(format!("it was not cancelled: {cancelled:?}"));
    }

    block_in_place(|| cluster.postgres.kill());
    sleep(Duration::from_millis(500)).await;
    block_in_place(|| cluster.postgres.restart());
    backend.until("acme", MEMBERS / 2, &cluster).await;
    // A node that believes to have the lease cannot reach what it would write to.
    for node in 0..3 {
        cluster.to_postgres[node].cut().await;
        sleep(Duration::from_millis(300)).await;
        cluster.to_postgres[node].mend();
    }

    let done = backend.until("acme", MEMBERS, &cluster).await;
    let all = (i64::from(MEMBERS), i64::from(MEMBERS));
    let has = rows(&cluster, "acme").await;
    if has != all || done.delivered_count != MEMBERS || done.error_count != 0 {
        return Err(format!("of {MEMBERS} members {has:?} have it: {done:?}"));
    }
    let last = rows(&cluster, "globex").await;
    if last != had_it || last.0 != last.1 {
        return Err(format!(
            "{had_it:?} had what was cancelled, and {last:?} have it"
        ));
    }
    let counted = backend.get("globex").await.delivered_count;
    if i64::from(counted) > last.0 {
        return Err(format!("{counted} are counted, and {last:?} have it"));
    }
    cluster.check().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_delivered_once_while_nodes_and_postgres_die() {
    let delivered = delivers_once("").await;
    delivered.unwrap_or_else(|finding| panic!("{finding}"));
}
