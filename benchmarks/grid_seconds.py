"""Where the seconds of a finished grid went, from the result files alone."""

import json
import sys
from collections import defaultdict
from pathlib import Path


def main() -> int:
    """Print seconds per stage, work done twice counted once; 2 where there is no result."""
    paths = sorted(Path("outputs/cells").glob("*/result.json"))
    if not paths:
        print("No results below outputs/: run make demo first.", file=sys.stderr)
        return 2
    seconds: dict[str, dict[str, float]] = defaultdict(dict)
    for path in paths:
        for title, stage in json.loads(path.read_text(encoding="utf-8"))["stages"].items():
            seconds[title][stage["folder"]] = stage["seconds"]
    total = sum(sum(stages.values()) for stages in seconds.values())
    print(f"{'stage':<20} {'runs':>5} {'seconds':>9} {'share':>7}")
    for title, stages in sorted(seconds.items(), key=lambda item: -sum(item[1].values())):
        spent = sum(stages.values())
        print(f"{title:<20} {len(stages):>5} {spent:>9.1f} {spent / total:>7.1%}")
    print(f"{len(paths)} cells, {total:.1f} s in stages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
