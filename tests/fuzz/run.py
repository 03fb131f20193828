"""Fuzz the readers of untrusted files: python tests/fuzz/run.py --seconds 120

Each target has its share of the time, in a process of its own. With atheris (pip install '.[fuzz]')
the inputs are led by what of the code they reach; without it they are mutations of the corpus. The
exit code is 1 where an input crashed, took over 2 s or over 1 GiB; it is kept in --findings, and
belongs into the target's corpus once it is understood.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]


def engines() -> list[str]:
    """Those that can run here."""
    try:
        import atheris  # noqa: F401
    except ImportError:
        return ["seeded"]
    return ["atheris", "seeded"]


def fuzz_atheris(name: str, seconds: int, seed: int, findings: Path) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["vqcodec", "PIL"]):
        from fuzz import harness

        check = harness.load(name)
    check(b"")  # imports what is imported late
    found = tempfile.mkdtemp(prefix="vqcodec-fuzz-")
    flags = {
        "max_total_time": seconds,
        "max_len": harness.longest(harness.corpus(name)),
        "timeout": 300,  # of the clock: the harness measures the time of the processor
        "report_slow_units": 300,
        "rss_limit_mb": 0,  # the harness measures it too
        "print_final_stats": 1,
        "artifact_prefix": f"{findings}/{name}-",
        "seed": seed + 1,
    }
    arguments = [f"-{flag}={value}" for flag, value in flags.items()]
    atheris.Setup([sys.argv[0], *arguments, found, str(HERE / "corpus" / name)], check)
    atheris.Fuzz()


def fuzz_seeded(name: str, seconds: int, seed: int, findings: Path) -> int:
    from fuzz import harness

    begun = time.monotonic()
    count, data, error = harness.run(harness.load(name), harness.corpus(name), seed, seconds)
    print(f"Done {count} runs in {time.monotonic() - begun:.0f} second(s)")
    print(f"stat::peak_rss_mb: {harness.peak_mebibytes():.0f}")
    if data is None:
        return 0
    kept = findings / f"{name}-{time.time_ns()}"
    kept.write_bytes(data)
    print(f"{kept}: {type(error).__name__}: {error}")
    return 1


def one(name: str, engine: str, seconds: float, seed: int, findings: Path) -> dict[str, object]:
    """Fuzzes a target in a process of its own."""
    command = [sys.executable, __file__, name, "--engine", engine, "--seed", str(seed)]
    command += ["--seconds", str(round(seconds)), "--findings", str(findings)]
    begun = time.monotonic()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    text = done.stdout + done.stderr
    if done.returncode:
        print(text, file=sys.stderr)
    counts = re.findall(r"(?:Done|number_of_executed_units:) +(\d+)", text)
    peaks = re.findall(r"peak_rss_mb: +(\d+)", text)
    return {
        "target": name,
        "engine": engine,
        "inputs": int(counts[0]) if counts else 0,
        "seconds": round(time.monotonic() - begun),
        "peak_mib": int(peaks[-1]) if peaks else 0,
        "sound": done.returncode == 0,
    }


def main() -> int:
    from fuzz import harness

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("target", nargs="?", choices=harness.TARGETS, help="default: all")
    parser.add_argument("--seconds", type=float, default=120.0, help="for all together")
    parser.add_argument("--jobs", type=int, default=1, help="targets at once")
    parser.add_argument("--engine", choices=engines(), help="default: the first of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=Path("findings"))
    args = parser.parse_args()
    args.findings.mkdir(parents=True, exist_ok=True)
    engine = args.engine or engines()[0]
    if args.target:
        fuzz = fuzz_atheris if engine == "atheris" else fuzz_seeded
        return fuzz(args.target, round(args.seconds), args.seed, args.findings) or 0
    share = args.seconds * args.jobs / len(harness.TARGETS)
    with ThreadPoolExecutor(args.jobs) as pool:
        runs = list(
            pool.map(
                lambda name: one(name, engine, share, args.seed, args.findings), harness.TARGETS
            )
        )
    for run in runs:
        print(json.dumps(run))
    failed = sum(not run["sound"] for run in runs)
    print(f"{sum(run['inputs'] for run in runs)} inputs in {round(args.seconds)} s")
    print(f"{len(runs) - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
