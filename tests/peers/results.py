"""Writes each run to a file, one per line, and makes the table from that file."""

import datetime
import json
import statistics

import peers

WORKLOADS = {
    "w1": "1 room × 1,000 sockets, 20 messages/s: CPU-s / M · p99 ms",
    "w2": "500 rooms × 10, 1,000 messages/s: CPU-s / M · p99 ms",
    "w1max": "1 room × 1,000: most deliveries/s",
    "w2max": "500 rooms × 10: most deliveries/s",
    "w3": "10,000 idle sockets: KiB RSS / socket",
}
BEGIN, END = "<!-- peers: written by tests/peers/compare, not by hand -->", "<!-- /peers -->"


class Results:
    """The first line of the file has the conditions of the measurement, each other line a run."""

    def __init__(self, file, conditions, resume):
        self.file, self.conditions, self.runs = file, conditions, []
        if resume and file.exists():
            first, *runs = map(json.loads, file.read_text().splitlines())
            if changed := [name for name in ("machine", "versions", "seconds") if first.get(name) != conditions[name]]:
                raise SystemExit(f"{file} was measured with other {', '.join(changed)}: start again without --resume")
            self.conditions["date"], self.runs = first["date"], runs
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(conditions) + "\n")

    def has(self, peer, workload, turn):
        return any((run["peer"], run["workload"], run["turn"]) == (peer, workload, turn) for run in self.runs)

    def add(self, peer, workload, turn, result):
        run = {"peer": peer, "workload": workload, "turn": turn, **figures(workload, result)}
        self.runs.append(run)
        with self.file.open("a") as file:
            file.write(json.dumps(run) + "\n")

    def runs_of(self, peer, workload):
        return [run for run in self.runs if (run["peer"], run["workload"]) == (peer, workload)]

    def markdown(self):
        """The table, with notes about the conditions and versions."""
        workloads = [workload for workload in WORKLOADS if any(run["workload"] == workload for run in self.runs)]
        rows = [name for name in peers.PEERS if any(run["peer"] == name for run in self.runs)]
        lines = ["| | does | " + " | ".join(WORKLOADS[workload] for workload in workloads) + " |",
                 "|---" * (len(workloads) + 2) + "|"]
        for name in rows:
            cells = [cell(self.runs_of(name, workload)) for workload in workloads]
            lines.append(f"| {name} | {peers.PEERS[name].does} | " + " | ".join(cells) + " |")
        lines += ["", *self.notes(rows)]
        return "\n".join(lines)

    def notes(self, rows):
        conditions = self.conditions
        yield (f"{conditions['date']}, {conditions['machine']}. Servers, brokers and databases together on one core, the "
               f"load on another, over loopback; 128-byte texts; {conditions['seconds']} s a run. Medians of "
               f"{conditions['runs']} runs (of {conditions['max_runs']} searches for the most at p99 ≤ 100 ms), in "
               "brackets their range. \\*: a message was lost, doubled or late, or a socket was closed. – : not measured, or "
               "no rate was sustained.")
        yield ""
        yield "CPU seconds per million deliveries by process, at 500 rooms × 10:"
        yield ""
        for name in rows:
            costs = [run["costs"] for run in self.runs_of(name, "w2") if run.get("costs")]
            if costs and len(costs[0]) > 1:
                medians = {process: statistics.median(cost[process] for cost in costs) for process in costs[0]}
                texts = (f"{process} {number(median)}" for process, median in medians.items())
                yield f"- {name}: {', '.join(texts)}"
        yield ""
        yield "Versions: " + "; ".join(conditions["versions"]) + "."
        for name, reason in peers.NOT_COMPARED.items():
            yield f"Not compared: {name}: {reason}."


def figures(workload, result):
    """The values of a result for its column; None if there is no result."""
    run = result and result["run"]
    if not run:
        return {"values": None}
    wrong = not run["complete"] or any(run["faults"].values())
    if workload == "w3":
        values = [sum(memory["rss_kib_per_socket"] for memory in result["memory"])]
    elif workload.endswith("max"):
        values = [run["per_second"]]
    else:
        values = [sum(cost["per_million"] for cost in run["costs"]), run["p99_ms"]]
    costs = {cost["name"]: cost["per_million"] for cost in run["costs"]}
    return {"values": values, "wrong": wrong, "costs": costs}


def cell(runs):
    """The median of each value, with its range if there were several runs."""
    with_values = [run for run in runs if run["values"]]
    if not with_values:
        return "–"
    if all(run["wrong"] for run in with_values):
        return "not sustained"
    parts = []
    for values in zip(*(run["values"] for run in with_values)):
        low, middle, high = (number(f(values)) for f in (min, statistics.median, max))
        parts.append(middle if low == high else f"{middle} ({low}–{high})")
    return " · ".join(parts) + ("\\*" if any(run["wrong"] for run in with_values) else "")


def number(value):
    if value >= 10_000_000:
        return f"{value / 1e6:.1f} M"
    if value >= 10_000:
        return f"{value / 1000:,.0f} k"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def write(file, table):
    """Writes the table between its two markers."""
    before, rest = file.read_text().split(BEGIN)
    after = rest.split(END)[1]
    file.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


def today():
    return datetime.date.today().strftime("%-d %B %Y")
