//! Finds which of a socket's rooms and channels a frame concerns.
//!
//! What must hold: the number of rooms sent to api does not grow with the number that the socket is in, and api decides
//! as if it had got all: it needs the room that the frame names, or whether the socket is in no room, one or several.

use protocol::{error::Error, id::RoomId, socket::RoomFrame, subject::Channel};
use serde::Deserialize;

use super::SessionState;
use crate::limits::SocketLimits;

/// Maximum rooms sent to api. A socket in so many rooms sends all of them. If the frame names no room, two are enough
/// for api to see that the room is ambiguous.
const ROOMS_SENT_MAX: usize = 2;

/// The rooms of the socket that are sent to api, and the ones of them that belong to two people.
pub(super) fn rooms_for_api(state: &SessionState, frame: &str) -> (Vec<RoomId>, Vec<RoomId>) {
    let named = if state.rooms.len() <= ROOMS_SENT_MAX { None } else { named_room(frame) };
    let rooms: Vec<RoomId> = match named {
        Some(room) => state.rooms.get(&room).into_iter().copied().collect(),
        None => state.rooms.iter().take(ROOMS_SENT_MAX).copied().collect(),
    };
    let pairs = rooms.iter().filter(|room| state.pair_rooms.contains(room)).copied().collect();
    (rooms, pairs)
}

/// The room that a frame names. `None` also if it can't be parsed: then api refuses the frame.
fn named_room(frame: &str) -> Option<RoomId> {
    serde_json::from_str::<RoomFrame>(frame).ok()?.room_pk
}

#[derive(Deserialize)]
struct ChannelFrame {
    channel: Channel,
}

/// Checks that an action does not make the socket follow more channels than it may. It may always follow again a
/// channel that it follows already.
///
/// # Errors
/// 429 if the action would exceed the limit.
pub(super) fn require_channel_below_limit(
    limits: &SocketLimits,
    state: &SessionState,
    action: &str,
    frame: &str,
) -> Result<(), Error> {
    let followed = state.subscriptions.len();
    if followed < limits.channels.0 {
        return Ok(());
    }
    let channel = match action {
        "subscribe" => serde_json::from_str::<ChannelFrame>(frame).ok().map(|frame| frame.channel),
        "join_room" => named_room(frame).map(Channel::Room),
        _ => return Ok(()),
    };
    match channel {
        Some(channel) if state.subscriptions.contains_key(&channel) => Ok(()),
        _ => limits.require_channel_below_limit(followed),
    }
}

#[cfg(test)]
mod tests {
    use protocol::{event::Person, id::ShardCount, rpc::Surface};
    use serde_json::json;
    use service::{rate::ConcurrencyLimit, token::Identity};

    use super::*;
    use crate::{
        bench,
        config::LimitArgs,
        session::{PendingSession, Session},
    };

    async fn session() -> Box<Session> {
        let node = bench::node(ShardCount::new(1).expect("1")).await;
        let identity = Identity {
            caller: bench::caller(0),
            issued_at: None,
            expires_at_ms: i64::MAX,
            person: Person::default(),
        };
        PendingSession::new(&node, identity, Surface::Native, false).expect("there is room").begin(node)
    }

    #[tokio::test]
    async fn action_request_carries_only_the_rooms_it_concerns() {
        let state = &mut session().await.state;
        let rooms = |state: &SessionState, frame: serde_json::Value| rooms_for_api(state, &frame.to_string());
        assert_eq!(rooms(state, json!({ "room_pk": 7 })), (vec![], vec![]));
        state.rooms.insert(RoomId(7));
        assert_eq!(rooms(state, json!({})), (vec![RoomId(7)], vec![]), "it is the only one");
        state.rooms.extend((1..=10_000).map(RoomId));
        state.pair_rooms.insert(RoomId(9));
        assert_eq!(rooms(state, json!({ "room_pk": 7, "action": "x" })), (vec![RoomId(7)], vec![]));
        assert_eq!(rooms(state, json!({ "room_pk": 9 })), (vec![RoomId(9)], vec![RoomId(9)]));
        assert_eq!(rooms(state, json!({ "room_pk": 10_001 })), (vec![], vec![]));
        for none in [json!({}), json!({ "room_pk": null }), json!({ "room_pk": [7] })] {
            assert_eq!(rooms(state, none).0.len(), ROOMS_SENT_MAX, "there are several");
        }
    }

    #[tokio::test]
    async fn socket_may_resubscribe_at_its_limit_of_channels() {
        let limits =
            SocketLimits::new(&LimitArgs { channels_socket: ConcurrencyLimit(2), ..LimitArgs::off() });
        let state = &mut session().await.state;
        let follow = |state: &SessionState, action: &str, frame: serde_json::Value| {
            require_channel_below_limit(&limits, state, action, &frame.to_string())
                .map_err(|error| error.code.status())
        };
        state.subscriptions.insert(Channel::System, 1);
        assert_eq!(follow(state, "join_room", json!({ "room_pk": 7 })), Ok(()));
        state.subscriptions.insert(Channel::Room(RoomId(7)), 2);
        for (action, frame) in [
            ("join_room", json!({ "room_pk": 8 })),
            ("subscribe", json!({ "channel": "room-8" })),
            ("subscribe", json!({ "channel": "room-8", "room_pk": 7 })),
            ("subscribe", json!({ "channel": 5 })),
        ] {
            assert_eq!(follow(state, action, frame.clone()), Err(429), "{frame}");
        }
        for (action, frame) in [
            ("join_room", json!({ "room_pk": 7 })),
            ("subscribe", json!({ "channel": "system", "room_pk": [] })),
            ("create_message", json!({ "room_pk": 8 })),
        ] {
            assert_eq!(follow(state, action, frame.clone()), Ok(()), "{frame}");
        }
    }
}
