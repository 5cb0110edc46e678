#!/usr/bin/env python3
"""Watch a canary: fail as soon as Prometheus has an alert for it.

    watch_alerts.py http://prometheus:9090 'chatd-canary-.+' 900

The second argument is a regular expression of its instance label, the third for how many seconds.
A Prometheus that does not know the instance, or does not answer, is no good sign: that fails, too.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.parse
import urllib.request

PAUSE = 15


def main() -> None:
    prometheus, instance, seconds = sys.argv[1].rstrip("/"), sys.argv[2], float(sys.argv[3])
    deadline = time.monotonic() + seconds
    while True:
        if not query(prometheus, f'up{{instance=~"{instance}"}} == 1'):
            raise SystemExit(f"watch: Prometheus gets no answer of an instance {instance}")
        alerts = query(prometheus, f'ALERTS{{alertstate="firing", instance=~"{instance}"}}')
        if alerts:
            raise SystemExit(f"watch: {', '.join(one['alertname'] for one in alerts)}")
        left = deadline - time.monotonic()
        if left <= 0:
            break
        time.sleep(min(PAUSE, left))
    print(f"watch: no alert for {instance} within {seconds:.0f} s")


def query(prometheus: str, expression: str) -> list[dict[str, str]]:
    """The labels of all that an expression finds."""
    asked = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{prometheus}/api/v1/query?{asked}", timeout=10) as response:
        found = json.load(response)["data"]["result"]
    return [one["metric"] for one in found]


if __name__ == "__main__":
    main()
