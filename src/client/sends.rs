//! Sends that outlive their call, topics and preferences: one method a call. Each is tried once; with an
//! idempotency key, or none of its own, each may be made twice, see [`Client::patiently`].

use super::{Client, Error};
use crate::proto::{
    AddTopicMembersRequest, AddTopicMembersResponse, BroadcastRequest, BroadcastResponse,
    CancelSendRequest, CancelSendResponse, DeleteTopicRequest, DeleteTopicResponse,
    GetPreferencesRequest, GetPreferencesResponse, GetRetractionRequest, GetRetractionResponse,
    GetSendRequest, GetSendResponse, GetTypeDefaultsRequest, GetTypeDefaultsResponse,
    ListFollowUpsRequest, ListFollowUpsResponse, ListSendsRequest, ListSendsResponse,
    ListTopicMembersRequest, ListTopicMembersResponse, ListTopicsOfUserRequest,
    ListTopicsOfUserResponse, RemoveTopicMembersRequest, RemoveTopicMembersResponse,
    RetractBroadcastRequest, RetractBroadcastResponse, RetractFromAllRequest,
    RetractFromAllResponse, SendToTopicRequest, SendToTopicResponse, UpdatePreferencesRequest,
    UpdatePreferencesResponse, UpdateTypeDefaultsRequest, UpdateTypeDefaultsResponse,
    preference_service_client::PreferenceServiceClient, send_service_client::SendServiceClient,
    topic_service_client::TopicServiceClient,
};

macro_rules! calls {
    ($($service:ident.$method:ident($request:ident) -> $answer:ident: $doc:literal,)*) => {
        impl Client {
            $(
                #[doc = $doc]
                pub async fn $method(&self, request: $request) -> Result<$answer, Error> {
                    self.call(request, async |channel, request| {
                        $service::new(channel).$method(request).await
                    })
                    .await
                }
            )*
        }
    };
}

calls! {
    SendServiceClient.send_to_topic(SendToTopicRequest) -> SendToTopicResponse:
        "Sends one content to all members of a topic.",
    SendServiceClient.broadcast(BroadcastRequest) -> BroadcastResponse:
        "Says something to everybody of an organization, or of all.",
    SendServiceClient.retract_broadcast(RetractBroadcastRequest) -> RetractBroadcastResponse:
        "Takes a broadcast back, from who has it as well.",
    SendServiceClient.get_send(GetSendRequest) -> GetSendResponse:
        "Says how a send is.",
    SendServiceClient.list_sends(ListSendsRequest) -> ListSendsResponse:
        "Lists the sends of an organization, the newest first.",
    SendServiceClient.cancel_send(CancelSendRequest) -> CancelSendResponse:
        "Stops a send: nobody gets it after the answer.",
    SendServiceClient.retract_from_all(RetractFromAllRequest) -> RetractFromAllResponse:
        "Takes back from everybody of an organization what is about a thing.",
    SendServiceClient.get_retraction(GetRetractionRequest) -> GetRetractionResponse:
        "Says how far a retraction is.",
    SendServiceClient.list_follow_ups(ListFollowUpsRequest) -> ListFollowUpsResponse:
        "Lists the notifications that nobody looked at in time. With a `wait`, which is to be\n\
         shorter than the client's time-out, it waits for the next one.",
    TopicServiceClient.add_topic_members(AddTopicMembersRequest) -> AddTopicMembersResponse:
        "Makes people members of a topic.",
    TopicServiceClient.remove_topic_members(RemoveTopicMembersRequest)
        -> RemoveTopicMembersResponse: "Makes people members no more.",
    TopicServiceClient.list_topic_members(ListTopicMembersRequest) -> ListTopicMembersResponse:
        "Lists who is a member of a topic.",
    TopicServiceClient.list_topics_of_user(ListTopicsOfUserRequest) -> ListTopicsOfUserResponse:
        "Lists what a person is a member of.",
    TopicServiceClient.delete_topic(DeleteTopicRequest) -> DeleteTopicResponse:
        "Removes all members of a topic.",
    PreferenceServiceClient.get_preferences(GetPreferencesRequest) -> GetPreferencesResponse:
        "Lists the caller's own preferences.",
    PreferenceServiceClient.update_preferences(UpdatePreferencesRequest)
        -> UpdatePreferencesResponse: "Turns types on or off for the caller.",
    PreferenceServiceClient.get_type_defaults(GetTypeDefaultsRequest) -> GetTypeDefaultsResponse:
        "Lists what an organization says of types.",
    PreferenceServiceClient.update_type_defaults(UpdateTypeDefaultsRequest)
        -> UpdateTypeDefaultsResponse: "Says what holds for who said nothing of a type.",
}
