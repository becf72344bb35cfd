//! Pure rules, without any I/O: how long a text may be, and who may do what.

mod rights;
mod text;

pub use rights::{Caller, RoomFacts};
pub use text::{
    CLAIM_MAX, CLIENT_ID_MAX, DELETE_MAX, DESCRIPTION_MAX, NAME_MAX, QUERY_MAX, ROOM_USERS_MAX, TEXT_MAX,
    client_id, message_text, optional_line, person, required_line,
};
