//! Every metric of Roomcast by name, with its unit and labels. Label values come from closed sets.

/// Seconds from asking for an append to its outcome. Histogram.
pub const APPEND_SECONDS: &str = "roomcast_append_seconds";
/// Appends by `outcome`: stored, duplicate, not_stored, outcome_unknown, log_full, conflict. Counter.
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
/// Frames dropped, by `class`: unstored (an unknown sender's), slow (a client reads slowly). Counter.
pub const DROPPED_FRAMES_TOTAL: &str = "roomcast_dropped_frames_total";
/// Followers let in, by `outcome`: new, recovered, lost. Counter.
pub const RESUMES_TOTAL: &str = "roomcast_resumes_total";
/// Healings by `cause`: reconnect, slow_consumer, gap, hint, election, epoch, widened, opened, again. Counter.
pub const HEALS_TOTAL: &str = "roomcast_heals_total";
/// Times that a node, taken for dead, began under a new incarnation. Counter.
pub const INCARNATIONS_TOTAL: &str = "roomcast_incarnations_total";
/// Sockets put out of a channel because their right ended. Counter.
pub const EVICTIONS_TOTAL: &str = "roomcast_evictions_total";
/// Seconds from api's append to the hand-over to a node's sockets, once an event and node. Histogram.
pub const DELIVERY_SECONDS: &str = "roomcast_delivery_seconds";
/// People whom this node has in rooms, each room counted. Gauge.
pub const PARTICIPANTS: &str = "roomcast_participants";
/// People who have a socket on this node. Gauge.
pub const PEOPLE_ONLINE: &str = "roomcast_people_online";
/// Joins and leaves that the log could not be told. Counter.
pub const PRESENCE_ABANDONED_TOTAL: &str = "roomcast_presence_abandoned_total";
/// Seconds from asking api to its answer, all tries. Histogram.
pub const RPC_SECONDS: &str = "roomcast_rpc_seconds";
/// Questions to api that failed, by `code`. Counter.
pub const RPC_ERRORS_TOTAL: &str = "roomcast_rpc_errors_total";

/// Events of the log that Postgres has not got, by `shard`. Gauge.
pub const PERSISTER_LAG_MESSAGES: &str = "roomcast_persister_lag_messages";
/// Age in seconds of the oldest event that Postgres has not got, by `shard`. Gauge.
pub const PERSISTER_LAG_SECONDS: &str = "roomcast_persister_lag_seconds";
/// Events written to Postgres in one transaction. Histogram.
pub const PERSISTER_BATCH_EVENTS: &str = "roomcast_persister_batch_events";
/// Seconds from taking a database session to the end of the commit, by `outcome`: ok, moved, data, lost. Histogram.
pub const PERSISTER_COMMIT_SECONDS: &str = "roomcast_persister_commit_seconds";
/// Up to where the log is in Postgres, by `shard`. Gauge.
pub const PERSISTER_WATERMARK: &str = "roomcast_persister_watermark";
/// Bytes the log holds, by `shard`. Gauge.
pub const LOG_BYTES: &str = "roomcast_log_bytes";
/// Bytes the log may hold, by `shard`; 0 = no limit. Gauge.
pub const LOG_MAX_BYTES: &str = "roomcast_log_max_bytes";
/// Events removed from the log because Postgres has them, by `shard`. Counter.
pub const LOG_PURGED_TOTAL: &str = "roomcast_log_purged_events_total";
/// Events that could not be applied, by `shard`: they are in the table `rejected_event`. Counter.
pub const REJECTED_EVENTS_TOTAL: &str = "roomcast_rejected_events_total";
/// Times that the log did not go on where Postgres ends, by `shard`. Counter.
pub const LOG_HOLES_TOTAL: &str = "roomcast_log_holes_total";
/// Times that the log was not the one Postgres knew, and got a new epoch, by `shard`. Counter.
pub const LOG_REPAIRS_TOTAL: &str = "roomcast_log_repairs_total";
/// 1 where the shard can't go on until a person decides, by `shard`: `/readyz` says why. Gauge.
pub const SHARD_REFUSED: &str = "roomcast_shard_refused";
/// 1 where this process writes the shard to Postgres, by `shard`. Gauge.
pub const PERSISTER_LEADING: &str = "roomcast_persister_leading";
/// Database sessions by `state`: idle, busy. Gauge.
pub const PERSISTER_SESSIONS: &str = "roomcast_persister_sessions";

/// Questions of who may do what in a room, by `outcome`: hit, miss, stale (a snapshot older than what was
/// heard since), held (answered while the database did not). Counter.
pub const RIGHTS_TOTAL: &str = "roomcast_rights_total";
/// Processes that this node has declared dead. Counter.
pub const DEAD_NODES_TOTAL: &str = "roomcast_dead_nodes_total";
/// Seconds an api node took to answer a fan-out node. Histogram.
pub const RPC_SERVED_SECONDS: &str = "roomcast_rpc_served_seconds";
/// Questions of fan-out nodes that came after their expiry. Counter.
pub const RPC_EXPIRED_TOTAL: &str = "roomcast_rpc_expired_total";
/// Seconds an HTTP request took, by `route`. Histogram.
pub const HTTP_SECONDS: &str = "roomcast_http_request_seconds";
/// HTTP requests by `route`, `method` and `status`. Counter.
pub const HTTP_REQUESTS_TOTAL: &str = "roomcast_http_requests_total";
