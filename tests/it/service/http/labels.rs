//! Checks that metric labels have closed sets of values: nothing that a client sends becomes a label.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{error::ErrorCode, socket::CloseCode};
use serde_json::json;
use tests::paths;
use tests::{
    client::{Rest, Socket},
    cluster::{Cluster, Node, Size, token},
    raw::Raw,
};

/// Part of every unknown word that is sent.
const MADE_UP: &str = "XMADEUPX";

const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "other"];

/// Paths of the web page and the documents, which are not in the OpenAPI document.
const PAGES: [&str; 8] =
    ["/", "/app.js", "/app.css", "/docs", "/docs.js", "/docs.css", "/openapi.json", "/asyncapi.json"];

/// Sends requests with unknown words in every place that a client controls, to an api node and a fan-out node.
async fn send_made_up_words(cluster: &Cluster) {
    let token = token("ann");
    for n in 0..40 {
        let word = format!("{MADE_UP}{n}");
        for (node, path) in [
            (&cluster.api[0], "/".to_owned()),
            (&cluster.api[0], paths::ROOMS.to_owned()),
            (&cluster.api[0], paths::room(&word)),
            (&cluster.api[0], format!("/{word}")),
            (&cluster.fanout[0], "/ws/".to_owned()),
            (&cluster.fanout[0], format!("/chat/{word}/{word}/")),
        ] {
            for method in [&*word, "GET"] {
                let request = format!(
                    "{method} {path}?{word}={word} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
                     origin: http://localhost\r\nx-request-id: {word}\r\n{word}: {word}\r\nconnection: close\r\n\r\n"
                );
                let answer = Raw::ask(&node.address(), &request).await;
                assert!(answer.status < 500, "{}", answer.head);
            }
        }
    }
    let mut socket = Socket::open(&cluster.fanout[0].address(), &token).await.expect("the socket opens");
    socket.act(MADE_UP, json!({ "room_pk": MADE_UP, "channel": MADE_UP })).await;
}

/// The routes that may be labels of request counters.
async fn routes(cluster: &Cluster) -> BTreeSet<String> {
    let (_, document) = Rest::without_token(&cluster.api[0].address()).get("/openapi.json").await;
    let paths = document["paths"].as_object().expect("paths").keys().cloned();
    paths.chain(PAGES.map(str::to_owned)).collect()
}

/// The labels of a line of `/metrics`.
fn labels(line: &str) -> Vec<(&str, &str)> {
    let Some((_, rest)) = line.split_once('{') else { return vec![] };
    let (labels, _) = rest.rsplit_once('}').expect("labels end");
    let mut labels: Vec<_> =
        labels.split("\",").map(|label| label.split_once("=\"").expect("a label")).collect();
    if let Some((_, last)) = labels.last_mut() {
        *last = last.trim_end_matches('"');
    }
    labels
}

/// Whether a label may have this value; `help` is the metric's help text.
fn is_known(name: &str, value: &str, help: &str, routes: &BTreeSet<String>) -> bool {
    match name {
        "le" | "quantile" => true,
        "route" => routes.contains(value),
        "method" => METHODS.contains(&value),
        "status" => value.len() == 3 && value.parse::<u16>().is_ok(),
        "shard" => value == "system" || value.parse::<u16>().is_ok(),
        "reason" => CloseCode::ALL.iter().any(|close| close.as_str() == value),
        "code" => ErrorCode::ALL.iter().any(|code| code.as_str() == value),
        "outcome" if ErrorCode::ALL.iter().any(|code| code.as_str() == value) => true,
        _ => help.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == value),
    }
}

async fn check(node: &Node, routes: &BTreeSet<String>) {
    let metrics = node.metrics().await;
    let help = metrics.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
    let help: BTreeMap<&str, &str> = help.collect();
    let mut count = 0;
    for line in metrics.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let name = line.split(['{', ' ']).next().expect("a name");
        let metric = ["_bucket", "_sum", "_count"].iter().find_map(|end| help.get(name.strip_suffix(end)?));
        let help = help.get(name).or(metric).unwrap_or_else(|| panic!("{name} has no HELP line"));
        for (label, value) in labels(line) {
            assert!(is_known(label, value, help, routes), "{line}: {help}");
        }
        count += 1;
    }
    assert!(count > 10 && !metrics.contains(MADE_UP), "{count} series");
}

#[tokio::test]
async fn client_input_never_becomes_a_metric_label() {
    let cluster = Cluster::start(Size::default()).await;
    send_made_up_words(&cluster).await;
    let routes = routes(&cluster).await;
    for node in [&cluster.api[0], &cluster.fanout[0], &cluster.persister[0]] {
        check(node, &routes).await;
    }
    let metrics = cluster.api[0].metrics().await;
    let other = r#"roomcast_http_requests_total{route="/",method="other",status="405"} 40"#;
    assert!(metrics.lines().any(|line| line == other), "{metrics}");
}
