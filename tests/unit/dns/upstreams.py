"""A name server that stands for those upstream; it answers by the first label, as the one behind the vectors did."""

import asyncio
from types import TracebackType
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

HUGE = [f"198.51.100.{number}" for number in range(1, 121)]


class Upstream(asyncio.DatagramProtocol):
    """Serves UDP and TCP at `host` and one port; a context."""

    def __init__(self, host: str, port: int = 0) -> None:
        self.host = host
        self.port = port
        self.asked: list[tuple[str, dns.message.Message]] = []
        self.silences = asyncio.Semaphore(0)

    async def __aenter__(self) -> "Upstream":
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(self.host, self.port))
        self.port = self._udp.get_extra_info("sockname")[1]
        self._tcp = await asyncio.start_server(self._serve, self.host, self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._udp.close()
        self._tcp.close()
        await asyncio.sleep(0)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        for answer in self._answers("udp", data):
            self._udp.sendto(answer, addr)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            for answer in self._answers("tcp", data):
                writer.write(len(answer).to_bytes(2, "big") + answer)
            await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _answers(self, transport: str, data: bytes) -> list[bytes]:
        query = dns.message.from_wire(data)
        self.asked.append((transport, query))
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        name = query.question[0].name
        label = name.labels[0].decode().lower()
        addresses = {"one": ["192.0.2.1"], "huge": HUGE}.get(label, ["192.0.2.99"])
        match label:
            case "silent":
                self.silences.release()
                return []
            case "garbage":
                return [b"not a message"]
            case "wrongid":
                return [(query.id ^ 1).to_bytes(2, "big") + response.to_wire()[2:]]
            case "late":  # after garbage and a forged ID
                response.answer = [dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.7")]
                return [b"\0", (query.id ^ 1).to_bytes(2, "big") + response.to_wire()[2:], response.to_wire()]
            case "nx" | "servfail" | "refused":
                rcodes = {"nx": dns.rcode.NXDOMAIN, "servfail": dns.rcode.SERVFAIL, "refused": dns.rcode.REFUSED}
                response.set_rcode(rcodes[label])
            case _:
                response.answer = [dns.rrset.from_text(name, 60, "IN", "A", *addresses)]
        return [response.to_wire(max_size=65535)]
