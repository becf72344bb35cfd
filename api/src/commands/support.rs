//! Handles the customer desk: rooms of a visitor and the agents of an organisation.
//!
//! A room's key gives access to that room alone, to anybody who has the key. What must hold: no token can carry the
//! id of a visitor without a token. A person has one open room for each product and portfolio of an organisation.
//! Without the key no answer reveals that a room exists.

use std::net::IpAddr;

use super::{
    idempotent_write::IdempotentWrite,
    messages::{self, NewMessage, SenderAccess},
    request_context::RequestContext,
    require_open, rooms,
    unique_rooms::{self, UniqueRoom},
};
use crate::{
    commands::state::CommandState,
    config::VisitorIdentity,
    page::Page,
    queries::{
        messages::{self as stored, HistoryPage, Message},
        support::{self, SupportRoom, SupportRoomPage},
    },
};
use protocol::{
    caller::Caller,
    clock::Timestamp,
    error::Error,
    event::{Event, EventName, MessageDetail, Room as RoomEvent, RoomDetail, RoomKind},
    id::{MessageId, RoomId, Shard, UserId},
    subject::Channel,
    text,
};
use service::random;

/// Maximum open rooms in an answer.
const ROOMS_MAX: i64 = 500;
/// Maximum rooms, open and closed, that are read for one answer.
const ROOMS_SCANNED_MAX: i64 = 5_000;
/// Maximum messages in an answer.
const MESSAGES_MAX: i64 = 500;
/// Length of a room's key, in hexadecimal digits.
const SECRET_LEN: usize = 24;

/// A visitor, and the subject of the visit.
pub(crate) struct SupportVisit {
    /// The visitor's id as the request names it, without the [`UserId::VISITOR`] prefix.
    pub(crate) user: UserId,
    pub(crate) org_id: String,
    pub(crate) portfolio_name: String,
    pub(crate) product_name: String,
}

/// A message to post in a support room.
pub(crate) struct NewSupportMessage {
    pub(crate) text: String,
    pub(crate) side: bool,
    pub(crate) auther: String,
    pub(crate) message_type: String,
}

/// Returns the id of a visitor without a token: the name with a prefix that no token's user has.
pub(crate) fn visitor_id(name: &str) -> Result<UserId, Error> {
    format!("{}{name}", UserId::VISITOR).parse().map_err(|_| {
        let most = UserId::MAX_LEN - UserId::VISITOR.len();
        Error::bad_request(format!("user_id: must be 1 to {most} of letters, digits and {}", UserId::MARKS))
    })
}

/// The sender of a request to the support dialect.
pub(crate) struct SupportCaller {
    /// The person named by the token; `None` without a token.
    pub(crate) caller: Option<Caller>,
    /// The address of the request, if addresses are limited.
    pub(crate) address: Option<IpAddr>,
    /// The secret that an earlier visit was given.
    pub(crate) pass: Option<VisitorPass>,
}

impl SupportCaller {
    /// Counts a write against the visitor limits; requests with a token were counted by the token's limits already.
    fn count_write(&self, api: &CommandState) -> Result<(), Error> {
        if self.caller.is_some() { Ok(()) } else { api.limits.count_visitor_write(self.address) }
    }

    /// Returns the author of a message in a room whose key was given: the token's person, else the room's visitor.
    /// Counts a visitor's write against the room's limit.
    fn author_in(&self, api: &CommandState, room: &SupportRoom) -> Result<Caller, Error> {
        if let Some(caller) = &self.caller {
            return Ok(caller.clone());
        }
        api.limits.count_visited_room_write(room.id)?;
        Ok(visitor_caller(visitor_id(&room.visitor)?))
    }

    /// Returns the secret that a visit is bound to; `None` with a token, or if the configuration does not bind
    /// visits.
    fn visit_pass(&self, api: &CommandState) -> Option<VisitorPass> {
        let is_bound = self.caller.is_none() && api.settings.support_visitors == VisitorIdentity::Bound;
        is_bound.then(|| self.pass.clone().unwrap_or_else(VisitorPass::random))
    }
}

fn visitor_caller(visitor: UserId) -> Caller {
    Caller { user: visitor, is_admin: false, org_id: None }
}

/// The secret of a visitor without a token, in hexadecimal digits: the next visit presents it to get the same room.
/// It is not stored; the room's unique key is derived from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VisitorPass(String);

impl VisitorPass {
    /// Length in hexadecimal digits.
    pub(crate) const LEN: usize = 32;

    fn random() -> Self {
        Self(random_hex(Self::LEN))
    }

    /// Parses a secret; `None` if the text has another form.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        (text.len() == Self::LEN && text.bytes().all(is_hex_digit)).then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns `count` random hexadecimal digits.
fn random_hex(count: usize) -> String {
    let digit = || char::from_digit(random::in_range(0..16), 16).unwrap_or('0');
    std::iter::repeat_with(digit).take(count).collect()
}

/// Returns whether a byte is a lower-case hexadecimal digit.
fn is_hex_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// Returns the open room of a visit, created if there is none, and the secret with which the next visit gets the same
/// room.
pub(crate) async fn get_or_create_room(
    api: &CommandState,
    guest: &SupportCaller,
    visit: SupportVisit,
    request: &RequestContext<'_>,
) -> Result<(SupportRoom, Option<VisitorPass>), Error> {
    for (field, text) in [
        ("org_id", &visit.org_id),
        ("portfolio_name", &visit.portfolio_name),
        ("product_name", &visit.product_name),
    ] {
        text::required_text(field, text, text::NAME_MAX)?;
    }
    let visitor = visitor_id(visit.user.as_str())?;
    if guest.caller.as_ref().is_some_and(|caller| caller.user != visit.user) {
        return Err(Error::forbidden());
    }
    guest.count_write(api)?;
    let (caller, pass) =
        (guest.caller.clone().unwrap_or_else(|| visitor_caller(visitor)), guest.visit_pass(api));
    let names = [
        RoomKind::Support.as_str(),
        caller.user.as_str(),
        &visit.org_id,
        &visit.portfolio_name,
        &visit.product_name,
    ];
    let names: Vec<&str> = names.into_iter().chain(pass.as_ref().map(VisitorPass::as_str)).collect();
    let key = unique_rooms::unique_key(&names);
    let before = support::count_rooms_of_visitor(&api.pool, &visit.org_id, visit.user.as_str()).await?;
    let created = Event::RoomMade(new_room(&caller, visit, before + 1));
    let write = IdempotentWrite::new(api, &caller.user, &Channel::System, EventName::RoomMade, request);
    let may_make = || match guest.caller {
        Some(_) => Ok(()),
        None => api.limits.visitor_rooms.count_address(guest.address),
    };
    let UniqueRoom { room, new_room: created, .. } =
        unique_rooms::get_or_create_if(api, write, &key, created, may_make).await?;
    if let Some(room) = support::read(&api.pool, api.shards, room).await? {
        return Ok((room, pass));
    }
    // The log has it, Postgres does not yet.
    let created = created.and_then(|created| SupportRoom::from_detail(room, created.user, created.detail?));
    let created =
        created.ok_or_else(|| Error::internal(&"the stored detail of a support room is of another kind"))?;
    Ok((created, pass))
}

fn new_room(caller: &Caller, visit: SupportVisit, ordinal: u32) -> RoomEvent {
    let SupportVisit { user, org_id, portfolio_name, product_name } = visit;
    let now = Timestamp::now();
    RoomEvent {
        request_type: None,
        name: format!("{product_name}, {user}"),
        description: None,
        private: true,
        users: vec![],
        participants: vec![],
        team: None,
        user: caller.user.clone(),
        kind: RoomKind::Support,
        active: true,
        created_at: now,
        activity: now,
        unread: 0,
        detail: Some(RoomDetail::Support {
            secret: random_hex(SECRET_LEN),
            visitor: user.as_str().to_owned(),
            org_id,
            portfolio_name,
            product_name,
            event_id: format!("FB1010000000{}#{:07}", now.unix_ms() / 1_000, random::in_range(0..10_000_000)),
            ordinal,
        }),
    }
}

/// Returns the room of a key; answers 404 if there is none.
async fn find_room(api: &CommandState, secret: &str) -> Result<SupportRoom, Error> {
    if secret.len() != SECRET_LEN || !secret.bytes().all(is_hex_digit) {
        return Err(Error::not_found());
    }
    if let Some(room) = support::find_by_secret(&api.pool, api.shards, secret).await? {
        return Ok(room);
    }
    // Only Postgres can be searched by key, so it must first have all acknowledged rooms.
    let created = log::state(&api.log.jetstream, Shard::SYSTEM).await;
    let created = created.map_err(|error| Error::unavailable("The log", &error))?;
    if !api.wait_until_applied(Shard::SYSTEM, created.last).await {
        return Err(Error::unavailable("The room", &"the last rooms are not applied yet"));
    }
    support::find_by_secret(&api.pool, api.shards, secret).await?.ok_or_else(Error::not_found)
}

/// Posts a message in the room of a key, and waits until it can be read.
pub(crate) async fn send_message(
    api: &CommandState,
    guest: &SupportCaller,
    secret: &str,
    message: NewSupportMessage,
    request: &RequestContext<'_>,
) -> Result<(), Error> {
    text::message_text("message_data", &message.text, api.settings.text_max_chars)?;
    text::optional_text("auther", &message.auther, text::NAME_MAX)?;
    text::optional_text("message_type", &message.message_type, text::NAME_MAX)?;
    guest.count_write(api)?;
    let room = find_room(api, secret).await?;
    let caller = guest.author_in(api, &room)?;
    require_open(&api.access.room_access(room.id, &[], |access| !access.room.is_closed).await?.room)?;
    let NewSupportMessage { text, side, auther, message_type } = message;
    let send = NewMessage {
        room: room.id,
        text: &text,
        client_id: request.idempotency_key,
        request,
        // The room's key is the permission.
        access: SenderAccess::Granted,
        detail: Some(MessageDetail::Support { side, auther, message_type }),
    };
    let sent = messages::send(api, &caller, send).await?;
    api.wait_until_applied(Channel::Room(room.id).shard(api.shards), sent.id.0).await;
    Ok(())
}

/// Returns the room of a key.
pub(crate) async fn show(api: &CommandState, secret: &str) -> Result<SupportRoom, Error> {
    let room = find_room(api, secret).await?;
    messages::wait_until_messages_applied(api, room.id).await?;
    support::read(&api.pool, api.shards, room.id).await?.ok_or_else(Error::not_found)
}

/// Returns the error for a message id that belongs to another room.
pub(crate) fn foreign_message_error() -> Error {
    Error::bad_request("before: must be the _id of a message of the room.")
}

/// Returns the room of a key, its newest messages (older than `before`, if given) in ascending order, and whether
/// there may be older ones.
///
/// # Errors
/// Fails if `before` names a message of another room.
pub(crate) async fn history(
    api: &CommandState,
    secret: &str,
    before: Option<(RoomId, MessageId)>,
) -> Result<(SupportRoom, Page<Message>), Error> {
    let room = find_room(api, secret).await?;
    if before.is_some_and(|(of, _)| of != room.id) {
        return Err(foreign_message_error());
    }
    messages::wait_until_messages_applied(api, room.id).await?;
    let shard = Channel::Room(room.id).shard(api.shards);
    let part = before.map_or(HistoryPage::Newest, |(_, message)| HistoryPage::Before(message.0));
    let page =
        Page::read(MESSAGES_MAX, async |limit| stored::list(&api.pool, shard, room.id, part, limit).await);
    let page = page.await?;
    Ok((room, page))
}

/// Closes the room of a key for ever, and waits until that can be read.
pub(crate) async fn close(
    api: &CommandState,
    guest: &SupportCaller,
    secret: &str,
    request: &RequestContext<'_>,
) -> Result<(), Error> {
    guest.count_write(api)?;
    let room = find_room(api, secret).await?;
    let caller = guest.author_in(api, &room)?;
    rooms::close_authorized(api, &caller, room.id, request).await.map(drop)
}

/// Lists the open rooms about a product, with their keys: for the organisation's agents and for admins, or for
/// everybody if the configuration says so.
pub(crate) async fn list(
    api: &CommandState,
    caller: Option<&Caller>,
    org_id: &str,
    product_name: &str,
    before: Option<RoomId>,
) -> Result<SupportRoomPage, Error> {
    text::required_text("org_id", org_id, text::NAME_MAX)?;
    text::required_text("product_name", product_name, text::NAME_MAX)?;
    if !api.settings.support_open {
        let caller = caller.ok_or_else(Error::token_needed)?;
        if !caller.is_admin && caller.org_id.as_deref() != Some(org_id) {
            return Err(Error::forbidden());
        }
    }
    let product = (org_id, product_name);
    Ok(support::list_open(&api.pool, api.shards, product, before, ROOMS_MAX, ROOMS_SCANNED_MAX).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visitor_ids_never_equal_token_ids() {
        let named = visitor_id("7").expect("a visitor");
        assert_eq!(named.as_str(), "visitor:7");
        assert!(visitor_id(&"x".repeat(56)).is_ok());
        for bad in ["a b", "a\0", "ä", &"x".repeat(57)] {
            let error = visitor_id(bad).expect_err("no visitor");
            assert_eq!(
                error.detail,
                format!("user_id: must be 1 to 56 of letters, digits and {}", UserId::MARKS)
            );
        }
    }

    #[test]
    fn visitor_pass_is_read_only_in_its_own_form() {
        let pass = VisitorPass::random();
        assert_eq!(VisitorPass::parse(pass.as_str()), Some(pass.clone()));
        assert_ne!(VisitorPass::random(), pass);
        for bad in ["", "0", &pass.as_str().to_uppercase().replace('0', "A"), &format!("{}0", pass.as_str())]
        {
            assert_eq!(VisitorPass::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn support_room_has_a_key_of_its_own() {
        let caller = Caller { user: visitor_id("7").expect("a visitor"), is_admin: false, org_id: None };
        let visit = || SupportVisit {
            user: "7".parse().expect("an id"),
            org_id: "acme".to_owned(),
            portfolio_name: "web".to_owned(),
            product_name: "QR".to_owned(),
        };
        let room = |ordinal| {
            let created = new_room(&caller, visit(), ordinal);
            SupportRoom::from_detail(RoomId(1), created.user, created.detail.expect("a detail"))
                .expect("a support room")
        };
        let (one, other) = (room(1), room(2));
        assert_ne!(one.secret, other.secret);
        assert_eq!(one.secret.len(), SECRET_LEN);
        assert_eq!(one.event_id.len(), "FB10100000001693018738#5535526".len());
        assert_eq!((one.visitor.as_str(), one.creator.as_str(), one.ordinal), ("7", "visitor:7", 1));
    }
}
