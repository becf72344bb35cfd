//! Handles topics: rooms for everyone, each in a category, with a title that no other open topic there has.

use protocol::{
    caller::Caller,
    clock::Timestamp,
    error::{Error, ErrorCode},
    event::{Event, EventName, Room as RoomEvent, RoomDetail, RoomKind},
    id::RoomId,
    subject::Channel,
    text,
};

use super::{
    idempotent_write::IdempotentWrite,
    request_context::RequestContext,
    require_manage, rooms,
    unique_rooms::{self, UniqueRoom},
};
use crate::{
    commands::state::CommandState,
    pictures::DecodedPicture,
    queries::{
        people,
        topics::{self, Topic},
    },
};

/// Maximum length of a title, in characters.
pub(crate) const TITLE_MAX: usize = 70;
/// Maximum length of a description, in characters.
pub(crate) const DESCRIPTION_MAX: usize = 400;
/// Topics on a page.
pub(crate) const PAGE_SIZE: u64 = 100;

/// A topic to create. Its category is one of the configured ones.
pub(crate) struct NewTopic {
    pub(crate) title: String,
    pub(crate) category: String,
    pub(crate) description: Option<String>,
    pub(crate) picture: Option<DecodedPicture>,
}

/// Creates a topic; `None` if another open topic of the category has the title.
pub(crate) async fn create(
    api: &CommandState,
    caller: &Caller,
    new_topic: NewTopic,
    request: &RequestContext<'_>,
) -> Result<Option<Topic>, Error> {
    let NewTopic { title, category, description, picture } = new_topic;
    text::required_text("title", &title, TITLE_MAX)?;
    text::optional_text("description", description.as_deref().unwrap_or(""), DESCRIPTION_MAX)?;
    // Read before anything is stored: once the topic is stored, the answer needs no Postgres.
    let shard = Channel::User(caller.user.clone()).shard(api.shards);
    let person = people::read_profile(&api.pool, shard, &caller.user).await?;
    let named_by = request.idempotency_key.map(|key| [caller.user.as_str(), key]);
    let img = match picture {
        None => None,
        Some(picture) => {
            let name = picture.new_name(named_by.as_ref().map(<[&str; 2]>::as_slice));
            api.pictures.put(name, picture).await?;
            Some(name)
        }
    };
    let key = unique_rooms::unique_key(&[RoomKind::Topic.as_str(), &category, &title]);
    let detail = RoomDetail::Topic { category, img: img.map(|name| name.to_string()) };
    let created =
        create_if_title_free(api, caller, &key, new_room(caller, title, description, detail), request).await;
    // An earlier attempt under the caller's key may have created a topic that shows the picture: then it is kept.
    let is_shown = match &created {
        Ok(created) => created.is_some(),
        Err(error) => {
            let is_unknown = error.code == ErrorCode::OutcomeUnknown || request.progress.has_stored();
            is_unknown || request.idempotency_key.is_some()
        }
    };
    if let (Some(name), false) = (img, is_shown) {
        api.pictures.discard(name).await;
    }
    let Some((id, created)) = created? else { return Ok(None) };
    topic_as_created(id, created, person.and_then(|(_, person)| person.username)).map(Some)
}

fn new_room(caller: &Caller, title: String, description: Option<String>, detail: RoomDetail) -> RoomEvent {
    let now = Timestamp::now();
    RoomEvent {
        request_type: Some("chatroom".to_owned()),
        name: title,
        description,
        private: false,
        users: vec![],
        participants: vec![],
        team: None,
        user: caller.user.clone(),
        kind: RoomKind::Topic,
        active: true,
        created_at: now,
        activity: now,
        unread: 0,
        detail: Some(detail),
    }
}

/// Creates the room; `None` if another request's room has the title.
async fn create_if_title_free(
    api: &CommandState,
    caller: &Caller,
    key: &str,
    room: RoomEvent,
    request: &RequestContext<'_>,
) -> Result<Option<(RoomId, RoomEvent)>, Error> {
    let write = IdempotentWrite::new(api, &caller.user, &Channel::System, EventName::Chatroom, request);
    let UniqueRoom { room, new_room: created, is_new, .. } =
        unique_rooms::get_or_create(api, write, key, Event::Chatroom(room)).await?;
    Ok(created.filter(|_| is_new).map(|created| (room, created)))
}

/// Returns a topic as it is right after its creation.
fn topic_as_created(id: RoomId, created: RoomEvent, username: Option<String>) -> Result<Topic, Error> {
    let Some(RoomDetail::Topic { category, img }) = created.detail else {
        return Err(Error::internal(&"the event stored for a topic is of another kind"));
    };
    Ok(Topic {
        id,
        title: created.name,
        category,
        img,
        creator: created.user,
        username,
        description: created.description,
        created_at: created.created_at,
    })
}

/// The page of a list that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageNumber {
    /// A page by its number, from 1.
    Number(u64),
    /// The last page.
    Last,
}

/// A page of a list of topics.
pub(crate) struct TopicPage {
    pub(crate) topics: Vec<Topic>,
    /// The number of the page, from 1.
    pub(crate) number: u64,
    /// Number of pages.
    pub(crate) pages: u64,
    /// Number of topics on all pages.
    pub(crate) count: u64,
}

/// Lists the open topics of a category, in order of id; `None` if there is no such page.
pub(crate) async fn list(
    api: &CommandState,
    category: &str,
    requested: PageNumber,
) -> Result<Option<TopicPage>, Error> {
    let offset = |number: u64| number.saturating_sub(1).saturating_mul(PAGE_SIZE);
    let mut start = topics::find_position(
        &api.pool,
        category,
        if let PageNumber::Number(number) = requested { offset(number) } else { 0 },
    )
    .await?;
    // An empty list has one page.
    let pages = start.count.div_ceil(PAGE_SIZE).max(1);
    let number = match requested {
        PageNumber::Number(number) => number,
        PageNumber::Last => {
            start = topics::find_position(&api.pool, category, offset(pages)).await?;
            pages
        }
    };
    if !(1..=pages).contains(&number) {
        return Ok(None);
    }
    let topics = topics::list(&api.pool, api.shards, category, start, PAGE_SIZE).await?;
    Ok(Some(TopicPage { topics, number, pages, count: start.count }))
}

/// Requires an open topic of a category that the caller may change.
pub(crate) async fn require_own_topic(
    api: &CommandState,
    caller: &Caller,
    category: &str,
    room: RoomId,
) -> Result<Topic, Error> {
    let found = topics::read(&api.pool, api.shards, category, room).await?;
    let topic = found.ok_or_else(Error::not_found)?;
    require_manage(api, room, caller).await?;
    Ok(topic)
}

/// Replaces the description of a topic.
pub(crate) async fn update_description(
    api: &CommandState,
    caller: &Caller,
    topic: Topic,
    description: Option<String>,
    request: &RequestContext<'_>,
) -> Result<Topic, Error> {
    // `None` would keep the old description: a removed one is stored as an empty text.
    let change =
        rooms::RoomChange { name: None, description: Some(description.unwrap_or_default()), private: None };
    let (room, _) = rooms::update(api, caller, topic.id, change, request).await?;
    let description = room.description.filter(|description| !description.is_empty());
    Ok(Topic { description, ..topic })
}

/// Refuses changes that topics do not allow: a title must stay unique, and a description may be shorter than a
/// room's.
pub(super) fn require_change_allowed(name: Option<&str>, description: Option<&str>) -> Result<(), Error> {
    if name.is_some() {
        return Err(Error::new(ErrorCode::Conflict, "A topic keeps its name."));
    }
    text::optional_text("description", description.unwrap_or(""), DESCRIPTION_MAX)
}
