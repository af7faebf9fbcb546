//! The calls that are served, by the last part of their paths.

macro_rules! methods {
    ($($name:ident),* $(,)?) => {
        /// A call. What is none of them is `Other`, so that no caller can make a name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Method {
            $(
                #[doc = stringify!($name)]
                $name,
            )*
            /// No call that there is.
            Other,
        }

        impl Method {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)* Self::Other];

            /// As the proto has it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                    Self::Other => "other",
                }
            }
        }
    };
}

methods![
    SendInApp,
    SendToMany,
    UpdateInApp,
    RetractInApp,
    MarkRead,
    MarkUnread,
    Archive,
    Unarchive,
    Remove,
    MarkSeen,
    GetUnreadCount,
    GetRecent,
    Subscribe,
    ReadInbox,
    GetTimeline,
    EraseInbox,
    EraseOrganization,
    GetNode,
    SendToTopic,
    Broadcast,
    RetractBroadcast,
    GetSend,
    ListSends,
    CancelSend,
    RetractFromAll,
    GetRetraction,
    ListFollowUps,
    AddTopicMembers,
    RemoveTopicMembers,
    ListTopicMembers,
    ListTopicsOfUser,
    DeleteTopic,
    GetPreferences,
    UpdatePreferences,
    GetTypeDefaults,
    UpdateTypeDefaults,
    Check,
    Watch,
    ServerReflectionInfo,
];

impl Method {
    /// The call of a request's path.
    pub fn of(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or_default();
        let mut known = Self::ALL.iter().copied();
        known
            .find(|method| method.name() == name)
            .unwrap_or(Self::Other)
    }

    /// Whether it is a call of senders that operators may make as well: what looks, says
    /// something to everybody, stops or takes away, and nothing that writes to one person.
    pub fn is_for_operators_too(self) -> bool {
        matches!(
            self,
            Self::Broadcast
                | Self::RetractBroadcast
                | Self::GetSend
                | Self::ListSends
                | Self::CancelSend
                | Self::RetractFromAll
                | Self::GetRetraction
                | Self::ListFollowUps
                | Self::RemoveTopicMembers
                | Self::ListTopicMembers
                | Self::ListTopicsOfUser
                | Self::DeleteTopic
        )
    }

    /// Whether it is a stream of an inbox.
    pub fn is_stream(self) -> bool {
        self == Self::Subscribe
    }

    /// Whether it lasts as long as its client likes, and is no stream of an inbox: its
    /// time says nothing.
    pub fn is_endless(self) -> bool {
        matches!(
            self,
            Self::ListFollowUps | Self::Watch | Self::ServerReflectionInfo
        )
    }
}
