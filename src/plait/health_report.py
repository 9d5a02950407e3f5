"""What the API shows of health and history."""

from plait.api.health import EventPage, EventTold, FaultFound, Health, PeerHealth
from plait.health import Health as Judged
from plait.history import Page


def health_model(judged: Judged, clock_offset: float) -> Health:
    """Give the health as the API shows it; `clock_offset` makes wall time."""
    return Health(
        state=judged.state.value,
        ready=judged.is_ready,
        since=judged.since + clock_offset,
        faults=[FaultFound(what=each.what, cure=each.cure, fatal=each.is_fatal) for each in judged.faults],
        peers=[
            PeerHealth(
                name=each.name,
                label=each.label,
                state=each.state.value,
                way=each.way,
                hop=each.hop,
                overlay=each.overlay,
                since=each.since + clock_offset,
                why=each.why,
                cure=each.cure,
            )
            for each in judged.peers
        ],
    )


def events_model(page: Page) -> EventPage:
    """Give events as the API shows them."""
    told = [
        EventTold(
            number=each.number,
            at=each.at,
            kind=each.kind.value,
            what=each.what,
            peer=each.peer,
            nickname=each.nickname,
            cure=each.cure,
        )
        for each in page.events
    ]
    return EventPage(missed=page.missed, events=told, last=page.last)
