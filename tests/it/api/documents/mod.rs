//! Tests the documents for machines: they are valid, they name every route, and a server keeps to them.

mod answers;
mod frames;

use std::path::{Path, PathBuf};

use reqwest::{Method, StatusCode};
use serde_json::json;
use tests::paths;
use tests::{
    client::Rest,
    cluster::{Cluster, Size, sign},
    folder::Folder,
};
use tokio::process::Command;

/// Python with the validators. `deploy/test` installs it.
fn python() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/documents/bin/python");
    std::env::var_os("ROOMCAST_TEST_DOCUMENTS_PYTHON").map_or(own, PathBuf::from)
}

async fn run(command: &mut Command) -> String {
    let output = command.kill_on_drop(true).output().await.expect("Python runs: deploy/test installs it");
    let (printed, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{printed}{errors}");
    printed.into_owned()
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("documents").join(name)
}

fn base(cluster: &Cluster) -> String {
    format!("http://{}", cluster.api[0].address())
}

#[tokio::test]
async fn documents_are_valid() {
    let cluster = Cluster::start(Size::default()).await;
    run(Command::new(python()).arg(file("validate.py")).arg(base(&cluster))).await;
}

#[tokio::test]
async fn addresses_take_only_the_methods_that_the_document_names() {
    let cluster = Cluster::start(Size::default()).await;
    let (_, document) = Rest::without_token(&cluster.api[0].address()).get("/openapi.json").await;
    let direct = reqwest::redirect::Policy::none();
    let http = reqwest::Client::builder().redirect(direct).build().expect("a client");
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 30, "{}", paths.len());
    for (path, methods) in paths {
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let address = path.replace(['{', '}'], "");
            let answer = http.request(method.clone(), base(&cluster) + &address).send().await;
            let is_taken = answer.expect("the node answers").status() != StatusCode::METHOD_NOT_ALLOWED;
            let is_named = !methods[method.as_str().to_ascii_lowercase()].is_null();
            assert_eq!(is_taken, is_named, "{method} {path}");
        }
    }
}

/// Command that compares a document with a server by schemathesis. Its files are in the folder.
fn compare(cluster: &Cluster, folder: &Folder, key: &str, document: &str, token: &str) -> Command {
    let config = std::fs::read_to_string(file("schemathesis.toml")).expect("a file").replace("THE KEY", key);
    let path = folder.path().join("schemathesis.toml");
    std::fs::write(&path, config).expect("a file");
    let mut compare = Command::new(python().with_file_name("schemathesis"));
    compare.current_dir(folder.path()).arg("--config-file").arg(path);
    compare.args(["run", document, "--no-color", "--url", &base(cluster)]);
    compare.args(["--header", &format!("Authorization: Bearer {token}")]).kill_on_drop(true);
    compare
}

/// Creates what schemathesis.toml refers to; returns the key of a support room.
async fn seed(cluster: &Cluster, rest: &Rest) -> String {
    for name in ["tea", "coffee", "milk"] {
        let room = rest.create_room(name).await;
        assert!((1..=3).contains(&room), "one that schemathesis.toml names");
        for text in ["hello", "and again"] {
            rest.send_message(room, text).await;
        }
    }
    let other = cluster.rest(0, "8");
    let invite = json!({ "user": "7" });
    let room = other.create_room("water").await;
    let visit = json!({ "user_id": "visitor", "org_id": "org", "portfolio_name": "p", "product_name": "w" });
    for (path, body) in [
        (paths::invitations(room), invite),
        ("/api/chat/".to_owned(), json!({ "title": "Potter", "room": "films" })),
        ("/room/add".to_owned(), json!({ "owner": "8", "abonent": "7" })),
    ] {
        let (status, answer) = other.post(&path, body).await;
        assert!(status.is_success(), "{path}: {answer}");
        assert!(path != "/room/add" || answer["id"] == 6, "the pair that schemathesis.toml names: {answer}");
    }
    let (_, visited) =
        Rest::without_token(&cluster.api[0].address()).post("/api/v2/room-control", visit).await;
    visited["inserted_id"].as_str().expect("a key").to_owned()
}

#[tokio::test]
async fn answers_to_generated_requests_are_named_in_the_document() {
    let cluster = Cluster::start(Size::default()).await;
    let token = sign(&json!({ "user_id": "7", "username": "ann", "org_id": "org", "is_admin": true }));
    let rest = Rest::new(&cluster.api[0].address(), &token);
    let (key, folder) = (seed(&cluster, &rest).await, Folder::new());
    let mut check = compare(&cluster, &folder, &key, &format!("{}/openapi.json", base(&cluster)), &token);

    run(&mut check).await;

    // The comparison must find an operation that the document lacks.
    let (_, mut document) = rest.get("/openapi.json").await;
    let path = folder.path().join("openapi.json");
    let made = document["paths"][paths::ROOMS]["post"]["responses"].as_object_mut().expect("answers");
    made.remove("201").expect("a room is made");
    std::fs::write(&path, document.to_string()).expect("a file");
    let mut check = compare(&cluster, &folder, &key, &path.display().to_string(), &token);
    let output = check.args(["--include-path", paths::ROOMS]).output().await.expect("the script runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && printed.contains("Undocumented status code"), "{printed}");
}
