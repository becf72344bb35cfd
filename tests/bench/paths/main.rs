//! Counts the cost of each hot path in a separate process, and compares it with `figures.txt`.
//!
//!     paths              compares, and fails if a path has become worse
//!     paths write        writes the figures to `figures.txt`
//!     paths once <path>  executes a path; run by the first two, under callgrind
//!
//! What must hold: a path does the same work each time. Each path is run several times before it is counted, so that
//! one-time initialisation is not counted.

mod api;
mod fanout;
mod persister;
mod subjects;
mod tokens;

use std::{
    env, fs,
    path::Path,
    process::{self, ExitCode},
};

use ::service::telemetry;
use anyhow::{Context as _, bail, ensure};
use bench::{
    callgrind,
    figures::{self, Figures},
};
use tokio::runtime::{Builder, Runtime};

/// Number of times that a path is executed before it is counted.
const WARM_UP_RUNS: u64 = 40;

/// A prepared operation: one execution of a path.
type Operation = Box<dyn FnMut()>;
/// Prepares an operation that can be executed [`BEFORE`] times and once more.
type Prepare = fn(&Runtime) -> Operation;

const PATHS: [(&str, Prepare); 9] = [
    (ONE_SOCKET, |runtime| fanout::native_room(runtime, 1)),
    (MANY_SOCKETS, |runtime| fanout::native_room(runtime, 100)),
    ("fanout: a live message to the 2 sockets of a match", fanout::match_room),
    ("fanout: a client's frame to the action it begins", fanout::frame),
    ("api: the body of a message to what is appended", api::message),
    ("api: a new token to the person that it names", tokens::token),
    ("persister: a batch of 100 messages to its columns", persister::batch),
    ("protocol: a subject of a room, read and written", subjects::room),
    ("protocol: a subject of a person, read and written", subjects::person),
];
const ONE_SOCKET: &str = "fanout: a live message to 1 socket";
const MANY_SOCKETS: &str = "fanout: a live message to 100 sockets";

/// Advice for when the figures have changed.
const UPDATE_HINT: &str =
    "If the change is intended, run tests/bench/run write, and commit tests/bench/figures.txt.";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        [] => compare(),
        ["write"] => write(),
        ["once", path] => run_once(path),
        _ => Err(anyhow::anyhow!("usage: paths [write]")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_stderr(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "this is a command-line program")]
fn print_stderr(text: &str) {
    eprintln!("{}", text.trim_end());
}

fn run_once(path: &str) -> anyhow::Result<()> {
    let (_, prepare) = PATHS.iter().find(|(name, _)| *name == path).context("no such path")?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // Installs a metrics recorder, as in a service: updating metrics is part of the cost.
    runtime.block_on(async { telemetry::install_metrics() });
    let mut operation = prepare(&runtime);
    for _ in 0..WARM_UP_RUNS {
        operation();
    }
    measured(&mut *operation);
    // Exits without dropping the operation: the drop would be counted.
    process::exit(0)
}

/// The function that callgrind counts.
#[inline(never)]
fn measured(operation: &mut dyn FnMut()) {
    operation();
}

fn count() -> anyhow::Result<Figures> {
    let program = env::current_exe()?;
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut paths = Vec::new();
    for (name, _) in PATHS {
        let cost = callgrind::count(&program, &["once", name], "paths::measured", scratch).context(name)?;
        paths.push((name.to_owned(), cost));
    }
    let figures = Figures { tools: figures::tools()?, paths };
    print_stderr(&figures.write());
    Ok(figures)
}

/// Checks that a delivery allocates nothing: a message to 100 sockets has as many allocations as to one.
fn deliveries_allocate_nothing(figures: &Figures) -> anyhow::Result<()> {
    let allocations_of =
        |path| figures.paths.iter().find(|(name, _)| name == path).map(|(_, cost)| cost.allocations);
    ensure!(
        allocations_of(ONE_SOCKET) == allocations_of(MANY_SOCKETS),
        "a delivery allocates: {:?} for one socket, {:?} for 100",
        allocations_of(ONE_SOCKET),
        allocations_of(MANY_SOCKETS)
    );
    Ok(())
}

fn figures_file() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/figures.txt"))
}

fn write() -> anyhow::Result<()> {
    let figures = count()?;
    deliveries_allocate_nothing(&figures)?;
    Ok(fs::write(figures_file(), figures.write())?)
}

fn compare() -> anyhow::Result<()> {
    let before = Figures::read(&fs::read_to_string(figures_file())?)?;
    let now = count()?;
    deliveries_allocate_nothing(&now)?;
    if now.tools != before.tools {
        print_stderr(&format!(
            "Not compared: the committed figures were measured with {}. {UPDATE_HINT}",
            before.tools
        ));
        return Ok(());
    }
    let worse = now.worse_than(&before);
    if !worse.is_empty() {
        bail!("{}\n{UPDATE_HINT}", worse.join("\n"));
    }
    Ok(())
}
