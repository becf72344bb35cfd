//! Tests that subjects are as documented, and are parsed as they were written.

use proptest::prelude::*;

use super::*;

fn eight_shards() -> ShardCount {
    ShardCount::new(8).expect("8 is a count")
}

#[test]
fn subjects_are_as_documented() {
    let room = Channel::Room(RoomId(42));
    assert_eq!(room.log_subject(eight_shards(), EventName::ChatMessage, None), "chat.2.room.42.chat-message");
    assert_eq!(room.live_filter(eight_shards()), "live.2.room.42.>");
    let system = Channel::System.log_subject(eight_shards(), EventName::Chatroom, Some("a.b"));
    assert_eq!(system, "chat.system.system.-.chatroom.a=2Eb");
    assert_eq!(stream_republish(Shard::SYSTEM).1, "live.system.$1.$2.>");
}

#[test]
fn subjects_match_the_forms_in_the_documents() {
    let fill_in = |form: &str| {
        let subject = form.replace("{shard}", "2").replace("{kind}", "room").replace("{id}", "42");
        subject.replace("{event}", "chat-message").replace("{process}", "0000000000000007")
    };
    let shard = Shard::from_number(2).expect("a shard");
    let room = Channel::Room(RoomId(42));
    assert_eq!(room.log_subject(eight_shards(), EventName::ChatMessage, None), fill_in(form::CHAT));
    assert_eq!(room.unstored_subject(eight_shards(), "chat-message"), fill_in(form::LIVE));
    assert_eq!(
        [applied(shard), sync(shard), log_end(shard)],
        [form::APPLIED, form::SYNC, form::SEEN].map(fill_in)
    );
    assert_eq!([alive(7), dead(7), echo(7)], [form::ALIVE, form::DEAD, form::ECHO].map(fill_in));
}

#[test]
fn node_signal_names_its_process() {
    for process in [0, 7, u64::MAX] {
        assert_eq!(parse_node_signal(&alive(process)), Ok(NodeSignal::Alive(process)));
        assert_eq!(parse_node_signal(&dead(process)), Ok(NodeSignal::Dead(process)));
        assert_eq!(parse_node_signal(&echo(process)), Ok(NodeSignal::Echo(process)));
    }
    for bad in ["node.alive.", "node.alive.x", "node.gone.7", "alive.7", "node.alive.7.7"] {
        assert!(parse_node_signal(bad).is_err(), "{bad}");
    }
}

#[test]
fn subject_of_a_person_matches_no_other_person() {
    let bob: UserId = "bob".parse().expect("an id");
    let smith: UserId = "bob.smith".parse().expect("an id");
    let filter = Channel::User(bob).live_filter(eight_shards());
    let subject = Channel::User(smith).log_subject(eight_shards(), EventName::Profile, None);
    assert!(!subject.replacen("chat", "live", 1).starts_with(filter.trim_end_matches('>')));
}

proptest! {
    #[test]
    fn subject_token_round_trips(text in ".*") {
        let token = SubjectToken(&text).to_string();
        prop_assert!(!token.contains(['.', '*', '>', ' ', '\t', '\r', '\n']));
        prop_assert_eq!(decode_token(&token), Some(text));
    }

    #[test]
    fn channel_round_trips_through_its_subject(user in "[A-Za-z0-9_.@:|+!#$%&'*/=?^`{}~-]{1,64}", room in 1..crate::id::MAX_ID) {
        for channel in [Channel::User(user.parse().expect("an id")), Channel::Room(RoomId(room)), Channel::System] {
            let subject = channel.log_subject(eight_shards(), EventName::Profile, Some("k"));
            let parsed = parse(&subject).expect("our own subject");
            prop_assert_eq!(parsed.shard, channel.shard(eight_shards()));
            prop_assert_eq!(parsed.channel, channel.clone());
            prop_assert_eq!(parsed.key.as_deref(), Some("k"));
            prop_assert_eq!(channel.to_string().parse::<Channel>(), Ok(channel));
        }
    }

    #[test]
    fn any_subject_is_parsed_or_refused(subject in ".*") {
        let _ = parse(&subject);
    }
}
