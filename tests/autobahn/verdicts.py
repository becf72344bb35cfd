"""Writes the specification of a run of the suite, and compares its verdicts with verdicts.txt."""

import json
import pathlib
import re
import sys

VERDICTS = pathlib.Path(__file__).with_name("verdicts.txt")
# All cases except the compression of large and of many messages, which takes ten minutes.
# The suite takes a pattern as the beginning of a name, so these cases are listed one by one.
SHORT = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"] + [
    f"{chapter}.{part}.{case}" for chapter, parts in ((12, 5), (13, 7)) for part in range(1, parts + 1) for case in (1, 2, 3)
]
ALL = [f"{chapter}.*" for chapter in (1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 13)]


def specification(which, port, report):
    return {
        "outdir": report,
        "servers": [{"agent": "roomcast", "url": f"ws://127.0.0.1:{port}"}],
        "cases": SHORT if which == "short" else ALL,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }


def read(path):
    cases = json.loads(pathlib.Path(path).read_text())["roomcast"]
    return {case: f"{of['behavior']} {of['behaviorClose']}" for case, of in cases.items()}


def is_expected(which, case):
    """Whether a run must test this case."""
    patterns = SHORT if which == "short" else ALL
    return any(re.fullmatch(pattern.replace(".", r"\.").replace("*", r"[\d.]+"), case) for pattern in patterns)


def compare(which, path):
    """Prints the differences to verdicts.txt, and returns their number."""
    found = read(path)
    if which == "write":
        order = sorted(found, key=lambda case: [int(part) for part in case.split(".")])
        VERDICTS.write_text("".join(f"{case} {found[case]}\n" for case in order))
    known = dict(line.split(" ", 1) for line in VERDICTS.read_text().splitlines())
    differences = [
        f"{case}: {verdict}, not {known.get(case)}" for case, verdict in found.items() if verdict != known.get(case)
    ]
    differences += [f"{case}: not tested" for case in known.keys() - found.keys() if is_expected(which, case)]
    differences += [f"{case}: {verdict}" for case, verdict in found.items() if "FAILED" in verdict]
    print("\n".join(differences or [f"{len(found)} cases have the verdicts of verdicts.txt"]))
    return len(differences)


match sys.argv[1:]:
    case ["specification", which, port, report]:
        print(json.dumps(specification(which, port, report)))
    case ["compare", which, path]:
        sys.exit(compare(which, path) > 0)
    case _:
        sys.exit("see tests/autobahn/run for the usage")
