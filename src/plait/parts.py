"""Rooms of a node that take more than a line to make."""

import asyncio
import logging
import random
import secrets
from collections.abc import Callable

from plait.config import Config
from plait.ipam.mesh_view import MeshView
from plait.ipam.paxos import Voter
from plait.ipam.service import CHANNEL as ADDRESSES_CHANNEL
from plait.ipam.service import AddressService
from plait.ipam.settings import Settings
from plait.mesh.addresses import join_address
from plait.mesh.features import LocalFeatures
from plait.mesh.maker import ConnectionMaker
from plait.mesh.records import PeerSummary
from plait.mesh.router import Router
from plait.mesh.shortids import SHORT_IDS
from plait.mesh.transport import Identity
from plait.overlay.live import our_features
from plait.overlay.sleeve.native.build import build
from plait.overlay.sleeve.native.engine import load_engine
from plait.startup import Host
from plait.state import Store
from plait.troubles import Troubles

_log = logging.getLogger("plait")


def new_router(config: Config, host: Host, overlays: tuple[str, ...], rng: random.Random) -> Router:
    """Make the mesh of a node that offers these overlays."""
    # Frames that are on their way carry the short id that an earlier node had here.
    short_id = host.left.our_id if host.left.our_id < SHORT_IDS else rng.randrange(SHORT_IDS)
    ourself = PeerSummary(host.name, config.nickname, rng.randrange(1, 1 << 64), 0, short_id)
    maker = ConnectionMaker(
        rng=rng,
        port=config.port,
        our_name=host.name,
        our_addresses=frozenset(join_address(ip, config.port) for ip in host.local_ips),
        discovery=config.discovery,
        connection_limit=config.conn_limit,
    )
    return Router(ourself, maker, config.conn_limit, overlays, rng, asyncio.get_running_loop().time())


def new_identity(config: Config, router: Router, overlays: tuple[str, ...]) -> Identity:
    """Say what a handshake tells of this node."""

    def features(remote_ip: str) -> LocalFeatures:
        own = router.peers.ourself.summary
        return LocalFeatures(
            name=own.name,
            nickname=own.nickname,
            uid=own.uid,
            conn_id=secrets.randbits(64),
            short_id=own.short_id,
            trusted=config.trusts(remote_ip),
            overlays=overlays,
            extra=our_features(),
        )

    return Identity(features, lambda: secrets.token_bytes(32), config.password, config.trusts)


def new_addresses(
    config: Config,
    router: Router,
    store: Store,
    troubles: Troubles,
    unresolved_count: Callable[[], int],
    flush: Callable[[], None],
) -> AddressService | None:
    """Make what allocates addresses; None if that is off."""
    if config.ipalloc_range is None:
        return None
    ourself = router.peers.ourself.summary
    settings = Settings(
        Voter(ourself.name, ourself.uid),
        config.nickname,
        config.ipalloc_range,
        config.ipalloc_init.seed,
        config.ipalloc_init.is_observer,
    )
    addresses = AddressService(
        settings,
        config.ipalloc_default_subnet or config.ipalloc_range,
        MeshView(router, config.ipalloc_init, unresolved_count, flush),
        store,
        troubles.warn,
        lambda error: troubles.report("state", str(error)),
    )
    addresses.tracker = "" if config.masq_local else "no-masq-local"
    router.register(ADDRESSES_CHANNEL, addresses)
    return addresses


def prepare_loop(wanted: str) -> None:
    """Compile what moves frames, if that is wanted, possible and not done yet. Raises PlaitError if it must be."""
    if wanted != "python":
        _log.debug("%s", build())
    if wanted == "compiled":
        load_engine("compiled")
