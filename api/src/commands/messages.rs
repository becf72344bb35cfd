//! Messages: send, edit, delete, read.

use shared::{
    clock::Timestamp,
    error::{Error, ErrorCode},
    event::{ChatMessage, Event, EventName, MessageDelete, MessageDetail, MessageEdit, RoomKind, header},
    id::{MessageId, RoomId, Shard, UserId},
    log::{self, Append, Appended, MsgId},
    rules::{self, Caller},
    subject::Channel,
};
use tokio::time::Instant;

use super::{enter, key, matches, see, stored};
use crate::{
    queries::messages::{self, Changed, Message, Page, Place},
    state::{APPEND, Shared},
};

/// What a request is called.
#[derive(Clone, Copy, Default)]
pub(crate) struct Request<'a> {
    /// Among all, for retries.
    pub(crate) key: Option<&'a str>,
    /// By the client, on a match socket: a JSON scalar in ASCII, which is pushed with what it does.
    pub(crate) id: Option<&'a str>,
}

impl<'a> From<Option<&'a str>> for Request<'a> {
    fn from(key: Option<&'a str>) -> Self {
        Self { key, id: None }
    }
}

impl Request<'_> {
    fn headers(&self) -> Vec<(&'static str, String)> {
        self.id.map(|id| (header::REQUEST_ID, id.to_owned())).into_iter().collect()
    }
}

/// A message to send.
pub(crate) struct Send<'a> {
    pub(crate) room: RoomId,
    pub(crate) text: &'a str,
    /// The sender's own name for it: sent twice, stored once.
    pub(crate) client_id: Option<&'a str>,
    /// Names it where the sender gave it no name.
    pub(crate) request: Request<'a>,
    /// The caller is in the room: it was let in, and has not been put out since.
    pub(crate) is_in: bool,
    /// The room is one of two.
    pub(crate) is_pair: bool,
    /// What only messages in rooms of its kind have.
    pub(crate) detail: Option<MessageDetail>,
    pub(crate) deadline: Instant,
}

impl Send<'_> {
    /// The message, accepted now, and what its append is called.
    pub(crate) fn made(&mut self, caller: &Caller) -> (ChatMessage, MsgId) {
        let message = ChatMessage {
            message: self.text.to_owned(),
            room: self.room,
            user: caller.user.clone(),
            created_at: Timestamp::now(),
            client_id: self.client_id.map(str::to_owned),
            detail: self.detail.take(),
        };
        let key = key(self.client_id.or(self.request.key));
        let id = MsgId::new(&caller.user, &Channel::Room(self.room), EventName::ChatMessage, &key);
        (message, id)
    }
}

/// A message as stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sent {
    pub(crate) id: MessageId,
    pub(crate) message: ChatMessage,
}

/// Sends a message. The same `client_id` again is answered with what was stored then.
pub(crate) async fn send(api: &Shared, caller: &Caller, mut send: Send<'_>) -> Result<Sent, Error> {
    rules::message_text("message", send.text, api.text_max)?;
    if let Some(client_id) = send.client_id {
        rules::client_id("client_id", client_id)?;
        let before = super::old_keys::stored_before(api, caller, send.room, client_id, send.text).await?;
        if let Some(sent) = before {
            return Ok(sent);
        }
    }
    if !send.is_in || send.is_pair {
        let facts = enter(api, send.room, caller).await?;
        if facts.kind == RoomKind::Match {
            send.detail = Some(matches::detail(api, &facts, &caller.user).await);
        }
    }
    let (message, id) = send.made(caller);
    let (channel, event) = (Channel::Room(send.room), Event::ChatMessage(message.clone()));
    let append = Append { headers: send.request.headers(), ..Append::new(&channel, &event, id) };
    let appended = api.append(append, send.deadline).await?;
    let id = MessageId(appended.seq);
    if !appended.duplicate {
        return Ok(Sent { id, message });
    }
    let message = earlier(api, appended.shard, send.room, id).await?;
    if message.message == send.text {
        Ok(Sent { id, message })
    } else {
        let detail = "This client_id was used before, with another text.";
        Err(Error::new(ErrorCode::KeyReused, detail))
    }
}

/// What was stored under the same key before. It is in the log for longer than the broker knows
/// the key.
async fn earlier(api: &Shared, shard: Shard, room: RoomId, id: MessageId) -> Result<ChatMessage, Error> {
    match stored(&api.jetstream, shard, id.0, &[EventName::ChatMessage]).await? {
        Some((_, Event::ChatMessage(message))) if message.room == room => Ok(message),
        _ => Err(Error::new(ErrorCode::OutcomeUnknown, "It was stored before, and can't be read now.")),
    }
}

/// A message's author: from the log, then from Postgres, where it is once it has left the log.
async fn author(api: &Shared, room: RoomId, id: MessageId) -> Result<UserId, Error> {
    let shard = Channel::Room(room).shard(api.shards);
    if let Some((_, Event::ChatMessage(message))) =
        stored(&api.jetstream, shard, id.0, &[EventName::ChatMessage]).await?
        && message.room == room
    {
        return Ok(message.user);
    }
    messages::author(&api.pool, shard, room, id).await?.ok_or_else(Error::not_found)
}

/// A message of that id was sent to the room; it may have been deleted since.
pub(super) async fn exists(api: &Shared, room: RoomId, id: MessageId) -> Result<(), Error> {
    let channel = Channel::Room(room);
    let shard = channel.shard(api.shards);
    let stored =
        log::get(&api.jetstream, shard, id.0).await.map_err(|e| Error::unavailable("The log", &e))?;
    let subject = channel.chat(api.shards, EventName::ChatMessage, None);
    if stored.is_some_and(|stored| stored.subject == subject)
        || messages::exists(&api.pool, shard, room, id).await?
    {
        return Ok(());
    }
    Err(Error::not_found())
}

async fn change(
    api: &Shared,
    caller: &Caller,
    room: RoomId,
    event: Event,
    request: Request<'_>,
) -> Result<Appended, Error> {
    let channel = Channel::Room(room);
    let id = MsgId::new(&caller.user, &channel, event.name(), &key(request.key));
    let append = Append { headers: request.headers(), ..Append::new(&channel, &event, id) };
    api.append(append, Instant::now() + APPEND).await
}

/// Gives a message another text.
pub(crate) async fn edit(
    api: &Shared,
    caller: &Caller,
    room: RoomId,
    id: MessageId,
    text: &str,
    request: Request<'_>,
) -> Result<(MessageEdit, Appended), Error> {
    rules::message_text("message", text, api.text_max)?;
    enter(api, room, caller).await?;
    if !caller.may_edit(&author(api, room, id).await?) {
        return Err(Error::forbidden());
    }
    let edit = MessageEdit {
        message_id: id,
        message: text.to_owned(),
        room,
        user: caller.user.clone(),
        edited_at: Timestamp::now(),
    };
    let changed = change(api, caller, room, Event::MessageEdit(edit.clone()), request).await?;
    Ok((edit, changed))
}

/// Deletes messages: all of them, or none.
pub(crate) async fn delete(
    api: &Shared,
    caller: &Caller,
    room: RoomId,
    ids: Vec<MessageId>,
    request: Request<'_>,
) -> Result<(MessageDelete, Appended), Error> {
    if !(1..=rules::DELETE_MAX).contains(&ids.len()) {
        let detail = format!("msg_id_list: must name 1 to {} messages.", rules::DELETE_MAX);
        return Err(Error::bad_request(detail));
    }
    enter(api, room, caller).await?;
    for id in &ids {
        if !caller.may_delete(&author(api, room, *id).await?) {
            return Err(Error::forbidden());
        }
    }
    let delete =
        MessageDelete { messages_ids: ids, room, user: caller.user.clone(), deleted_at: Timestamp::now() };
    let changed = change(api, caller, room, Event::MessageDelete(delete.clone()), request).await?;
    Ok((delete, changed))
}

/// Waits for every message, edit and deletion in a room that was acknowledged before. False where one is
/// not in Postgres, a second later.
pub(super) async fn settle(api: &Shared, room: RoomId) -> Result<bool, Error> {
    let events = [EventName::ChatMessage, EventName::MessageEdit, EventName::MessageDelete];
    api.is_all_applied(&Channel::Room(room), &events).await
}

/// A part of a room's history, in ascending order: as it is now, but for what is before an id, which is
/// read without the log.
pub(crate) async fn history(
    api: &Shared,
    caller: &Caller,
    room: RoomId,
    page: Page,
    limit: i64,
) -> Result<Vec<Message>, Error> {
    see(api, room, caller).await?;
    if !matches!(page, Page::Before(_)) {
        settle(api, room).await?;
    }
    messages::page(&api.pool, Channel::Room(room).shard(api.shards), room, page, limit).await
}

/// What is new in a room or was changed there after an event, in the order of the events. Who reads it
/// has lost the pushes: it is all of it, or none.
pub(crate) async fn changes(
    api: &Shared,
    caller: &Caller,
    room: RoomId,
    after: Place,
    limit: i64,
) -> Result<Vec<Changed>, Error> {
    see(api, room, caller).await?;
    if !settle(api, room).await? {
        return Err(Error::unavailable("The history", &"the last changes are not applied yet"));
    }
    messages::changes(&api.pool, Channel::Room(room).shard(api.shards), room, after, limit).await
}
