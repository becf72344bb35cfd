//! Checks that pictures are decoded, stored under a random name, and served with their real type.

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tests::{
    client::Rest,
    cluster::{Cluster, Size},
};

use super::{CHAT, NOT_FOUND, PICTURE, answer, multipart};

/// A GIF of one pixel.
const GIF: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";

async fn send(rest: &Rest, title: &str, file: &str, bytes: &[u8]) -> (u16, String) {
    let parts = [("title", None, title.as_bytes()), ("room", None, b"films"), ("img", Some(file), bytes)];
    answer(multipart(rest.request(Method::POST, CHAT), &parts)).await
}

fn address(text: &str) -> String {
    let made: Value = serde_json::from_str(text).expect("JSON");
    made["chat"]["img"].as_str().expect("a picture").to_owned()
}

#[tokio::test]
async fn picture_is_served_with_its_type_by_every_node() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    // The file name does not matter.
    for (title, bytes, kind) in [("one", PICTURE, "image/png"), ("two", GIF, "image/gif")] {
        let (status, text) = send(&ann, title, "../../etc/pass wd.svg", bytes).await;
        assert_eq!(status, 200, "{text}");
        let address = address(&text);
        let name = address.rsplit('/').next().expect("a name");
        assert_eq!(name.split_once('.').map(|(stem, _)| stem.len()), Some(32), "{name}");
        let other = format!("http://{}/media/chat_img/{name}", cluster.api[1].address());
        for address in [&address, &other] {
            let answer = reqwest::get(address).await.expect("the node answers");
            assert_eq!(answer.status(), StatusCode::OK, "{address}");
            let header = |name| answer.headers()[name].to_str().expect("text").to_owned();
            assert_eq!(header("content-type"), kind);
            assert_eq!(header("content-length"), bytes.len().to_string());
            assert_eq!(header("cache-control"), "public, max-age=31536000, immutable");
            assert_eq!(header("x-content-type-options"), "nosniff");
            let tag = header("etag");
            assert_eq!(answer.bytes().await.expect("a picture"), bytes);
            let again = reqwest::Client::new().get(address).header("if-none-match", &tag).send().await;
            assert_eq!(again.expect("the node answers").status(), StatusCode::NOT_MODIFIED);
        }
    }
    let (_, page) = ann.get("/api/chat/films/").await;
    assert!(page["results"][0]["img"].as_str().is_some_and(|img| img.ends_with(".png")), "{page}");
}

#[tokio::test]
async fn default_picture_is_served_and_unknown_names_are_404() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let default =
        ann.request(Method::GET, "/media/chat_img/default.png").send().await.expect("the node answers");
    assert_eq!(default.headers()["content-type"], "image/png");
    assert_eq!(default.headers()["cache-control"], "public, max-age=86400");
    assert_eq!(default.bytes().await.expect("a picture"), PICTURE);
    let nobody = format!("{}.png", "0".repeat(32));
    for name in [nobody.as_str(), "x.png", "..%2f..%2fetc%2fpasswd", "%FF", "default.jpg"] {
        let path = format!("/media/chat_img/{name}");
        assert_eq!(answer(ann.request(Method::GET, &path)).await, (404, NOT_FOUND.to_owned()), "{name}");
    }
}

#[tokio::test]
async fn file_that_is_no_picture_is_refused() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let invalid = "Upload a valid image. The file you uploaded was either not an image or a corrupted image.";
    let large = [PICTURE, &vec![0; 5 << 20]].concat();
    let far_larger = [PICTURE, &vec![0; 20 << 20]].concat();
    for (bytes, reason) in [
        (&b""[..], "The submitted file is empty."),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", invalid),
        (&PICTURE[..PICTURE.len() / 2], invalid),
        // The decoder panics on this file.
        (include_bytes!("../../../fuzz/seeds/picture/palette"), invalid),
        (&large, "Ensure this file has no more than 5 MiB."),
        (&far_larger, "Ensure this file has no more than 5 MiB."),
    ] {
        let refused = send(&ann, "Dune", "p.png", bytes).await;
        assert_eq!(refused, (400, format!(r#"{{"img":["{reason}"]}}"#)));
    }
    let (status, text) = send(&ann, "", "p.png", b"x").await;
    let both = format!(r#"{{"title":["This field may not be blank."],"img":["{invalid}"]}}"#);
    assert_eq!((status, text), (400, both), "all errors are listed at once");
    let (_, page) = ann.get("/api/chat/films/").await;
    assert_eq!(page["count"], 0);
}

#[tokio::test]
async fn bytes_after_a_picture_are_not_kept() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let archive = [b"PK\x03\x04<script>alert(1)</script>".to_vec(), vec![0; 4 << 20]].concat();
    for (title, picture) in [("one", PICTURE), ("two", GIF)] {
        let (status, text) = send(&ann, title, "p.png", &[picture, &archive].concat()).await;
        assert_eq!(status, 200, "{text}");
        let downloaded =
            reqwest::get(address(&text)).await.expect("the node answers").bytes().await.expect("a picture");
        assert_eq!(downloaded, picture);
    }
}
