-- A deployment of $ROOMS rooms and $MESSAGES messages in 8 shards, by statements that take seconds. Triggers are off:
-- what they count is counted at the end, as the migrations do.
SET session_replication_role = replica;
SET synchronous_commit = off;
-- Of ten rooms four are public, two private, one each direct, match, support and topic; one in a thousand is a team's.
-- Ann is one of the two in each tenth direct and match room, and made each tenth private one.
INSERT INTO room (shard, id, kind, name, private, team, creator, active, created_at, pair, key, generation, detail)
SELECT -1, id, kind, 'room ' || id, kind NOT IN ('public', 'topic'), CASE WHEN kind = 'team' THEN 1 + id % 50 END,
       CASE WHEN kind = 'private' AND id % 100 < 10 THEN 'ann' ELSE 'maker-' || id % 997 END, true,
       timestamptz '2026-01-01' + id * interval '1 second',
       CASE WHEN kind IN ('direct', 'match')
            THEN ARRAY[CASE WHEN id % 100 < 10 THEN 'ann' ELSE 'left-' || id % 9973 END, 'right-' || id] END,
       CASE WHEN kind IN ('direct', 'match', 'support', 'topic') THEN md5(id::text) END,
       CASE WHEN kind IN ('direct', 'match', 'support', 'topic') THEN 0 END,
       CASE kind WHEN 'topic' THEN jsonb_build_object('topic', jsonb_build_object('category', 'films'))
                 WHEN 'support' THEN jsonb_build_object('support', jsonb_build_object(
                      'secret', substr(md5(id::text), 1, 24), 'visitor', 'visitor-' || id % 9973, 'org_id', 'org',
                      'portfolio_name', 'p', 'product_name', 'product', 'event_id', 'e', 'ordinal', 1)) END
FROM (SELECT id, CASE WHEN id % 1000 = 5 THEN 'team' ELSE
                      (ARRAY['public', 'public', 'public', 'public', 'private', 'private', 'direct', 'match',
                             'support', 'topic'])[1 + id % 10] END AS kind
      FROM generate_series(1, $ROOMS) AS id) made;
-- One in ten is closed, and as many have another name.
INSERT INTO room_state (shard, room, name, closed_at, changed)
SELECT id % 8, id, CASE WHEN id / 10 % 10 = 4 THEN 'new name' END, CASE WHEN id / 10 % 10 = 7 THEN now() END, id
FROM generate_series(1, $ROOMS) AS id WHERE id / 10 % 10 IN (4, 7);
INSERT INTO room_member (shard, room, user_id, added_by)
SELECT id % 8, id, CASE WHEN n = 0 AND id % 100 < 50 THEN 'ann' ELSE 'member-' || (id::bigint * 7 + n) % 99991 END, 'ann'
FROM generate_series(1, $ROOMS) AS id, generate_series(0, 4) AS n WHERE id % 10 IN (4, 5)
ON CONFLICT DO NOTHING;
-- Rooms 4 and 2 are large ones: a private room of many members, and a public one that many are in.
INSERT INTO room_member (shard, room, user_id, added_by)
SELECT 4, 4, 'crowd-' || n, 'ann' FROM generate_series(1, greatest($ROOMS / 20, 12000)) AS n;
INSERT INTO participant (shard, room, user_id, incarnation, counter, present, changed)
SELECT 2, 2, 'crowd-' || n, 1, 1, n % 2 = 0, n FROM generate_series(1, $ROOMS / 10) AS n;
INSERT INTO participant (shard, room, user_id, incarnation, counter, present, changed)
SELECT id % 8, id, 'ann', n, 1, n = 1, id FROM generate_series(1, $ROOMS, 100) AS id, generate_series(1, 2) AS n;
INSERT INTO online (shard, user_id, incarnation, counter, present, changed)
SELECT n % 8, 'crowd-' || n, 1, 1, n % 2 = 0, n FROM generate_series(1, $ROOMS / 10) AS n;
-- Team 1 has many members; it and its members are in the shard of its id.
INSERT INTO team (shard, id, name, creator, created_at)
SELECT -1, n, 'team ' || n, 'maker-' || n % 97, now() FROM generate_series(1, $ROOMS / 100) AS n;
INSERT INTO team_member (shard, team, user_id, added_by)
SELECT $TEAM_SHARD, 1, CASE n WHEN 1 THEN 'ann' ELSE 'crowd-' || n END, 'maker-1'
FROM generate_series(1, greatest($ROOMS / 20, 12000)) AS n;
INSERT INTO person (shard, user_id, profile, issued_at)
SELECT n % 8, 'crowd-' || n, '{"username": "someone"}', 0 FROM generate_series(1, $ROOMS) AS n;
INSERT INTO invitation (shard, user_id, id, room, room_name, invited_by, created_at, accepted)
SELECT $ANN_SHARD, 'ann', n, n, 'room', 'bob', now(), CASE WHEN n % 2 = 0 THEN true END
FROM generate_series(1, $ROOMS / 100) AS n;
-- A fifth of the messages are a bot's, in a public room and in a direct one of Ann's, where nobody else writes.
INSERT INTO message (shard, room, id, author, body, client_id, created_at, changed, edited_at)
SELECT room % 8, room, id, CASE WHEN room IN (2, 6) THEN 'right-6' ELSE 'author-' || id % 7 END, 'word' || id % 5003,
       CASE WHEN id % 10 = 3 THEN '01900000-0000-7000-8000-' || lpad(to_hex(id), 12, '0') END,
       timestamptz '2026-02-01' + id * interval '1 second',
       CASE WHEN id % 50 = 1 THEN id + 1 END, CASE WHEN id % 50 = 1 THEN now() END
FROM (SELECT id, CASE WHEN id % 10 = 0 THEN 2 WHEN id % 10 = 5 THEN 6 ELSE 1 + id::bigint * 7919 % $ROOMS END AS room
      FROM generate_series(1, $MESSAGES) AS id) sent;
INSERT INTO message_search (shard, room, id, created_at, words)
SELECT shard, room, id, created_at, to_tsvector('simple', body) FROM message WHERE id % 10 IN (0, 3);
INSERT INTO message_key (shard, client_id, room, id)
SELECT shard, client_id::uuid, room, id FROM message WHERE client_id IS NOT NULL;
INSERT INTO read_mark (shard, room, user_id, message_id)
SELECT id % 8, id, 'ann', 1 FROM generate_series(1, $ROOMS, 100) AS id;
INSERT INTO room_size SELECT shard, room, count(*) FROM room_member GROUP BY shard, room;
INSERT INTO team_size SELECT shard, team, count(*) FROM team_member GROUP BY shard, team;
INSERT INTO topic_count (shard, category, part, topics)
SELECT -1, 'films', r.id / 1000, count(*) FROM room r
WHERE r.kind = 'topic' AND NOT EXISTS (SELECT FROM room_state s WHERE s.room = r.id AND s.closed_at IS NOT NULL)
GROUP BY r.id / 1000;
INSERT INTO room_writer (shard, room, user_id, id)
SELECT shard, room, author, max(id) FROM message WHERE room = 6 GROUP BY shard, room, author;
UPDATE watermark SET seq = CASE shard WHEN -1 THEN $ROOMS ELSE $MESSAGES END, stored_at = extract(epoch FROM now()) * 1e9,
                     seen = CASE shard WHEN -1 THEN $ROOMS ELSE $MESSAGES END;
SET session_replication_role = origin;
