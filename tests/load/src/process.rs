//! What the server's processes cost: CPU and memory from `/proc`, each with its children.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    net::SocketAddr,
    path::Path,
};

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::config::Named;

/// What a process and its children have used so far.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Used {
    pub(crate) name: String,
    pid: u32,
    /// CPU seconds.
    pub(crate) cpu: f64,
    /// Resident, in KiB.
    pub(crate) rss_kib: u64,
    /// Resident, what is shared counted in part, in KiB.
    pub(crate) pss_kib: u64,
}

/// The processes that are counted.
#[derive(Clone, Debug)]
pub(crate) struct Processes(Vec<Named>);

impl Processes {
    /// Those that were named, each or by a folder, else those that listen.
    pub(crate) fn find(
        named: &[Named],
        folder: Option<&Path>,
        addresses: &[SocketAddr],
    ) -> anyhow::Result<Self> {
        let mut named = named.to_vec();
        if let Some(folder) = folder {
            named.extend(kept(folder).with_context(|| format!("--pids-in {}", folder.display()))?);
        }
        for Named { name, pid } in &named {
            stat(*pid).with_context(|| format!("{name}={pid}: no such process"))?;
        }
        if named.is_empty() {
            named = addresses.iter().map(|address| listener(address.port())).collect::<Result<_, _>>()?;
        }
        // One process may listen at several addresses.
        let mut pids = HashSet::new();
        named.retain(|named| pids.insert(named.pid));
        Ok(Self(named))
    }

    /// What each that still runs has used so far.
    pub(crate) fn used(&self) -> Vec<Used> {
        let children = children();
        let running = self.0.iter().filter(|named| stat(named.pid).is_some());
        running.map(|named| used(named, &children)).collect()
    }
}

/// What each had used before and has used after: of what has ended meanwhile nothing is known.
pub(crate) fn both<'a>(before: &'a [Used], after: &'a [Used]) -> impl Iterator<Item = (&'a Used, &'a Used)> {
    after.iter().filter_map(|after| Some((before.iter().find(|before| before.pid == after.pid)?, after)))
}

fn used(named: &Named, children: &HashMap<u32, Vec<u32>>) -> Used {
    let mut used = Used { name: named.name.clone(), pid: named.pid, ..Used::default() };
    let mut open = vec![named.pid];
    while let Some(pid) = open.pop() {
        open.extend(children.get(&pid).into_iter().flatten());
        used.cpu += stat(pid).map_or(0.0, |stat| stat.cpu);
        used.rss_kib += memory(pid, "Rss:");
        used.pss_kib += memory(pid, "Pss:");
    }
    used
}

/// The processes of a folder, by name.
fn kept(folder: &Path) -> io::Result<Vec<Named>> {
    let mut named = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "pid") {
            let text = fs::read_to_string(&path)?;
            let pid = text.lines().next().and_then(|line| line.parse().ok());
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            named.push(Named { name, pid: pid.ok_or(io::ErrorKind::InvalidData)? });
        }
    }
    named.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(named)
}

struct Stat {
    parent: u32,
    /// Seconds, those of children that have ended included.
    cpu: f64,
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    let cpu = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    Some(Stat { parent: fields.get(1)?.parse().ok()?, cpu })
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn children() -> HashMap<u32, Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in pids() {
        if let Some(stat) = stat(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    children
}

fn memory(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The process that listens on a port of this machine.
fn listener(port: u16) -> anyhow::Result<Named> {
    let inodes: Vec<String> =
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|table| listening(table, port)).collect();
    for pid in pids() {
        let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut targets = links.filter_map(|link| fs::read_link(link.path()).ok());
        if targets.any(|target| inodes.iter().any(|inode| target == Path::new(inode))) {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            return Ok(Named { name: name.trim_end().to_owned(), pid });
        }
    }
    bail!("nobody on this machine listens on port {port}: name the processes by --pid name=pid")
}

fn listening(table: &str, port: u16) -> Vec<String> {
    let text = fs::read_to_string(table).unwrap_or_default();
    let rows = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mine = rows.filter(|row| {
        row.get(1).is_some_and(|local| local.ends_with(&format!(":{port:04X}"))) && row.get(3) == Some(&"0A")
    });
    mine.filter_map(|row| row.get(9).map(|inode| format!("socket:[{inode}]"))).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_process_that_listens_is_found_and_uses_something() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let found = Processes::find(&[], None, &[address, address]).expect("we listen there");
        assert_eq!(found.0.iter().map(|named| named.pid).collect::<Vec<_>>(), [std::process::id()]);
        assert!(found.used()[0].rss_kib > 100);
        drop(listener);
        assert!(Processes::find(&[], None, &[address]).is_err());
    }

    #[test]
    fn a_folder_names_processes_and_what_has_ended_is_not_counted() {
        let folder = std::env::temp_dir().join(format!("roomcast-load-{}", std::process::id()));
        fs::create_dir(&folder).expect("a folder");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("a child");
        fs::write(folder.join("b.pid"), format!("{}\nmark\n", std::process::id())).expect("a file");
        fs::write(folder.join("a.pid"), format!("{}\n", child.id())).expect("a file");
        fs::write(folder.join("environment"), "").expect("a file");
        let found = Processes::find(&[], Some(&folder), &[]);
        fs::remove_dir_all(&folder).expect("our own folder");
        let found = found.expect("both run");
        let before = found.used();
        let names = |used: &[Used]| used.iter().map(|used| used.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&before), ["a", "b"]);
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        let after = found.used();
        assert_eq!(names(&after), ["b"]);
        assert_eq!(both(&before, &after).map(|(before, _)| before.name.as_str()).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn children_count_for_their_parent() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("a child");
        assert!(children()[&std::process::id()].contains(&child.id()));
        child.kill().expect("our own child");
        child.wait().expect("our own child");
    }
}
