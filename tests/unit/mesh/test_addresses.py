import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.errors import UsageError
from plait.mesh.addresses import KnownAddresses, ip_of, join_address, parse_target, split_address
from plait.mesh.name import PeerName
from plait.mesh.records import ConnectionSummary, PeerRecord, PeerSummary

US, ONE, TWO, THREE = (PeerName(number) for number in range(1, 5))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", ("192.0.2.1", None)),
        ("192.0.2.1:6783", ("192.0.2.1", 6783)),
        ("host.example", ("host.example", None)),
        ("host.example:1", ("host.example", 1)),
        ("host:65535", ("host", 65535)),
        ("host:0", ("host", None)),
        ("[::1]:6783", ("::1", 6783)),
        ("[::1]", ("::1", None)),
        ("::1", ("::1", None)),
        ("2001:db8::7", ("2001:db8::7", None)),
        ("[fe80::1%eth0]:99", ("fe80::1%eth0", 99)),
    ],
)
def test_target_texts(text: str, expected: tuple[str, int | None]) -> None:
    assert parse_target(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("bad:port:x", "address bad:port:x: too many colons in address"),
        ("192.0.2.1:6783:1", "too many colons in address"),
        ("[::1]:6783:1", "port '6783:1'"),
        ("host:", "port ''"),
        ("host:http", "port 'http'"),
        ("host:65536", "port '65536'"),
        ("host:-1", "port '-1'"),
        ("host:٣", "port"),
        ("host:" + "1" * 5000, "port"),
        ("", "no host"),
        (":6783", "no host"),
        ("two words", "no host"),
        ("[host]:6783", "no IPv6 address"),
        ("[192.0.2.1]:6783", "no IPv6 address"),
        ("[::1", "too many colons"),
        ("[host", "no host"),
    ],
)
def test_refused_target_texts(text: str, complaint: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_target(text)
    assert complaint in str(refusal.value)
    assert text in str(refusal.value)


@given(st.text(max_size=30) | st.from_regex(r"[\[\]a-f0-9.:%]*", fullmatch=True))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        host, port = parse_target(text)
    except UsageError:
        return
    assert host
    assert port is None or 1 <= port <= 65535


@pytest.mark.parametrize(
    ("ip", "port", "text"), [("192.0.2.1", 6783, "192.0.2.1:6783"), ("2001:db8::1", 1, "[2001:db8::1]:1")]
)
def test_addresses_are_split_as_they_were_joined(ip: str, port: int, text: str) -> None:
    assert join_address(ip, port) == text
    assert split_address(text) == (ip, port)
    assert ip_of(text) == ip


def test_ipv6_addresses_of_peers_are_written_in_one_way() -> None:
    assert split_address("[2001:DB8:0:0::1]:6783") == ("2001:db8::1", 6783)
    known = KnownAddresses(US, 7000)
    known.update([_record(ONE, (TWO, "[2001:DB8::2]:6783", True), (THREE, "[2001:db8::3]:40000", False))])
    assert set(known.excluding(set())) == {"[2001:db8::2]:6783", "[2001:db8::3]:7000"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "192.0.2.1",
        "192.0.2.1:",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "192.0.2.1:x",
        "host:1",
        ":1",
        "1.2.3:4",
        "::1:6783",
    ],
)
def test_what_is_no_address_of_a_connection(text: str) -> None:
    assert split_address(text) is None


def _record(name: PeerName, *connections: tuple[PeerName, str, bool]) -> PeerRecord:
    return PeerRecord(
        PeerSummary(name), tuple(ConnectionSummary(remote, where, out, True) for remote, where, out in connections)
    )


def test_a_dialled_address_is_taken_as_it_is_and_an_accepted_one_with_our_port() -> None:
    known = KnownAddresses(US, 7000)
    known.update([_record(ONE, (TWO, "192.0.2.2:6783", True), (THREE, "192.0.2.3:40000", False))])
    assert set(known.excluding(set())) == {"192.0.2.2:6783", "192.0.2.3:7000"}
    assert set(known.excluding({TWO})) == {"192.0.2.3:7000"}


def test_neither_our_own_record_nor_connections_to_us_tell_anything() -> None:
    known = KnownAddresses(US, 7000)
    known.update([_record(US, (TWO, "192.0.2.2:6783", True)), _record(ONE, (US, "192.0.2.1:6783", True))])
    assert list(known.excluding(set())) == []


def test_nonsense_from_peers_is_left_out() -> None:
    known = KnownAddresses(US, 7000)
    known.update([_record(ONE, (TWO, "evil.example:6783", True), (THREE, "", False))])
    assert list(known.excluding(set())) == []


def test_an_address_counts_as_long_as_one_record_tells_it() -> None:
    known = KnownAddresses(US, 7000)
    first, second = _record(ONE, (THREE, "192.0.2.3:1", True)), _record(TWO, (THREE, "192.0.2.3:1", True))
    known.update([first, second])
    known.update([second])
    assert list(known.excluding(set())) == ["192.0.2.3:1"]
    known.update([])
    assert list(known.excluding(set())) == []


_connections = st.tuples(
    st.sampled_from([US, ONE, TWO, THREE]), st.sampled_from(["192.0.2.1:1", "192.0.2.1:2", "x"]), st.booleans()
)
_tables = st.dictionaries(st.sampled_from([US, ONE, TWO, THREE]), st.lists(_connections, max_size=4))


@given(st.lists(_tables, min_size=1, max_size=6))
def test_updating_step_by_step_is_like_starting_anew(
    tables: list[dict[PeerName, list[tuple[PeerName, str, bool]]]],
) -> None:
    known = KnownAddresses(US, 7000)
    for table in tables:
        records = [_record(name, *connections) for name, connections in table.items()]
        known.update(records)
        fresh = KnownAddresses(US, 7000)
        fresh.update(records)
        for names in (set[PeerName](), {TWO}):
            assert sorted(known.excluding(names)) == sorted(fresh.excluding(names))
