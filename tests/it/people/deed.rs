//! What a person, or somebody for them, does with their inbox: one call.

use doorbell::{
    model::RemovalCause,
    proto::{
        self, ArchiveRequest, Content, EraseInboxRequest, GetRecentRequest, MarkReadRequest,
        MarkSeenRequest, MarkUnreadRequest, Notification, RemoveRequest, RetractInAppRequest,
        SendInAppRequest, Suppressed, Through, UnarchiveRequest, UpdateInAppRequest, View,
        notification_service_client::NotificationServiceClient,
        operator_service_client::OperatorServiceClient,
    },
    store::{Edit, Which},
};
use tonic::{Status, transport::Endpoint};
use uuid::Uuid;

use super::organization;
use crate::{
    history::Head,
    server::{Bearer, Client, OperatorClient, operator_token, sender_token, user_token},
};

/// One call.
#[derive(Clone, Debug)]
pub enum Deed {
    Send(SendInAppRequest),
    /// Once more, with the key that it was sent with.
    SendAgain(SendInAppRequest, Uuid),
    Update {
        id: Uuid,
        title: String,
        rings: bool,
    },
    Edit(Edit, Which),
    /// Looks at all up to this sequence.
    Look(u64),
    Erase,
}

impl Deed {
    /// What it is counted as.
    pub fn kind(&self) -> String {
        match self {
            Self::Send(sent) if sent.expire_time.is_some() => "a send that expires".into(),
            Self::Send(sent) if sent.collapse_key.is_some() => "a send that collapses".into(),
            Self::Send(sent) if sent.entity_id.is_some() => "a send about a thing".into(),
            Self::Send(sent) if sent.silent => "a silent send".into(),
            Self::Send(sent) if sent.follow_up.is_some() => "a send with a follow-up".into(),
            Self::Send(_) => "a send".into(),
            Self::SendAgain(..) => "a send once more".into(),
            Self::Update { rings: true, .. } => "an update that rings".into(),
            Self::Update { .. } => "an update".into(),
            Self::Edit(edit, which) => format!("{edit:?} by {}", selection(which)),
            Self::Look(_) => "a look".into(),
            Self::Erase => "an erasure".into(),
        }
    }

    /// Whether what it makes goes by itself.
    pub fn expires(&self) -> bool {
        matches!(self, Self::Send(sent) if sent.expire_time.is_some())
    }
}

fn selection(which: &Which) -> &'static str {
    match which {
        Which::Ids(_) => "ids",
        Which::About(_) => "thing",
        Which::Key(_) => "key",
        Which::Collapse(_) => "collapse key",
        Which::Through { types, .. } if types.is_empty() => "position",
        Which::Through { .. } => "position and types",
    }
}

/// All that a deed can be counted as.
pub fn kinds() -> Vec<String> {
    let named = [
        "a send",
        "a silent send",
        "a send about a thing",
        "a send that collapses",
        "a send that expires",
        "a send with a follow-up",
        "a send once more",
        "an update",
        "an update that rings",
        "a look",
        "an erasure",
    ];
    let by_person = VERBS.iter().flat_map(|edit| {
        ["ids", "thing", "position", "position and types"].map(|by| format!("{edit:?} by {by}"))
    });
    let by_sender =
        ["ids", "thing", "key", "collapse key"].map(|by| format!("{RETRACT:?} by {by}"));
    let named = named.map(str::to_owned).into_iter();
    named.chain(by_person).chain(by_sender).collect()
}

/// What a person does with notifications that are there.
pub const VERBS: [Edit; 5] = [
    Edit::Read,
    Edit::Unread,
    Edit::Archive,
    Edit::Unarchive,
    Edit::Remove(RemovalCause::User),
];
/// What their sender does.
pub const RETRACT: Edit = Edit::Remove(RemovalCause::Sender);

/// What a call answered.
#[derive(Debug)]
pub struct Answer {
    pub head: Head,
    /// How many rows it says were changed, where it says so.
    pub changed: Option<u64>,
    /// What is there of a send.
    pub sent: Option<Notification>,
    pub duplicate: bool,
    /// Why there is none.
    pub suppressed: Suppressed,
    /// It stopped before it was through.
    pub more: bool,
}

impl Answer {
    fn new(head: Option<proto::Head>) -> Self {
        Self {
            head: head.into(),
            changed: None,
            sent: None,
            duplicate: false,
            suppressed: Suppressed::Unspecified,
            more: false,
        }
    }
}

/// One node, as somebody who may do everything reaches it.
#[derive(Clone)]
pub struct Node {
    user: String,
    owner: Client,
    sender: Client,
    operator: OperatorClient,
}

/// The five verbs differ in their names alone.
macro_rules! verb {
    ($client:expr, $which:expr, $epoch:expr, $request:ident, $method:ident) => {{
        let mut request = $request::default();
        match $which.clone() {
            Which::Ids(ids) => request.notification_ids = named(&ids),
            Which::About(about) => request.about = Some(thing(about)),
            Which::Through { revision, types } => {
                request.through = Some(Through {
                    revision: revision.get(),
                    epoch: $epoch.into(),
                    types,
                });
            }
            Which::Key(_) | Which::Collapse(_) => panic!("only a sender has {:?}", $which),
        }
        let done = $client.$method(request).await?.into_inner();
        Answer {
            changed: Some(done.changed_count.into()),
            more: done.more,
            ..Answer::new(done.head)
        }
    }};
}

fn named(ids: &[Uuid]) -> Vec<String> {
    ids.iter().map(Uuid::to_string).collect()
}

fn thing(about: doorbell::store::About) -> proto::About {
    proto::About {
        entity_type: about.entity_type,
        entity_id: about.entity_id,
    }
}

impl Node {
    pub fn new(url: &str, user: &str) -> Self {
        let channel = Endpoint::from_shared(url.to_owned())
            .unwrap()
            .connect_lazy();
        let client = |token: &str| {
            NotificationServiceClient::with_interceptor(channel.clone(), Bearer::new(token))
        };
        Self {
            user: user.into(),
            owner: client(&user_token(&organization(user), user)),
            sender: client(&sender_token("*")),
            operator: OperatorServiceClient::with_interceptor(
                channel.clone(),
                Bearer::new(&operator_token(&organization(user))),
            ),
        }
    }

    /// Does it; positions are of this epoch.
    pub async fn does(mut self, deed: &Deed, epoch: &str) -> Result<Answer, Status> {
        Ok(match deed {
            Deed::Send(request) | Deed::SendAgain(request, _) => {
                let sent = self.sender.send_in_app(request.clone()).await?.into_inner();
                Answer {
                    duplicate: sent.duplicate,
                    suppressed: sent.suppressed(),
                    sent: sent.notification,
                    ..Answer::new(sent.head)
                }
            }
            Deed::Update { id, title, rings } => {
                let request = UpdateInAppRequest {
                    organization_id: organization(&self.user),
                    recipient_user_id: self.user,
                    notification_id: Some(id.to_string()),
                    content: Some(Content {
                        title: title.clone(),
                        ..Content::default()
                    }),
                    update_mask: Some(prost_types::FieldMask {
                        paths: vec!["title".into()],
                    }),
                    ring: *rings,
                    ..UpdateInAppRequest::default()
                };
                let updated = self.sender.update_in_app(request).await?.into_inner();
                Answer {
                    changed: Some(updated.changed.into()),
                    ..Answer::new(updated.head)
                }
            }
            Deed::Edit(edit, which) => self.edit(*edit, which, epoch).await?,
            Deed::Look(through) => {
                let request = MarkSeenRequest {
                    through_sequence: *through,
                    epoch: epoch.into(),
                };
                let looked = self.owner.mark_seen(request).await?.into_inner();
                Answer::new(looked.head)
            }
            Deed::Erase => {
                let request = EraseInboxRequest {
                    organization_id: organization(&self.user),
                    user_id: self.user,
                };
                let erased = self.operator.erase_inbox(request).await?.into_inner();
                Answer {
                    changed: Some(erased.erased_count),
                    more: erased.more,
                    ..Answer::new(erased.head)
                }
            }
        })
    }

    async fn edit(mut self, edit: Edit, which: &Which, epoch: &str) -> Result<Answer, Status> {
        let owner = &mut self.owner;
        Ok(match edit {
            Edit::Read => verb!(owner, which, epoch, MarkReadRequest, mark_read),
            Edit::Unread => verb!(owner, which, epoch, MarkUnreadRequest, mark_unread),
            Edit::Archive => verb!(owner, which, epoch, ArchiveRequest, archive),
            Edit::Unarchive => verb!(owner, which, epoch, UnarchiveRequest, unarchive),
            Edit::Remove(RemovalCause::Sender) => self.retract(which).await?,
            Edit::Remove(_) => verb!(owner, which, epoch, RemoveRequest, remove),
        })
    }

    async fn retract(mut self, which: &Which) -> Result<Answer, Status> {
        let mut request = RetractInAppRequest {
            organization_id: organization(&self.user),
            recipient_user_id: self.user,
            ..RetractInAppRequest::default()
        };
        match which.clone() {
            Which::Ids(ids) => request.notification_ids = named(&ids),
            Which::About(about) => request.about = Some(thing(about)),
            Which::Key(key) => request.idempotency_key = Some(key),
            Which::Collapse(key) => request.collapse_key = Some(key),
            Which::Through { .. } => panic!("a sender was shown nothing"),
        }
        let retracted = self.sender.retract_in_app(request).await?.into_inner();
        Ok(Answer {
            changed: Some(retracted.changed_count.into()),
            more: retracted.more,
            ..Answer::new(retracted.head)
        })
    }

    /// All that is not removed, newest first, with the head and the epoch; `None` where
    /// it changed between two pages.
    pub async fn reads(
        mut self,
        view: View,
    ) -> Result<Option<(Vec<Notification>, Head, String)>, Status> {
        let mut request = GetRecentRequest {
            limit: 100,
            view: view.into(),
            ..GetRecentRequest::default()
        };
        let mut rows = Vec::new();
        let mut first = None;
        loop {
            let page = self.owner.get_recent(request.clone()).await?.into_inner();
            let head = Head::from(page.head);
            if *first.get_or_insert(head) != head {
                return Ok(None);
            }
            rows.extend(page.notifications);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                return Ok(Some((rows, head, page.epoch)));
            }
        }
    }
}
