//! Sends, edits, deletes and reads messages.

use crate::access;
use crate::append::{LogPosition, MsgId};
use async_nats::header::NATS_MESSAGE_ID;
use log::StoredEvent;
use protocol::{
    caller::Caller,
    clock::Timestamp,
    error::Error,
    event::{ChatMessage, Event, EventName, MessageDelete, MessageDetail, MessageEdit, RoomKind},
    id::{MessageId, RoomId},
    subject::Channel,
    text,
};

use super::{
    log_write::{self, WriteRequest, WrittenEvent},
    match_rooms,
    message_state::{self, MessageState},
    request_context::RequestContext,
    request_key, require_join, require_read, require_still_joined,
};
use crate::{
    commands::state::CommandState,
    page::Page,
    queries::messages::{self, ChangeCursor, ChangedMessage, HistoryPage, Message},
};

/// What is known of a sender's right to write in the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SenderAccess {
    /// Not checked yet: [`send`] checks it.
    Unchecked,
    /// The sender's socket has joined the room, which is not a room of two people: [`send`] checks only whether the
    /// right to write has ended since.
    Joined,
    /// The calling command has checked it.
    Granted,
}

/// A message to send.
pub(crate) struct NewMessage<'a> {
    pub(crate) room: RoomId,
    pub(crate) text: &'a str,
    /// The sender's own id for the message: of several sends under one id, one is stored.
    pub(crate) client_id: Option<&'a str>,
    /// Its idempotency key is used if there is no `client_id`.
    pub(crate) request: &'a RequestContext<'a>,
    pub(crate) access: SenderAccess,
    /// Fields that only messages in rooms of this kind have.
    pub(crate) detail: Option<MessageDetail>,
}

impl NewMessage<'_> {
    /// Builds the message with the current time, and the message id of its append.
    pub(crate) fn build(&mut self, caller: &Caller) -> (ChatMessage, MsgId) {
        let message = ChatMessage {
            message: self.text.to_owned(),
            room: self.room,
            user: caller.user.clone(),
            created_at: Timestamp::now(),
            client_id: self.client_id.map(str::to_owned),
            detail: self.detail.take(),
        };
        let key = request_key(self.client_id.or(self.request.idempotency_key));
        let id = MsgId::new(&caller.user, &Channel::Room(self.room), EventName::ChatMessage, &key);
        (message, id)
    }
}

/// A message as stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SentMessage {
    pub(crate) id: MessageId,
    pub(crate) message: ChatMessage,
}

/// Sends a message. A repeated `client_id` is answered with the message that was stored first.
pub(crate) async fn send(
    api: &CommandState,
    caller: &Caller,
    mut send: NewMessage<'_>,
) -> Result<SentMessage, Error> {
    text::message_text("message", send.text, api.settings.text_max_chars)?;
    if let Some(client_id) = send.client_id {
        text::client_id("client_id", client_id)?;
        let before =
            super::durable_keys::find_earlier_message(api, caller, send.room, client_id, send.text).await?;
        if let Some(sent) = before {
            return Ok(sent);
        }
    }
    match send.access {
        SenderAccess::Unchecked => {
            let snapshot = require_join(api, send.room, caller).await?.room;
            if snapshot.kind == RoomKind::Match {
                send.detail = Some(match_rooms::message_detail(api, &snapshot, &caller.user).await);
            }
        }
        SenderAccess::Joined => require_still_joined(api, send.room, caller).await?,
        SenderAccess::Granted => {}
    }
    let (message, id) = send.build(caller);
    let (channel, event) = (Channel::Room(send.room), Event::ChatMessage(message));
    let write = WriteRequest { channel: &channel, event, id, headers: send.request.event_headers() };
    let written = log_write::append(api, send.request, write).await?;
    let Event::ChatMessage(message) = written.event else {
        return Err(Error::internal(&"the event stored for a message is of another kind"));
    };
    Ok(SentMessage { id: MessageId(written.position.seq), message })
}

/// Replaces the text of a message. Returns the edit as stored, and its position.
pub(crate) async fn edit(
    api: &CommandState,
    caller: &Caller,
    room: RoomId,
    id: MessageId,
    text: &str,
    request: &RequestContext<'_>,
) -> Result<(MessageEdit, LogPosition), Error> {
    text::message_text("message", text, api.settings.text_max_chars)?;
    require_join(api, room, caller).await?;
    let deletion = message_state::last_deletion_seq(api, room).await?;
    match message_state::message_state(api, room, id, deletion, request.deadline).await? {
        MessageState::Present { author } if access::can_edit(caller, &author) => {}
        MessageState::Present { .. } => return Err(Error::forbidden()),
        MessageState::Deleted { .. } => return Err(Error::not_found()),
    }
    let edit = MessageEdit {
        message_id: id,
        message: text.to_owned(),
        room,
        user: caller.user.clone(),
        edited_at: Timestamp::now(),
    };
    let channel = Channel::Room(room);
    let write = WriteRequest::new(&caller.user, &channel, Event::MessageEdit(edit), request);
    let written = log_write::append(api, request, write).await?;
    match written.event {
        Event::MessageEdit(edit) => Ok((edit, written.position)),
        _ => Err(Error::internal(&"the event stored for an edit is of another kind")),
    }
}

/// Deletes all of these messages, or none. Returns the deletion as stored, and its position. Messages can be deleted
/// in a closed room too.
pub(crate) async fn delete(
    api: &CommandState,
    caller: &Caller,
    room: RoomId,
    ids: Vec<MessageId>,
    request: &RequestContext<'_>,
) -> Result<(MessageDelete, LogPosition), Error> {
    if !(1..=text::DELETE_MAX).contains(&ids.len()) {
        let detail = format!("msg_id_list: must name 1 to {} messages.", text::DELETE_MAX);
        return Err(Error::bad_request(detail));
    }
    require_read(api, room, caller).await?;
    let delete = MessageDelete {
        messages_ids: ids.clone(),
        room,
        user: caller.user.clone(),
        deleted_at: Timestamp::now(),
    };
    let channel = Channel::Room(room);
    let write = WriteRequest::new(&caller.user, &channel, Event::MessageDelete(delete), request);
    let deletion = message_state::last_deletion_seq(api, room).await?;
    let mut earlier = None;
    for id in ids {
        match message_state::message_state(api, room, id, deletion, request.deadline).await? {
            MessageState::Present { author } if access::can_delete(caller, &author) => {}
            MessageState::Present { .. } => return Err(Error::forbidden()),
            MessageState::Deleted { by } => {
                earlier = Some(by);
                break;
            }
        }
    }
    let written = match earlier {
        None => log_write::append(api, request, write).await?,
        Some(by) => repeated_deletion(api, write, by).await?,
    };
    match written.event {
        Event::MessageDelete(delete) => Ok((delete, written.position)),
        _ => Err(Error::internal(&"the event stored for a deletion is of another kind")),
    }
}

/// Returns the event at `seq` as this request's own if an earlier attempt stored it; else answers 404: the message is
/// deleted.
async fn repeated_deletion(
    api: &CommandState,
    write: WriteRequest<'_>,
    seq: u64,
) -> Result<WrittenEvent, Error> {
    let shard = write.channel.shard(api.shards);
    let stored = log::get(&api.log.jetstream, shard, seq).await;
    let stored = stored.map_err(|error| Error::unavailable("The log", &error))?;
    let id = write.id.to_string();
    let is_ours = |stored: &StoredEvent| {
        stored.headers.get_last(NATS_MESSAGE_ID).is_some_and(|known| known.as_str() == id)
    };
    let earlier = stored.filter(is_ours).and_then(|stored| log_write::decode_stored(&stored));
    let event = earlier.ok_or_else(Error::not_found)?;
    if !log_write::is_same_request(&event, &write.event) {
        return Err(log_write::key_reused_error(event.name()));
    }
    Ok(WrittenEvent { position: LogPosition { shard, seq }, event, is_new: false })
}

/// Waits up to one second until Postgres has every acknowledged message, edit and deletion of a room; false if it
/// still lacks one.
pub(super) async fn wait_until_messages_applied(api: &CommandState, room: RoomId) -> Result<bool, Error> {
    let events = [EventName::ChatMessage, EventName::MessageEdit, EventName::MessageDelete];
    api.wait_until_events_applied(&Channel::Room(room), &events).await
}

/// Returns a page of a room's history, in the order of [`messages::list`]. It contains all acknowledged changes that Postgres applies
/// within one second; a page [`HistoryPage::Before`] an id is read from Postgres without waiting.
pub(crate) async fn history(
    api: &CommandState,
    caller: &Caller,
    room: RoomId,
    page: HistoryPage,
    limit: i64,
) -> Result<Page<Message>, Error> {
    require_read(api, room, caller).await?;
    if !matches!(page, HistoryPage::Before(_)) {
        wait_until_messages_applied(api, room).await?;
    }
    let shard = Channel::Room(room).shard(api.shards);
    Page::read(limit, async |limit| messages::list(&api.pool, shard, room, page, limit).await).await
}

/// Returns messages that are new or were changed after an event, in the order of the events.
///
/// Clients read it to make up for lost pushes, so it fails rather than return a page that lacks an acknowledged
/// change.
pub(crate) async fn changes(
    api: &CommandState,
    caller: &Caller,
    room: RoomId,
    after: ChangeCursor,
    limit: i64,
) -> Result<Page<ChangedMessage>, Error> {
    require_read(api, room, caller).await?;
    if !wait_until_messages_applied(api, room).await? {
        return Err(Error::unavailable("The history", &"the last changes are not applied yet"));
    }
    let shard = Channel::Room(room).shard(api.shards);
    Page::read(limit, async |limit| messages::list_changes(&api.pool, shard, room, after, limit).await).await
}
