//! Tests refused requests: nothing is left of them.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tests::{
    client::Rest,
    cluster::{Cluster, Size, sign},
};

use super::{CHAT, NOT_FOUND, answer, form, multipart};

const REQUIRED: &str = r#"{"title":["This field is required."],"room":["This field is required."]}"#;

#[tokio::test]
async fn topic_refusal_names_all_errors_at_once() {
    let cluster = Cluster::start(Size::default()).await;
    let ann = cluster.rest(0, "ann");
    let (long, longer) = ("ü".repeat(71), "ü".repeat(401));
    let table = [
        (json!({ "title": "Dune", "room": "movie" }), r#"{"room":["\"movie\" is not a valid choice."]}"#),
        (json!({}), REQUIRED),
        (
            json!({ "title": long, "room": "films", "description": longer }),
            r#"{"title":["Ensure this field has no more than 70 characters."],"description":["Ensure this field has no more than 400 characters."]}"#,
        ),
        (
            json!({ "title": null, "room": null, "img": "file.jpeg", "description": true }),
            r#"{"title":["This field may not be null."],"room":["This field may not be null."],"img":["The submitted data was not a file. Check the encoding type on the form."],"description":["Not a valid string."]}"#,
        ),
        (json!({ "title": " \n", "room": "films" }), r#"{"title":["This field may not be blank."]}"#),
        (
            json!({ "title": [], "room": "" }),
            r#"{"title":["Not a valid string."],"room":["\"\" is not a valid choice."]}"#,
        ),
        (
            json!({ "title": "a\0b", "room": "films", "description": "\0" }),
            r#"{"title":["Null characters are not allowed."],"description":["Null characters are not allowed."]}"#,
        ),
        (json!([1]), r#"{"non_field_errors":["Invalid data. Expected a dictionary, but got list."]}"#),
        (json!("a"), r#"{"non_field_errors":["Invalid data. Expected a dictionary, but got str."]}"#),
        (json!(1), r#"{"non_field_errors":["Invalid data. Expected a dictionary, but got int."]}"#),
    ];
    for (body, expected) in table {
        let refused = answer(ann.request(Method::POST, CHAT).json(&body)).await;
        assert_eq!(refused, (400, expected.to_owned()), "{body}");
    }
    // The request of the document: its picture is only a file name.
    let literal = [("title", "Harry Potter"), ("room", "films"), ("img", "file.jpeg")];
    let (status, text) = answer(form(ann.request(Method::POST, CHAT), &literal)).await;
    let reason = r#"{"img":["The submitted data was not a file. Check the encoding type on the form."]}"#;
    assert_eq!((status, text.as_str()), (400, reason));
    for category in ["films", "music", "books", "games"] {
        let (_, page) = ann.get(&format!("/api/chat/{category}/")).await;
        assert_eq!(page["count"], 0, "no refused request stored anything");
    }
}

#[tokio::test]
async fn topic_body_of_another_type_than_named_is_refused() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let post = |kind: &str, body: &'static [u8]| {
        ann.request(Method::POST, CHAT).header("content-type", kind).body(body)
    };
    let large = |size: usize| vec![b'x'; size];
    let multipart_large = multipart(ann.request(Method::POST, CHAT), &[("more", None, &large(32 << 20))]);
    let json_large = ann.request(Method::POST, CHAT).header("content-type", "application/json");
    let cases = [
        (post("application/json", b""), 400, REQUIRED),
        (ann.request(Method::POST, CHAT), 400, REQUIRED),
        (post("application/json", b"null"), 400, r#"{"non_field_errors":["No data provided"]}"#),
        (
            post("application/json", b"{"),
            400,
            r#"{"detail":"JSON parse error - EOF while parsing an object at line 1 column 1"}"#,
        ),
        (
            post("multipart/form-data", b"x"),
            400,
            r#"{"detail":"Multipart form parse error - Invalid boundary in multipart: None"}"#,
        ),
        (
            post("multipart/form-data; boundary=line", b"--line\r\n"),
            400,
            r#"{"detail":"Multipart form parse error - incomplete multipart stream"}"#,
        ),
        (post("text/plain", b"{}"), 415, r#"{"detail":"Unsupported media type \"text/plain\" in request."}"#),
        (multipart_large, 413, r#"{"detail":"Request body is too large."}"#),
        (json_large.body(large((256 << 10) + 1)), 413, r#"{"detail":"Request body is too large."}"#),
    ];
    for (request, status, expected) in cases {
        assert_eq!(answer(request).await, (status, expected.to_owned()));
    }
}

#[tokio::test]
async fn unknown_topic_addresses_and_methods_are_refused() {
    let cluster = Cluster::shared().await;
    let ann = cluster.rest(0, "ann");
    let wrong_room = r#"{"Error":"wrong room"}"#;
    for (method, path, status, expected) in [
        (Method::GET, "/api/chat/movie/", 400, wrong_room.to_owned()),
        (Method::GET, "/api/chat/movie", 400, wrong_room.to_owned()),
        (Method::GET, "/api/chat/%FF/", 400, wrong_room.to_owned()),
        (Method::GET, CHAT, 405, r#"{"detail":"Method \"GET\" not allowed."}"#.to_owned()),
        (Method::DELETE, CHAT, 405, r#"{"detail":"Method \"DELETE\" not allowed."}"#.to_owned()),
        (Method::POST, "/api/chat/films/", 405, r#"{"detail":"Method \"POST\" not allowed."}"#.to_owned()),
        (Method::PUT, "/api/chat/films/1/", 405, r#"{"detail":"Method \"PUT\" not allowed."}"#.to_owned()),
        (Method::GET, "/api/chat/films/1/2/", 404, NOT_FOUND.to_owned()),
        (Method::GET, "/media/", 404, NOT_FOUND.to_owned()),
    ] {
        let refused = ann.request(method.clone(), path).send().await.expect("the node answers");
        assert_eq!(refused.headers()["content-type"], "application/json");
        if status == 405 {
            assert!(refused.headers().contains_key("allow"), "{method} {path}");
        }
        let refused = (refused.status().as_u16(), refused.text().await.expect("text"));
        assert_eq!(refused, (status, expected), "{method} {path}");
    }
    let elsewhere = ann.request(Method::GET, "/api/chat/films/").header("origin", "https://evil.example");
    assert_eq!(answer(elsewhere).await, (403, r#"{"detail":"This origin is not allowed."}"#.to_owned()));
}

#[tokio::test]
async fn invalid_tokens_are_refused_by_topics() {
    let cluster = Cluster::shared().await;
    let address = cluster.api[0].address();
    let request = |method: Method, path: &str, authorization: Option<&str>| -> RequestBuilder {
        let client = reqwest::Client::new();
        let request = client.request(method, format!("http://{address}{path}"));
        match authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        }
    };
    let none = json!({ "detail": "Authentication credentials were not provided." });
    let bad = |message: &str| -> Value {
        let message = json!({ "token_class": "AccessToken", "token_type": "access", "message": message });
        let detail = "Given token not valid for any token type";
        json!({ "detail": detail, "code": "token_not_valid", "messages": [message] })
    };
    let header = json!({
        "detail": "Authorization header must contain two space-delimited values",
        "code": "bad_authorization_header",
    });
    let expired = format!("Bearer {}", sign(&json!({ "user_id": 7, "exp": 1 })));
    let refresh = format!("Bearer {}", sign(&json!({ "user_id": 7, "token_type": "refresh" })));
    let cases = [
        (None, &none),
        (Some("Basic x"), &none),
        (Some("Bearer"), &header),
        (Some("Bearer a b"), &header),
        (Some("Bearer garbage"), &bad("Token is invalid")),
        (Some(expired.as_str()), &bad("Token is expired")),
        (Some(refresh.as_str()), &bad("Token has wrong type")),
    ];
    for (authorization, expected) in cases {
        for (method, path) in [(Method::POST, CHAT), (Method::PATCH, "/api/chat/films/1/")] {
            let refused = request(method, path, authorization).send().await.expect("the node answers");
            assert_eq!(refused.status().as_u16(), 401);
            assert_eq!(refused.headers()["www-authenticate"], r#"Bearer realm="api""#);
            assert_eq!(&refused.json::<Value>().await.expect("JSON"), expected, "{authorization:?}");
        }
        let list =
            request(Method::GET, "/api/chat/films/", authorization).send().await.expect("the node answers");
        let status = if *expected == none { 200 } else { 401 };
        assert_eq!(list.status().as_u16(), status, "a given token is checked: {authorization:?}");
    }
    let scheme = Rest::new(&address, "unused").request(Method::GET, "/api/chat/films/");
    assert_eq!(answer(scheme).await.0, 401);
}
