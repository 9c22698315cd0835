"""Results of evaluations side by side: python -m common.compare checkpoint/a checkpoint/b.

Every argument is a results_*.json or a folder, of which all are taken. Prints what the evaluations have in common and
in which options they differ, what makes their numbers incomparable, and the errors, a column an evaluation.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from common.arguments import Options
from common.errors import DataError, OneLineParser, UsageError, exit_code
from common.evaluation import PROTOCOLS
from common.files import read_json
from common.settings import LEGEND, Setting

MEASURED_ON = {
    "dataset": "the dataset",
    "keypoints": "the 2D input",
    "annotation": "the 3D truth",
    "frames": "the number of frames",
    "action_prompt": "whether the network was told the action",
    "checkpoint_chosen_on": "what the checkpoint was chosen on",
}
"""Numbers that differ in one of these are not comparable."""
NOT_SETTINGS = {"checkpoint", "evaluate", "resume", "gpu", "device", "render", "log", "nolog"}
"""Options that say where and not what."""


@dataclass(frozen=True)
class Result:
    """One results JSON."""

    path: Path
    data: dict

    @property
    def settings(self) -> dict[str, Setting]:
        names = [entry.name for entry in fields(Setting)]
        return {key: Setting(**{name: found[name] for name in names}) for key, found in self.data["settings"].items()}

    @property
    def rows(self) -> dict[str, dict]:
        """Action or sequence -> its errors; with the subject before it where each has a table of its own."""
        found = {}
        for subject, tables in self.data["subjects"].items():
            of_subject = tables.get("actions") or tables.get("sequences") or {}
            for row, errors in of_subject.items():
                found[row if subject == "all" else f"{subject} {row}"] = errors
        return found


def read_results(paths: Sequence[Path]) -> list[Result]:
    """The results of files and folders, in the order given; of a folder by name.

    Raises:
        DataError: a file is absent, no JSON or no result of an evaluation, or a folder holds none.
    """
    files = []
    for path in paths:
        inside = sorted(path.glob("results_*.json")) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"{path} holds no results_*.json; evaluate there first (--evaluate)")
        files += inside
    return [_read(path) for path in dict.fromkeys(files)]


def _read(path: Path) -> Result:
    data: Any = read_json(path, "name a results_*.json of an evaluation, or a run's folder")
    result = Result(path, data)
    try:
        for errors in [data["average"], *result.rows.values()]:
            for protocol in PROTOCOLS:
                for steps in errors.get(f"protocol_{protocol}", {}).values():
                    if not steps or not all(type(step) in (int, float) for step in steps):
                        raise ValueError("an error is no list of numbers")
        for scores in data.get("pck", {}).get("settings", {}).values():
            if not all(type(scores[name]) in (int, float) for name in ("pck", "auc")):
                raise ValueError("a score is no number")
        if not (isinstance(data["options"], dict) and result.settings):
            raise ValueError("it says no options or no settings")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        lacks = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(
            f"{path} is no result of an evaluation as this version writes it ({lacks}); evaluate again, or name another"
        ) from None
    return result


def names_of(results: Sequence[Result]) -> list[str]:
    """A short name each: the file's, with the shortest end of its folder that tells it from the others."""
    stems = [result.path.stem.removeprefix("results_") for result in results]
    folders = [result.path.resolve().parent for result in results]
    if len(set(folders)) == 1:
        return stems
    deepest = max(len(folder.parts) for folder in folders)
    for depth in range(1, deepest + 1):
        ends = {folder: "/".join(folder.parts[-depth:]) for folder in folders}
        if len(set(ends.values())) == len(ends):
            break
    return [f"{ends[folder]}:{stem}" for folder, stem in zip(folders, stems, strict=True)]


def differences(results: Sequence[Result]) -> list[str]:
    """What makes the numbers incomparable, a line each; empty if nothing is known to."""
    lines = []
    for key, what in MEASURED_ON.items():
        values = [result.data.get(key) for result in results]
        if any(value != values[0] for value in values):
            shown = ", ".join(dict.fromkeys("not said" if value is None else str(value) for value in values))
            lines.append(f"they differ in {what}: {shown}")
    if any(result.rows.keys() != results[0].rows.keys() for result in results):
        lines.append("they differ in their actions or sequences, so the averages are of different things")
    return lines


def option_table(results: Sequence[Result], names: Sequence[str]) -> str:
    """The options in which the evaluations differ."""
    flags = {entry.name: entry.metadata["flags"][0] for entry in fields(Options) if entry.metadata}
    rows = {}
    for option in dict.fromkeys(name for result in results for name in result.data["options"]):
        values = [result.data["options"].get(option) for result in results]
        if option not in NOT_SETTINGS and any(value != values[0] for value in values):
            rows[flags.get(option, option)] = [_text(value) for value in values]
    epochs = [str(result.data.get("epoch", "-")) for result in results]
    return table("option", names, rows | {"epoch of the checkpoint": epochs})


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else "-" if value is None else str(value)


def error_table(results: Sequence[Result], names: Sequence[str]) -> str:
    """The averages of every setting under each protocol, and PCK and AUC where they were measured."""
    rows = {}
    for setting, label in labels(results).items():
        for protocol, metric in PROTOCOLS.items():
            key = f"protocol_{protocol}"
            rows[f"{label} {metric}, mm"] = [_last(result.data["average"], key, setting) for result in results]
        for score, unit in (("pck", "PCK, %"), ("auc", "AUC, %")):
            rows[f"{label} {unit}"] = [
                result.data.get("pck", {}).get("settings", {}).get(setting, {}).get(score) for result in results
            ]
    return table("average, last step", names, _numbers(rows))


def row_table(results: Sequence[Result], names: Sequence[str], setting: str, protocol: int) -> str:
    """The errors of every action or sequence in one setting."""
    every = dict.fromkeys(row for result in results for row in result.rows)
    key = f"protocol_{protocol}"
    rows = {row: [_last(result.rows.get(row, {}), key, setting) for result in results] for row in every}
    return table(f"{labels(results)[setting]} {PROTOCOLS[protocol]}, mm", names, _numbers(rows))


def labels(results: Sequence[Result]) -> dict[str, str]:
    """Setting -> its label and mark, of those that were measured."""
    measured = dict.fromkeys(name for result in results for name in result.data["average"].get("protocol_1", {}))
    known = {name: found for result in results for name, found in result.settings.items()}
    return {name: known[name].marked if name in known else name for name in measured}


def _last(errors: dict, protocol: str, setting: str) -> float | None:
    steps = errors.get(protocol, {}).get(setting)
    return steps[-1] if steps else None


def _numbers(rows: dict[str, list[float | None]]) -> dict[str, list[str]]:
    """Two decimals; from the second column on, how far it is from the first. Rows without a number are left out."""
    found = {}
    for row, values in rows.items():
        if all(value is None for value in values):
            continue
        first, cells = values[0], []
        for number, value in enumerate(values):
            cell = "-" if value is None else f"{value:.2f}"
            if number and value is not None and first is not None:
                cell += f" ({value - first:+.2f})"
            cells.append(cell)
        found[row] = cells
    return found


def table(head: str, names: Sequence[str], rows: dict[str, list[str]]) -> str:
    lines = [[head, *names], *([row, *cells] for row, cells in rows.items())]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names) + 1)]

    def text(line: Sequence[str]) -> str:
        cells = [f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True)]
        return "  ".join([f"{line[0]:<{widths[0]}}", *cells])

    return "\n".join(map(text, lines))


def comparison(results: Sequence[Result], setting: str, protocol: int) -> str:
    """All of it.

    Raises:
        UsageError: no result has this setting, or this protocol.
    """
    known = labels(results)
    if setting not in known:
        raise UsageError(f"--setting is {setting}; these results have {', '.join(known)}")
    if not any(f"protocol_{protocol}" in result.data["average"] for result in results):
        raise UsageError(f"--protocol {protocol} is in none of these results; evaluate with --p2")
    names = names_of(results)
    parts = [option_table(results, names), error_table(results, names), row_table(results, names, setting, protocol)]
    found = differences(results)
    if found:
        parts.insert(0, "NOT COMPARABLE:\n" + "\n".join(found))
    parts.append(f"{LEGEND}\nin brackets: how far it is from the first column")
    return "\n\n".join(parts)


def compare(argv: Sequence[str] | None) -> None:
    """Parse and print.

    Raises:
        UsageError, DataError: one line.
    """
    parser = OneLineParser(
        prog="python -m common.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS", help="a results_*.json, or a run's folder")
    parser.add_argument(
        "--setting", default="P_Agg", metavar="NAME", help="of the table by action or sequence (default: P_Agg)"
    )
    parser.add_argument("--protocol", type=int, default=1, choices=tuple(PROTOCOLS), help="of that table (default: 1)")
    given = parser.parse_args(argv)
    results = read_results(given.results)
    if len(results) < 2:
        raise UsageError(f"{results[0].path} is one result; name two or more to compare")
    print(comparison(results, given.setting, given.protocol))


def main(argv: Sequence[str] | None = None) -> int:
    return exit_code(lambda: compare(argv))


if __name__ == "__main__":
    sys.exit(main())
