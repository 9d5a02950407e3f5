"""A node's report, as `plait status --json` prints it, as what checks know of a node."""

from collections.abc import Mapping
from typing import Any

from plait.doctor.facts import Node, Peer


def node_of(report: Mapping[str, Any]) -> Node:
    """Take what checks need, and nothing that would be a secret in a captured machine. Raise KeyError."""
    plait, router = report["Plait"], report["Router"]
    states = {connection["Address"]: connection["State"] for connection in router["Connections"] or ()}
    return Node(
        name=router["Name"],
        version=report["Version"],
        pid=plait["Pid"],
        port=router["Port"],
        bridge=plait["Bridge"],
        mtu=plait["Mtu"],
        encrypted=router["Encryption"],
        range=report.get("IPAM", {}).get("Range") or None,
        overlays=plait["Overlays"],
        exposed=plait["Exposed"],
        peers=[_peer(detail, states) for detail in plait["Connections"]]
        + [
            Peer(name="", remote=connection["Address"], state=connection["State"], reason=connection["Info"])
            for connection in router["Connections"] or ()
            if connection["Attrs"] is None
        ],
        problems=[problem["What"] for problem in plait["Problems"]],
    )


def _peer(detail: Mapping[str, Any], states: Mapping[str, str]) -> Peer:
    return Peer(
        name=detail["Peer"],
        nickname=detail["NickName"],
        remote=detail["Address"],
        state=states.get(detail["Address"], "pending"),
        overlay=detail["Overlay"],
        reason=detail["Reason"],
        weave=detail["Weave"],
        mtu=detail["Mtu"] or None,
        path_mtu=detail["PathMtu"] or None,
        mtu_source=detail["MtuSource"],
        fragments=detail["Fragments"],
    )
