use super::*;

const US: Sender = Sender {
    node: Uuid::from_u128(1),
    database: Uuid::from_u128(7),
};
const THEM: Sender = Sender {
    node: Uuid::from_u128(2),
    ..US
};

fn inbox() -> InboxKey {
    InboxKey::parse("acme", "ann").unwrap()
}

fn event(revision: u64, bytes: usize) -> LiveEvent {
    LiveEvent {
        head: Head {
            revision: Revision::new(revision),
            unread_count: 3,
            unseen_count: 2,
            seen_through: Revision::new(1),
        },
        kind: "notification",
        created_at: Some(Timestamp::from_micros(5)),
        message: vec![7; bytes].into(),
    }
}

fn heard(payload: &[u8]) -> Heard {
    decode(US, &inbox().organization_id, payload).unwrap()
}

#[test]
fn a_run_comes_as_it_went() {
    let quiet = LiveEvent {
        kind: "seen",
        created_at: None,
        ..event(5, 0)
    };
    let run = vec![event(4, 10), quiet];
    let Heard::Run(key, came) = heard(&encode(THEM, &inbox(), &run)) else {
        panic!("a gap");
    };
    assert_eq!(key, inbox());
    assert_eq!(came, run);
}

#[test]
fn a_kind_that_came_later_is_passed_on() {
    let later = LiveEvent {
        kind: "unheard of",
        ..event(4, 10)
    };
    let Heard::Run(_, came) = heard(&encode(THEM, &inbox(), &[later])) else {
        panic!("a gap");
    };
    assert_eq!(
        (came[0].kind, &came[0].message[..]),
        ("other", &[7; 10][..])
    );
}

#[test]
fn its_own_echo_says_nothing() {
    let payload = encode(US, &inbox(), &[event(1, 0)]);
    assert!(matches!(heard(&payload), Heard::Echo));
}

#[test]
fn another_database_and_another_organization_are_not_believed() {
    let elsewhere = Sender {
        database: Uuid::from_u128(8),
        ..THEM
    };
    let globex = InboxKey::parse("globex", "ann").unwrap();
    let mut unsaid = Envelope::decode(&*encode(THEM, &inbox(), &[event(1, 0)])).unwrap();
    unsaid.database.clear();
    for payload in [
        encode(elsewhere, &inbox(), &[event(1, 0)]),
        encode(elsewhere, &inbox(), &[]),
        encode(THEM, &globex, &[event(1, 0)]),
        encode(THEM, &globex, &[]),
        unsaid.encode_to_vec(),
    ] {
        assert!(matches!(heard(&payload), Heard::Foreign));
    }
}

#[test]
fn what_cannot_be_read_is_a_gap_of_its_inbox() {
    let run = vec![event(4, 10), event(5, 10)];
    let envelope = Envelope::decode(&*encode(THEM, &inbox(), &run)).unwrap();
    let changed = |change: fn(&mut Envelope)| {
        let mut envelope = envelope.clone();
        change(&mut envelope);
        envelope.encode_to_vec()
    };
    for payload in [
        changed(|envelope| envelope.version = 1),
        changed(|envelope| envelope.events[1].revision = 7),
        changed(|envelope| envelope.events.clear()),
        // Larger than NATS takes.
        encode(THEM, &inbox(), &[event(4, MAX_BYTES)]),
    ] {
        assert!(matches!(heard(&payload), Heard::Gap(key) if key == inbox()));
    }
}

#[test]
fn what_names_no_inbox_is_an_error() {
    let organization = inbox().organization_id;
    let nobody = Envelope {
        database: US.database.as_bytes().to_vec(),
        ..Envelope::default()
    };
    for payload in [&b"\xff\xff"[..], &nobody.encode_to_vec()] {
        assert!(decode(US, &organization, payload).is_err());
    }
}
