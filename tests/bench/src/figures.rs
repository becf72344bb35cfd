//! Reads, writes and compares the committed figures: the cost of each path, and the tools that measured it.
//!
//! What must hold: a path that costs more than its figure is reported with the difference. Figures of other tools
//! (compiler, libc, valgrind) can't be compared.

use std::{fmt::Write as _, process::Command};

use anyhow::Context as _;

use crate::callgrind::Cost;

/// How many percent more instructions a path may take before the comparison fails.
const MARGIN: u64 = 10;

/// The cost of each path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Versions of compiler, libc and valgrind, and the architecture.
    pub tools: String,
    /// The paths with their names.
    pub paths: Vec<(String, Cost)>,
}

impl Figures {
    /// Parses the text of [`Figures::write`].
    ///
    /// # Errors
    /// When a line is malformed.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        let mut lines = text.lines();
        let tools = lines.next().context("no figures")?.to_owned();
        let path = |line: &str| {
            let (instructions, rest) = line.trim_start().split_once(' ')?;
            let (allocations, name) = rest.trim_start().split_once(' ')?;
            let cost =
                Cost { instructions: instructions.parse().ok()?, allocations: allocations.parse().ok()? };
            Some((name.trim_start().to_owned(), cost))
        };
        let paths = lines.map(|line| path(line).with_context(|| format!("not a figure: {line}")));
        Ok(Self { tools, paths: paths.collect::<anyhow::Result<_>>()? })
    }

    /// The figures as text: a line with the tools, then a line per path.
    #[must_use]
    pub fn write(&self) -> String {
        let mut text = format!("{}\n", self.tools);
        for (name, Cost { instructions, allocations }) in &self.paths {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{instructions:>12} {allocations:>12}  {name}");
        }
        text
    }

    /// Compares with `before`, and returns a line for each path that has become worse, is new or is gone.
    #[must_use]
    pub fn worse_than(&self, before: &Self) -> Vec<String> {
        let mut worse = Vec::new();
        for (name, new) in &self.paths {
            let Some((_, old)) = before.paths.iter().find(|(old_name, _)| old_name == name) else {
                worse.push(format!("{name}: has no committed figure"));
                continue;
            };
            if new.instructions * 100 > old.instructions * (100 + MARGIN) {
                let percent = new.instructions * 100 / old.instructions.max(1) - 100;
                worse.push(format!(
                    "{name}: {} instructions, {percent} % more than {}",
                    new.instructions, old.instructions
                ));
            }
            if new.allocations > old.allocations {
                worse.push(format!("{name}: {} allocations, {} before", new.allocations, old.allocations));
            }
        }
        let gone =
            before.paths.iter().filter(|(old_name, _)| self.paths.iter().all(|(name, _)| name != old_name));
        worse
            .extend(gone.map(|(name, _)| format!("{name}: has a committed figure, but no such path exists")));
        worse
    }
}

/// The versions of this machine's tools.
///
/// # Errors
/// When a tool can't be run.
pub fn tools() -> anyhow::Result<String> {
    let output_of = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().with_context(|| program.to_owned())?;
        Ok::<_, anyhow::Error>(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let (rustc, libc) = (output_of("rustc", "--version")?, output_of("getconf", "GNU_LIBC_VERSION")?);
    Ok(format!("{rustc}, {libc}, {}, {}", output_of("valgrind", "--version")?, std::env::consts::ARCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(paths: &[(&str, u64, u64)]) -> Figures {
        let cost = |&(name, instructions, allocations): &(&str, u64, u64)| {
            (name.to_owned(), Cost { instructions, allocations })
        };
        Figures { tools: "rustc 1".to_owned(), paths: paths.iter().map(cost).collect() }
    }

    #[test]
    fn what_is_written_is_read() {
        let figures = figures(&[("a: way of it", 1_000, 5), ("b", 20, 0)]);
        assert_eq!(Figures::read(&figures.write()).expect("figures that were written can be read"), figures);
        assert!(Figures::read("rustc 1\nmany 5 a\n").is_err());
    }

    #[test]
    fn what_costs_more_is_named_with_how_much() {
        let before = figures(&[("a", 1_000, 5), ("b", 1_000, 5)]);
        assert_eq!(figures(&[("a", 1_100, 5), ("b", 1, 0)]).worse_than(&before), [""; 0]);
        let worse = figures(&[("a", 1_101, 6), ("c", 1, 0)]).worse_than(&before);
        let expected = [
            "a: 1101 instructions, 10 % more than 1000",
            "a: 6 allocations, 5 before",
            "c: has no committed figure",
            "b: has a committed figure, but no such path exists",
        ];
        assert_eq!(worse, expected);
    }
}
