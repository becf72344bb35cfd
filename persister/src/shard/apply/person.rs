//! Writes people's profiles, current rooms, cameras and invitations.
//!
//! In a profile the fields of the newest token count; a field that this token lacks keeps its value.

use protocol::{
    event::{Camera, Invitation, InvitationAnswer, Profile, RoomSelect},
    id::Shard,
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use crate::database::to_i64;

/// Merges a profile, from a token or from the host application, into the stored one. A field that was unset stays null,
/// so that an older token does not restore it.
pub(super) async fn merge_profile(
    session: &mut PgConnection,
    shard: Shard,
    profile: &Profile,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO person (shard, user_id, profile, issued_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (shard, user_id) DO UPDATE
         SET profile = CASE WHEN excluded.issued_at >= person.issued_at OR person.issued_at > $5
                            THEN person.profile || excluded.profile
                            ELSE excluded.profile || person.profile END,
             issued_at = CASE WHEN person.issued_at > $5 THEN excluded.issued_at
                              ELSE greatest(person.issued_at, excluded.issued_at) END",
    )
    .bind(shard.number())
    .bind(profile.user.as_str())
    .bind(Json(&profile.change))
    .bind(profile.issued_at)
    .bind(Profile::issued_at_max())
    .execute(session)
    .await?;
    Ok(())
}

/// Sets which of their rooms of two people a person looks at.
pub(super) async fn set_current_room(
    session: &mut PgConnection,
    shard: Shard,
    select: &RoomSelect,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO current_room (shard, user_id, room) VALUES ($1, $2, $3)
         ON CONFLICT (shard, user_id) DO UPDATE SET room = excluded.room",
    )
    .bind(shard.number())
    .bind(select.user.as_str())
    .bind(to_i64(select.current.0))
    .execute(session)
    .await?;
    Ok(())
}

/// Stores whether a person's camera is on.
pub(super) async fn set_camera(
    session: &mut PgConnection,
    shard: Shard,
    camera: &Camera,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO camera (shard, user_id, is_on) VALUES ($1, $2, $3)
         ON CONFLICT (shard, user_id) DO UPDATE SET is_on = excluded.is_on",
    )
    .bind(shard.number())
    .bind(camera.user.as_str())
    .bind(camera.is_camera)
    .execute(session)
    .await?;
    Ok(())
}

/// Inserts an invitation of a person into a room.
pub(super) async fn insert_invitation(
    session: &mut PgConnection,
    shard: Shard,
    id: u64,
    invitation: &Invitation,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO invitation (shard, user_id, id, room, room_name, invited_by, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(shard.number())
    .bind(invitation.user.as_str())
    .bind(to_i64(id))
    .bind(to_i64(invitation.room.0))
    .bind(&invitation.room_name)
    .bind(invitation.by.as_str())
    .bind(OffsetDateTime::from(invitation.created_at))
    .execute(session)
    .await?;
    Ok(())
}

/// Stores the answer to an invitation. The first answer counts.
pub(super) async fn answer_invitation(
    session: &mut PgConnection,
    shard: Shard,
    answer: &InvitationAnswer,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE invitation SET accepted = $4
         WHERE shard = $1 AND user_id = $2 AND id = $3 AND accepted IS NULL",
    )
    .bind(shard.number())
    .bind(answer.user.as_str())
    .bind(to_i64(answer.invitation))
    .bind(answer.accepted)
    .execute(session)
    .await?;
    Ok(())
}
