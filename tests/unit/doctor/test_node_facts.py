"""What checks take from a node's report, in the words of `plait status --json`."""

import msgspec
from msgspec.structs import replace

from plait.doctor.facts import Peer
from plait.doctor.node_facts import node_of
from unit.api.full_report import detail, plait_report, report_with


def test_what_checks_take_from_a_report() -> None:
    connection = replace(detail(), address="192.0.2.2:6799", weave=True, fragments=False)
    report = report_with(replace(plait_report([connection]), exposed=["10.32.0.1/12"], mtu=1450))
    node = node_of(msgspec.to_builtins(report))
    assert node.exposed == ["10.32.0.1/12"]
    assert node.mtu == 1450
    assert node.peers[0] == Peer(
        name=connection.peer,
        nickname="two",
        remote="192.0.2.2:6799",
        state="pending",
        overlay="fastdp",
        reason="fastdp is the first choice",
        weave=True,
        mtu=1450,
        path_mtu=1500,
        mtu_source="acknowledged by the peer",
        fragments=False,
    )
