//! The rules of the tree that a compiler does not check.

use std::path::{Path, PathBuf};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

pub(crate) fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_module_says_what_it_is_and_holds_one_thing() {
    let mut files = Vec::new();
    for folder in ["shared", "api", "fanout", "persister", "deploy", "tests"] {
        sources(&root().join(folder), &mut files);
    }
    assert!(files.len() > 50, "the tree was not found");
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a source");
        assert!(text.starts_with("//! "), "{}: does not open with what it is", file.display());
        let lines = text.lines().count();
        assert!(lines <= 400, "{}: {lines} lines hold more than one thing", file.display());
    }
}

#[test]
fn subjects_are_spelled_in_one_file() {
    let mut files = Vec::new();
    for folder in ["shared", "api/src", "fanout/src", "persister/src", "deploy/src"] {
        sources(&root().join(folder), &mut files);
    }
    for file in files.iter().filter(|file| !file.ends_with("protocol/src/subject.rs")) {
        let text = std::fs::read_to_string(file).expect("a source");
        for spelled in ["\"chat.{", "\"live.{", "\"rpc.", "\"applied.", "\"CHAT_"] {
            assert!(!text.contains(spelled), "{}: spells a subject: {spelled}", file.display());
        }
    }
}

#[test]
fn crates_keep_to_their_side() {
    let manifest =
        |name: &str| std::fs::read_to_string(root().join(name).join("Cargo.toml")).expect("a manifest");
    assert!(!manifest("fanout").contains("sqlx"), "fanout never touches Postgres");
    assert!(!root().join("api/migrations").exists(), "api changes no table");
    assert!(!manifest("deploy").contains("load."), "the load generator is no part of the product");
    for name in ["shared/log", "shared/protocol", "shared/service", "api", "fanout", "persister"] {
        assert!(!manifest(name).contains("tests."), "{name} imports the tests");
    }
}

#[test]
fn every_promise_names_tests_that_exist() {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    let all: String = files.iter().map(|file| std::fs::read_to_string(file).expect("a source")).collect();
    let tables = ["tests/README.md", "deploy/SECURITY.md"]
        .map(|file| std::fs::read_to_string(root().join(file)).expect("a table"));
    let quoted = tables.iter().flat_map(|table| table.split('`').skip(1).step_by(2));
    let named = quoted.filter(|code| code.contains("::") && !code.contains(' '));
    let names: Vec<&str> =
        named.filter_map(|path| path.rsplit("::").next()).filter(|n| !n.is_empty()).collect();
    assert!(names.len() > 50, "the table was not found");
    for name in names {
        assert!(all.contains(&format!("fn {name}(")), "{name}: no such test");
    }
}
