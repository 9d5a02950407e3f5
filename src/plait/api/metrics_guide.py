"""docs/metrics.md from the definitions of the metrics: `python -m plait.api.metrics_guide > docs/metrics.md`."""

from collections.abc import Iterable, Iterator, Mapping

from plait.api.metric import Definition
from plait.api.metrics import GROUPS, PROCESS_METRICS
from plait.figures_report import CHOICES, MTU_SOURCES, OTHER_SOURCE
from plait.overlay.fastdp.tables import DROP_REASONS
from plait.overlay.sleeve.pump.counters import COUNTERS, LOSSES
from plait.problems import OTHER_KIND, PROBLEM_KINDS

_HEAD = """\
# Metrics

`GET /metrics` answers in the Prometheus text format: at 127.0.0.1:6782 with `/status` and `/report` (`--status-addr`,
`WEAVE_STATUS_ADDR`), at the control listener, and alone at `--metrics-addr` (`WEAVE_METRICS_ADDR`), which is off unless
it is given. Prometheus on another host needs one that it reaches:

```sh
plait launch --metrics-addr 192.0.2.11:6782 host1   # an address of this host that Prometheus reaches, and few others do
```

```yaml
# prometheus.yml
rule_files: [plait.rules.yml]
scrape_configs:
  - job_name: plait
    scrape_interval: 15s
    static_configs:
      - targets: ["192.0.2.11:6782", "192.0.2.12:6782"]
```

- [packaging/prometheus/plait.rules.yml](../packaging/prometheus/plait.rules.yml): alerts, each with the command to run
  on the host that it names. They expect `job_name: plait`, and were tested with `promtool test rules`.
- [packaging/grafana/plait.json](../packaging/grafana/plait.json): a dashboard. In Grafana: Dashboards, New, Import,
  upload the file, choose the Prometheus data source. Its variables are the data source, the job and the nodes.

Labels have few values: peers (as many as there are in the mesh), and words from the lists below. Weave's names, types
and labels are those of Weave Net 2.8, the help texts are plait's. What Weave had and plait has not: `go_*` (there is no
Go runtime) and `weavenpc_*` (there is no network policy). A counter begins anew with the node, the pump or the
connection that it counts for, as Prometheus expects of counters.
"""

_PEERS = """
`peer` is a peer's name; `plait_mesh_peer_info` has its nickname:

```
plait_connection_rtt_seconds * on (instance, peer) group_left (nickname) plait_mesh_peer_info
```
"""


def guide() -> str:
    """Give the whole file."""
    parts = [_HEAD, *(_group(title, group) for title, group in GROUPS.items()), _PEERS, _processes(), *_lists()]
    return "".join(parts)


def _group(title: str, definitions: Iterable[Definition]) -> str:
    head = f"\n## {title}\n\n| metric | type | labels | meaning | absent |\n|---|---|---|---|---|\n"
    return head + "".join(f"| {' | '.join(_cells(each))} |\n" for each in definitions)


def _cells(each: Definition) -> Iterator[str]:
    yield f"`{each.name}`"
    yield each.kind
    yield ", ".join(f"`{label}`" for label in each.labels)
    yield each.meaning
    yield each.absent


def _processes() -> str:
    head = "\n## Processes\n\nOf the node; with `plait_pump_` before the name, of the pump.\n\n"
    rows = "".join(f"| `{name}` | {meaning} |\n" for name, meaning in PROCESS_METRICS.items())
    return f"{head}| metric | meaning |\n|---|---|\n{rows}"


def _lists() -> Iterator[str]:
    yield "\n## Values of labels\n\n"
    yield _words("`reason` of `plait_connection_overlay`", CHOICES)
    yield _words("`source` of `plait_connection_path_mtu_source`", (*MTU_SOURCES.values(), OTHER_SOURCE))
    yield _words("`kind` of `plait_problems`", (*PROBLEM_KINDS, OTHER_KIND))
    yield _table("`reason` of `plait_datapath_drops_total`", DROP_REASONS)
    yield _table("`reason` of `plait_pump_drops_total`", {reason: COUNTERS[reason] for reason in LOSSES})


def _words(title: str, words: Iterable[str]) -> str:
    return f"- {title}: {', '.join(f'`{word}`' for word in words)}\n"


def _table(title: str, rows: Mapping[str, str]) -> str:
    body = "".join(f"| `{word}` | {meaning} |\n" for word, meaning in rows.items())
    return f"\n{title}:\n\n| reason | meaning |\n|---|---|\n{body}"


if __name__ == "__main__":
    print(guide(), end="")
