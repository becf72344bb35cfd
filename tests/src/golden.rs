//! Replays recorded conversations, and compares each answer with the recorded one.
//!
//! In the file, a step is a line that begins with `> `, and a comment one that begins with `# `. The lines after a
//! step are its answer:
//!
//! - `> ann is {"user_id": "ann"}`: sets the claims of Ann's token; `null` means no token
//! - `> ann POST /api/v1/rooms {"name": "Tea"}`: sends a request; a body that is not a JSON object is a form
//! - `> ann opens /ws/`: opens a socket
//! - `> ann sends {"action": "list"}`: sends a frame with Ann's name as its `request_id`, and waits for the answer;
//!   `<token>` in the frame is replaced by Ann's token
//! - `> ann hears chat-message`: waits for the next push with this event or action
//!
//! What must hold: values that differ from run to run are replaced by names in their order of appearance
//! (`<room 1>`, which later steps can use); everything else is compared. With `ROOMCAST_TEST_GOLDEN=write` in the
//! environment the file is rewritten instead.

use std::{collections::HashMap, path::Path};

use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

use crate::{
    TIMEOUT,
    client::{Rest, Socket},
    cluster::{Cluster, sign},
};

/// A person in a conversation.
struct Person {
    token: Option<String>,
    rest: Rest,
    socket: Option<Socket>,
    /// Frames that arrived while another one was awaited.
    buffered: Vec<Value>,
}

/// Replays the conversation in a file, and compares the answers with those in the file.
///
/// # Panics
/// When an answer differs, or a step fails.
pub async fn compare(file: &Path, cluster: &Cluster) {
    let written = std::fs::read_to_string(file).expect("a conversation");
    let played = play(&written, cluster).await;
    if std::env::var_os("ROOMCAST_TEST_GOLDEN").is_some_and(|what| what == "write") {
        return std::fs::write(file, played).expect("a file that can be written");
    }
    let mut step = "";
    for (number, (is, was)) in played.lines().zip(written.lines()).enumerate() {
        step = if was.starts_with("> ") { was } else { step };
        assert_eq!(is, was, "{}:{}: {step}", file.display(), number + 1);
    }
    assert_eq!(played.lines().count(), written.lines().count(), "{}: {step}", file.display());
}

async fn play(script: &str, cluster: &Cluster) -> String {
    let mut people = HashMap::new();
    let mut names = Names { host: cluster.api[0].address(), ..Names::default() };
    let mut played = String::new();
    for line in script.lines().filter(|line| line.starts_with(['>', '#'])) {
        played.push_str(line);
        played.push('\n');
        if let Some(step) = line.strip_prefix("> ") {
            let answer = execute(&names.real(step), &mut people, cluster).await.map(|(status, answer)| {
                let answer = names.substitute("", &answer, &Map::new());
                let text = serde_json::to_string_pretty(&answer).expect("JSON");
                format!("{status}{}\n", if answer.is_null() { String::new() } else { text + "\n" })
            });
            played.push_str(&answer.unwrap_or_default());
        }
    }
    played
}

/// Executes a step. Returns its answer, if it has one: the HTTP status (empty for frames), and the JSON.
async fn execute(
    step: &str,
    people: &mut HashMap<String, Person>,
    cluster: &Cluster,
) -> Option<(String, Value)> {
    let mut words = step.splitn(3, ' ');
    let [who, verb, what] = std::array::from_fn(|_| words.next().expect("who does what"));
    if verb == "is" {
        people.insert(who.to_owned(), Person::new(cluster, &serde_json::from_str(what).expect("claims")));
        return None;
    }
    let person = people.get_mut(who).unwrap_or_else(|| panic!("who is {who}?"));
    match verb {
        "opens" => {
            person.open(cluster, what).await;
            None
        }
        "sends" => Some((String::new(), person.send(who, what).await)),
        "hears" => {
            let frame = person.next_matching(|frame| frame["event"] == what || frame["action"] == what).await;
            Some((String::new(), frame))
        }
        method => {
            let (status, answer) = person.request(method.parse().expect("a verb"), what).await;
            Some((format!("{status}\n"), answer))
        }
    }
}

impl Person {
    fn new(cluster: &Cluster, claims: &Value) -> Self {
        let address = cluster.api[0].address();
        let token = (!claims.is_null()).then(|| sign(claims));
        let rest = token.as_ref().map_or_else(|| Rest::without_token(&address), |t| Rest::new(&address, t));
        Self { token, rest, socket: None, buffered: Vec::new() }
    }

    async fn open(&mut self, cluster: &Cluster, path: &str) {
        let token = self.token.as_deref().expect("sockets need a token");
        let socket = Socket::open_at(&cluster.fanout[0].address(), path, token).await;
        self.socket = Some(socket.unwrap_or_else(|error| panic!("{path}: {error}")));
    }

    async fn send(&mut self, name: &str, frame: &str) -> Value {
        let frame = frame.replace("<token>", self.token.as_deref().unwrap_or_default());
        let mut frame: Value = serde_json::from_str(&frame).expect("a frame");
        frame["request_id"] = name.into();
        let socket = self.socket.as_mut().expect("a socket");
        socket.send_text(&frame.to_string()).await.expect("it is open");
        self.next_matching(|answer| answer["request_id"] == name).await
    }

    /// The next frame that matches; buffers the others.
    async fn next_matching(&mut self, matches: impl Fn(&Value) -> bool) -> Value {
        if let Some(found) = self.buffered.iter().position(&matches) {
            return self.buffered.remove(found);
        }
        let socket = self.socket.as_mut().expect("a socket");
        let deadline = Instant::now() + TIMEOUT;
        loop {
            // Other frames may arrive for ever: the deadline is for all of them together.
            match timeout_at(deadline, socket.next()).await {
                Ok(Ok(frame)) if matches(&frame) => return frame,
                Ok(Ok(frame)) => self.buffered.push(frame),
                other => panic!("{other:?} after {:?}", self.buffered),
            }
        }
    }

    async fn request(&self, method: Method, what: &str) -> (u16, Value) {
        let (path, body) = what.split_once(' ').unwrap_or((what, ""));
        let mut request = self.rest.request(method, path);
        if body.starts_with('{') {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_owned());
        } else if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body.to_owned());
        }
        let answer = request.send().await.expect("the node answers");
        let status = answer.status().as_u16();
        let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
        let bytes = answer.bytes().await.expect("a body");
        let other = || kind.map_or(Value::Null, Value::from);
        (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| other()))
    }
}

/// The names of values that differ from run to run, by the sort of value.
#[derive(Default)]
struct Names {
    known: HashMap<(&'static str, String), usize>,
    host: String,
}

impl Names {
    fn name(&mut self, sort: &'static str, real: String) -> String {
        let next = 1 + self.known.keys().filter(|(other, _)| *other == sort).count();
        format!("<{sort} {}>", self.known.entry((sort, real)).or_insert(next))
    }

    /// Replaces the names in a step by their values. Numbers lose the quotes that a name needs in JSON.
    fn real(&self, step: &str) -> String {
        self.known.iter().fold(step.to_owned(), |step, ((sort, real), n)| {
            let name = format!("<{sort} {n}>");
            let step = if *sort == "key" { step } else { step.replace(&format!("\"{name}\""), real) };
            step.replace(&name, real)
        })
    }

    /// Replaces what differs from run to run in a value by names. `key` and `object` say where the value is.
    fn substitute(&mut self, key: &str, value: &Value, object: &Map<String, Value>) -> Value {
        let has = |key: &str| object.contains_key(key);
        match value {
            Value::Object(fields) => {
                let named = fields.iter().filter(|(key, _)| *key != "applied").map(|(name, value)| {
                    let value = self.substitute(name, value, fields);
                    // Some objects have ids as keys.
                    let is_id = name.bytes().all(|byte| byte.is_ascii_digit());
                    let sort = match key {
                        "rooms" if is_id => Some("room"),
                        "messages" if is_id => Some("event"),
                        _ => None,
                    };
                    (sort.map_or_else(|| name.clone(), |sort| self.name(sort, name.clone())), value)
                });
                Value::Object(named.collect())
            }
            // Presence reaches Postgres at a time that differs from run to run.
            Value::Bool(_) | Value::Array(_) if matches!(key, "is_online" | "online_ids") => {
                format!("<{key}>").into()
            }
            Value::Array(_) if key == "participants" && has("kind") && !has("count") => {
                "<participants>".into()
            }
            Value::Array(_)
                if key == "indexed_through" || object.get("event") == Some(&"position".into()) =>
            {
                "<position>".into()
            }
            Value::Array(values) => values.iter().map(|value| self.substitute(key, value, object)).collect(),
            Value::Number(number) => match sort(key, object) {
                Some(sort @ ("room" | "team" | "event")) => self.name(sort, number.to_string()).into(),
                Some(sort) => format!("<{sort}>").into(),
                None => value.clone(),
            },
            Value::String(text) => self.text(key, text).into(),
            other => other.clone(),
        }
    }

    fn text(&mut self, key: &str, text: &str) -> String {
        let is_time = text.len() > 20 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
        let is_key = text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match key {
            "eventId" | "next" => return format!("<{key}>"),
            _ if is_time => return "<time>".to_owned(),
            _ if is_key => return self.name("key", text.to_owned()),
            _ => {}
        }
        for (before, sort) in
            [("room-", "room"), ("leaved room ", "room"), ("/chat/films/", "room"), ("team-", "team")]
        {
            let Some(rest) = text.strip_prefix(before) else { continue };
            let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
            let (id, rest) = rest.split_at(digits);
            if id.is_empty() {
                break;
            }
            return format!("{before}{}{rest}", self.name(sort, id.to_owned()));
        }
        text.replace(&self.host, "<host>")
    }
}

/// The sort of a number that differs from run to run; `None` for others.
fn sort(key: &str, object: &Map<String, Value>) -> Option<&'static str> {
    let has = |key: &str| object.contains_key(key);
    Some(match key {
        "room" | "room_pk" | "room_id" | "pk" | "current_room" | "room_ids" | "rooms" => "room",
        "team" => "team",
        "message_id" | "messages_ids" | "changed" | "invitation" => "event",
        "epoch" => "epoch",
        "activity" => "seconds",
        "id" if has("recovered") => "position",
        "id" if has("kind") || has("abonent_id") || has("title") => "room",
        // Events of `system` create rooms: the room's id is the event's sequence.
        "id" if object.get("channel") == Some(&"system".into()) => "room",
        "id" if has("username") => return None,
        "id" if has("users") => "team",
        "id" => "event",
        _ => return None,
    })
}
