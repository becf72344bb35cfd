//! Checks that the modules of each crate do not import each other in cycles.

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

/// The code of a file without its unit tests.
fn without_unit_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text)
}

/// Whether a file is a test or a benchmark, which may import any module.
fn is_test(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_by_name = ["tests.rs", "property.rs", "bench.rs", "fuzz.rs"].contains(&name);
    is_by_name || name.ends_with("_tests.rs") || path.parent().is_some_and(|folder| folder.ends_with("model"))
}

/// The first segment of each path in `{…}`: for `{a::b, c::{d, e}}` these are `a` and `c`.
fn first_names(group: &str) -> Vec<&str> {
    let (mut names, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (index, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(&group[start..index]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(&group[start..index]);
                start = index + 1;
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
        let first = path
            .strip_prefix(folder)
            .expect("the file is in the crate's folder")
            .iter()
            .next()
            .expect("the path is not empty");
        first.to_str().expect("UTF-8").trim_end_matches(".rs").to_owned()
    };
    let modules: BTreeSet<String> =
        files.iter().map(|path| module(path)).filter(|name| name != "lib" && name != "main").collect();
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in files.iter().filter(|path| !is_test(path) && modules.contains(&module(path))) {
        let text = std::fs::read_to_string(path).expect("a source file");
        let own_module = module(path);
        for import in without_unit_tests(&text).split("crate::").skip(1) {
            let names = match import.strip_prefix('{') {
                Some(group) => first_names(group),
                None => {
                    import.split(|letter: char| !letter.is_alphanumeric() && letter != '_').take(1).collect()
                }
            };
            let others = names.into_iter().filter(|name| modules.contains(*name) && *name != own_module);
            imports.entry(own_module.clone()).or_default().extend(others.map(str::to_owned));
        }
    }
    imports
}

/// Whether one module imports another, directly or through other modules.
fn imports_indirectly(imports: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> bool {
    let (mut unvisited, mut seen) = (vec![from], BTreeSet::new());
    while let Some(next) = unvisited.pop() {
        for other in imports.get(next).into_iter().flatten() {
            if other == to {
                return true;
            }
            if seen.insert(other) {
                unvisited.push(other);
            }
        }
    }
    false
}

#[test]
fn modules_of_a_crate_import_each_other_one_way() {
    for name in CRATES {
        let imports = imports(&root().join(name));
        assert!(name == "deploy/src" || !imports.is_empty(), "{name}: no imports were found");
        for (module, others) in &imports {
            for other in others {
                assert!(
                    !imports_indirectly(&imports, other, module),
                    "{name}: {module} and {other} import each other"
                );
            }
        }
    }
}

#[test]
fn names_of_a_group_are_found() {
    assert_eq!(first_names("a::b, c::{d, e}, f as g};"), ["a", "c", "f"]);
}
