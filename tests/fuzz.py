"""Fuzz the readers, guided by coverage (atheris, libFuzzer): no harm may come of any file.

    python -m tests.fuzz --minutes 30 [--only mat]

The time goes to the targets in turn, each in a process of its own. What went wrong is shown, and the input is left in
`--out`: mend the reader, and move the input to tests/fuzz_findings/TARGET/, where tests/test_fuzz.py reads it ever
after. A target goes on from the corpus that `--corpus` keeps of it, if that is given. Linux on x86-64, with atheris
installed (requirements-dev.txt).
"""

import argparse
import hashlib
import importlib.util
import math
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

from common.errors import DataError, OneLineParser, UsageError, exit_code

_HANGS = 600
"""Seconds, after which a reader will not come back; machines may pause for minutes."""
_LONGEST = 16 << 10
_INSTRUMENTED = ["common", "zipfile", "pickletools", "json"]


def fuzz_one(name: str, seconds: int, corpus: Path, out: Path, log: Path) -> None:
    """libFuzzer over one target, until the time is over or something is found; ends the process."""
    import atheris

    from tests.fuzz_targets import TARGETS, check

    with open(log, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    target, folder = TARGETS[name], log.parent / name
    seeds, words = folder / "seeds", folder / "words"
    seeds.mkdir(parents=True)
    for number, seed in enumerate(target.seeds()):
        (seeds / str(number)).write_bytes(seed)
        check(target, seed, folder)  # what is imported on the way is no memory of the file's
    arguments = [
        sys.argv[0], f"-max_total_time={seconds}", f"-timeout={_HANGS}", f"-artifact_prefix={out}/", "-rss_limit_mb=0",
        f"-max_len={_LONGEST}", "-print_final_stats=1", str(corpus), str(seeds),
    ]  # fmt: skip
    if target.words:
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
        arguments.append(f"-dict={words}")

    def read(data: bytes) -> None:
        try:
            check(target, data, folder)
        except BaseException:
            (out / f"failed-{hashlib.sha1(data).hexdigest()[:16]}").write_bytes(data)
            raise

    atheris.Setup(arguments, read)
    atheris.Fuzz()


def _escaped(word: str) -> str:
    """As libFuzzer's dictionaries have it."""
    return "".join(f"\\x{byte:02x}" for byte in word.encode())


def fuzz(names: list[str], minutes: float, corpus: Path, out: Path) -> int:
    """All targets in turn; returns how many found something."""
    found = 0
    for name in names:
        seconds = math.ceil(minutes * 60 / len(names))
        for folder in (corpus, out):
            (folder / name).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            log = Path(scratch) / "log.txt"
            begin = time.monotonic()
            process = multiprocessing.get_context("fork").Process(
                target=fuzz_one, args=(name, seconds, corpus / name, out / name, log)
            )
            process.start()
            process.join()
            lines = log.read_text(errors="replace").splitlines()
        runs = [line.split()[-1] for line in lines if line.startswith("stat::number_of_executed_units")]
        verdict = "nothing found" if process.exitcode == 0 else f"FAILED (exit code {process.exitcode})"
        print(f"{name}: {runs[0] if runs else 'no'} inputs in {time.monotonic() - begin:.0f} s, {verdict}", flush=True)
        if process.exitcode:
            found += 1
            print("\n".join(lines[-40:]), flush=True)
    return found


def run(argv) -> None:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1, metavar="N", help="of all targets together (default: 1)")
    parser.add_argument("--only", metavar="TEXT", default="", help="targets whose name has this text")
    parser.add_argument("--corpus", metavar="DIR", help="where inputs that reached new code are kept")
    parser.add_argument("--out", metavar="DIR", default="fuzz_out", help="where findings go (default: fuzz_out)")
    options = parser.parse_args(argv)
    if importlib.util.find_spec("atheris") is None:
        raise UsageError("atheris is not installed; install requirements-dev.txt (Linux on x86-64)")
    import atheris

    with atheris.instrument_imports(include=_INSTRUMENTED):
        from tests.fuzz_targets import TARGETS
    names = [name for name in TARGETS if options.only in name]
    if not names:
        raise UsageError(f"--only {options.only}: no such target; there are {', '.join(TARGETS)}")
    with tempfile.TemporaryDirectory() as scratch:
        found = fuzz(names, options.minutes, Path(options.corpus or scratch), Path(options.out))
    if found:
        raise DataError(f"{found} of {len(names)} readers failed; their inputs are in {options.out}")


def main(argv=None) -> int:
    return exit_code(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
