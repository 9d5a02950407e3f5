"""Who may be a neighbour, and which of two connections to one peer stays."""

import pytest

from plait.mesh.links import LinkRefused, Links
from plait.mesh.name import PeerName
from unit.mesh.routers import features, opened

OURS = PeerName(1)


def links(limit: int = 0) -> Links:
    return Links(OURS, limit, frozenset({"sleeve"}))


def refusal(table: Links, *, is_known: bool = True, **changes: object) -> LinkRefused:
    connection = opened(**({"remote": features(2)} | changes))  # type: ignore[arg-type]
    with pytest.raises(LinkRefused) as caught:
        table.check(connection, is_known=is_known, our_uid=1001)
    return caught.value


def test_a_link_is_found_by_its_number_and_by_its_peer() -> None:
    table = links()
    link = table.add(opened(features(2), number=7), 5.0)
    assert table.get(7) is table.to(PeerName(2)) is link
    assert (len(table), list(table), link.added_at) == (1, [link], 5.0)
    table.remove(link)
    assert table.get(7) is table.to(PeerName(2)) is None
    table.remove(link)  # twice is fine


def test_removing_a_replaced_link_leaves_the_newer_one() -> None:
    table = links()
    older = table.add(opened(features(2), number=1, uid=9), 0.0)
    newer = table.add(opened(features(2), number=2, uid=3), 0.0)
    table.remove(older)
    assert table.to(PeerName(2)) is newer


def test_a_node_is_no_neighbour_of_its_own() -> None:
    dialled = refusal(links(), remote=features(1, uid=1001))
    assert (dialled.is_ourself, dialled.is_final, dialled.is_fault) == (True, True, True)
    assert "plait forget" in str(dialled)
    called = refusal(links(), remote=features(1, uid=1001), outbound=False)
    assert (called.is_ourself, called.is_fault) == (True, False)  # the dialling end tells it


def test_another_peer_with_our_name_is_named_with_its_host() -> None:
    found = refusal(links(), remote=features(1, uid=77, nickname="clone"), address="192.0.2.9:41234", outbound=False)
    assert (found.is_ourself, found.is_final, found.is_fault) == (False, True, True)
    assert "clone at 192.0.2.9 has our name 00:00:00:00:00:01" in str(found)
    assert "plait reset" in str(found)


def test_gossip_that_names_another_peer_at_an_address_is_a_passing_error() -> None:
    found = refusal(links(), is_known=False, accepts_unknown=False)
    assert (found.is_final, found.is_fault) == (False, False)
    assert "00:00:00:00:00:02 at 192.0.2.9:6783" in str(found)
    links().check(opened(features(2), accepts_unknown=True), is_known=False, our_uid=1001)


def test_peers_without_a_common_overlay_cannot_exchange_frames() -> None:
    found = refusal(links(), remote=features(2, overlays=("pigeon",)))
    assert found.is_fault
    assert "n2 at 192.0.2.9:6783 offers the overlays 'pigeon', this node 'sleeve'" in str(found)
    links().check(opened(features(2, overlays=None)), is_known=True, our_uid=1001)  # older than names: it has sleeve


def test_the_limit_counts_peers_and_names_who_is_refused() -> None:
    table = links(limit=1)
    table.add(opened(features(2)), 0.0)
    assert table.is_full
    found = refusal(table, remote=features(3), address="192.0.2.3:50000", outbound=False)
    assert found.is_fault
    assert str(found) == ("connection limit reached (1): n3 at 192.0.2.3 was refused; raise it with --conn-limit")
    table.check(opened(features(2), number=2), is_known=True, our_uid=1001)  # it would replace the first


def test_of_two_connections_the_lower_uid_stays() -> None:
    table = links()
    assert table.loser(opened(features(2))) is None
    older = table.add(opened(features(2), uid=50), 0.0)
    assert table.loser(opened(features(2), number=2, uid=49)) is older
    with pytest.raises(LinkRefused) as higher:
        table.loser(opened(features(2), number=2, uid=51))
    assert higher.value.ends_also is None
    with pytest.raises(LinkRefused) as equal:
        table.loser(opened(features(2), number=2, uid=50))
    assert equal.value.ends_also is older
