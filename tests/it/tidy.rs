//! Checks rules of the source tree that the compiler does not check.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace").to_owned()
}

pub(crate) fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, files);
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
}

/// Whether a file begins with a sentence whose first word is a verb. The root of a service may have its name first.
fn begins_with_verb(text: &str) -> bool {
    let Some(sentence) = text.strip_prefix("//! ") else { return false };
    let mut words = sentence.split_whitespace();
    let mut first = words.next().unwrap_or_default();
    if ["api", "fanout", "persister"].contains(&first) {
        first = words.next().unwrap_or_default();
    }
    let first = first.trim_end_matches([',', ':']);
    first.ends_with('s') && first.chars().all(|letter| letter.is_ascii_alphabetic())
}

/// The names of the `pub` and `pub(crate)` types of a file.
fn visible_types(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().take_while(|line| *line != "mod tests {");
    lines.filter_map(|line| {
        let rest = line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub "))?;
        let name = ["struct ", "enum ", "trait ", "type "].iter().find_map(|kind| rest.strip_prefix(kind))?;
        name.split(|letter: char| !letter.is_alphanumeric()).next()
    })
}

#[test]
fn visible_types_have_names_of_their_own() {
    // Each service has a type of this name, always written with the name of its crate.
    const SHARED_NAMES: [&str; 1] = ["Config"];
    let mut files = Vec::new();
    for folder in ["shared", "api/src", "fanout/src", "persister/src", "deploy/src"] {
        sources(&root().join(folder), &mut files);
    }
    let mut files_by_name: HashMap<String, Vec<PathBuf>> = HashMap::new();
    // A dialect may have its own type for a concept, named alike: the module says which dialect.
    for file in files.iter().filter(|file| !file.to_string_lossy().contains("/dialects/")) {
        let text = std::fs::read_to_string(file).expect("a source file");
        for name in visible_types(&text) {
            files_by_name.entry(name.to_owned()).or_default().push(file.clone());
        }
    }
    files_by_name.retain(|name, files| files.len() > 1 && !SHARED_NAMES.contains(&name.as_str()));
    assert!(files_by_name.is_empty(), "each type must have a name of its own: {files_by_name:#?}");
}

#[test]
fn modules_open_with_a_sentence_and_have_at_most_400_lines() {
    let mut files = Vec::new();
    for folder in ["shared", "api", "fanout", "persister", "deploy", "tests"] {
        sources(&root().join(folder), &mut files);
    }
    assert!(files.len() > 50, "the source files must be found");
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a source file");
        assert!(
            begins_with_verb(&text),
            "{}: must begin with a sentence whose first word is a verb",
            file.display()
        );
        let lines = text.lines().count();
        assert!(lines <= 400, "{}: has {lines} lines, and may have 400", file.display());
    }
}

#[test]
fn subjects_are_spelled_in_one_file() {
    let mut files = Vec::new();
    for folder in ["shared", "api/src", "fanout/src", "persister/src", "deploy/src"] {
        sources(&root().join(folder), &mut files);
    }
    for file in files.iter().filter(|file| !file.ends_with("protocol/src/subject.rs")) {
        let text = std::fs::read_to_string(file).expect("a source file");
        for literal in ["\"chat.{", "\"live.{", "\"rpc.", "\"applied.", "\"CHAT_"] {
            assert!(
                !text.contains(literal),
                "{}: must build subjects by protocol::subject, not by {literal}",
                file.display()
            );
        }
    }
}

#[test]
fn manifests_keep_the_crates_apart() {
    let manifest = |name: &str| {
        std::fs::read_to_string(root().join(name).join("Cargo.toml")).expect("the crate has a manifest")
    };
    assert!(!manifest("fanout").contains("sqlx"), "fanout must not depend on sqlx");
    assert!(!root().join("api/migrations").exists(), "api must have no migrations");
    assert!(!manifest("deploy").contains("load."), "deploy must not depend on the load generator");
    for name in ["shared/log", "shared/protocol", "shared/service", "api", "fanout", "persister"] {
        assert!(!manifest(name).contains("tests."), "{name} must not depend on the tests");
    }
}

/// Whether a file has the test of a path such as `live::removal::name`: its modules are parts of the file's path, or
/// modules inside the file.
fn has_test(file: &Path, text: &str, modules: &[&str], name: &str) -> bool {
    let path = file.with_extension("");
    let is_module = |module: &&str| {
        path.iter().any(|part| part == *module)
            || text.contains(&format!("mod {module} {{"))
            || text.contains(&format!("mod {module};"))
    };
    text.contains(&format!("fn {name}(")) && modules.iter().all(is_module)
}

#[test]
fn promises_name_tests_that_exist() {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    let texts: Vec<(PathBuf, String)> = files
        .into_iter()
        .map(|file| {
            let text = std::fs::read_to_string(&file).expect("a source file");
            (file, text)
        })
        .collect();
    let tables = ["tests/README.md", "deploy/SECURITY.md"]
        .map(|file| std::fs::read_to_string(root().join(file)).expect("the file exists"));
    let quoted = tables.iter().flat_map(|table| table.split('`').skip(1).step_by(2));
    let named = quoted.filter(|code| code.contains("::") && !code.contains(' ') && !code.ends_with("::"));
    let paths: Vec<Vec<&str>> = named.map(|path| path.split("::").collect()).collect();
    assert!(paths.len() > 50, "the tables of promises must be found");
    for path in paths {
        let Some((name, modules)) = path.split_last() else { continue };
        let exists = texts.iter().any(|(file, text)| has_test(file, text, modules, name));
        assert!(exists, "{}: a promise names a test that does not exist", path.join("::"));
    }
}
