from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden
from plait.mesh import gob
from plait.mesh.features import FeaturesError, LocalFeatures, RemoteFeatures, WrongFlavour
from plait.mesh.gob import GobError
from plait.mesh.name import PeerName
from unit.mesh import wire_types
from unit.mesh.fuzz import damaged

golden.expect_entered("RemoteFeatures.decode")

FEATURES = {"Name": "::1", "NickName": "n", "UID": "1", "ConnID": "2", "PeerNameFlavour": "mac"}

texts = st.binary(max_size=12).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
overlays = st.lists(st.text("abcdef", min_size=1, max_size=8), max_size=3).map(tuple)
local_features = st.builds(
    LocalFeatures,
    name=st.integers(0, 2**48 - 1).map(PeerName),
    nickname=texts,
    uid=st.integers(0, 2**64 - 1),
    conn_id=st.integers(0, 2**64 - 1),
    short_id=st.one_of(st.none(), st.integers(0, 4095)),
    trusted=st.booleans(),
    overlays=overlays,
    extra=st.dictionaries(st.text("xyz", min_size=1, max_size=4).map("Plait".__add__), texts, max_size=2),
)


@pytest.mark.parametrize("case", golden.cases("mesh/features_parse.json"), ids=golden.case_id)
def test_features_are_read_like_by_weave(case: dict[str, Any]) -> None:
    features = case["features"]
    if "error" in case:
        with pytest.raises(FeaturesError) as caught:
            RemoteFeatures.parse(features)
        assert names_the_culprit(str(caught.value), case)
        return
    remote = RemoteFeatures.parse(features)
    peer = case["peer"]
    assert remote.name == case["name_uint"] == int(peer["NameByte"], 16)
    assert (remote.nickname, remote.uid) == (peer["NickName"], peer["UID"])
    assert remote.short_id == (peer["ShortID"] if peer["HasShortID"] else None)
    assert remote.trusted == case["trusted_by_remote"]
    assert remote.conn_id ^ case["our_conn_id"] == case["connection_uid"]
    assert remote.overlays == (tuple(features["Overlays"].split()) if "Overlays" in features else None)
    assert remote.extra == {key: value for key, value in features.items() if key == "SomethingNew"}


def names_the_culprit(sentence: str, case: dict[str, Any]) -> bool:
    """Weave's sentences name the field or quote the value; ours name the field."""
    if case["name"].startswith("without_"):
        return case["error"] in sentence
    fields = {"flavour": "flavour", "name": "Name", "shortid": "ShortID", "uid": "UID", "connid": "ConnID"}
    return fields.get(case["name"].partition("_")[0], "Trusted") in sentence


def test_another_flavour_has_an_error_of_its_own() -> None:
    with pytest.raises(WrongFlavour, match="ours: 'mac', theirs: 'hash'"):
        RemoteFeatures.parse(FEATURES | {"PeerNameFlavour": "hash"})


@pytest.mark.parametrize("text", ["9" * 5000, "1_0", "٣", " 1", "1\n", "", "1e3"])
def test_only_plain_numbers_that_fit_are_numbers(text: str) -> None:
    with pytest.raises(FeaturesError, match="UID"):
        RemoteFeatures.parse(FEATURES | {"UID": text})


def test_leading_zeros_do_not_count() -> None:
    assert RemoteFeatures.parse(FEATURES | {"UID": "0" * 5000 + "7"}).uid == 7


def test_empty_overlays_are_not_the_same_as_none() -> None:
    assert RemoteFeatures.parse(FEATURES | {"Overlays": ""}).overlays == ()
    assert RemoteFeatures.parse(FEATURES).overlays is None


@given(local_features)
def test_what_one_side_announces_the_other_reads(local: LocalFeatures) -> None:
    golden.entered("RemoteFeatures.decode")
    remote = RemoteFeatures.decode(local.encode())
    for field in ("name", "nickname", "uid", "conn_id", "short_id", "trusted", "overlays", "extra"):
        assert getattr(remote, field) == getattr(local, field)


@given(st.one_of(st.binary(max_size=60), damaged(local_features.map(LocalFeatures.encode))))
def test_damage_gives_our_errors_only(data: bytes) -> None:
    golden.entered("RemoteFeatures.decode")
    try:
        remote = RemoteFeatures.decode(data)
    except (GobError, FeaturesError):
        return
    assert isinstance(remote, RemoteFeatures)


def test_the_keys_of_the_protocol_cannot_be_announced_twice() -> None:
    local = LocalFeatures(PeerName(1), "n", 1, 2, None, False, (), extra={"UID": "5"})
    with pytest.raises(FeaturesError, match="UID"):
        local.encode()


def test_weave_finds_its_keys() -> None:
    local = LocalFeatures(PeerName(1), "n", 1, 2, 3, True, ("fastdp", "sleeve"), extra={"PlaitZ": "1"})
    assert gob.decode(wire_types.FEATURES, local.encode()) == {
        "PeerNameFlavour": "mac",
        "Name": "00:00:00:00:00:01",
        "NickName": "n",
        "UID": "1",
        "ConnID": "2",
        "ShortID": "3",
        "Trusted": "true",
        "Overlays": "fastdp sleeve",
        "PlaitZ": "1",
    }
