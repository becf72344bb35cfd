//! Lists every metric of Roomcast by name, with its kind, unit and labels. Label values come from closed sets.
//!
//! What must hold: the comment of a metric is the help text that `/metrics` shows for it.

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

        /// Registers the help text of each metric with the recorder.
        pub(crate) fn describe() {
            $(describe!($kind, $NAME, concat!($($line),+).trim());)+
        }
    };
}

metric_names! {
    /// Seconds from the start of an append to its outcome.
    histogram APPEND_SECONDS = "roomcast_append_seconds";
    /// Appends by `outcome`: stored, duplicate, not_stored, outcome_unknown, log_full, conflict, room_closed (stored
    /// after its room was closed, so it has no effect).
    counter APPENDS_TOTAL = "roomcast_appends_total";

    /// HTTP connections open now, on all ports of a process. A socket counts until its upgrade.
    gauge HTTP_CONNECTIONS_OPEN = "roomcast_http_connections_open";
    /// HTTP connections that the server ended, by `cause`: silent (no whole request arrived in time), unread (the
    /// client read nothing of an answer in time).
    counter HTTP_CONNECTIONS_ENDED_TOTAL = "roomcast_http_connections_ended_total";

    /// CORS preflights by `outcome`: allowed, refused (the origin of the page is not allowed). No other metric of
    /// requests counts them.
    counter HTTP_PREFLIGHTS_TOTAL = "roomcast_http_preflights_total";

    /// Sockets open now.
    gauge SOCKETS_OPEN = "roomcast_sockets_open";
    /// Socket handshakes by `outcome`: accepted, or the code of the refusal.
    counter HANDSHAKES_TOTAL = "roomcast_socket_handshakes_total";
    /// Frames received from clients.
    counter FRAMES_RECEIVED_TOTAL = "roomcast_socket_frames_received_total";
    /// Sockets closed by the server, by `reason`: the name of the close code.
    counter CLOSES_TOTAL = "roomcast_socket_closes_total";
    /// Events handed to sockets.
    counter DELIVERIES_TOTAL = "roomcast_deliveries_total";
    /// Bytes of events handed to sockets.
    counter DELIVERED_BYTES_TOTAL = "roomcast_delivered_bytes_total";
    /// Compressions of events. Each one serves all sockets that accept its result.
    counter DEFLATED_TOTAL = "roomcast_deflated_total";
    /// Sockets whose outbox overflowed.
    counter OUTBOX_OVERFLOWS_TOTAL = "roomcast_outbox_overflows_total";
    /// Frames dropped, by `class`: unstored (an event of an unknown name that is never stored), slow (the client reads
    /// slowly).
    counter DROPPED_FRAMES_TOTAL = "roomcast_dropped_frames_total";
    /// Signals that arrived at the node faster than it could push them. They are never stored, and were dropped.
    counter UNSTORED_DROPPED_TOTAL = "roomcast_unstored_dropped_total";
    /// Subscriptions of channels, by `outcome`: new, recovered (a resume with nothing missing), lost (a resume that
    /// misses events).
    counter RESUMES_TOTAL = "roomcast_resumes_total";
    /// Bytes of recent events that a node keeps for clients that resume.
    gauge RING_BYTES = "roomcast_ring_bytes";
    /// Reads of the log for clients that resume a channel, by `outcome`: read, too_much (more than a ring holds), gone
    /// (no longer in the log), another_log (the log has a new epoch), unreadable (every try failed).
    counter REPLAYS_TOTAL = "roomcast_replays_total";
    /// Catch-ups: a node reads the log again for live events that it may have missed. By `cause`: reconnect (to the
    /// broker), slow_consumer (the node reads too slowly, and messages were dropped), overrun (reports of losses were
    /// dropped), gap (an event before a received one is missing), hint (api reported a possible loss), election (of a
    /// stream's leader), epoch (a new one), widened (the rooms of a shard share one subscription from now on), opened
    /// (messages may have been missed while a channel was opened), late (a socket waits for the push of its own event),
    /// leaving (an event that a removed person must still get is missing), again (there was a new cause meanwhile).
    counter HEALS_TOTAL = "roomcast_heals_total";
    /// Stored events that were found in the log after later ones of their channel had been pushed. Sockets that lack
    /// one are closed with code 4201 (heal).
    counter FOUND_LATE_TOTAL = "roomcast_events_found_late_total";
    /// Panics in work that a shard's task has started, by `work`: people, open, widen, snapshot, barrier, replay, heal,
    /// tell_loss, confirm. The work is started again, or the process ends.
    counter WORK_PANICS_TOTAL = "roomcast_work_panics_total";
    /// Times that a node that was declared dead began a new incarnation.
    counter INCARNATIONS_TOTAL = "roomcast_incarnations_total";
    /// Sockets removed from a channel because their access ended, by `cause`: log (an event ended it), confirmation
    /// (api did not confirm it).
    counter EVICTIONS_TOTAL = "roomcast_evictions_total";
    /// Channels of this node whose confirmation by api is overdue by 15 s, by `shard`.
    gauge CONFIRMATIONS_OVERDUE = "roomcast_confirmations_overdue";
    /// Seconds from api's append to the hand-over to a node's sockets, once per event and node.
    histogram DELIVERY_SECONDS = "roomcast_delivery_seconds";
    /// People who are in rooms through this node, counted once per room.
    gauge PARTICIPANTS = "roomcast_participants";
    /// People who have a socket on this node.
    gauge PEOPLE_ONLINE = "roomcast_people_online";
    /// Joins and leaves that the log has not acknowledged. They are sent again until it has.
    gauge PRESENCE_UNACKNOWLEDGED = "roomcast_presence_unacknowledged";
    /// Joins and leaves that api refused permanently, and that are not sent again.
    counter PRESENCE_ABANDONED_TOTAL = "roomcast_presence_abandoned_total";
    /// Seconds from a request to api to its answer, including retries.
    histogram RPC_SECONDS = "roomcast_rpc_seconds";
    /// Requests to api that were sent a second time, because the first was not answered in time.
    counter RPC_RETRIES_TOTAL = "roomcast_rpc_retries_total";
    /// Requests to api that failed, by `code`.
    counter RPC_ERRORS_TOTAL = "roomcast_rpc_errors_total";

    /// Events of the log that are not in Postgres yet, by `shard`.
    gauge PERSISTER_LAG_MESSAGES = "roomcast_persister_lag_messages";
    /// Age in seconds of the oldest event that is not in Postgres yet, by `shard`.
    gauge PERSISTER_LAG_SECONDS = "roomcast_persister_lag_seconds";
    /// Events written to Postgres in one transaction.
    histogram PERSISTER_BATCH_EVENTS = "roomcast_persister_batch_events";
    /// Shards whose batches one transaction writes.
    histogram PERSISTER_GROUP_SHARDS = "roomcast_persister_group_shards";
    /// Seconds from taking a database session to the end of a transaction, by `outcome`: ok, moved (another persister
    /// wrote the shard), data (Postgres refused a value), unexplained, timed_out, lost (the session ended), no_session.
    histogram PERSISTER_COMMIT_SECONDS = "roomcast_persister_commit_seconds";
    /// The last event of the log that is in Postgres, by `shard`.
    gauge PERSISTER_WATERMARK = "roomcast_persister_watermark";
    /// Bytes of the log, by `shard`.
    gauge LOG_BYTES = "roomcast_log_bytes";
    /// Maximum bytes of the log, by `shard`; 0 = no limit.
    gauge LOG_MAX_BYTES = "roomcast_log_max_bytes";
    /// Events removed from the log because Postgres has them, by `shard`.
    counter LOG_PURGED_TOTAL = "roomcast_log_purged_events_total";
    /// Events that could not be applied, by `shard`: they are in the table `rejected_event`.
    counter REJECTED_EVENTS_TOTAL = "roomcast_rejected_events_total";
    /// Events with fields that this persister does not know, by `shard`: applied without them, and kept in the
    /// table `rejected_event`.
    counter UNKNOWN_FIELDS_TOTAL = "roomcast_unknown_fields_events_total";
    /// Messages and edits that were not applied because they were stored after their room was closed. Their senders
    /// were answered 409.
    counter AFTER_CLOSING_TOTAL = "roomcast_after_closing_total";
    /// Times that the log had lost events that Postgres lacks, by `shard`.
    counter LOG_HOLES_TOTAL = "roomcast_log_holes_total";
    /// Times that a shard got a new epoch, because its log had lost its end or was made anew, by `shard`.
    counter LOG_REPAIRS_TOTAL = "roomcast_log_repairs_total";
    /// 1 if the persister does not write the shard until an operator decides, by `shard`: `/readyz` has the reason.
    gauge SHARD_REFUSED = "roomcast_shard_refused";
    /// 1 if this process writes the shard to Postgres, by `shard`.
    gauge PERSISTER_LEADING = "roomcast_persister_leading";
    /// Database sessions by `pool`: batches, search, maintenance, and `state`: idle, busy.
    gauge PERSISTER_SESSIONS = "roomcast_persister_sessions";
    /// Deleted rows that were no longer needed, by `table`: participant, online, invitation.
    counter MAINTENANCE_DELETED_TOTAL = "roomcast_maintenance_deleted_rows_total";
    /// Messages that were updated in the full-text index: new, edited or deleted.
    counter SEARCH_INDEXED_TOTAL = "roomcast_search_indexed_total";
    /// Messages that could not be indexed for full-text search, and were skipped: the persister's log names them.
    counter SEARCH_SKIPPED_TOTAL = "roomcast_search_skipped_total";
    /// Seconds for which the oldest message that is not in the full-text index yet has waited, by `shard`.
    gauge SEARCH_LAG_SECONDS = "roomcast_search_lag_seconds";

    /// Access checks of rooms, by `outcome`: hit, miss, stale (the snapshot was older than a received event), held
    /// (answered from the cache while the database did not answer).
    counter RIGHTS_TOTAL = "roomcast_rights_total";
    /// Fan-out processes that this node has declared dead.
    counter DEAD_NODES_TOTAL = "roomcast_dead_nodes_total";
    /// Leaves that this node has appended for people of dead processes.
    counter DEAD_NODE_LEAVES_TOTAL = "roomcast_dead_node_leaves_total";
    /// Seconds that an api node took to answer a fan-out node.
    histogram RPC_SERVED_SECONDS = "roomcast_rpc_served_seconds";
    /// Requests of fan-out nodes that arrived after their expiry.
    counter RPC_EXPIRED_TOTAL = "roomcast_rpc_expired_total";
    /// Requests of fan-out nodes that were refused because too many were under way.
    counter RPC_REFUSED_TOTAL = "roomcast_rpc_refused_total";
    /// Times that Postgres had less of a shard's log than before: a lagging standby took over.
    counter APPLIED_WENT_BACK_TOTAL = "roomcast_applied_went_back_total";
    /// Queries that Postgres did not answer in time; their connections were closed.
    counter DATABASE_GIVEN_UP_TOTAL = "roomcast_database_given_up_total";
    /// Seconds that an api node's clock is ahead of the clock of Postgres.
    gauge CLOCK_OFFSET_SECONDS = "roomcast_clock_offset_seconds";
    /// Messages with a UUIDv7 key older than the broker's window for duplicates, by `outcome`: found (stored before),
    /// new.
    counter OLD_KEYS_TOTAL = "roomcast_old_keys_total";
    /// Answers that were larger than allowed and were refused instead, by `way`: rpc, http.
    counter ANSWERS_TOO_LARGE_TOTAL = "roomcast_answers_too_large_total";
    /// Seconds that an HTTP request took, by `route`.
    histogram HTTP_SECONDS = "roomcast_http_request_seconds";
    /// Repeated reads of the public keys (`ROOMCAST_JWT_JWKS`) by `outcome`: unchanged, changed, unusable (no keys, or
    /// none of a known kind), failed (not read). After the last two the keys read before stay in use.
    counter JWKS_READS_TOTAL = "roomcast_jwks_reads_total";
    /// Requests and actions refused as too many, by `limit`: writes, searches, sockets (per person), requests,
    /// upgrades, connections, visitor_writes, visitor_rooms (per address), visited_rooms (writes per room),
    /// invitations, signals (per person and recipient), frames, channels (per socket).
    counter RATE_LIMITED_TOTAL = "roomcast_rate_limited_total";
    /// Live copies of `camera` and `profile` events that were sent to contacts of the person.
    counter CONTACTS_TOLD_TOTAL = "roomcast_contacts_told_total";
    /// `camera` and `profile` events that were not sent to all contacts of the person.
    counter CONTACTS_UNTOLD_TOTAL = "roomcast_contacts_untold_total";
    /// HTTP requests by `route`, `method` (other: a method that no route has) and `status`.
    counter HTTP_REQUESTS_TOTAL = "roomcast_http_requests_total";
    /// Uploaded pictures, by `outcome`: decoded, refused, failed (the store did not answer).
    counter PICTURES_TOTAL = "roomcast_pictures_total";
}
