//! Lists every metric of Roomcast by name, with its kind, unit and labels. Label values come from closed sets.
//!
//! What must hold: what is said of a metric here is what `/metrics` says of it.

macro_rules! describe {
    (counter, $name:expr, $help:expr) => {
        metrics::describe_counter!($name, $help)
    };
    (gauge, $name:expr, $help:expr) => {
        metrics::describe_gauge!($name, $help)
    };
    (histogram, $name:expr, $help:expr) => {
        metrics::describe_histogram!($name, $help)
    };
}

macro_rules! metric_names {
    ($($(#[doc = $line:literal])+ $kind:ident $NAME:ident = $name:literal;)+) => {
        $($(#[doc = $line])+ pub const $NAME: &str = $name;)+

        /// Tells the recorder what each is.
        pub(crate) fn describe() {
            $(describe!($kind, $NAME, concat!($($line),+).trim());)+
        }
    };
}

metric_names! {
    /// Seconds from asking for an append to its outcome.
    histogram APPEND_SECONDS = "roomcast_append_seconds";
    /// Appends by `outcome`: stored, duplicate, not_stored, outcome_unknown, log_full, conflict,
    /// room_closed (stored behind its room's closing, and left out).
    counter APPENDS_TOTAL = "roomcast_appends_total";

    /// HTTP connections open now, on all ports of a process. A socket counts until its upgrade.
    gauge HTTP_CONNECTIONS_OPEN = "roomcast_http_connections_open";
    /// HTTP connections that a server has ended, by `cause`: silent (no whole request came in time), unread (nothing
    /// of an answer was read in time).
    counter HTTP_CONNECTIONS_ENDED_TOTAL = "roomcast_http_connections_ended_total";

    /// Preflights of browsers by `outcome`: allowed, refused (their page's origin is not allowed). No other metric of
    /// requests counts them.
    counter HTTP_PREFLIGHTS_TOTAL = "roomcast_http_preflights_total";

    /// Sockets open now.
    gauge SOCKETS_OPEN = "roomcast_sockets_open";
    /// Handshakes of sockets by `outcome`: accepted, or the code of the refusal.
    counter HANDSHAKES_TOTAL = "roomcast_socket_handshakes_total";
    /// Frames that clients sent.
    counter FRAMES_RECEIVED_TOTAL = "roomcast_socket_frames_received_total";
    /// Sockets closed by the server, by `reason`: that of the close code.
    counter CLOSES_TOTAL = "roomcast_socket_closes_total";
    /// Events handed to sockets.
    counter DELIVERIES_TOTAL = "roomcast_deliveries_total";
    /// Bytes of events handed to sockets.
    counter DELIVERED_BYTES_TOTAL = "roomcast_delivered_bytes_total";
    /// Events that were compressed, each once for all sockets that take it so.
    counter DEFLATED_TOTAL = "roomcast_deflated_total";
    /// Sockets whose outbox overflowed.
    counter OUTBOX_OVERFLOWS_TOTAL = "roomcast_outbox_overflows_total";
    /// Frames dropped, by `class`: unstored (an unknown sender's), slow (a client reads slowly).
    counter DROPPED_FRAMES_TOTAL = "roomcast_dropped_frames_total";
    /// Signals that came to the node faster than it could push them: they are never stored, and were dropped.
    counter UNSTORED_DROPPED_TOTAL = "roomcast_unstored_dropped_total";
    /// Followers let in, by `outcome`: new, recovered, lost.
    counter RESUMES_TOTAL = "roomcast_resumes_total";
    /// Bytes of recent events that a node holds for those who come back.
    gauge RING_BYTES = "roomcast_ring_bytes";
    /// Reads of the log for those who come back to a channel, by `outcome`: read, too_much (more than a ring holds), gone
    /// (from the log), another_log, unreadable.
    counter REPLAYS_TOTAL = "roomcast_replays_total";
    /// Healings by `cause`: reconnect, slow_consumer, overrun, gap, hint, election, epoch, widened, opened, late,
    /// leaving, again.
    counter HEALS_TOTAL = "roomcast_heals_total";
    /// Stored events that were found in the log after later ones of their channel had been pushed: who lacks one
    /// is closed with the heal code.
    counter FOUND_LATE_TOTAL = "roomcast_events_found_late_total";
    /// Panics in what a shard's task has begun beside itself, by `work`: people, open, widen, snapshot, barrier, replay,
    /// heal, tell_loss, confirm. It is begun again, or ends the process.
    counter WORK_PANICS_TOTAL = "roomcast_work_panics_total";
    /// Times that a node, taken for dead, began under a new incarnation.
    counter INCARNATIONS_TOTAL = "roomcast_incarnations_total";
    /// Sockets put out of a channel because their right ended, by `cause`: log, confirmation.
    counter EVICTIONS_TOTAL = "roomcast_evictions_total";
    /// Channels of this node whose people's rights api should have confirmed 15 s ago, by `shard`.
    gauge CONFIRMATIONS_OVERDUE = "roomcast_confirmations_overdue";
    /// Seconds from api's append to the hand-over to a node's sockets, once an event and node.
    histogram DELIVERY_SECONDS = "roomcast_delivery_seconds";
    /// People whom this node has in rooms, each room counted.
    gauge PARTICIPANTS = "roomcast_participants";
    /// People who have a socket on this node.
    gauge PEOPLE_ONLINE = "roomcast_people_online";
    /// Joins and leaves that the log has not acknowledged: they are told again until it has.
    gauge PRESENCE_UNACKNOWLEDGED = "roomcast_presence_unacknowledged";
    /// Joins and leaves that api refused for good.
    counter PRESENCE_ABANDONED_TOTAL = "roomcast_presence_abandoned_total";
    /// Seconds from asking api to its answer, all tries.
    histogram RPC_SECONDS = "roomcast_rpc_seconds";
    /// Questions to api that were asked a second time, since the first had no answer in time.
    counter RPC_RETRIES_TOTAL = "roomcast_rpc_retries_total";
    /// Questions to api that failed, by `code`.
    counter RPC_ERRORS_TOTAL = "roomcast_rpc_errors_total";

    /// Events of the log that Postgres has not got, by `shard`.
    gauge PERSISTER_LAG_MESSAGES = "roomcast_persister_lag_messages";
    /// Age in seconds of the oldest event that Postgres has not got, by `shard`.
    gauge PERSISTER_LAG_SECONDS = "roomcast_persister_lag_seconds";
    /// Events written to Postgres in one transaction.
    histogram PERSISTER_BATCH_EVENTS = "roomcast_persister_batch_events";
    /// Seconds from taking a database session to the end of the commit, by `outcome`: ok, moved, data,
    /// unexplained, timed_out, lost.
    histogram PERSISTER_COMMIT_SECONDS = "roomcast_persister_commit_seconds";
    /// Up to where the log is in Postgres, by `shard`.
    gauge PERSISTER_WATERMARK = "roomcast_persister_watermark";
    /// Bytes the log holds, by `shard`.
    gauge LOG_BYTES = "roomcast_log_bytes";
    /// Bytes the log may hold, by `shard`; 0 = no limit.
    gauge LOG_MAX_BYTES = "roomcast_log_max_bytes";
    /// Events removed from the log because Postgres has them, by `shard`.
    counter LOG_PURGED_TOTAL = "roomcast_log_purged_events_total";
    /// Events that could not be applied, by `shard`: they are in the table `rejected_event`.
    counter REJECTED_EVENTS_TOTAL = "roomcast_rejected_events_total";
    /// Events with fields that this persister does not know, by `shard`: applied without them, and kept in the
    /// table `rejected_event`.
    counter UNKNOWN_FIELDS_TOTAL = "roomcast_unknown_fields_events_total";
    /// Messages and edits left out because their room was closed before them: their senders were told so.
    counter AFTER_CLOSING_TOTAL = "roomcast_after_closing_total";
    /// Times that the log did not go on where Postgres ends, by `shard`.
    counter LOG_HOLES_TOTAL = "roomcast_log_holes_total";
    /// Times that the log was not the one Postgres knew, and got a new epoch, by `shard`.
    counter LOG_REPAIRS_TOTAL = "roomcast_log_repairs_total";
    /// 1 where the shard can't go on until a person decides, by `shard`: `/readyz` says why.
    gauge SHARD_REFUSED = "roomcast_shard_refused";
    /// 1 where this process writes the shard to Postgres, by `shard`.
    gauge PERSISTER_LEADING = "roomcast_persister_leading";
    /// Database sessions by `pool`: batches, search, maintenance, and `state`: idle, busy.
    gauge PERSISTER_SESSIONS = "roomcast_persister_sessions";
    /// Rows that nobody needed any more and that were deleted, by `table`: participant, online, invitation.
    counter MAINTENANCE_DELETED_TOTAL = "roomcast_maintenance_deleted_rows_total";
    /// Messages that full-text search was told of: new, edited or deleted.
    counter SEARCH_INDEXED_TOTAL = "roomcast_search_indexed_total";
    /// Messages that full-text search could not index, and left out: the persister's log names them.
    counter SEARCH_SKIPPED_TOTAL = "roomcast_search_skipped_total";
    /// How long in seconds the first message that full-text search has not got has waited for it, by `shard`.
    gauge SEARCH_LAG_SECONDS = "roomcast_search_lag_seconds";

    /// Questions of who may do what in a room, by `outcome`: hit, miss, stale (a snapshot older than what was
    /// heard since), held (answered while the database did not).
    counter RIGHTS_TOTAL = "roomcast_rights_total";
    /// Processes that this node has declared dead.
    counter DEAD_NODES_TOTAL = "roomcast_dead_nodes_total";
    /// Leaves that this node has appended for people of dead processes.
    counter DEAD_NODE_LEAVES_TOTAL = "roomcast_dead_node_leaves_total";
    /// Seconds an api node took to answer a fan-out node.
    histogram RPC_SERVED_SECONDS = "roomcast_rpc_served_seconds";
    /// Questions of fan-out nodes that came after their expiry.
    counter RPC_EXPIRED_TOTAL = "roomcast_rpc_expired_total";
    /// Questions of fan-out nodes that were refused because there was too much to do.
    counter RPC_REFUSED_TOTAL = "roomcast_rpc_refused_total";
    /// How often Postgres had less of a shard's log than it had had: a lagging standby took over.
    counter APPLIED_WENT_BACK_TOTAL = "roomcast_applied_went_back_total";
    /// Queries that Postgres did not answer in time; their connections were closed.
    counter DATABASE_GIVEN_UP_TOTAL = "roomcast_database_given_up_total";
    /// Seconds that an api node's clock is ahead of the clock of Postgres.
    gauge CLOCK_OFFSET_SECONDS = "roomcast_clock_offset_seconds";
    /// Messages under a UUIDv7 older than the broker's window, by `outcome`: found (stored before), new.
    counter OLD_KEYS_TOTAL = "roomcast_old_keys_total";
    /// Answers that were larger than allowed and were refused instead, by `way`: rpc, http.
    counter ANSWERS_TOO_LARGE_TOTAL = "roomcast_answers_too_large_total";
    /// Seconds an HTTP request took, by `route`.
    histogram HTTP_SECONDS = "roomcast_http_request_seconds";
    /// Later reads of the public keys (`ROOMCAST_JWT_JWKS`) by `outcome`: unchanged, changed, unusable (no keys, or none
    /// that count), failed (not read). After the last two the keys read before stay in use.
    counter JWKS_READS_TOTAL = "roomcast_jwks_reads_total";
    /// Requests and actions refused as too many, by `limit`: writes, searches, sockets (of a person), requests,
    /// upgrades, connections, visitor_writes, visitor_rooms (of an address), visited_rooms (writes of a room), invitations, signals
    /// (of a person to another), frames, channels (of a socket).
    counter RATE_LIMITED_TOTAL = "roomcast_rate_limited_total";
    /// Live copies of a person's `camera` and `profile` events that their contacts were sent.
    counter CONTACTS_TOLD_TOTAL = "roomcast_contacts_told_total";
    /// Such events that not all contacts were told of.
    counter CONTACTS_UNTOLD_TOTAL = "roomcast_contacts_untold_total";
    /// HTTP requests by `route`, `method` (other: one that no route takes) and `status`.
    counter HTTP_REQUESTS_TOTAL = "roomcast_http_requests_total";
    /// Pictures that were sent, by `outcome`: decoded, refused, failed (the store did not answer).
    counter PICTURES_TOTAL = "roomcast_pictures_total";
}
