//! The words of the domain, as types that hold only what is valid.
//!
//! Parse, don't validate: an [`OrganizationId`] or a [`UserId`] that exists is
//! well-formed, and every row, query, room and event carries a whole
//! [`InboxKey`]. Nothing here does I/O.

use std::{fmt, sync::Arc, time::Duration};

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::clock::Timestamp;

/// The most bytes of an organization's or a user's id.
pub const MAX_ID_BYTES: usize = 128;

/// What is wrong with an id, in words for its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// It has no bytes.
    #[error("must not be empty")]
    Empty,
    /// It has more than [`MAX_ID_BYTES`].
    #[error("must have at most {MAX_ID_BYTES} bytes, has {0}")]
    TooLong(usize),
    /// It has a control character.
    #[error("must not contain control characters")]
    Control,
    /// It is `*`, which stands for all organizations.
    #[error("must name one organization: `*` is none")]
    Wildcard,
}

fn parse_id(id: &str) -> Result<Arc<str>, InvalidId> {
    if id.is_empty() {
        Err(InvalidId::Empty)
    } else if id.len() > MAX_ID_BYTES {
        Err(InvalidId::TooLong(id.len()))
    } else if id.chars().any(char::is_control) {
        Err(InvalidId::Control)
    } else {
        Ok(id.into())
    }
}

/// What is said in place of an organization where all are meant.
pub const ALL_ORGANIZATIONS: &str = "*";

/// A tenant. Tenants never see one another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrganizationId(Arc<str>);

impl OrganizationId {
    /// An opaque string of 1 to 128 bytes without control characters; `*` is no
    /// organization.
    pub fn parse(id: &str) -> Result<Self, InvalidId> {
        if id == ALL_ORGANIZATIONS {
            return Err(InvalidId::Wildcard);
        }
        parse_id(id).map(Self)
    }

    /// All organizations: whose what is broadcast to everybody is, and nothing else.
    pub fn all() -> Self {
        Self(Arc::from(ALL_ORGANIZATIONS))
    }

    /// Whether it is [`all`](Self::all) of them.
    pub fn is_all(&self) -> bool {
        *self.0 == *ALL_ORGANIZATIONS
    }

    /// The id as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OrganizationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A person within an organization.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Arc<str>);

impl UserId {
    /// An opaque string of 1 to 128 bytes without control characters.
    pub fn parse(id: &str) -> Result<Self, InvalidId> {
        parse_id(id).map(Self)
    }

    /// The id as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A topic of an organization: who is a member of it gets what is sent to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(Arc<str>);

impl TopicId {
    /// An opaque string of 1 to 128 bytes without control characters.
    pub fn parse(id: &str) -> Result<Self, InvalidId> {
        parse_id(id).map(Self)
    }

    /// The id as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Names one inbox. Ordered by organization, then user: the order in which
/// head rows are locked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboxKey {
    /// The tenant.
    pub organization_id: OrganizationId,
    /// The person.
    pub user_id: UserId,
}

impl InboxKey {
    /// The inbox of `user_id` in `organization_id`.
    pub fn parse(organization_id: &str, user_id: &str) -> Result<Self, InvalidId> {
        Ok(Self {
            organization_id: OrganizationId::parse(organization_id)?,
            user_id: UserId::parse(user_id)?,
        })
    }
}

/// Counts the changes of one inbox: 0 when empty, +1 with every change.
///
/// The idea of IMAP's MODSEQ (RFC 7162) and JMAP's state (RFC 8620).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// Of an inbox that never changed.
    pub const ZERO: Self = Self(0);

    /// The revision of this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A random id of the database, renewed after a restore.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(Arc<str>);

impl Epoch {
    /// The epoch of this text.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The state of an inbox that costs O(1) to read, and that every reply and every
/// message of a stream carries. The default is that of an inbox that never changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Of the last change.
    pub revision: Revision,
    /// How many rows are unread.
    pub unread_count: u32,
    /// How many of them are of a sequence above `seen_through`.
    pub unseen_count: u32,
    /// Up to which sequence the person has looked; only rises.
    pub seen_through: Revision,
}

/// A JSON object in canonical text: keys sorted, no blanks. The order of the
/// keys is what makes equal objects equal bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data(String);

impl Data {
    /// Takes text that is canonical already: made by `grpc::convert`, or read
    /// from a store that keeps it unchanged.
    pub fn from_canonical(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a sender says: what a person sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// What kind of notification it is (`type` on the wire).
    pub kind: String,
    /// The text to show first.
    pub title: String,
    /// More text.
    pub body: Option<String>,
    /// The kind of the thing it is about.
    pub entity_type: Option<String>,
    /// The id of the thing it is about.
    pub entity_id: Option<String>,
    /// Where a click leads.
    pub action_url: Option<String>,
    /// Anything else.
    pub data: Option<Data>,
    /// An image to show beside it.
    pub image_url: Option<String>,
    /// What can be done about it.
    pub actions: Vec<Action>,
}

/// A button of a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Its text.
    pub label: String,
    /// Where it leads.
    pub url: String,
    /// Whether it is the one to take most likely.
    pub is_primary: bool,
}

impl Action {
    fn len_bytes(&self) -> usize {
        self.label.len() + self.url.len()
    }
}

/// A part of a [`Content`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `type` on the wire.
    Kind,
    /// `title`.
    Title,
    /// `body`.
    Body,
    /// `entity_type`.
    EntityType,
    /// `entity_id`.
    EntityId,
    /// `action_url`.
    ActionUrl,
    /// `data`.
    Data,
    /// `image_url`.
    ImageUrl,
    /// `actions`.
    Actions,
}

impl Content {
    /// No more than a type and a title.
    pub fn new(kind: impl Into<String>, title: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            title: title.into(),
            body: None,
            entity_type: None,
            entity_id: None,
            action_url: None,
            data: None,
            image_url: None,
            actions: Vec::new(),
        }
    }

    /// What is left of a notification that was removed.
    pub fn blank() -> Self {
        Self::new("", "")
    }

    /// This one with `fields` of `other`.
    #[must_use]
    pub fn with(&self, fields: &[Field], other: &Self) -> Self {
        let mut content = self.clone();
        for field in fields {
            match field {
                Field::Kind => content.kind.clone_from(&other.kind),
                Field::Title => content.title.clone_from(&other.title),
                Field::Body => content.body.clone_from(&other.body),
                Field::EntityType => content.entity_type.clone_from(&other.entity_type),
                Field::EntityId => content.entity_id.clone_from(&other.entity_id),
                Field::ActionUrl => content.action_url.clone_from(&other.action_url),
                Field::Data => content.data.clone_from(&other.data),
                Field::ImageUrl => content.image_url.clone_from(&other.image_url),
                Field::Actions => content.actions.clone_from(&other.actions),
            }
        }
        content
    }

    /// Identifies the content: SHA-256 over each present field as tag, length
    /// and bytes. Absent fields are skipped, so that a field which comes later
    /// keeps the fingerprints of what was sent before.
    pub fn fingerprint(&self) -> [u8; 32] {
        let fields: [(u8, Option<&str>); 8] = [
            (1, Some(&self.kind)),
            (2, Some(&self.title)),
            (3, self.body.as_deref()),
            (4, self.entity_type.as_deref()),
            (5, self.entity_id.as_deref()),
            (6, self.action_url.as_deref()),
            (7, self.data.as_ref().map(Data::as_str)),
            (8, self.image_url.as_deref()),
        ];
        let actions = self.actions.iter().flat_map(|action| {
            let is_primary = if action.is_primary { "1" } else { "0" };
            [(9, &*action.label), (10, &*action.url), (11, is_primary)]
        });
        let mut hash = Sha256::new();
        let present = fields
            .iter()
            .filter_map(|(tag, text)| Some((*tag, (*text)?)));
        for (tag, text) in present.chain(actions) {
            hash.update([tag]);
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        hash.finalize().into()
    }

    /// Bytes of its text: what a page or a buffer counts for it.
    pub fn len_bytes(&self) -> usize {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.kind.len()
            + self.title.len()
            + optional(&self.body)
            + optional(&self.entity_type)
            + optional(&self.entity_id)
            + optional(&self.action_url)
            + self.data.as_ref().map_or(0, |data| data.as_str().len())
            + optional(&self.image_url)
            + self.actions.iter().map(Action::len_bytes).sum::<usize>()
    }
}

/// A notification that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNotification {
    /// Whose it will be.
    pub inbox: InboxKey,
    /// UUIDv7. A retry after a doubtful commit uses the same.
    pub id: Uuid,
    /// What it says.
    pub content: Arc<Content>,
    /// Makes a retry safe.
    pub idempotency_key: Option<String>,
    /// `sub` of the sender's token.
    pub sender: Arc<str>,
    /// When it is to be removed.
    pub expire_time: Option<Timestamp>,
    /// Takes the place of the unread one that bears it.
    pub collapse_key: Option<Arc<str>>,
    /// Whether it is not to be heard.
    pub is_silent: bool,
    /// The send that it is of, where that outlives its call.
    pub part_of: Option<PartOf>,
    /// Whether its person has a say.
    pub wanted: Wanted,
    /// Whether its organization is to be told when nobody looks.
    pub follow_up: Option<FollowUpOptions>,
}

/// Who must be told otherwise: the organization is told of a notification that nobody
/// looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowUpOptions {
    /// So long after it came.
    pub after: Duration,
    /// What makes it needless.
    pub unless: Unless,
}

/// What makes a follow-up needless. Archiving and any removal do so, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unless {
    /// Its person looked at the list that it is in, or read it.
    Seen,
    /// Its person read it.
    Read,
}

/// A follow-up that is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PendingFollowUp {
    /// When.
    pub at: Timestamp,
    /// See [`FollowUpOptions`].
    pub unless: Unless,
}

/// What an organization says of a type: who gets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Everybody.
    Required,
    /// Who did not turn it off.
    #[default]
    UnlessMuted,
    /// Who turned it on.
    IfChosen,
}

impl Wanted {
    /// Whether it is not to be made, by what its person said of its type.
    pub fn is_muted(self, chosen: Option<bool>) -> bool {
        match self {
            Self::Required => false,
            Self::UnlessMuted => chosen == Some(false),
            Self::IfChosen => chosen != Some(true),
        }
    }
}

/// The send that a notification is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartOf {
    /// Whose it is: of the inbox's organization, or of all.
    pub organization_id: OrganizationId,
    /// Its id: it must be under way.
    pub send_id: Uuid,
    /// When the service took it.
    pub accepted_at: Timestamp,
}

impl PartOf {
    /// The idempotency key of each row of the send: none that a caller may use.
    pub fn key(&self) -> String {
        Self::key_of(self.send_id)
    }

    /// The key of the rows of a send.
    pub fn key_of(send_id: Uuid) -> String {
        format!("{SEND_KEY}{send_id}")
    }
}

/// How the keys of the service's own begin.
pub const SEND_KEY: &str = "\u{1}send ";

impl NewNotification {
    /// One with nothing but what it says.
    pub fn new(inbox: InboxKey, id: Uuid, content: Arc<Content>, sender: Arc<str>) -> Self {
        Self {
            inbox,
            id,
            content,
            idempotency_key: None,
            sender,
            expire_time: None,
            collapse_key: None,
            is_silent: false,
            part_of: None,
            wanted: Wanted::default(),
            follow_up: None,
        }
    }

    /// Whether it is over before it comes.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expire_time
            .is_some_and(|expire_time| expire_time <= now)
    }

    /// When the service took it, where it comes now.
    pub fn sent_at(&self, now: Timestamp) -> Timestamp {
        self.part_of.as_ref().map_or(now, |of| of.accepted_at)
    }
}

/// Who removed a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RemovalCause {
    /// Its person.
    User,
    /// Its sender took it back.
    Sender,
    /// Its time was over.
    Expired,
    /// A later one took its place.
    Replaced,
}

/// What can change of a row, but for its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowState {
    /// When it was marked as read.
    pub read_at: Option<Timestamp>,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
    /// When and why it was removed, for good.
    pub removed: Option<(Timestamp, RemovalCause)>,
    /// What is to be told of it, unless it is read, archived or removed before.
    pub follow_up: Option<PendingFollowUp>,
}

impl RowState {
    /// Whether it counts as unread.
    pub fn is_unread(&self) -> bool {
        self.read_at.is_none() && View::Inbox.has(*self)
    }
}

/// A row of an inbox without its content: what identifies it, and what changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// UUIDv7.
    pub id: Uuid,
    /// The revision at which it was created: the order of the inbox.
    pub sequence: Revision,
    /// The revision of its last change.
    pub revision: Revision,
    /// The last revision at which it was to be heard; 0: never.
    pub ring_revision: Revision,
    /// What it is like since that change.
    pub state: RowState,
}

impl Row {
    /// Whether it is unread and came after the person last looked.
    pub fn is_unseen(&self, seen_through: Revision) -> bool {
        self.state.is_unread() && self.sequence > seen_through
    }

    /// Whether it is still to be heard by who missed what came at its `ring_revision`.
    /// When the person looked says nothing of what was corrected since it was sent.
    pub fn is_heard(&self, seen_through: Revision) -> bool {
        let is_corrected = self.ring_revision > self.sequence;
        self.is_unseen(seen_through) || is_corrected && self.state.is_unread()
    }
}

/// One notification of one inbox, as a row holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// What identifies it, and what changes.
    pub row: Row,
    /// What it says.
    pub content: Arc<Content>,
    /// `sub` of the sender's token; stays inside.
    pub sender: Arc<str>,
    /// Strictly increases within an inbox.
    pub created_at: Timestamp,
    /// When the service took it from its sender.
    pub sent_at: Timestamp,
    /// When it is to be removed.
    pub expire_time: Option<Timestamp>,
    /// Who sends another with it takes its place, while it is unread.
    pub collapse_key: Option<Arc<str>>,
    /// How many it took the place of, one after the other.
    pub collapsed_count: u32,
}

/// A row as a change left it: with all of it where a screen may not have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// What changes of it.
    State(Row),
    /// All of it.
    Whole(Box<Notification>),
}

impl Image {
    /// What changes of it.
    pub fn row(&self) -> &Row {
        match self {
            Self::State(row) => row,
            Self::Whole(notification) => &notification.row,
        }
    }
}

/// Which rows of an inbox are meant, by their state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum View {
    /// Neither archived nor removed.
    #[default]
    Inbox,
    /// Archived and not removed.
    Archived,
    /// All but those that are removed.
    All,
}

impl View {
    /// Whether a row of this state is in it.
    pub fn has(self, state: RowState) -> bool {
        let is_archived = state.archived_at.is_some();
        state.removed.is_none()
            && match self {
                Self::Inbox => !is_archived,
                Self::Archived => is_archived,
                Self::All => true,
            }
    }
}

/// What one revision changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A notification with its content: it was sent, or corrected.
    Notification(Notification),
    /// Rows, in the order of their sequences.
    Changed(Vec<Image>),
    /// The person has looked: the head says it all.
    Seen,
}

/// One change of one inbox, with the head that it left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxEvent {
    /// The inbox after the change; its revision is the change's.
    pub head: Head,
    /// What changed.
    pub change: Change,
}

/// The consecutive events of one inbox in one commit; never empty.
pub type Run = Vec<InboxEvent>;

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> Content {
        Content::new("comment", "Ann wrote")
    }

    #[test]
    fn ids_are_bounded_at_n_and_n_plus_1() {
        assert_eq!(UserId::parse(""), Err(InvalidId::Empty));
        assert!(UserId::parse(&"a".repeat(128)).is_ok());
        assert_eq!(
            UserId::parse(&"a".repeat(129)),
            Err(InvalidId::TooLong(129))
        );
        assert_eq!(UserId::parse("a\u{7f}b"), Err(InvalidId::Control));
        assert_eq!(UserId::parse("a\0b"), Err(InvalidId::Control));
    }

    #[test]
    fn the_wildcard_is_no_organization_and_may_be_a_user() {
        assert_eq!(OrganizationId::parse("*"), Err(InvalidId::Wildcard));
        assert!(OrganizationId::parse("**").is_ok());
        assert!(UserId::parse("*").is_ok());
    }

    #[test]
    fn a_fingerprint_tells_fields_apart_and_skips_absent_ones() {
        let plain = content().fingerprint();
        let in_body = Content {
            body: Some("x".into()),
            ..content()
        }
        .fingerprint();
        let in_entity = Content {
            entity_type: Some("x".into()),
            ..content()
        }
        .fingerprint();
        let empty_body = Content {
            body: Some(String::new()),
            ..content()
        }
        .fingerprint();
        assert_ne!(plain, in_body);
        assert_ne!(in_body, in_entity);
        assert_ne!(plain, empty_body);
        // Pinned: what is stored must still match after an upgrade.
        assert_eq!(plain[..4], PINNED, "{plain:02x?}");
    }

    const PINNED: [u8; 4] = [0x5b, 0x5d, 0x93, 0x9f];
}
