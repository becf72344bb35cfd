//! Counts instructions and allocations of one function of a program, with valgrind's callgrind.
//!
//! The counts do not depend on the processor, except on whether it has AVX2.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};

/// The functions that count as allocations.
const ALLOCATORS: [&str; 5] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"];

/// The cost of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Number of instructions executed.
    pub instructions: u64,
    /// Number of calls to an allocator.
    pub allocations: u64,
}

/// Runs a program and counts the cost of the function whose name contains `function`. The program must call that
/// function once, as the last thing before it exits. `scratch` is a folder for the profile.
///
/// # Errors
/// When valgrind is not installed, the program fails, or nothing was counted.
pub fn count(program: &Path, arguments: &[&str], function: &str, scratch: &Path) -> anyhow::Result<Cost> {
    let profile = scratch.join(format!("callgrind.{}", std::process::id()));
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", &format!("--zero-before=*{function}*")])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("valgrind is missing: apt install valgrind")?;
    ensure!(run.status.success(), "{}: {}", run.status, String::from_utf8_lossy(&run.stderr));
    let cost = read(&fs::read_to_string(&profile)?, function);
    fs::remove_file(&profile)?;
    ensure!(cost.instructions > 0, "no function of the program is named {function}");
    Ok(cost)
}

/// Parses a profile: the instructions of a function and of its calls, and the number of all calls to allocators.
fn read(profile: &str, function: &str) -> Cost {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut cost = Cost { instructions: 0, allocations: 0 };
    let (mut counts, mut allocates) = (false, false);
    for line in profile.lines() {
        if let Some(("fn" | "cfn", value)) = line.split_once('=') {
            // A name is written out once, as `(7) malloc`; later it is `(7)`.
            let (id, name) = value.split_once(' ').unwrap_or((value, ""));
            let name = if name.is_empty() { names.get(id).copied().unwrap_or(name) } else { name };
            names.insert(id, name);
            if line.starts_with("fn") {
                counts = name.contains(function);
            } else {
                allocates = ALLOCATORS.contains(&name);
            }
        } else if let Some(calls) = line.strip_prefix("calls=").filter(|_| allocates) {
            cost.allocations += first(calls);
        } else if counts && let Some((_, instructions)) = line.split_once(' ').filter(|_| is_cost(line)) {
            cost.instructions += first(instructions);
        }
    }
    cost
}

/// Whether a line has a cost: a line number of the source (or its difference to the last one) and instructions.
fn is_cost(line: &str) -> bool {
    line.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-' | '*'))
}

fn first(numbers: &str) -> u64 {
    numbers.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_with_its_names_told_once() {
        let profile = "events: Ir\n\nfn=(1) the path\n5 10\ncfn=(2) malloc\ncalls=3 0\n+1 90\ncfn=(3) free\n\
                       calls=4 0\n* 40\n\nfn=(4) other\n3 7\ncfn=(2)\ncalls=2 0\n8 60\n\nfn=(2)\n1 150\ntotals: 200\n";
        assert_eq!(read(profile, "path"), Cost { instructions: 140, allocations: 5 });
    }
}
