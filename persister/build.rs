//! Makes cargo compile again when a migration has changed, which it does not see by itself. Checks that the numbers of
//! migrations are unique, as two branches may each add one, and that `service::schema::VERSION` is the newest.

use std::collections::BTreeMap;

const FOLDER: &str = "migrations";
const SCHEMA: &str = "../shared/service/src/schema.rs";

fn main() {
    println!("cargo:rerun-if-changed={FOLDER}");
    println!("cargo:rerun-if-changed={SCHEMA}");
    let mut migrations: BTreeMap<i64, String> = BTreeMap::new();
    for file in std::fs::read_dir(FOLDER).expect("the folder of the migrations is readable").flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        let Some((number, _)) = name.strip_suffix(".sql").and_then(|stem| stem.split_once('_')) else {
            continue;
        };
        let number = number.parse().expect("a migration is named <number>_<what>.sql");
        if let Some(other) = migrations.insert(number, name.clone()) {
            panic!("{other} and {name} have the same number: give the newer one the next number");
        }
    }
    let schema = std::fs::read_to_string(SCHEMA).expect("the file with the schema's version is readable");
    let version = schema.split("VERSION: i64 = ").nth(1).and_then(|rest| rest.split(';').next());
    let newest = migrations.keys().next_back().map(i64::to_string);
    assert_eq!(
        version,
        newest.as_deref(),
        "VERSION in shared/service/src/schema.rs is the newest migration's number"
    );
}
