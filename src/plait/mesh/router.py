"""The mesh as one node sees it: connections, topology, routes and gossip between them.

Pure: takes time, randomness and decoded connections' messages, and collects events for its shell (`take_events`).
What bytes look like is `Connection`'s business, which overlay carries frames is `overlay`'s.
"""

import random
from collections.abc import Iterable, Sequence

from plait.errors import PlaitError
from plait.mesh import events, messages
from plait.mesh.events import ConnectionId
from plait.mesh.gossip import GossipData, Gossiper
from plait.mesh.links import Link, LinkRefused, Links, OpenedConnection
from plait.mesh.maker import ConnectionMaker, Target
from plait.mesh.name import PeerName
from plait.mesh.peers import MergeResult, Peers
from plait.mesh.records import ConnectionSummary, PeerSummary
from plait.mesh.routes import Routes
from plait.mesh.schedule import Pace, Schedule
from plait.mesh.surrogate import Surrogate
from plait.mesh.topology_gossip import CHANNEL as TOPOLOGY
from plait.mesh.topology_gossip import TopologyGossiper, TopologyNews

# Weave Net's intervals (spec mesh, section 12), seconds.
GOSSIP_INTERVAL = 30.0
TOPOLOGY_UPDATE_INTERVAL = 1.0
GARBAGE_COLLECTION_DELAY = 1.0
ROUTE_COMPUTATION_DELAY = 0.1

# Weave waits these before each update of our own record and each computation; we wait only if this many were made
# within that time, so that a lone change counts everywhere at once. A new connection makes two: one when it is there,
# one when it carries frames; and two computations, since the peer's record comes after ours.
UPDATES_PER_INTERVAL = 2

# Channels are named by peers; a real mesh has three. More names than this are noise and are not relayed.
MAX_CHANNELS = 64


class Router:
    """Who is in the network and how control messages reach them."""

    def __init__(
        self,
        ourself: PeerSummary,
        maker: ConnectionMaker,
        connection_limit: int,
        overlays: Iterable[str],
        rng: random.Random,
        now: float,
    ) -> None:
        self.peers = Peers(ourself, rng)
        self.maker = maker
        self.links = Links(ourself.name, connection_limit, frozenset(overlays))
        self.routes = Routes.compute(ourself.name, [self.peers.ourself])
        self.termination_count = 0
        self._rng = rng
        self._events: list[events.Event] = []
        self._channels: dict[str, Gossiper] = {TOPOLOGY: TopologyGossiper(self.peers, self._topology_merged)}
        self._stale_names: set[PeerName] = set()
        self._topology_pace = Pace(UPDATES_PER_INTERVAL, TOPOLOGY_UPDATE_INTERVAL)
        self._routes_pace = Pace(UPDATES_PER_INTERVAL, ROUTE_COMPUTATION_DELAY)
        self._schedule = Schedule()
        self._schedule.at("gossip", now + GOSSIP_INTERVAL)

    @property
    def our_name(self) -> PeerName:
        """This node's name."""
        return self.peers.ourself.name

    @property
    def channel_count(self) -> int:
        """How many gossip channels there are, those of unknown services too, which are passed on."""
        return len(self._channels)

    def register(self, channel: str, gossiper: Gossiper) -> None:
        """Make somebody the owner of a gossip channel; before the first connection."""
        self._channels[channel] = gossiper

    def take_events(self) -> list[events.Event]:
        """Give and forget what happened since the last call; call it after every other method."""
        taken, self._events = self._events, []
        return taken

    # Connections

    def connection_opened(self, opened: OpenedConnection, now: float) -> None:
        """Add a connection to the mesh, or ask to close it: collision, limit, duplicate, unknown peer."""
        features = opened.features
        try:
            self.links.check(opened, is_known=features.name in self.peers, our_uid=self.peers.ourself.summary.uid)
            replaced = self.links.loser(opened)
        except LinkRefused as refusal:
            self._refuse(opened, refusal, now)
            return
        if replaced is not None:
            self._drop(replaced, f"a newer connection to {self.peers.label(replaced.peer)} replaces it", now)
        summary = PeerSummary(features.name, features.nickname, features.uid, 0, features.short_id)
        self.peers.enter_remote(summary)
        self.peers.acquire(features.name)
        self._add(opened, now)

    def connection_lost(self, connection: ConnectionId, reason: str, now: float, *, is_fault: bool = False) -> None:
        """The TCP connection ended, for whatever reason. `is_fault`: the other end did not just close it."""
        link = self.links.get(connection)
        if link is not None:
            self._remove(link, reason, now, is_fault=is_fault)

    def connection_established(self, connection: ConnectionId, now: float) -> None:
        """An overlay reports that it carries frames both ways."""
        link = self.links.get(connection)
        if link is None or link.established_at is not None:
            return
        link.established_at = now
        self.peers.establish_connection(link.peer)
        self._own_record_changed(now)

    def overlay_failed(self, connection: ConnectionId, reason: str, now: float) -> None:
        """No overlay of the connection works any more: it ends."""
        link = self.links.get(connection)
        if link is not None:
            self._drop(link, reason, now, is_fault=True)

    def send_control(self, connection: ConnectionId, message: bytes) -> None:
        """Send an encoded overlay control message."""
        link = self.links.get(connection)
        if link is not None:
            self._put(link, message)

    def next_message(self, connection: ConnectionId) -> bytes | None:
        """Give the next message to write on a connection."""
        link = self.links.get(connection)
        return None if link is None else link.outbox.next_message()

    def message_received(self, connection: ConnectionId, data: bytes, now: float) -> None:
        """Handle one message; what a peer may not say ends its connection."""
        link = self.links.get(connection)
        if link is None:
            return
        try:
            self._dispatch(link, data, now)
        except PlaitError as error:
            reason = f"{self.peers.label(link.peer)} sent what we cannot accept: {error}"
            self._drop(link, reason, now, is_fault=True)

    # Targets

    def connect(self, targets: Sequence[Target], replace: bool, now: float) -> None:
        """Add (or replace all) targets."""
        self.maker.connect(targets, replace, now)
        self._make_connections(now)

    def forget(self, texts: Iterable[str], now: float) -> None:
        """Drop targets, named as they were given."""
        self.maker.forget(texts, now)
        self._make_connections(now)

    def dial_failed(self, address: str, error: str, now: float) -> None:
        """A dial, or the handshake after it, failed."""
        self.maker.attempt_failed(address, error, now)
        self._make_connections(now)

    # Sending for channel owners

    def broadcast(self, channel: str, data: GossipData) -> None:
        """Send news to every peer along our own tree."""
        self._relay_broadcast(channel, self.our_name, data)

    def unicast(self, channel: str, destination: PeerName, payload: bytes) -> bool:
        """Send a payload to one peer; False if there is no way to it now."""
        message = messages.GossipUnicast(channel, self.our_name, destination, payload)
        return self._forward_unicast(destination, messages.encode(message))

    # Time

    def next_deadline(self) -> float | None:
        """When `handle_timer` wants to be called next."""
        deadlines = [when for when in (self._schedule.next(), self.maker.next_deadline()) if when is not None]
        return min(deadlines, default=None)

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        for task in self._schedule.due(now):
            if task == "gossip":
                self._schedule.at("gossip", now + GOSSIP_INTERVAL)
                self._gossip_everything()
            elif task == "routes":
                self._routes_pace.done(now)
                self._compute_routes()
            elif task == "topology":
                self._topology_pace.done(now)
                self._send_stale_records()
            elif task == "garbage":
                self._collect_garbage(now)
        self._make_connections(now)

    # Life of a connection

    def _refuse(self, opened: OpenedConnection, refusal: LinkRefused, now: float) -> None:
        self._events.append(events.CloseConnection(opened.id, str(refusal)))
        self.termination_count += not refusal.is_ourself
        self._notice(str(refusal), is_warning=refusal.is_fault)
        if refusal.ends_also is not None:
            self._drop(refusal.ends_also, str(refusal), now)
        if opened.outbound:
            self.maker.attempt_refused(opened.address, str(refusal), is_final=refusal.is_final, now=now)
            self._make_connections(now)

    def _add(self, opened: OpenedConnection, now: float) -> None:
        features = opened.features
        link = self.links.add(opened, now)
        # A peer that comes back at once was forgotten meanwhile, with all behind it: older routes do not know that.
        self._compute_pending_routes()
        record = self.peers.get(features.name)
        is_restarted = record is not None and record.summary.uid != features.uid
        is_new = is_restarted or self.routes.unicast(features.name) is None
        self.peers.add_connection(ConnectionSummary(features.name, opened.address, opened.outbound, False))
        if is_new:
            for channel, gossiper in self._channels.items():
                everything = gossiper.everything()
                if everything is not None:
                    link.outbox.gossip(channel, everything)
            self._events.append(events.Transmit(opened.id))
        self._own_record_changed(now, features.name)
        self.maker.connection_added(opened.address, opened.outbound, now)
        self._events.append(events.ConnectionConfirmed(opened.id, features.name))
        self._make_connections(now)

    def _drop(self, link: Link, reason: str, now: float, *, is_fault: bool = False) -> None:
        self._events.append(events.CloseConnection(link.id, reason))
        self._remove(link, reason, now, is_fault=is_fault)

    def _remove(self, link: Link, reason: str, now: float, *, is_fault: bool) -> None:
        self.links.remove(link)
        self.peers.release(link.peer)
        self.peers.remove_connection(link.peer)
        self.termination_count += 1
        label = self.peers.label(link.peer)
        self._events.append(events.ConnectionRemoved(link.id, link.peer, label, link.address, reason, is_fault))
        self._own_record_changed(now)
        self._collect_garbage(now)
        self.maker.connection_terminated(link.address, link.outbound, reason, now)
        self._make_connections(now)

    def _own_record_changed(self, now: float, *others: PeerName) -> None:
        self._stale_names.update((self.our_name, *others))
        self._schedule.within("topology", self._topology_pace.due(now))
        self._routes_are_stale(now)

    def _make_connections(self, now: float) -> None:
        for dial in self.maker.check(now, self.peers.records()):
            self._events.append(events.DialPeer(dial.address, dial.accepts_unknown))

    # Messages

    def _dispatch(self, link: Link, data: bytes, now: float) -> None:
        message = messages.decode(data)
        match message:
            case messages.Gossip(channel=channel, payload=payload):
                news = self._channel(channel).receive(payload, now)
                if news is not None:
                    self._gossip(channel, news, exclude=link.peer)
            case messages.GossipUnicast(channel, source, destination, payload):
                if destination == self.our_name or channel == TOPOLOGY:
                    self._channel(channel).receive_unicast(source, payload, now)
                else:
                    self._relay_unicast(message, data)
            case messages.GossipBroadcast(channel=channel, source=source, payload=payload):
                news = self._channel(channel).receive_broadcast(source, payload, now)
                if news is not None:
                    self._relay_broadcast(channel, source, news)
            case messages.OverlayControl() | messages.LegacyOverlayControl() as control:
                self._events.append(events.ControlReceived(link.id, control))
            case messages.UnknownMessage(tag=tag):
                self._notice(f"{self.peers.label(link.peer)} sent a message of unknown kind {tag}: ignored")
            case messages.Heartbeat():
                pass

    def _relay_unicast(self, message: messages.GossipUnicast, data: bytes) -> None:
        """Pass on the received bytes; the neighbour they came from is not to blame for what is in them."""
        try:
            messages.check_harmless(message)
        except messages.HarmfulMessage as error:
            self._notice(str(error), is_warning=True)
            return
        if not self._forward_unicast(message.destination, data):
            self._notice(
                f"a {message.channel!r} message of {message.source} for {message.destination} was dropped: no route"
            )

    def _channel(self, name: str) -> Gossiper:
        gossiper = self._channels.get(name)
        if gossiper is None:
            gossiper = Surrogate(GOSSIP_INTERVAL)
            if len(self._channels) < MAX_CHANNELS:
                self._channels[name] = gossiper
        return gossiper

    # Gossip

    def _put(self, link: Link, message: bytes) -> None:
        if link.outbox.put(message):
            self._events.append(events.Transmit(link.id))

    def _gossip_everything(self) -> None:
        for channel, gossiper in self._channels.items():
            everything = gossiper.everything()
            if everything is not None:
                self._gossip(channel, everything)

    def _gossip(self, channel: str, news: GossipData, exclude: PeerName | None = None) -> None:
        for neighbour in self.routes.choose_neighbours(self._rng, exclude):
            link = self.links.to(neighbour)
            if link is not None:
                link.outbox.gossip(channel, news)
                self._events.append(events.Transmit(link.id))

    def _relay_broadcast(self, channel: str, source: PeerName, news: GossipData) -> None:
        # A tree computed from an older topology than the origin's could leave peers out.
        self._compute_pending_routes()
        for neighbour in self.routes.broadcast_all(source):
            link = self.links.to(neighbour)
            if link is not None:
                link.outbox.broadcast(channel, source, news)
                self._events.append(events.Transmit(link.id))

    def _forward_unicast(self, destination: PeerName, message: bytes) -> bool:
        next_hop = self.routes.unicast_all(destination)
        link = None if next_hop is None else self.links.to(next_hop)
        if link is None:
            return False
        self._put(link, message)
        return True

    # Topology

    def _topology_merged(self, result: MergeResult, now: float) -> None:
        self._schedule.within("garbage", now + GARBAGE_COLLECTION_DELAY)
        if result.own_record_changed:
            self._own_record_changed(now)
        for notice in result.notices:
            self._notice(notice, is_warning=True)
        if result.improved:
            self._routes_are_stale(now)
            self._make_connections(now)

    def _send_stale_records(self) -> None:
        # Neighbours are chosen by routes; a neighbour that has just come must be among them.
        self._compute_pending_routes()
        news = TopologyNews(self.peers, frozenset(self._stale_names))
        self._stale_names.clear()
        self._gossip(TOPOLOGY, news)

    def _collect_garbage(self, now: float) -> None:
        version = self.peers.ourself.summary.version
        for peer in self.peers.collect_garbage():
            self._events.append(events.PeerForgotten(peer))
            self._routes_are_stale(now)
        if self.peers.ourself.summary.version != version:
            self._own_record_changed(now)

    def _routes_are_stale(self, now: float) -> None:
        self._schedule.within("routes", self._routes_pace.due(now))

    def _compute_pending_routes(self) -> None:
        if self._schedule.cancel("routes"):
            self._compute_routes()

    def _compute_routes(self) -> None:
        self.routes = Routes.compute(self.our_name, self.peers.records())
        self._events.append(events.RoutesChanged())

    def _notice(self, text: str, is_warning: bool = False) -> None:
        self._events.append(events.Notice(text, is_warning))
