//! What people and organizations say of types, and what is not made for it: on real
//! servers, on both engines.

use doorbell::{
    client::{
        AddTopicMembersRequest, Choice, Client, ErrorReason, GetPreferencesRequest, GetSendRequest,
        GetTypeDefaultsRequest, Options, Preference, SendInAppRequest, SendInAppResponse,
        SendState, SendToManyRequest, SendToTopicRequest, Suppressed, TokenSource, TypeDefault,
        UpdatePreferencesRequest, UpdateTypeDefaultsRequest,
    },
    proto::Content,
};

use crate::{
    calls::eventually,
    engines::Postgres,
    server::{Server, Setup, operator_token, sender_token, user_token},
    support::on_both,
};

fn client(server: &Server, token: &str) -> Client {
    Client::new(&server.url(), TokenSource::fixed(token), Options::default()).unwrap()
}

struct House {
    server: Server,
    sender: Client,
    ann: Client,
}

impl House {
    async fn on_sqlite() -> Self {
        Self::new(Setup::new())
    }

    async fn on_postgres() -> Self {
        let url = Postgres::shared().create_database().await;
        Self::new(Setup::new().with("DATABASE_URL", &url))
    }

    fn new(setup: Setup) -> Self {
        let setup = setup.with("OPERATOR_ROLE", "operator");
        let server = tokio::task::block_in_place(|| setup.start());
        Self {
            sender: client(&server, &sender_token("acme")),
            ann: client(&server, &user_token("acme", "ann")),
            server,
        }
    }

    async fn send(&self, user: &str, kind: &str) -> SendInAppResponse {
        let request = SendInAppRequest {
            organization_id: "acme".into(),
            recipient_user_id: user.into(),
            r#type: kind.into(),
            title: "a title".into(),
            ..SendInAppRequest::default()
        };
        self.sender.send_in_app(request).await.unwrap()
    }

    /// Whether it was not wanted.
    async fn is_muted(&self, user: &str, kind: &str) -> bool {
        let answer = self.send(user, kind).await;
        let is_made = answer.notification.is_some();
        match answer.suppressed() {
            Suppressed::Muted => {
                assert!(!is_made);
                true
            }
            other => {
                assert_eq!((other, is_made), (Suppressed::Unspecified, true));
                false
            }
        }
    }

    async fn choose(&self, of: &[(&str, Option<bool>)]) -> Vec<Preference> {
        let choices = of.iter().map(|(kind, on)| Choice {
            r#type: (*kind).into(),
            on: *on,
        });
        let request = UpdatePreferencesRequest {
            choices: choices.collect(),
        };
        self.ann
            .update_preferences(request)
            .await
            .unwrap()
            .preferences
    }

    async fn say(&self, kind: &str, on: bool, required: bool) {
        let default = TypeDefault {
            r#type: kind.into(),
            on,
            required,
        };
        let request = UpdateTypeDefaultsRequest {
            organization_id: "acme".into(),
            defaults: vec![default],
            removed_types: vec![],
        };
        self.sender.update_type_defaults(request).await.unwrap();
    }
}

fn preference(kind: &str, on: bool, required: bool, chosen: bool) -> Preference {
    Preference {
        r#type: kind.into(),
        on,
        required,
        chosen,
    }
}

/// Who turned a type off has it no more, and nobody else is touched.
async fn what_is_turned_off_is_not_made(house: House) {
    assert!(!house.is_muted("ann", "likes").await);
    let all = house.choose(&[("likes", Some(false))]).await;
    assert_eq!(all, [preference("likes", false, false, true)]);
    assert!(house.is_muted("ann", "likes").await);
    assert!(!house.is_muted("ann", "bills").await);
    assert!(!house.is_muted("bob", "likes").await);
    // The head says what there is, and no revision was taken for what was not made.
    let muted = house.send("ann", "likes").await;
    let head = muted.head.unwrap();
    assert_eq!((head.revision, head.unread_count), (2, 2));
    // The same user of another tenant is another.
    let other = client(&house.server, &user_token("globex", "ann"));
    let theirs = other
        .get_preferences(GetPreferencesRequest {})
        .await
        .unwrap();
    assert_eq!(theirs.preferences, []);
    assert_eq!(house.choose(&[("likes", None)]).await, []);
    assert!(!house.is_muted("ann", "likes").await);
}

/// What is turned off before anything was ever sent holds for the first.
async fn who_never_had_anything_can_say_no(house: House) {
    house.choose(&[("likes", Some(false))]).await;
    assert!(house.is_muted("ann", "likes").await);
    assert!(!house.is_muted("ann", "bills").await);
}

/// Required, then what the person said, then what the organization says.
async fn what_holds_is_required_chosen_or_by_default(house: House) {
    house.say("tips", false, false).await;
    assert!(house.is_muted("ann", "tips").await);
    house
        .choose(&[("tips", Some(true)), ("likes", Some(false))])
        .await;
    assert!(!house.is_muted("ann", "tips").await);
    assert!(house.is_muted("bob", "tips").await);
    house.say("likes", true, true).await;
    assert!(!house.is_muted("ann", "likes").await, "required");
    let all = house
        .ann
        .get_preferences(GetPreferencesRequest {})
        .await
        .unwrap();
    let expected = [
        preference("likes", true, true, true),
        preference("tips", true, false, true),
    ];
    assert_eq!(all.preferences, expected);
    let off = UpdatePreferencesRequest {
        choices: vec![Choice {
            r#type: "likes".into(),
            on: Some(false),
        }],
    };
    let error = house.ann.update_preferences(off).await.unwrap_err();
    assert_eq!(
        error.reason().as_deref(),
        Some(ErrorReason::InvalidRequest.text())
    );
    assert!(error.to_string().contains("required"), "{error}");
    house.say("likes", true, false).await;
    assert!(
        house.is_muted("ann", "likes").await,
        "what she said holds again"
    );
    let forget = UpdateTypeDefaultsRequest {
        organization_id: "acme".into(),
        defaults: vec![],
        removed_types: vec!["tips".into(), "likes".into()],
    };
    let left = house.sender.update_type_defaults(forget).await.unwrap();
    assert_eq!(left.defaults, []);
    assert!(!house.is_muted("bob", "tips").await);
}

/// A key that was used answers with what was made, whatever is wanted now.
async fn a_known_key_is_a_duplicate_before_it_is_muted(house: House) {
    let keyed = SendInAppRequest {
        organization_id: "acme".into(),
        recipient_user_id: "ann".into(),
        r#type: "likes".into(),
        title: "a title".into(),
        idempotency_key: Some("key".into()),
        ..SendInAppRequest::default()
    };
    let first = house.sender.send_in_app(keyed.clone()).await.unwrap();
    house.choose(&[("likes", Some(false))]).await;
    let again = house.sender.send_in_app(keyed.clone()).await.unwrap();
    assert!(again.duplicate);
    let id = |answer: SendInAppResponse| answer.notification.map(|row| row.id);
    assert_eq!(id(again), id(first));
    let other = SendInAppRequest {
        idempotency_key: Some("another".into()),
        ..keyed
    };
    let muted = house.sender.send_in_app(other.clone()).await.unwrap();
    assert_eq!(muted.suppressed(), Suppressed::Muted);
    // It made nothing, so its key is free once it is wanted.
    house.choose(&[("likes", None)]).await;
    let made = house.sender.send_in_app(other).await.unwrap();
    assert!(!made.duplicate && made.notification.is_some());
}

/// Of many, and of a topic, each is judged alone.
async fn of_many_those_who_want_it_have_it(house: House) {
    house.choose(&[("news", Some(false))]).await;
    let content = Content {
        r#type: "news".into(),
        title: "To all".into(),
        ..Content::default()
    };
    let users: Vec<String> = ["ann", "bob", "cid"].map(str::to_owned).into();
    let request = SendToManyRequest {
        organization_id: "acme".into(),
        recipient_user_ids: users.clone(),
        content: Some(content.clone()),
        idempotency_key: "many".into(),
        ..SendToManyRequest::default()
    };
    let answer = house.sender.send_to_many(request).await.unwrap();
    assert_eq!((answer.sent_count, answer.error_count), (2, 0));
    assert_eq!(answer.results[0].suppressed(), Suppressed::Muted);
    let members = AddTopicMembersRequest {
        organization_id: "acme".into(),
        topic_id: "all".into(),
        user_ids: users,
    };
    house.sender.add_topic_members(members).await.unwrap();
    let to_topic = SendToTopicRequest {
        organization_id: "acme".into(),
        topic_id: "all".into(),
        content: Some(content),
        idempotency_key: "topic".into(),
        ..SendToTopicRequest::default()
    };
    let id = house
        .sender
        .send_to_topic(to_topic)
        .await
        .unwrap()
        .send
        .unwrap()
        .id;
    let of = GetSendRequest {
        organization_id: "acme".into(),
        send_id: Some(id),
        ..GetSendRequest::default()
    };
    eventually("it is delivered", async || {
        let send = house
            .sender
            .get_send(of.clone())
            .await
            .unwrap()
            .send
            .unwrap();
        send.state() == SendState::Done && (send.delivered_count, send.suppressed_count) == (2, 1)
    })
    .await;
}

/// What is wrong is named, and nothing of it is noted.
async fn what_is_wrong_is_named(house: House) {
    let choice = |kind: &str| Choice {
        r#type: kind.into(),
        on: Some(false),
    };
    let many = |count: usize| {
        (0..count)
            .map(|number| choice(&format!("type-{number}")))
            .collect()
    };
    for (choices, field) in [
        (vec![], "choices"),
        (many(201), "choices"),
        (vec![choice("likes"), choice("likes")], "choices[1].type"),
        (vec![choice("")], "choices[0].type"),
        (vec![choice(&"x".repeat(129))], "choices[0].type"),
    ] {
        let request = UpdatePreferencesRequest { choices };
        let error = house.ann.update_preferences(request).await.unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
    let all = UpdatePreferencesRequest { choices: many(200) };
    let all = house.ann.update_preferences(all).await.unwrap();
    assert_eq!(all.preferences.len(), 200);
    let more = UpdatePreferencesRequest {
        choices: vec![choice("one more")],
    };
    let error = house.ann.update_preferences(more).await.unwrap_err();
    assert!(error.to_string().contains("200"), "{error}");
    // One back, and there is room.
    house
        .choose(&[("type-0", None), ("one more", Some(false))])
        .await;
    // Neither sees or says what is the other's.
    let own = house.ann.get_type_defaults(GetTypeDefaultsRequest {
        organization_id: "acme".into(),
    });
    assert_eq!(
        own.await.unwrap_err().reason().as_deref(),
        Some(ErrorReason::NotASender.text())
    );
    let none = house.sender.get_preferences(GetPreferencesRequest {}).await;
    assert_eq!(
        none.unwrap_err().reason().as_deref(),
        Some(ErrorReason::NotAReader.text())
    );
    let others = house.sender.get_type_defaults(GetTypeDefaultsRequest {
        organization_id: "globex".into(),
    });
    assert_eq!(
        others.await.unwrap_err().reason().as_deref(),
        Some(ErrorReason::WrongOrganization.text())
    );
}

/// With who is erased goes what they said.
async fn what_was_said_goes_with_who_is_erased(house: House) {
    house.choose(&[("likes", Some(false))]).await;
    house.say("tips", false, false).await;
    let operator = client(&house.server, &operator_token("acme"));
    let inbox = doorbell::client::EraseInboxRequest {
        organization_id: "acme".into(),
        user_id: "ann".into(),
    };
    operator.erase_inbox(inbox).await.unwrap();
    let said = house
        .ann
        .get_preferences(GetPreferencesRequest {})
        .await
        .unwrap();
    assert_eq!(said.preferences, [preference("tips", false, false, false)]);
    let organization = doorbell::client::EraseOrganizationRequest {
        organization_id: "acme".into(),
    };
    operator.erase_organization(organization).await.unwrap();
    let said = house
        .ann
        .get_preferences(GetPreferencesRequest {})
        .await
        .unwrap();
    assert_eq!(said.preferences, []);
}

/// Of several who say something of other types at once, as many as there is room for are
/// heard.
async fn who_say_it_at_once_do_not_pass_the_limit(house: House) {
    let say = async |of: &str| {
        let default = |number: usize| TypeDefault {
            r#type: format!("{of}-{number}"),
            on: false,
            required: false,
        };
        let request = UpdateTypeDefaultsRequest {
            organization_id: "acme".into(),
            defaults: (0..150).map(default).collect(),
            removed_types: vec![],
        };
        house.sender.update_type_defaults(request).await.is_ok()
    };
    let (one, other, third) = tokio::join!(say("one"), say("other"), say("third"));
    assert_eq!(
        usize::from(one) + usize::from(other) + usize::from(third),
        1
    );
    let request = GetTypeDefaultsRequest {
        organization_id: "acme".into(),
    };
    let known = house.sender.get_type_defaults(request).await.unwrap();
    assert_eq!(known.defaults.len(), 150);
}

on_both!(
    House:
    who_say_it_at_once_do_not_pass_the_limit,
    what_is_turned_off_is_not_made,
    who_never_had_anything_can_say_no,
    what_holds_is_required_chosen_or_by_default,
    a_known_key_is_a_duplicate_before_it_is_muted,
    of_many_those_who_want_it_have_it,
    what_is_wrong_is_named,
    what_was_said_goes_with_who_is_erased,
);
