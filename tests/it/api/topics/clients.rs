//! Sends multipart bodies of real clients, recorded by `multipart/record`: Roomcast takes what the original takes.

use std::path::Path;

use reqwest::Method;
use serde_json::Value;
use tests::cluster::Cluster;

use super::{CHAT, PICTURE, answer};

#[tokio::test]
async fn picture_and_texts_arrive_as_each_client_sends_them() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("multipart/recorded");
    let mut tried = 0;
    for file in std::fs::read_dir(folder).expect("a folder") {
        let path = file.expect("a file").path();
        let recorded = std::fs::read(&path).expect("a file");
        let end = recorded.windows(4).position(|four| four == b"\r\n\r\n").expect("a header");
        let request = ann.request(Method::POST, CHAT).header("content-type", &recorded[..end]);
        let (status, text) = answer(request.body(recorded[end + 4..].to_vec())).await;
        assert_eq!(status, 200, "{}: {text}", path.display());
        let made: Value = serde_json::from_str(&text).expect("JSON");
        // `curl-escape-other` is titled `curl-escape other`.
        let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        let (client, kind) = name.rsplit_once('-').expect("a client and a kind");
        assert_eq!(made["chat"]["title"], format!("{client} {kind}"));
        let picture = made["chat"]["img"].as_str().expect("an address");
        let downloaded =
            reqwest::get(picture).await.expect("the node answers").bytes().await.expect("a picture");
        assert!(!picture.contains("default") && downloaded == PICTURE, "{name}: {picture}");
        tried += 1;
    }
    assert!(tried >= 30, "{tried} are recorded");
}
