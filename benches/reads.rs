//! What a read costs in a large inbox: the head and the first page of 1,000,000
//! notifications beside those of 100, in one database, read in turn.

#![expect(
    clippy::print_stdout,
    unreachable_pub,
    reason = "a program that prints figures"
)]

mod common;

use std::time::Instant;

use common::{Failure, median, report};
use doorbell::{
    clock::{Clock as _, SystemClock},
    model::InboxKey,
    store::{Mutation, PageLimit, RecentQuery, Store},
};

const LARGE: usize = 1_000_000;
const SMALL: usize = 100;
const READS: usize = 20_000;
const BATCH: usize = 2000;

fn main() -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run())
}

async fn run() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let store = common::open(&directory, 4).await?;
    let large = InboxKey::parse("acme", "large")?;
    let small = InboxKey::parse("acme", "small")?;
    fill(&store, &large, LARGE).await?;
    fill(&store, &small, SMALL).await?;

    let (mut heads, mut pages) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..READS {
        for (at, inbox) in [&large, &small].into_iter().enumerate() {
            let began = Instant::now();
            store.head(inbox).await?;
            heads[at].push(began.elapsed().as_secs_f64() * 1e6);
        }
    }
    let limit = PageLimit {
        rows: 20,
        bytes: 1 << 20,
    };
    let query = RecentQuery::new(limit);
    for _ in 0..READS / 4 {
        for (at, inbox) in [&large, &small].into_iter().enumerate() {
            let began = Instant::now();
            store.recent(inbox, query.clone()).await?;
            pages[at].push(began.elapsed().as_secs_f64() * 1e6);
        }
    }
    for (what, [large, small], limit) in [
        ("a head", &mut heads, 1.2),
        ("a first page of 20", &mut pages, 1.5),
    ] {
        let (large, small) = (median(large), median(small));
        println!("  {what}: {large:.1} µs of 1,000,000, {small:.1} µs of 100");
        let what = format!("{what} of 1,000,000, to that of 100");
        report(&what, large / small, limit, "x", false);
    }
    store.close().await;
    Ok(())
}

async fn fill(store: &dyn Store, inbox: &InboxKey, rows: usize) -> Result<(), Failure> {
    let mut left = rows;
    while left > 0 {
        let batch: Vec<_> = (0..left.min(BATCH))
            .map(|_| Mutation::Send(common::new_notification(inbox.clone())))
            .collect();
        store.commit(&batch, SystemClock.now()).await?;
        left -= batch.len();
    }
    Ok(())
}
