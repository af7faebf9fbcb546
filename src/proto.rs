//! The generated code of `doorbell.v1`: its messages and its client.
//!
//! The server half is generated into `grpc.rs`, since its stream sends bytes
//! that are encoded already.

pub mod json;
mod method;

pub use generated::*;
pub use method::Method;

mod generated {
    #![expect(
        clippy::all,
        clippy::allow_attributes_without_reason,
        reason = "generated"
    )]

    tonic::include_proto!("doorbell.v1");
}

/// The encoded `FileDescriptorSet` of the service and all that it imports.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

impl ErrorReason {
    /// `google.rpc.ErrorInfo.reason`: the name without its prefix.
    pub fn text(self) -> &'static str {
        self.as_str_name().trim_start_matches("ERROR_REASON_")
    }

    /// The reason of this text.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::from_str_name(&format!("ERROR_REASON_{text}"))
    }
}
