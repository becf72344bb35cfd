"""What was measured: a file of one line a run, and the table that is made of it."""

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
    """The file's first line is how it was measured, each other line a run."""

    def __init__(self, file, how, resume):
        self.file, self.how, self.runs = file, how, []
        if resume and file.exists():
            first, *runs = map(json.loads, file.read_text().splitlines())
            if changed := [name for name in ("machine", "versions", "seconds") if first.get(name) != how[name]]:
                raise SystemExit(f"{file} was measured with other {', '.join(changed)}: begin anew")
            self.how["date"], self.runs = first["date"], runs
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(how) + "\n")

    def has(self, peer, workload, turn):
        return any((run["peer"], run["workload"], run["turn"]) == (peer, workload, turn) for run in self.runs)

    def add(self, peer, workload, turn, result):
        run = {"peer": peer, "workload": workload, "turn": turn, **figures(workload, result)}
        self.runs.append(run)
        with self.file.open("a") as file:
            file.write(json.dumps(run) + "\n")

    def of(self, peer, workload):
        return [run for run in self.runs if (run["peer"], run["workload"]) == (peer, workload)]

    def markdown(self):
        """The table, and all that its figures depend on."""
        workloads = [workload for workload in WORKLOADS if any(run["workload"] == workload for run in self.runs)]
        rows = [name for name in peers.PEERS if any(run["peer"] == name for run in self.runs)]
        lines = ["| | does | " + " | ".join(WORKLOADS[workload] for workload in workloads) + " |",
                 "|---" * (len(workloads) + 2) + "|"]
        for name in rows:
            cells = [cell(self.of(name, workload)) for workload in workloads]
            lines.append(f"| {name} | {peers.PEERS[name].does} | " + " | ".join(cells) + " |")
        lines += ["", *self.notes(rows)]
        return "\n".join(lines)

    def notes(self, rows):
        how = self.how
        yield (f"{how['date']}, {how['machine']}. Servers, brokers and databases together on one core, the load on "
               f"another, over loopback; 128-byte texts; {how['seconds']} s a run. Medians of "
               f"{how['runs']} runs (of {how['max_runs']} searches for the most at p99 ≤ 100 ms), in brackets their "
               "range. \\*: something was lost, came twice or late, or a socket was closed. – : not measured, or "
               "nothing at all was held.")
        yield ""
        yield "CPU seconds per million deliveries by process, at 500 rooms × 10:"
        yield ""
        for name in rows:
            costs = [run["costs"] for run in self.of(name, "w2") if run.get("costs")]
            if costs and len(costs[0]) > 1:
                each = (f"{process} {number(statistics.median(cost[process] for cost in costs))}" for process in costs[0])
                yield f"- {name}: {', '.join(each)}"
        yield ""
        yield "Versions: " + "; ".join(how["versions"]) + "."
        for name, why in peers.ABSENT.items():
            yield f"Not compared: {name}: {why}."


def figures(workload, result):
    """What a result puts into its column; nothing where there is none."""
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
    """Medians, each with its range where there were several runs."""
    had = [run for run in runs if run["values"]]
    if not had:
        return "–"
    if all(run["wrong"] for run in had):
        return "not held"
    parts = []
    for values in zip(*(run["values"] for run in had)):
        low, middle, high = (number(f(values)) for f in (min, statistics.median, max))
        parts.append(middle if low == high else f"{middle} ({low}–{high})")
    return " · ".join(parts) + ("\\*" if any(run["wrong"] for run in had) else "")


def number(value):
    if value >= 10_000_000:
        return f"{value / 1e6:.1f} M"
    if value >= 10_000:
        return f"{value / 1000:,.0f} k"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def write(file, table):
    """Puts the table between its two markers."""
    before, rest = file.read_text().split(BEGIN)
    after = rest.split(END)[1]
    file.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


def today():
    return datetime.date.today().strftime("%-d %B %Y")
