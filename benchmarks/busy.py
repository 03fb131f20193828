"""What waiting threads cost: `encode` and `decode`, on the machine as it is and on a busy one.

    python benchmarks/busy.py photo.png --others 8

Torch's OpenMP lets threads spin while they wait (ACTIVE) or sleep (PASSIVE, which the command line
sets). Spinning threads answer sooner, but take the processors from those that work. The same
command runs both ways, alternately, alone and beside other processes that compute.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = [sys.executable, "-m", "vqcodec"]
POLICIES = ("ACTIVE", "PASSIVE")


def seconds(args: list[str], policy: str) -> float:
    begun = time.perf_counter()
    environment = {**os.environ, "OMP_WAIT_POLICY": policy}
    subprocess.run([*PROGRAM, *args], check=True, env=environment, capture_output=True)
    return time.perf_counter() - begun


def measure(picture: Path, rate: str, rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds of each command with each policy."""
    with tempfile.TemporaryDirectory() as folder:
        vqc, png = f"{folder}/a.vqc", f"{folder}/a.png"
        commands = {
            "encode": ["encode", str(picture), vqc, "--rate", rate, "--force"],
            "decode": ["decode", vqc, png, "--force"],
        }
        times: dict[str, dict[str, list[float]]] = {
            name: {policy: [] for policy in POLICIES} for name in commands
        }
        for _ in range(rounds):
            for name, args in commands.items():
                for policy in POLICIES:
                    times[name][policy].append(seconds(args, policy))
    return {
        name: {policy: round(statistics.median(of), 2) for policy, of in each.items()}
        for name, each in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--rate", default="34dB")
    parser.add_argument("--others", type=int, default=8, help="processes that compute beside it")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    result = {"cores": os.cpu_count(), "load_before": load, "rate": args.rate}
    result["alone"] = measure(args.picture, args.rate, args.rounds)
    others = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(args.others)
    ]
    try:
        result[f"beside {args.others}"] = measure(args.picture, args.rate, args.rounds)
    finally:
        for other in others:
            other.kill()
            other.wait()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
