//! Stream messages that are bytes already, and the codec that sends them.
//!
//! A live event is the same on every stream of its inbox, so it is encoded
//! once; what a stream hands to tonic is a reference to those bytes.
//!
//! What the codec cannot read is its caller's fault, and the status says so.

use std::{marker::PhantomData, mem};

use bytes::{Buf, BufMut, Bytes};
use prost::{
    DecodeError,
    encoding::{DecodeContext, WireType, skip_field},
};
use tonic::{
    Status,
    codec::{BufferSettings, DecodeBuf},
};
use tonic_prost::ProstEncoder;

use super::status;

/// `doorbell.v1.SubscribeResponse`, encoded.
///
/// Stands in for the generated message in the server's half, which only ever
/// encodes it.
#[derive(Clone, Debug, Default)]
pub struct SubscribeResponse(Bytes);

impl SubscribeResponse {
    /// Encodes `message`.
    pub fn new(message: &crate::proto::SubscribeResponse) -> Self {
        Self(prost::Message::encode_to_vec(message).into())
    }

    /// Takes what was encoded before.
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The encoded message, to share.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl prost::Message for SubscribeResponse {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        skip_field(wire_type, tag, buf, ctx)
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0 = Bytes::new();
    }
}

/// Protobuf with small buffers: tonic reserves one a call, for as long as the
/// call lasts, and a stream lasts for hours. They grow for a larger message.
#[derive(Clone, Copy, Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

const BUFFER_BYTES: usize = 512;
const YIELD_BYTES: usize = 32 * 1024;

fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
}

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: prost::Message + 'static,
    U: prost::Message + Default + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Decoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(buffers())
    }

    fn decoder(&mut self) -> Self::Decoder {
        Decoder {
            is_done: false,
            message: PhantomData,
        }
    }
}

/// Reads the one message that a request of this service has.
#[derive(Debug)]
pub struct Decoder<U> {
    is_done: bool,
    message: PhantomData<U>,
}

impl<U: prost::Message + Default> tonic::codec::Decoder for Decoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        if mem::replace(&mut self.is_done, true) {
            return Err(status::malformed("a request of this call is one message"));
        }
        U::decode(buf)
            .map(Some)
            .map_err(|_| status::malformed("the request is not a well-formed message of this call"))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}
