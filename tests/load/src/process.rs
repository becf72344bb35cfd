//! Reads CPU and memory of the server's processes, each with its children, from `/proc`.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    net::SocketAddr,
    path::Path,
};

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::config::NamedProcess;

/// CPU and memory of a process and its children.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct ProcessUsage {
    pub(crate) name: String,
    pid: u32,
    /// CPU seconds since the start.
    pub(crate) cpu: f64,
    /// Resident memory in KiB.
    pub(crate) rss_kib: u64,
    /// Proportional memory in KiB: resident memory, with each shared page divided among its processes.
    pub(crate) pss_kib: u64,
}

/// The processes to measure.
#[derive(Clone, Debug)]
pub(crate) struct MeasuredProcesses(Vec<NamedProcess>);

impl MeasuredProcesses {
    /// The named processes and those of the folder; without any, those that listen at the addresses.
    pub(crate) fn find(
        processes: &[NamedProcess],
        folder: Option<&Path>,
        addresses: &[SocketAddr],
    ) -> anyhow::Result<Self> {
        let mut processes = processes.to_vec();
        if let Some(folder) = folder {
            processes
                .extend(read_pid_files(folder).with_context(|| format!("--pids-in {}", folder.display()))?);
        }
        for NamedProcess { name, pid } in &processes {
            read_stat(*pid).with_context(|| format!("{name}={pid}: no such process"))?;
        }
        if processes.is_empty() {
            processes =
                addresses.iter().map(|address| find_listener(address.port())).collect::<Result<_, _>>()?;
        }
        // One process may listen at several addresses.
        let mut pids = HashSet::new();
        processes.retain(|processes| pids.insert(processes.pid));
        Ok(Self(processes))
    }

    /// The usage of each process that still runs.
    pub(crate) fn read_usage(&self) -> Vec<ProcessUsage> {
        let children = children_by_pid();
        let running = self.0.iter().filter(|processes| read_stat(processes.pid).is_some());
        running.map(|processes| read_usage_with_children(processes, &children)).collect()
    }
}

/// Pairs the usages of each process; leaves out processes that ended meanwhile.
pub(crate) fn pairs_by_pid<'a>(
    before: &'a [ProcessUsage],
    after: &'a [ProcessUsage],
) -> impl Iterator<Item = (&'a ProcessUsage, &'a ProcessUsage)> {
    after.iter().filter_map(|after| Some((before.iter().find(|before| before.pid == after.pid)?, after)))
}

fn read_usage_with_children(processes: &NamedProcess, children: &HashMap<u32, Vec<u32>>) -> ProcessUsage {
    let mut usage =
        ProcessUsage { name: processes.name.clone(), pid: processes.pid, ..ProcessUsage::default() };
    let mut unvisited = vec![processes.pid];
    while let Some(pid) = unvisited.pop() {
        unvisited.extend(children.get(&pid).into_iter().flatten());
        usage.cpu += read_stat(pid).map_or(0.0, |stat| stat.cpu_secs);
        usage.rss_kib += memory_kib(pid, "Rss:");
        usage.pss_kib += memory_kib(pid, "Pss:");
    }
    usage
}

/// Reads a folder of files `NAME.pid`, whose first lines are process ids; sorted by name.
fn read_pid_files(folder: &Path) -> io::Result<Vec<NamedProcess>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "pid") {
            let text = fs::read_to_string(&path)?;
            let pid = text.lines().next().and_then(|line| line.parse().ok());
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            processes.push(NamedProcess { name, pid: pid.ok_or(io::ErrorKind::InvalidData)? });
        }
    }
    processes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(processes)
}

struct ProcessStat {
    parent: u32,
    /// CPU seconds, including those of children that have ended.
    cpu_secs: f64,
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn read_stat(pid: u32) -> Option<ProcessStat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The fields after the program's name, which is in parentheses and may contain anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    let cpu = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    Some(ProcessStat { parent: fields.get(1)?.parse().ok()?, cpu_secs: cpu })
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn children_by_pid() -> HashMap<u32, Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in pids() {
        if let Some(stat) = read_stat(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    children
}

fn memory_kib(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Finds the process that listens on a port of this machine.
fn find_listener(port: u16) -> anyhow::Result<NamedProcess> {
    let inodes: Vec<String> =
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|table| listening_inodes(table, port)).collect();
    for pid in pids() {
        let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut targets = links.filter_map(|link| fs::read_link(link.path()).ok());
        if targets.any(|target| inodes.iter().any(|inode| target == Path::new(inode))) {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            return Ok(NamedProcess { name: name.trim_end().to_owned(), pid });
        }
    }
    bail!("no process on this machine listens on port {port}: name the processes by --pid name=pid")
}

fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    let text = fs::read_to_string(table).unwrap_or_default();
    let rows = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listening = rows.filter(|row| {
        row.get(1).is_some_and(|local| local.ends_with(&format!(":{port:04X}"))) && row.get(3) == Some(&"0A")
    });
    listening.filter_map(|row| row.get(9).map(|inode| format!("socket:[{inode}]"))).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn listening_process_is_found_with_its_usage() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let measured =
            MeasuredProcesses::find(&[], None, &[address, address]).expect("this process listens there");
        assert_eq!(
            measured.0.iter().map(|processes| processes.pid).collect::<Vec<_>>(),
            [std::process::id()]
        );
        assert!(measured.read_usage()[0].rss_kib > 100);
        drop(listener);
        assert!(MeasuredProcesses::find(&[], None, &[address]).is_err());
    }

    #[test]
    fn process_folder_counts_running_processes_only() {
        let folder = std::env::temp_dir().join(format!("roomcast-load-{}", std::process::id()));
        fs::create_dir(&folder).expect("a folder");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("a child");
        fs::write(folder.join("b.pid"), format!("{}\nmark\n", std::process::id())).expect("a file");
        fs::write(folder.join("a.pid"), format!("{}\n", child.id())).expect("a file");
        fs::write(folder.join("environment"), "").expect("a file");
        let measured = MeasuredProcesses::find(&[], Some(&folder), &[]);
        fs::remove_dir_all(&folder).expect("the folder is removed");
        let measured = measured.expect("both processes run");
        let before = measured.read_usage();
        let names = |usage: &[ProcessUsage]| usage.iter().map(|usage| usage.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&before), ["a", "b"]);
        child.kill().expect("the child is killed");
        child.wait().expect("the child ends");
        let after = measured.read_usage();
        assert_eq!(names(&after), ["b"]);
        assert_eq!(
            pairs_by_pid(&before, &after).map(|(before, _)| before.name.as_str()).collect::<Vec<_>>(),
            ["b"]
        );
    }

    #[test]
    fn child_processes_count_for_their_parent() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("a child");
        assert!(children_by_pid()[&std::process::id()].contains(&child.id()));
        child.kill().expect("the child is killed");
        child.wait().expect("the child ends");
    }
}
