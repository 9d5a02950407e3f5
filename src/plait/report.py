"""Builds the report of a node from its rooms: the one place where status comes from."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime

from msgspec import UNSET

from plait import __version__
from plait.api import model
from plait.api.model import Names
from plait.config import Config
from plait.datapath_report import build_datapath, diagnostics, learned_macs, nickname
from plait.figures_report import build_figures
from plait.health import Health
from plait.health_report import health_model
from plait.ipam.service import AddressService
from plait.ipam_report import build_ipam
from plait.mesh.addresses import join_address
from plait.mesh.links import Link
from plait.mesh.maker import TargetStatus
from plait.mesh.name import PeerName
from plait.mesh.records import PeerRecord
from plait.mesh.router import Router
from plait.overlay.bridge import TAP
from plait.overlay.fastdp import wire
from plait.overlay.fastdp.description import KernelView
from plait.overlay.fastdp.session import FastdpSession
from plait.overlay.manager import OverlayManager
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.plait1.keys import CIPHER_FEATURE, CIPHER_NAMES, agreed_cipher
from plait.overlay.sleeve.plait1.session import Plait1Session
from plait.overlay.sleeve.session import SleeveSession
from plait.overlay.sleeve.supervisor import PumpState
from plait.overlay.switch import PLAIT1
from plait.problems import Problem

PROTOCOL_VERSION = 2
_OVERLAY_WIDTH = 6
_ENCRYPTION_WIDTH = 11


@dataclass(frozen=True, slots=True)
class Sources:
    """What a report is made of. `stats` is None while the pump does not answer; `clock_offset` makes wall time."""

    config: Config
    router: Router
    overlays: OverlayManager
    pump: PumpState
    stats: ipc.Stats | None
    targets: list[str]
    problems: list[Problem]
    attached: int
    exposed: list[str]
    is_ready: bool
    clock_offset: float
    health: Health | None = None
    mtu: int = 0
    """Of the bridge."""
    addresses: AddressService | None = None
    """None without an allocator."""
    names: Names | None = None
    """None without names."""
    kernel: KernelView | None = None
    """None if the kernel carries no frames; `kernel_lack` says why, if that is not meant so."""
    kernel_lack: str | None = None


def build_report(sources: Sources) -> model.Report:
    """Give everything that is known, in Weave's shape."""
    return model.Report(
        ready=sources.is_ready,
        version=__version__,
        version_check=model.VersionCheck(),
        router=_router(sources),
        ipam=build_ipam(sources.addresses, sources.router.peers),
        dns=sources.names.report() if sources.names is not None else UNSET,
        plait=_plait(sources),
    )


def _plait(sources: Sources) -> model.PlaitReport:
    problems = [
        model.Problem(what=problem.what, cure=problem.cure, since=problem.since + sources.clock_offset)
        for problem in sources.problems
    ]
    details = [_detail(sources, link) for link in sorted(sources.router.links, key=lambda link: link.peer)]
    pump: dict[str, str | int | None] = {
        "pid": sources.pump.pid,
        "restarts": sources.pump.restarts,
        "last_death": sources.pump.last_death,
        "answers": "yes" if sources.stats else "no",
        "loop": sources.pump.engine,
    }
    return model.PlaitReport(
        problems=problems,
        connections=details,
        pump=pump,
        attached=sources.attached,
        exposed=sources.exposed,
        datapath=build_datapath(sources.kernel, sources.kernel_lack, sources.router.peers),
        pid=os.getpid(),
        bridge=sources.config.bridge,
        mtu=sources.mtu,
        overlays=list(sources.config.overlays),
        health=None if sources.health is None else health_model(sources.health, sources.clock_offset),
        figures=build_figures(
            sources.problems,
            sources.router,
            sources.overlays,
            sources.addresses.allocator if sources.addresses is not None else None,
            sources.names,
        ),
    )


def _detail(sources: Sources, link: Link) -> model.ConnectionDetail:
    live = sources.overlays.get(link.id)
    counters = sources.stats.peers.get(link.peer, {}) if sources.stats else {}
    established = link.established_at
    session = live.session if live else None
    quality = session.quality if isinstance(session, Plait1Session | FastdpSession) else None
    return model.ConnectionDetail(
        peer=str(link.peer),
        nick_name=_nickname(sources.router, link.peer),
        overlay=live.switch.best if live else "none",
        reason=f"{live.switch.reason}; {live.session.state}" if live else "not started",
        mtu=session.mtu if session else 0,
        path_mtu=session.path_mtu if session else 0,
        mtu_source=session.mtu_source if session else "not started",
        remote=join_address(*session.remote) if session and session.remote else None,
        encrypted=link.session_key is not None,
        cipher=_cipher(link, live.overlay) if live else None,
        established_since=None if established is None else established + sources.clock_offset,
        rtt=quality.rtt if quality else None,
        jitter=quality.jitter if quality else None,
        loss=quality.loss if quality else None,
        rate_sent=quality.tx_rate if quality else None,
        rate_received=quality.rx_rate if quality else None,
        counters=counters,
        address=link.address,
        weave=wire.FEATURE not in link.extra,
        fragments=session.fragments_arrive if isinstance(session, SleeveSession) else None,
    )


def _cipher(link: Link, overlay: str) -> str | None:
    if link.session_key is None:
        return None
    return CIPHER_NAMES[agreed_cipher(link.extra.get(CIPHER_FEATURE))] if overlay == PLAIT1 else "XSalsa20-Poly1305"


def _router(sources: Sources) -> model.Router:
    router, config = sources.router, sources.config
    names = sorted(router.peers)
    return model.Router(
        protocol="weave",
        protocol_min_version=PROTOCOL_VERSION,
        protocol_max_version=PROTOCOL_VERSION,
        encryption=config.password is not None,
        peer_discovery=config.discovery,
        name=str(router.our_name),
        nick_name=router.peers.ourself.summary.nickname,
        port=config.port,
        peers=[_peer(router, record) for record in router.peers.records(names)],
        unicast_routes=[
            model.UnicastRoute(dest=str(dest), via=str(via)) for dest, via in router.routes.unicast_table().items()
        ],
        broadcast_routes=[
            model.BroadcastRoute(source=str(name), via=[str(via) for via in router.routes.broadcast(name)] or None)
            for name in names
        ],
        connections=_connections(sources) or None,
        termination_count=router.termination_count,
        targets=sources.targets or None,
        overlay_diagnostics={
            "fastdp": diagnostics(sources.kernel),
            "sleeve": sources.stats.counters if sources.stats else None,
        },
        trusted_subnets=[str(subnet) for subnet in config.trusted_subnets],
        interface=f"{TAP} (via tap)",
        capture_stats=_capture_stats(sources.stats),
        macs=_macs(sources) or None,
    )


def _peer(router: Router, record: PeerRecord) -> model.Peer:
    summary = record.summary
    connections = [
        model.PeerConnection(
            name=str(connection.remote),
            nick_name=_nickname(router, connection.remote),
            address=connection.address,
            outbound=connection.outbound,
            established=connection.established,
        )
        for connection in sorted(record.connections, key=lambda connection: connection.remote)
    ]
    return model.Peer(
        name=str(summary.name),
        nick_name=summary.nickname,
        uid=summary.uid,
        short_id=summary.short_id or 0,
        version=summary.version,
        connections=connections or None,
    )


def _nickname(router: Router, name: PeerName) -> str:
    return nickname(router.peers, name)


def _connections(sources: Sources) -> list[model.Connection]:
    live = [_live(sources, link) for link in sorted(sources.router.links, key=lambda link: link.peer)]
    return live + [_target(status, sources.clock_offset) for status in sources.router.maker.targets()]


def _live(sources: Sources, link: Link) -> model.Connection:
    live = sources.overlays.get(link.id)
    overlay = live.switch.best if live else None
    is_encrypted = link.session_key is not None
    info = f"{overlay or 'none':<{_OVERLAY_WIDTH}} {sources.router.peers.label(link.peer)}"
    if sources.config.password is not None:
        info = f"{'encrypted' if is_encrypted else 'unencrypted':<{_ENCRYPTION_WIDTH}} {info}"
    attributes: dict[str, str | int | bool] = {"name": overlay or "none"}
    if is_encrypted:
        attributes["encrypted"] = True
    if live and live.session.is_established:
        attributes["mtu"] = live.session.mtu
    return model.Connection(
        address=link.address,
        outbound=link.outbound,
        state="established" if link.established_at is not None else "pending",
        info=info,
        attrs=attributes,
    )


def _target(status: TargetStatus, clock_offset: float) -> model.Connection:
    retry = "never" if status.next_try is None else _wall_time(status.next_try + clock_offset)
    info = {"failed": f"{status.error}, retry: {retry}", "waiting": f"until: {retry}", "retrying": status.error}
    return model.Connection(
        address=status.address, outbound=True, state=status.state, info=info.get(status.state, ""), attrs=None
    )


def _capture_stats(stats: ipc.Stats | None) -> dict[str, int] | None:
    if stats is None:
        return None
    return {"PacketsReceived": stats.counters.get("captured", 0), "PacketsDropped": 0, "PacketsIfDropped": 0}


def _macs(sources: Sources) -> list[model.Mac]:
    """What pump and kernel learned; of an address that both know, what was seen last."""
    found = [(each.mac, PeerName(each.peer), each.last_seen) for each in sources.stats.macs] if sources.stats else []
    last: dict[str, tuple[PeerName, float]] = {}
    for mac, peer, seen in (*found, *learned_macs(sources.kernel, sources.router.our_name)):
        if mac not in last or last[mac][1] < seen:
            last[mac] = (peer, seen)
    return [
        model.Mac(
            mac=mac,
            name=str(peer),
            nick_name=_nickname(sources.router, peer),
            last_seen=_rfc3339(seen + sources.clock_offset),
        )
        for mac, (peer, seen) in last.items()
    ]


def _wall_time(seconds: float) -> str:
    """Give a time as Go prints it in Weave's status, without its monotonic part."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.%f +0000 UTC")


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
