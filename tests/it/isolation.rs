//! Tenants never see one another, in any call, error, metric or log line.
//!
//! The calls come from the descriptor of the service: a method without a case
//! here fails. An id, a position or a token of somebody else's is answered with
//! the same bytes as one that does not exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use doorbell::proto::{
    About, AddTopicMembersRequest, ArchiveRequest, BroadcastRequest, CancelSendRequest, Choice,
    Content, DeleteTopicRequest, EraseInboxRequest, EraseOrganizationRequest, FILE_DESCRIPTOR_SET,
    GetNodeRequest, GetPreferencesRequest, GetRecentRequest, GetRetractionRequest, GetSendRequest,
    GetTimelineRequest, GetTypeDefaultsRequest, GetUnreadCountRequest, ListFollowUpsRequest,
    ListSendsRequest, ListTopicMembersRequest, ListTopicsOfUserRequest, MarkSeenRequest,
    MarkUnreadRequest, ReadInboxRequest, RemoveRequest, RemoveTopicMembersRequest,
    RetractBroadcastRequest, RetractFromAllRequest, RetractInAppRequest, SendToManyRequest,
    SendToTopicRequest, SubscribeRequest, UnarchiveRequest, UpdateInAppRequest,
    UpdatePreferencesRequest, UpdateTypeDefaultsRequest,
    preference_service_client::PreferenceServiceClient, send_service_client::SendServiceClient,
    topic_service_client::TopicServiceClient,
};
use futures_util::future::BoxFuture;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::{
    calls::{
        Inbox, Way, assert_refused, counts, eventually, exchange, in_seconds, mark, next, page,
        rest, send, signed,
    },
    history::{Screen, Told},
    process::PATIENCE,
    server::{
        Authorized, Client, OperatorClient, Server, Setup, free_port, operator_token, sender_token,
        user_token,
    },
};

/// What a caller may name that is somebody's.
#[derive(Clone)]
struct Named {
    organization: String,
    user: String,
    ids: Vec<String>,
    page_token: String,
    revision: u64,
    epoch: String,
    send_id: String,
    broadcast_id: String,
}

/// Who calls.
#[derive(Clone)]
struct As {
    client: Client,
    operator: OperatorClient,
    /// For the other services.
    channel: Authorized,
}

impl As {
    async fn new(server: &Server, token: &str) -> Self {
        Self {
            client: server.client(token).await,
            operator: server.operator(token).await,
            channel: server.authorized(token).await,
        }
    }
}

/// A case of a service that has a client of its own.
macro_rules! case {
    ($of:ident, $client:ident.$method:ident, $request:expr) => {
        $of(|As { channel, .. }, named| {
            Box::pin(async move {
                let request = ($request)(named);
                let answer = $client::new(channel).$method(request).await?;
                Ok(answer.into_inner().encode_to_vec())
            })
        })
    };
}

/// Calls a method with what is somebody's, and gives all bytes of the answer.
type Call = fn(As, Named) -> BoxFuture<'static, Result<Vec<u8>, Status>>;

/// Whose calls they are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Role {
    Reader,
    Sender,
    Operator,
}

impl Role {
    const ALL: [Self; 3] = [Self::Reader, Self::Sender, Self::Operator];

    /// The reason by which others are refused.
    fn refusal(self) -> &'static str {
        match self {
            Self::Reader => "NOT_A_READER",
            Self::Sender => "NOT_A_SENDER",
            Self::Operator => "NOT_AN_OPERATOR",
        }
    }

    /// A token of this role.
    fn token(self, organization: &str, user: &str, exp: i64) -> String {
        match self {
            Self::Reader => reader_token(organization, user, exp),
            Self::Sender => sender_token(organization),
            Self::Operator => operator_token(organization),
        }
    }
}

#[derive(Clone, Copy)]
struct Case {
    call: Call,
    /// Who may.
    role: Role,
    /// Whether operators may as well.
    is_for_operators_too: bool,
    /// Whether it names no organization and is for those of all alone.
    is_of_all: bool,
}

impl Case {
    fn admits(&self, role: Role) -> bool {
        role == self.role || (role == Role::Operator && self.is_for_operators_too)
    }
}

fn cases() -> BTreeMap<&'static str, Case> {
    let of = |role| {
        move |call| Case {
            call,
            role,
            is_for_operators_too: false,
            is_of_all: false,
        }
    };
    let (reads, sends, operates) = (of(Role::Reader), of(Role::Sender), of(Role::Operator));
    let both = |call| Case {
        is_for_operators_too: true,
        ..sends(call)
    };
    let of_all = |call| Case {
        is_of_all: true,
        ..operates(call)
    };
    BTreeMap::from([
        (
            "SendInApp",
            sends(|As { mut client, .. }, named| {
                Box::pin(async move {
                    let request = send(&named.organization, &named.user, "From outside");
                    let answer = client.send_in_app(request).await?;
                    Ok(answer.into_inner().encode_to_vec())
                })
            }),
        ),
        (
            "SendToMany",
            sends(|As { mut client, .. }, named| {
                Box::pin(async move {
                    let request = SendToManyRequest {
                        organization_id: named.organization,
                        recipient_user_ids: vec![named.user],
                        content: Some(Content {
                            r#type: "greeting".into(),
                            title: "From outside".into(),
                            ..Content::default()
                        }),
                        idempotency_key: Uuid::new_v4().to_string(),
                        ..SendToManyRequest::default()
                    };
                    let answer = client.send_to_many(request).await?;
                    Ok(answer.into_inner().encode_to_vec())
                })
            }),
        ),
        (
            "MarkRead",
            reads(|As { mut client, .. }, named| {
                Box::pin(async move {
                    let answer = client.mark_read(mark(named.ids)).await?;
                    Ok(answer.into_inner().encode_to_vec())
                })
            }),
        ),
        (
            "UpdateInApp",
            sends(|As { mut client, .. }, named| {
                Box::pin(async move {
                    let request = UpdateInAppRequest {
                        organization_id: named.organization,
                        recipient_user_id: named.user,
                        notification_id: named.ids.first().cloned(),
                        content: Some(Content {
                            title: "From outside".into(),
                            ..Content::default()
                        }),
                        ..UpdateInAppRequest::default()
                    };
                    let answer = client.update_in_app(request).await?;
                    Ok(answer.into_inner().encode_to_vec())
                })
            }),
        ),
        (
            "RetractInApp",
            sends(|As { mut client, .. }, named| {
                Box::pin(async move {
                    let request = RetractInAppRequest {
                        organization_id: named.organization,
                        recipient_user_id: named.user,
                        // The first is for `UpdateInApp`.
                        notification_ids: named.ids.into_iter().skip(1).collect(),
                        ..RetractInAppRequest::default()
                    };
                    let answer = client.retract_in_app(request).await?;
                    Ok(answer.into_inner().encode_to_vec())
                })
            }),
        ),
        (
            "MarkUnread",
            reads(|As { mut client, .. }, named| {
                Box::pin(async move {
                    let request = MarkUnreadRequest {
                        notification_ids: named.ids,
                        ..MarkUnreadRequest::default()
                    };
                    let answer = client.mark_unread(request).await?;
                    Ok(answer.into_inner().encode_to_vec())
                })
            }),
        ),
        (
            "Archive",
            reads(|As { mut client, .. }, named| {
                Box::pin(async move {
                    let request = ArchiveRequest {
                        notification_ids: named.ids,
                        ..ArchiveRequest::default()
                    };
                    let answer = client.archive(request).await?;
                    Ok(answer.into_inner().encode_to_vec())
                })
            }),
        ),
        (
            "Unarchive",
            reads(|As { mut client, .. }, named| {
                Box::pin(async move {
                    let request = UnarchiveRequest {
                        notification_ids: named.ids,
                        ..UnarchiveRequest::default()
                    };
                    let answer = client.unarchive(request).await?;
                    Ok(answer.into_inner().encode_to_vec())
                })
            }),
        ),
        (
            "Remove",
            reads(|As { mut client, .. }, named| {
                Box::pin(async move {
                    let request = RemoveRequest {
                        notification_ids: named.ids,
                        ..RemoveRequest::default()
                    };
                    let answer = client.remove(request).await?;
                    Ok(answer.into_inner().encode_to_vec())
                })
            }),
        ),
        (
            "MarkSeen",
            reads(|As { mut client, .. }, named| {
                Box::pin(async move {
                    let request = MarkSeenRequest {
                        through_sequence: named.revision,
                        epoch: named.epoch,
                    };
                    let answer = client.mark_seen(request).await?;
                    Ok(answer.into_inner().encode_to_vec())
                })
            }),
        ),
        (
            "GetUnreadCount",
            reads(|As { mut client, .. }, _| {
                Box::pin(async move {
                    let answer = client
                        .get_unread_count(GetUnreadCountRequest::default())
                        .await?;
                    Ok(answer.into_inner().encode_to_vec())
                })
            }),
        ),
        (
            "GetRecent",
            reads(|As { mut client, .. }, named| {
                Box::pin(async move {
                    let plain = client.get_recent(GetRecentRequest::default()).await?;
                    let request = GetRecentRequest {
                        page_token: named.page_token,
                        ..GetRecentRequest::default()
                    };
                    let paged = client.get_recent(request).await;
                    let mut bytes = plain.into_inner().encode_to_vec();
                    match paged {
                        Ok(page) => bytes.extend(page.into_inner().encode_to_vec()),
                        Err(status) => bytes.extend(all_of(&status)),
                    }
                    Ok(bytes)
                })
            }),
        ),
        (
            "Subscribe",
            reads(|As { mut client, .. }, named| {
                Box::pin(async move {
                    let request = SubscribeRequest {
                        after_revision: Some(named.revision),
                        epoch: None,
                    };
                    let mut stream = client.subscribe(request).await?.into_inner();
                    let (messages, end) = rest(&mut stream).await;
                    end?;
                    Ok(messages
                        .iter()
                        .flat_map(|message| message.encode_to_vec())
                        .collect())
                })
            }),
        ),
        (
            "ReadInbox",
            operates(|As { mut operator, .. }, named| {
                Box::pin(async move {
                    let request = ReadInboxRequest {
                        organization_id: named.organization,
                        user_id: named.user,
                        query: None,
                    };
                    let answer = operator.read_inbox(request).await?;
                    Ok(answer.into_inner().encode_to_vec())
                })
            }),
        ),
        (
            "GetTimeline",
            operates(|As { mut operator, .. }, named| {
                Box::pin(async move {
                    let request = GetTimelineRequest {
                        organization_id: named.organization,
                        user_id: named.user,
                        notification_id: named.ids.first().cloned(),
                        idempotency_key: None,
                    };
                    let answer = operator.get_timeline(request).await?;
                    Ok(answer.into_inner().encode_to_vec())
                })
            }),
        ),
        (
            "EraseInbox",
            operates(|As { mut operator, .. }, named| {
                Box::pin(async move {
                    let request = EraseInboxRequest {
                        organization_id: named.organization,
                        user_id: named.user,
                    };
                    let answer = operator.erase_inbox(request).await?;
                    Ok(answer.into_inner().encode_to_vec())
                })
            }),
        ),
        (
            "EraseOrganization",
            operates(|As { mut operator, .. }, named| {
                Box::pin(async move {
                    let request = EraseOrganizationRequest {
                        organization_id: named.organization,
                    };
                    let answer = operator.erase_organization(request).await?;
                    Ok(answer.into_inner().encode_to_vec())
                })
            }),
        ),
        (
            "GetNode",
            of_all(|As { mut operator, .. }, _| {
                Box::pin(async move {
                    let answer = operator.get_node(GetNodeRequest {}).await?;
                    Ok(answer.into_inner().encode_to_vec())
                })
            }),
        ),
        (
            "SendToTopic",
            case!(sends, SendServiceClient.send_to_topic, |named: Named| {
                SendToTopicRequest {
                    organization_id: named.organization,
                    topic_id: TOPIC.into(),
                    content: Some(Content {
                        r#type: "greeting".into(),
                        title: "From outside".into(),
                        ..Content::default()
                    }),
                    idempotency_key: Uuid::new_v4().to_string(),
                    deliver_time: in_a_day(),
                    ..SendToTopicRequest::default()
                }
            }),
        ),
        (
            "Broadcast",
            case!(both, SendServiceClient.broadcast, |named: Named| {
                BroadcastRequest {
                    organization_id: named.organization,
                    content: Some(Content {
                        r#type: "greeting".into(),
                        title: "From outside".into(),
                        ..Content::default()
                    }),
                    idempotency_key: Uuid::new_v4().to_string(),
                    deliver_time: in_a_day(),
                    ..BroadcastRequest::default()
                }
            }),
        ),
        (
            "RetractBroadcast",
            case!(both, SendServiceClient.retract_broadcast, |named: Named| {
                RetractBroadcastRequest {
                    organization_id: named.organization,
                    send_id: named.broadcast_id,
                    ..RetractBroadcastRequest::default()
                }
            }),
        ),
        (
            "GetSend",
            case!(both, SendServiceClient.get_send, |named: Named| {
                GetSendRequest {
                    organization_id: named.organization,
                    send_id: Some(named.send_id),
                    ..GetSendRequest::default()
                }
            }),
        ),
        (
            "ListSends",
            case!(both, SendServiceClient.list_sends, |named: Named| {
                ListSendsRequest {
                    organization_id: named.organization,
                    ..ListSendsRequest::default()
                }
            }),
        ),
        (
            "CancelSend",
            case!(both, SendServiceClient.cancel_send, |named: Named| {
                CancelSendRequest {
                    organization_id: named.organization,
                    send_id: named.send_id,
                    ..CancelSendRequest::default()
                }
            }),
        ),
        (
            "RetractFromAll",
            case!(both, SendServiceClient.retract_from_all, |named: Named| {
                RetractFromAllRequest {
                    organization_id: named.organization,
                    about: nothing_here(),
                    idempotency_key: Uuid::new_v4().to_string(),
                }
            }),
        ),
        (
            "GetRetraction",
            case!(both, SendServiceClient.get_retraction, |named: Named| {
                GetRetractionRequest {
                    organization_id: named.organization,
                    idempotency_key: Some(RETRACTION.into()),
                    ..GetRetractionRequest::default()
                }
            }),
        ),
        (
            "ListFollowUps",
            case!(both, SendServiceClient.list_follow_ups, |named: Named| {
                ListFollowUpsRequest {
                    organization_id: named.organization,
                    ..ListFollowUpsRequest::default()
                }
            }),
        ),
        (
            "AddTopicMembers",
            case!(
                sends,
                TopicServiceClient.add_topic_members,
                |named: Named| {
                    AddTopicMembersRequest {
                        organization_id: named.organization,
                        topic_id: "another".into(),
                        user_ids: vec![named.user],
                    }
                }
            ),
        ),
        (
            "RemoveTopicMembers",
            case!(
                both,
                TopicServiceClient.remove_topic_members,
                |named: Named| {
                    RemoveTopicMembersRequest {
                        organization_id: named.organization,
                        topic_id: TOPIC.into(),
                        user_ids: vec![named.user],
                    }
                }
            ),
        ),
        (
            "ListTopicMembers",
            case!(
                both,
                TopicServiceClient.list_topic_members,
                |named: Named| {
                    ListTopicMembersRequest {
                        organization_id: named.organization,
                        topic_id: TOPIC.into(),
                        ..ListTopicMembersRequest::default()
                    }
                }
            ),
        ),
        (
            "ListTopicsOfUser",
            case!(
                both,
                TopicServiceClient.list_topics_of_user,
                |named: Named| {
                    ListTopicsOfUserRequest {
                        organization_id: named.organization,
                        user_id: named.user,
                        ..ListTopicsOfUserRequest::default()
                    }
                }
            ),
        ),
        (
            "DeleteTopic",
            case!(both, TopicServiceClient.delete_topic, |named: Named| {
                DeleteTopicRequest {
                    organization_id: named.organization,
                    topic_id: TOPIC.into(),
                }
            }),
        ),
        (
            "GetPreferences",
            case!(
                reads,
                PreferenceServiceClient.get_preferences,
                |_: Named| { GetPreferencesRequest {} }
            ),
        ),
        (
            "UpdatePreferences",
            case!(
                reads,
                PreferenceServiceClient.update_preferences,
                |_: Named| {
                    UpdatePreferencesRequest {
                        choices: vec![Choice {
                            r#type: "noise".into(),
                            on: Some(false),
                        }],
                    }
                }
            ),
        ),
        (
            "GetTypeDefaults",
            case!(
                sends,
                PreferenceServiceClient.get_type_defaults,
                |named: Named| {
                    GetTypeDefaultsRequest {
                        organization_id: named.organization,
                    }
                }
            ),
        ),
        (
            "UpdateTypeDefaults",
            case!(
                sends,
                PreferenceServiceClient.update_type_defaults,
                |named: Named| {
                    UpdateTypeDefaultsRequest {
                        organization_id: named.organization,
                        defaults: vec![],
                        removed_types: vec!["noise".into()],
                    }
                }
            ),
        ),
    ])
}

/// The methods of the services, as the descriptor has them, each with its path.
fn methods() -> BTreeMap<String, String> {
    let set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let ours = set
        .file
        .iter()
        .filter(|file| file.package() == "doorbell.v1");
    let of = |service: &prost_types::ServiceDescriptorProto| {
        let path = |method: &str| format!("/doorbell.v1.{}/{method}", service.name());
        let methods = service.method.iter().map(|method| method.name());
        methods
            .map(|method| (method.to_owned(), path(method)))
            .collect::<Vec<_>>()
    };
    ours.flat_map(|file| &file.service).flat_map(of).collect()
}

/// A case for every method, or the test fails.
fn every_case() -> Vec<(&'static str, Case)> {
    let cases = cases();
    let with_case: BTreeSet<_> = cases.keys().map(|name| (*name).to_owned()).collect();
    assert_eq!(
        methods().into_keys().collect::<BTreeSet<_>>(),
        with_case,
        "each method has its case of isolation"
    );
    cases.into_iter().collect()
}

/// Code, message and details of a status.
fn all_of(status: &Status) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(status.code() as i32).unwrap()];
    bytes.extend(status.message().as_bytes());
    bytes.extend(status.details());
    bytes
}

fn bytes_of(answer: Result<Vec<u8>, Status>) -> Vec<u8> {
    answer.unwrap_or_else(|status| all_of(&status))
}

/// Words that are one tenant's, and nobody else's to read.
const ORGANIZATION: &str = "secretive-tenant";
const USER: &str = "confidential-person";
const TITLE: &str = "a-title-for-one-pair-of-eyes";
const BODY: &str = "a-body-for-one-pair-of-eyes";
const WORDS: [&str; 5] = [ORGANIZATION, USER, TITLE, BODY, TOPIC];

fn contains(bytes: &[u8], word: &str) -> bool {
    bytes
        .windows(word.len())
        .any(|window| window == word.as_bytes())
}

/// The victim's inbox, with all that it has.
async fn victim(server: &Server) -> (Inbox, Named) {
    let mut inbox = Inbox::new(server, ORGANIZATION, USER).await;
    for _ in 0..3 {
        let mut request = send(ORGANIZATION, USER, TITLE);
        request.body = Some(BODY.into());
        let answer = inbox
            .sender
            .send_in_app(request)
            .await
            .unwrap()
            .into_inner();
        inbox.sent(answer.notification.unwrap(), answer.head.into());
    }
    let request = GetRecentRequest {
        limit: 1,
        ..GetRecentRequest::default()
    };
    let page = inbox.reader.get_recent(request).await.unwrap().into_inner();
    let (send_id, broadcast_id) = to_come(server).await;
    let named = Named {
        organization: ORGANIZATION.into(),
        user: USER.into(),
        ids: inbox.ids.iter().map(Uuid::to_string).collect(),
        page_token: page.next_page_token,
        revision: page.head.unwrap().revision,
        epoch: page.epoch,
        send_id,
        broadcast_id,
    };
    (inbox, named)
}

/// The key of a retraction of the victim's.
const RETRACTION: &str = "a-retraction-of-one-tenant";
/// A topic of the victim's, of which they are a member.
const TOPIC: &str = "a-topic-of-one-tenant";

fn nothing_here() -> Option<About> {
    Some(About {
        entity_type: "nothing".into(),
        entity_id: "here".into(),
    })
}

fn in_a_day() -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp {
        seconds: in_seconds(24 * 60 * 60),
        nanos: 0,
    })
}

/// Makes the victim a member of the topic, and something is to come to it, and to all of
/// the organization.
async fn to_come(server: &Server) -> (String, String) {
    let channel = server.authorized(&sender_token(ORGANIZATION)).await;
    let members = AddTopicMembersRequest {
        organization_id: ORGANIZATION.into(),
        topic_id: TOPIC.into(),
        user_ids: vec![USER.into()],
    };
    let mut topics = TopicServiceClient::new(channel.clone());
    topics.add_topic_members(members).await.unwrap();
    let content = Some(Content {
        r#type: "greeting".into(),
        title: TITLE.into(),
        ..Content::default()
    });
    let request = SendToTopicRequest {
        organization_id: ORGANIZATION.into(),
        topic_id: TOPIC.into(),
        content: content.clone(),
        idempotency_key: Uuid::new_v4().to_string(),
        deliver_time: in_a_day(),
        ..SendToTopicRequest::default()
    };
    let mut sends = SendServiceClient::new(channel);
    let sent = sends.send_to_topic(request).await.unwrap().into_inner();
    let request = BroadcastRequest {
        organization_id: ORGANIZATION.into(),
        content,
        idempotency_key: Uuid::new_v4().to_string(),
        deliver_time: in_a_day(),
        ..BroadcastRequest::default()
    };
    let said = sends.broadcast(request).await.unwrap().into_inner();
    let request = RetractFromAllRequest {
        organization_id: ORGANIZATION.into(),
        about: nothing_here(),
        idempotency_key: RETRACTION.into(),
    };
    sends.retract_from_all(request).await.unwrap();
    (sent.send.unwrap().id, said.send.unwrap().id)
}

/// What never was: as long as the victim's.
fn nobodys() -> Named {
    Named {
        organization: "secretive-tenanu".into(),
        user: "confidential-persoo".into(),
        ids: (1..=3).map(|n| Uuid::from_u128(n).to_string()).collect(),
        page_token: "00000000000000030123456789abcdef".into(),
        revision: 3,
        epoch: "00000000000000000000000000000000".into(),
        send_id: Uuid::from_u128(7).to_string(),
        broadcast_id: Uuid::from_u128(8).to_string(),
    }
}

/// Tokens of one and the same `exp`: it is part of what a stream says.
fn reader_token(organization: &str, user: &str, exp: i64) -> String {
    signed(&json!({"organizationId": organization, "userId": user, "exp": exp}))
}

#[test]
fn every_method_of_the_service_has_a_case() {
    assert_eq!(every_case().len(), methods().len());
}

#[tokio::test]
async fn without_a_good_token_no_call_is_served() {
    let server = Setup::new().start();
    let (_inbox, named) = victim(&server).await;
    let exp = in_seconds(1000);
    let wildcard_user = json!({"organizationId": "*", "userId": USER, "exp": exp});
    let wildcard_other_role =
        json!({"organizationId": "*", "userId": USER, "userRole": "admin", "exp": exp});
    let expired = json!({"organizationId": ORGANIZATION, "userId": USER, "exp": in_seconds(-1)});
    let good = user_token(ORGANIZATION, USER);
    let (signed_part, signature) = good.rsplit_once('.').unwrap();
    let flipped = signature.chars().rev().collect::<String>();
    for (method, case) in every_case() {
        for (token, reason) in [
            (signed(&wildcard_user), "TOKEN_INVALID"),
            (signed(&wildcard_other_role), "TOKEN_INVALID"),
            (signed(&expired), "TOKEN_EXPIRED"),
            (format!("{signed_part}.{flipped}"), "TOKEN_INVALID"),
            (format!("{signed_part}."), "TOKEN_INVALID"),
            ("x".to_owned(), "TOKEN_INVALID"),
        ] {
            let caller = As::new(&server, &token).await;
            let answer = (case.call)(caller, named.clone()).await;
            assert_refused(answer, Code::Unauthenticated, reason);
        }
        // No metadata at all, on either way in.
        for way in Way::ALL {
            let path = methods()[method].clone();
            let body = crate::calls::frame(&[]);
            let answer = exchange(&server, way, &path, &[], body).await.unwrap();
            let status = answer.status().expect("a status");
            assert_refused(Err::<(), _>(status), Code::Unauthenticated, "TOKEN_MISSING");
        }
    }
}

#[tokio::test]
async fn each_role_has_its_calls_and_the_wildcard_is_not_for_readers() {
    let server = Setup::new().with("OPERATOR_ROLE", "operator").start();
    let exp = in_seconds(1000);
    for (method, case) in every_case() {
        let (_inbox, named) = victim(&server).await;
        for role in Role::ALL {
            // Who may has a stream that does not end.
            if (role, method) == (Role::Reader, "Subscribe") {
                continue;
            }
            let own = As::new(&server, &role.token(ORGANIZATION, USER, exp)).await;
            let answer = (case.call)(own, named.clone()).await;
            if !case.admits(role) {
                assert_refused(answer, Code::PermissionDenied, case.role.refusal());
            } else if case.is_of_all {
                assert_refused(answer, Code::PermissionDenied, "WRONG_ORGANIZATION");
            } else {
                assert!(answer.is_ok(), "{method} as {role:?}: {answer:?}");
            }
            if role == Role::Reader {
                continue;
            }
            // Another organization's, and all's: the role is looked at first.
            for organization in ["globex", "*"] {
                let caller = As::new(&server, &role.token(organization, USER, exp)).await;
                let answer = (case.call)(caller, named.clone()).await;
                if !case.admits(role) {
                    assert_refused(answer, Code::PermissionDenied, case.role.refusal());
                } else if organization == "*" {
                    assert!(answer.is_ok(), "{method}: {answer:?}");
                } else {
                    assert_refused(answer, Code::PermissionDenied, "WRONG_ORGANIZATION");
                }
            }
        }
        let roles = [Role::Sender, Role::Operator];
        let admitted = roles.iter().filter(|role| case.admits(**role));
        for role in admitted.filter(|_| !case.is_of_all) {
            // And no request may name it, whoever calls.
            let mut wildcard = named.clone();
            wildcard.organization = "*".into();
            let caller = As::new(&server, &role.token("*", USER, exp)).await;
            let answer = (case.call)(caller, wildcard).await;
            assert_refused(answer, Code::InvalidArgument, "INVALID_REQUEST");
        }
    }
}

/// Where no role is that of operators, nobody is one: the token is a reader's.
#[tokio::test]
async fn there_are_no_operators_unless_they_are_set() {
    let server = Setup::new().start();
    let (_inbox, named) = victim(&server).await;
    let claims = json!({
        "organizationId": ORGANIZATION, "userId": USER, "userRole": "operator",
        "exp": in_seconds(1000),
    });
    for (method, case) in every_case() {
        if case.role == Role::Operator {
            let caller = As::new(&server, &signed(&claims)).await;
            let answer = (case.call)(caller, named.clone()).await;
            let refusal = assert_refused(answer, Code::PermissionDenied, "NOT_AN_OPERATOR");
            assert!(!refusal.fields.contains(&method.to_owned()));
        }
    }
}

#[tokio::test]
async fn what_is_somebody_elses_is_like_what_does_not_exist() {
    let server = Setup::new().with("OPERATOR_ROLE", "operator").start();
    let (mut inbox, named) = victim(&server).await;
    let mut screen = Screen::default();
    let mut stream = inbox.subscribe(SubscribeRequest::default()).await;
    screen
        .see(&Told::from(&next(&mut stream).await), None)
        .unwrap();
    let exp = in_seconds(1000);
    for (method, case) in every_case() {
        // Another tenant with the same user's id; another user of the same
        // tenant; and one who has a namesake nowhere.
        let strangers = [("globex", USER), (ORGANIZATION, "mallory"), ("x", "y")];
        let roles = Role::ALL.into_iter().filter(|role| case.admits(*role));
        for (role, (organization, user)) in
            roles.flat_map(|role| strangers.map(|stranger| (role, stranger)))
        {
            let organization = match role {
                Role::Reader => organization,
                _ => "globex",
            };
            let token = role.token(organization, user, exp);
            let caller = As::new(&server, &token).await;
            let theirs = (case.call)(caller.clone(), named.clone()).await;
            let nobodys = (case.call)(caller, nobodys()).await;
            let (theirs, nobodys) = (bytes_of(theirs), bytes_of(nobodys));
            assert_eq!(
                theirs, nobodys,
                "{method} as {role:?} of {organization} {user}"
            );
            for word in WORDS {
                assert!(!contains(&theirs, word), "{method} tells {word}");
            }
            for id in &named.ids {
                assert!(!contains(&theirs, id), "{method} tells {id}");
            }
        }
    }
    // Nothing happened to it: its next event follows on what it had.
    let head = inbox
        .reader
        .get_unread_count(GetUnreadCountRequest::default())
        .await;
    assert_eq!(counts(head.unwrap().into_inner().head), (3, 3));
    inbox.send("Last").await;
    let message = next(&mut stream).await;
    assert_eq!(message.position, 4);
    screen.see(&Told::from(&message), None).unwrap();
}

/// Streams of every other inbox stay silent while one is written to.
#[tokio::test]
async fn an_event_rings_in_one_inbox_alone() {
    let server = Setup::new().start();
    let mut ours = Inbox::new(&server, "acme", "ann").await;
    let mut others = Vec::new();
    for (organization, user) in [
        ("globex", "ann"),
        ("acme", "bob"),
        ("acm", "eann"),
        ("ann", "acme"),
    ] {
        let mut other = Inbox::new(&server, organization, user).await;
        let mut stream = other.subscribe(SubscribeRequest::default()).await;
        next(&mut stream).await;
        others.push((other, stream));
    }
    for number in 0..20 {
        ours.send(&format!("{TITLE} {number}")).await;
    }
    let ids = ours.ids.clone();
    ours.mark(&ids).await;
    // What comes first on each is its own, and the first of its inbox.
    for (other, stream) in &mut others {
        let own = other.send("own").await;
        let message = next(stream).await;
        assert_eq!(counts(message.head), (1, 1));
        assert!(contains(&message.encode_to_vec(), &own.id));
    }
}

fn json_lines(log: &str) -> Vec<Value> {
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect()
}

fn lines_of(server: &Server, message: &str) -> Vec<Value> {
    json_lines(&server.log())
        .into_iter()
        .filter(|line| line["message"] == message)
        .collect()
}

#[tokio::test]
async fn metrics_name_no_tenant_and_logs_name_the_caller_alone() {
    let pages = free_port();
    let server = Setup::new()
        .with("METRICS_LISTEN", pages)
        .with("OPERATOR_ROLE", "operator")
        .with("LOG", "trace")
        .start();
    let (mut inbox, named) = victim(&server).await;
    let exp = in_seconds(1000);
    let mut tokens = vec![user_token(ORGANIZATION, USER)];

    // A stream of ours, from its opening to its end.
    let own = server.client(&tokens[0]).await;
    let mut stream = own.clone().subscribe(SubscribeRequest::default()).await;
    next(stream.as_mut().unwrap().get_mut()).await;
    let ids = inbox.ids.clone();
    inbox.mark(&ids[..1]).await;
    next(stream.as_mut().unwrap().get_mut()).await;
    drop(stream);

    // Strangers try everything with what is ours.
    for (_, case) in every_case() {
        for token in [
            reader_token("globex", USER, exp),
            sender_token("globex"),
            operator_token("globex"),
            format!("{}x", user_token(ORGANIZATION, USER)),
        ] {
            let caller = As::new(&server, &token).await;
            let _ = (case.call)(caller, named.clone()).await;
            tokens.push(token);
        }
    }
    let mut refused = send(ORGANIZATION, USER, TITLE);
    refused.body = Some(format!("{BODY}\0"));
    inbox.sender.send_in_app(refused).await.unwrap_err();

    eventually("the stream's end is logged", async || {
        lines_of(&server, "stream closed").iter().any(|line| {
            line["span"]["user"] == USER && line["span"]["organization"] == ORGANIZATION
        })
    })
    .await;
    let log = server.log();
    for line in ["stream opened", "stream closed"] {
        let lines = lines_of(&server, line);
        let ours = |line: &&Value| line["span"]["organization"] == ORGANIZATION;
        assert_eq!(lines.iter().filter(ours).count(), 1, "{line}: {lines:?}");
        for line in &lines {
            for name in ["organization", "user", "request_id", "peer", "method"] {
                assert!(line["span"][name].is_string(), "no {name}: {line}");
            }
        }
    }
    for token in &tokens {
        let signature = token.rsplit_once('.').unwrap().1;
        assert!(!log.contains(signature), "the log has a token");
    }
    for word in [TITLE, BODY, "Bearer"] {
        assert!(!log.contains(word), "the log has {word}");
    }
    // A stranger's lines are about the stranger.
    let foreign = json_lines(&log)
        .into_iter()
        .filter(|line| line["span"]["organization"] == "globex");
    let mut seen = 0;
    for line in foreign {
        seen += 1;
        assert!(!line.to_string().contains(ORGANIZATION), "{line}");
    }
    assert!(seen > 0, "no line names the stranger: {log}");

    for path in ["/metrics", "/readyz", "/livez"] {
        let page = page(pages, path).await;
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
        for word in WORDS.into_iter().chain(["globex"]) {
            assert!(!page.contains(word), "{path} names {word}");
        }
        for id in &named.ids {
            assert!(!page.contains(id), "{path} names {id}");
        }
    }
}

/// Streams whose caller says no goodbye are logged at their end as well.
#[tokio::test]
async fn a_connect_and_a_disconnect_are_a_line_each_however_it_ends() {
    let server = Setup::new().start();
    for (user, exp) in [("leaves", 1000), ("expires", 4)] {
        let mut client = server
            .client(&reader_token("acme", user, in_seconds(exp)))
            .await;
        let mut stream = client.subscribe(SubscribeRequest::default()).await.unwrap();
        next(stream.get_mut()).await;
        if user == "expires" {
            let end = timeout(
                PATIENCE + Duration::from_secs(2),
                stream.get_mut().message(),
            )
            .await;
            assert!(end.unwrap().is_err());
        }
    }
    for user in ["leaves", "expires"] {
        let is_closed = || {
            lines_of(&server, "stream closed")
                .iter()
                .filter(|line| line["span"]["user"] == user)
                .count()
        };
        eventually("closed", async || is_closed() == 1).await;
    }
    assert_eq!(lines_of(&server, "stream opened").len(), 2);
}
