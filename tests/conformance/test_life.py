"""Starts, ends, calls and refusals: after each of them the network is what it should be, on both sides."""

import os
import signal
from functools import partial

import pytest

from conformance.member import Member, Plait, wait_for_mesh
from conformance.mesh import KINDS, PASSWORDS, Kind, Mesh
from plait.testing.lab import wait_until


@pytest.mark.parametrize("restarted", KINDS)
@pytest.mark.parametrize("password", PASSWORDS, ids=["plain", "encrypted"])
def test_restarts(mesh: Mesh, restarted: Kind, password: str | None) -> None:
    """The same name comes back with another UID: by an orderly end, by a crash, as the caller and as the called."""
    mesh.password = password
    other_kind: Kind = "weaver" if restarted == "plait" else "plait"
    member, other = mesh.member(restarted), mesh.member(other_kind)
    other.start()
    member.start(other)
    wait_for_mesh(member, other)
    here, there = member.attach(1), other.attach(2)
    assert here.ping(there, timeout=3.0).ok
    first_uid = _uid(other, member)

    member.kill()
    wait_until(lambda: other.connection(member) is None, f"{other} has lost {member}")
    member.start(other)
    wait_for_mesh(member, other)
    assert wait_until(lambda: here.ping(there, count=1).ok, "a ping after a crash")
    assert there.ping(here).ok
    assert _uid(other, member) != first_uid

    # Now the one that stays has to call.
    other.connect(member)
    member.stop()
    wait_until(lambda: other.connection(member) is None, f"{other} has lost {member}")
    member.start()
    wait_for_mesh(member, other)
    assert wait_until(lambda: there.ping(here, count=1).ok, "a ping after an orderly restart")
    here.transfer(there, 1_000_000)
    wait_until(lambda: member.peers() == other.peers(), "both know the same peers")


def test_connect_and_forget(mesh: Mesh) -> None:
    plait, weaver = mesh.plait(), mesh.weaver()
    for member in (plait, weaver):
        member.start()
    for caller, called in ((plait, weaver), (weaver, plait)):
        caller.connect(called)
        wait_for_mesh(plait, weaver)
        assert caller.report()["Targets"] == [called.host.ip]
        caller.forget(called)
        assert not caller.report()["Targets"]
        # Forgetting leaves the connection; once it is lost, who was forgotten is not called again.
        assert caller.connection(called) is not None
        called.kill()
        called.start()
        wait_until(partial(_calls_nobody, caller), f"{caller} calls nobody")


@pytest.mark.parametrize("caller", KINDS)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("one", "other"), ("one", None), (None, "other")],
    ids=["different", "plait-only", "weaver-only"],
)
def test_passwords_that_do_not_match(mesh: Mesh, caller: Kind, ours: str | None, theirs: str | None) -> None:
    plait, weaver = mesh.plait(), mesh.weaver()
    plait.password, weaver.password = ours, theirs
    first, second = (plait, weaver) if caller == "weaver" else (weaver, plait)
    first.start()
    second.start(first)
    said = wait_until(plait.problems, "plait says that something is wrong")
    assert weaver.host.ip in said
    assert "password" in said
    wait_until(lambda: _is_refused(second), f"{second} shows a failed attempt")
    assert not plait.report()["Connections"] or plait.connection(weaver) is None
    assert weaver.connection(plait) is None


@pytest.mark.parametrize("caller", KINDS)
def test_one_name_twice(mesh: Mesh, caller: Kind) -> None:
    plait, weaver = mesh.plait(), mesh.weaver()
    plait.host.peer_name = weaver.host.peer_name
    first, second = (plait, weaver) if caller == "weaver" else (weaver, plait)
    first.start()
    second.start(first)
    assert "name" in wait_until(plait.problems, "plait says that something is wrong")
    assert plait.connection(weaver) is None
    assert weaver.connection(plait) is None


@pytest.mark.parametrize("password", PASSWORDS, ids=["plain", "encrypted"])
def test_pump_that_dies(mesh: Mesh, password: str | None) -> None:
    mesh.password = password
    plait, weaver = mesh.plait(), mesh.weaver()
    weaver.start()
    plait.start(weaver)
    wait_for_mesh(plait, weaver)
    here, there = plait.attach(1), weaver.attach(2)
    assert here.ping(there).ok
    os.kill(_pump(plait), signal.SIGKILL)
    wait_until(lambda: here.ping(there, count=1, timeout=0.2).ok, "a ping through a new pump")
    wait_for_mesh(plait, weaver)
    wait_until(lambda: there.ping(here).ok, "pings without a loss")
    there.transfer(here, 1_000_000)
    assert "SIGKILL" in plait.problems()


def _uid(member: Member, of: Member) -> int:
    return next(int(peer["UID"]) for peer in member.peers() if peer["Name"] == of.name)


def _calls_nobody(member: Member) -> bool:
    return not member.connections()


def _is_refused(member: Member) -> bool:
    return any(each["State"] in ("failed", "retrying") for each in member.connections())


def _pump(plait: Plait) -> int:
    return int(plait.details()["Pump"]["pid"])
