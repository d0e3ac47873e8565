"""`python -m tests.faults --count N --seed S`: a campaign of N runs, stopped and continued as one likes."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from tests.faults.campaign import Campaign
from tests.faults.draw import FAMILIES
from tests.faults.judge import PROMISED
from tests.faults.summary import summary


def main() -> int:
    """Exit status 0: every run ended as promised; 1: there are findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--count", type=int, default=10, help="runs, 3 to 7 faults each [10]")
    parser.add_argument("--seed", type=int, default=0, help="of the draws [0]")
    parser.add_argument(
        "--folder", type=Path, default=Path("campaign"), help="results; the same goes on [campaign]"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at once [2]")
    parser.add_argument("--only", type=int, help="repeat this run, and keep its folder")
    parser.add_argument("--families", default=",".join(FAMILIES), help="which families of faults [all]")
    parser.add_argument("--keep", action="store_true", help="keep the folders of runs without findings too")
    asked = parser.parse_args()
    families = tuple(asked.families.split(","))
    unknown = set(families) - FAMILIES.keys()
    if unknown:
        parser.error(f"--families {', '.join(unknown)}: no such family; there are {', '.join(FAMILIES)}")
    only = asked.only is not None
    campaign = Campaign(asked.folder.absolute(), asked.seed, families, asked.keep or only)
    known = {result["number"] for result in campaign.done()}
    numbers = [asked.only] if only else [number for number in range(asked.count) if number not in known]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = campaign.run(numbers, asked.jobs)
    print()
    print(summary(results if only else campaign.done()), end="")
    return 0 if all(result["outcome"] in PROMISED for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
