//! Every metric of Roomcast by name, with its unit and labels. Label values come from closed sets.

/// Seconds from asking for an append to its outcome. Histogram.
pub const APPEND_SECONDS: &str = "roomcast_append_seconds";
/// Appends by `outcome`: stored, duplicate, not_stored, outcome_unknown, log_full. Counter.
pub const APPENDS_TOTAL: &str = "roomcast_appends_total";

/// Sockets open now. Gauge.
pub const SOCKETS_OPEN: &str = "roomcast_sockets_open";
/// Handshakes of sockets by `outcome`: accepted, or the code of the refusal. Counter.
pub const HANDSHAKES_TOTAL: &str = "roomcast_socket_handshakes_total";
/// Frames that clients sent. Counter.
pub const FRAMES_RECEIVED_TOTAL: &str = "roomcast_socket_frames_received_total";
/// Sockets closed by the server, by `reason`. Counter.
pub const CLOSES_TOTAL: &str = "roomcast_socket_closes_total";
/// Events handed to sockets. Counter.
pub const DELIVERIES_TOTAL: &str = "roomcast_deliveries_total";
/// Bytes of events handed to sockets. Counter.
pub const DELIVERED_BYTES_TOTAL: &str = "roomcast_delivered_bytes_total";
/// Sockets whose outbox overflowed. Counter.
pub const OUTBOX_OVERFLOWS_TOTAL: &str = "roomcast_outbox_overflows_total";
/// Live messages dropped, by `class`: unstored. Counter.
pub const DROPPED_FRAMES_TOTAL: &str = "roomcast_dropped_frames_total";
/// Followers let in, by `outcome`: new, recovered, lost. Counter.
pub const RESUMES_TOTAL: &str = "roomcast_resumes_total";
/// Healings by `cause`: reconnect, slow_consumer, gap, hint, again. Counter.
pub const HEALS_TOTAL: &str = "roomcast_heals_total";
/// People whom this node has in rooms, each room counted. Gauge.
pub const PARTICIPANTS: &str = "roomcast_participants";
/// Joins and leaves that the log could not be told. Counter.
pub const PRESENCE_ABANDONED_TOTAL: &str = "roomcast_presence_abandoned_total";
/// Seconds from asking api to its answer, all tries. Histogram.
pub const RPC_SECONDS: &str = "roomcast_rpc_seconds";
/// Questions to api that failed, by `code`. Counter.
pub const RPC_ERRORS_TOTAL: &str = "roomcast_rpc_errors_total";
