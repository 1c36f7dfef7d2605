"""Compare with everything a user could pick instead: tables, charts and figures from one command.

    python benchmarks/peers.py --output DIR [--budget SECONDS] [--size WxH ...] [--kind KIND ...]

Needs the libraries of ``gpufuse[bench]``; one that is missing is named and left out. It writes ``peers.json`` (every
figure), ``peers.md`` (to read) and ``peers-KIND.svg`` (cost and memory against size), anew after each kind and size,
so that a run that is cut short loses nothing. `GPUFUSE_BENCH_SMOKE=1` uses tiny pictures: it shows that it
runs, nothing more.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from gpufuse.bench.chart import write_charts  # noqa: E402
from gpufuse.bench.kinds import KINDS  # noqa: E402
from gpufuse.bench.records import Size  # noqa: E402
from gpufuse.bench.run import Comparison, Plan, compare  # noqa: E402
from gpufuse.bench.table import as_json, as_markdown, as_text  # noqa: E402

SMOKE = os.environ.get("GPUFUSE_BENCH_SMOKE") == "1"
SIZES = ("48x32",) if SMOKE else ("320x240", "1280x720", "1920x1080", "3840x2160")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="made if it is missing")
    parser.add_argument(
        "--budget", type=float, default=2.0 if SMOKE else 480.0, metavar="SECONDS", help="time for all of it"
    )
    parser.add_argument(
        "--size", type=Size.of, action="append", metavar="WxH", help=f"default: {', '.join(SIZES)}"
    )
    parser.add_argument("--kind", choices=tuple(KINDS), action="append", help="default: all")
    arguments = parser.parse_args()
    plan = Plan(
        arguments.size or [Size.of(word) for word in SIZES],
        arguments.kind or tuple(KINDS),
        arguments.budget,
        short=SMOKE,
        runs=0 if SMOKE else 7,
    )
    arguments.output.mkdir(parents=True, exist_ok=True)

    def write(comparison: Comparison) -> None:
        try:
            charts = write_charts(comparison.rows, arguments.output)
        except ImportError:
            charts = []
            print("no charts: matplotlib is not installed; pip install 'gpufuse[bench]'", file=sys.stderr)
        (arguments.output / "peers.json").write_text(as_json(comparison), encoding="utf-8")
        (arguments.output / "peers.md").write_text(as_markdown(comparison, charts), encoding="utf-8")

    try:
        comparison = compare(plan, tell=lambda line: print(line, file=sys.stderr), update=write)
    except KeyboardInterrupt:
        print("interrupted; what was measured before is in the files", file=sys.stderr)
        return 130
    print(as_text(comparison))
    return 0


if __name__ == "__main__":
    sys.exit(main())
