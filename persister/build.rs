//! A changed migration is a reason to compile again: cargo does not see it by itself.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
