use super::*;
use crate::model::{Change, Head, InboxEvent};

fn hub() -> Arc<Hub> {
    Hub::new(Capacity {
        runs: 2,
        per_user: 2,
        per_organization: 3,
    })
}

fn inbox(organization: &str, user: &str) -> InboxKey {
    InboxKey::parse(organization, user).unwrap()
}

fn run(revision: u64) -> Arc<LiveRun> {
    let head = Head {
        revision: Revision::new(revision),
        ..Head::default()
    };
    let change = Change::Seen;
    Arc::new(vec![wire::live(&InboxEvent { head, change })])
}

async fn revision(subscription: &mut Subscription) -> u64 {
    match subscription.receive().await {
        Received::Run(run) => run[0].head.revision.get(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_event_reaches_its_own_room_only() {
    let hub = hub();
    let mut ann = hub.join(&inbox("a", "ann")).unwrap();
    let mut other_tenant = hub.join(&inbox("b", "ann")).unwrap();
    assert_eq!(hub.publish(&inbox("a", "ann"), &run(1)), 1);
    assert_eq!(hub.publish(&inbox("a", "bob"), &run(1)), 0);
    assert_eq!(hub.publish(&inbox("b", "ann"), &run(7)), 1);
    assert_eq!(revision(&mut ann).await, 1);
    assert_eq!(revision(&mut other_tenant).await, 7);
}

#[tokio::test]
async fn a_slow_subscriber_is_told_and_slows_nobody() {
    let hub = hub();
    let mut slow = hub.join(&inbox("a", "ann")).unwrap();
    for number in 1..=5 {
        hub.publish(&inbox("a", "ann"), &run(number));
    }
    assert!(matches!(slow.receive().await, Received::Lagged));
    assert_eq!(revision(&mut slow).await, 4);
    assert_eq!(revision(&mut slow).await, 5);
}

#[test]
fn a_room_goes_with_its_last_subscription() {
    let hub = hub();
    let first = hub.join(&inbox("a", "ann")).unwrap();
    let second = hub.join(&inbox("a", "ann")).unwrap();
    drop(first);
    assert_eq!(hub.room_count(), 1);
    drop(second);
    assert_eq!(hub.room_count(), 0);
    assert!(hub.organizations.lock().is_empty());
}

#[test]
fn rooms_are_bounded_at_n_and_n_plus_1() {
    let hub = hub();
    let _first = hub.join(&inbox("a", "ann")).unwrap();
    let second = hub.join(&inbox("a", "ann")).unwrap();
    let refused = |user| hub.join(&inbox("a", user)).err();
    assert_eq!(refused("ann"), Some(JoinError::UserFull(2)));
    let _third = hub.join(&inbox("a", "bob")).unwrap();
    assert_eq!(refused("cat"), Some(JoinError::OrganizationFull(3)));
    drop(second);
    assert_eq!(refused("cat"), None);
}

#[tokio::test]
async fn closing_delivers_what_was_published_and_refuses_new_ones() {
    let hub = hub();
    let mut ann = hub.join(&inbox("a", "ann")).unwrap();
    hub.publish(&inbox("a", "ann"), &run(1));
    hub.close();
    assert_eq!(revision(&mut ann).await, 1);
    assert!(matches!(ann.receive().await, Received::Closed));
    assert_eq!(hub.join(&inbox("a", "ann")).err(), Some(JoinError::Closed));
}

#[tokio::test]
async fn a_room_that_is_behind_the_store_is_told_once() {
    let hub = hub();
    let key = inbox("a", "ann");
    assert!(!hub.committed(&key, Revision::new(7)), "nobody is there");
    let mut ann = hub.join(&key).unwrap();
    hub.publish(&key, &run(7));
    assert!(!hub.committed(&key, Revision::new(7)));
    assert!(hub.committed(&key, Revision::new(9)));
    assert!(!hub.committed(&key, Revision::new(9)));
    assert_eq!(revision(&mut ann).await, 7);
    let told = ann.receive().await;
    assert!(matches!(told, Received::Head(head) if head == Revision::new(9)));
}

#[tokio::test]
async fn what_is_suspected_are_rooms_and_is_taken_once() {
    let hub = hub();
    let _rooms: Vec<_> = [("a", "ann"), ("a", "bob"), ("b", "ann")]
        .map(|(organization, user)| hub.join(&inbox(organization, user)).unwrap())
        .into();
    let sorted = async || {
        let mut suspects = hub.next_suspects().await;
        suspects.sort();
        suspects
    };
    hub.suspect(Suspect::Inbox(inbox("a", "bob")));
    hub.suspect(Suspect::Inbox(inbox("a", "nobody")));
    assert_eq!(sorted().await, [inbox("a", "bob")]);
    hub.suspect(Suspect::Organization(inbox("a", "x").organization_id));
    hub.suspect(Suspect::Inbox(inbox("b", "ann")));
    assert_eq!(sorted().await.len(), 3);
    hub.suspect(Suspect::Organization(inbox("a", "x").organization_id));
    assert_eq!(sorted().await, [inbox("a", "ann"), inbox("a", "bob")]);
    hub.suspect(Suspect::All);
    assert_eq!(sorted().await.len(), 3);
    let nothing = tokio::time::timeout(std::time::Duration::from_millis(20), sorted());
    assert!(nothing.await.is_err());
}

#[test]
fn joins_and_leaves_at_once_leave_nothing_behind() {
    let hub = Hub::new(Capacity {
        runs: 2,
        per_user: 100,
        per_organization: 100,
    });
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    drop(hub.join(&inbox("a", "ann")).unwrap());
                }
            });
        }
    });
    assert_eq!(hub.room_count(), 0);
    assert!(hub.organizations.lock().is_empty());
}
