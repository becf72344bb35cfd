//! Checks that the modules of a crate import each other one way.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use crate::tidy::{root, sources};

/// Crates whose top-level modules must not form a cycle.
const CRATES: [&str; 7] = [
    "api/src",
    "deploy/src",
    "fanout/src",
    "persister/src",
    "shared/log/src",
    "shared/protocol/src",
    "shared/service/src",
];

/// The code of a file without its tests.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text)
}

/// Whether a file is a test or a benchmark: these may import anything.
fn is_test(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_by_name = ["tests.rs", "property.rs", "bench.rs", "fuzz.rs"].contains(&name);
    is_by_name || name.ends_with("_tests.rs") || path.parent().is_some_and(|folder| folder.ends_with("model"))
}

/// The first names of the paths in `{…}`: `{a::b, c::{d, e}}` has a and c.
fn first_names(group: &str) -> Vec<&str> {
    let (mut names, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    names.into_iter().map(|path| path.trim().split([':', ' ']).next().unwrap_or_default()).collect()
}

/// Imports among the top-level modules of a crate.
fn imports(folder: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut files = Vec::new();
    sources(folder, &mut files);
    let module = |path: &Path| {
        let first = path.strip_prefix(folder).expect("of the crate").iter().next().expect("a name");
        first.to_str().expect("UTF-8").trim_end_matches(".rs").to_owned()
    };
    let modules: BTreeSet<String> =
        files.iter().map(|path| module(path)).filter(|name| name != "lib" && name != "main").collect();
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in files.iter().filter(|path| !is_test(path) && modules.contains(&module(path))) {
        let text = std::fs::read_to_string(path).expect("a source");
        let own = module(path);
        for used in code(&text).split("crate::").skip(1) {
            let names = match used.strip_prefix('{') {
                Some(group) => first_names(group),
                None => {
                    used.split(|letter: char| !letter.is_alphanumeric() && letter != '_').take(1).collect()
                }
            };
            let others = names.into_iter().filter(|name| modules.contains(*name) && *name != own);
            imports.entry(own.clone()).or_default().extend(others.map(str::to_owned));
        }
    }
    imports
}

/// Whether imports lead from one module to another.
fn leads(imports: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> bool {
    let (mut open, mut seen) = (vec![from], BTreeSet::new());
    while let Some(next) = open.pop() {
        for other in imports.get(next).into_iter().flatten() {
            if other == to {
                return true;
            }
            if seen.insert(other) {
                open.push(other);
            }
        }
    }
    false
}

#[test]
fn modules_of_a_crate_import_each_other_one_way() {
    for name in CRATES {
        let imports = imports(&root().join(name));
        assert!(name == "deploy/src" || !imports.is_empty(), "{name}: nothing was found");
        for (module, others) in &imports {
            for other in others {
                assert!(!leads(&imports, other, module), "{name}: {module} and {other} import each other");
            }
        }
    }
}

#[test]
fn names_of_a_group_are_found() {
    assert_eq!(first_names("a::b, c::{d, e}, f as g};"), ["a", "c", "f"]);
}
