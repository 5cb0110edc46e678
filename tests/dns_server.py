"""A DNS server on the loopback interface that knows a handful of names."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Final, Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.rrset

TTL: Final = 60
MOST_BYTES: Final = 65535


class DnsServer:
    """Answers over UDP from ``add``ed records; every other name does not exist (RFC 1035)."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], list[str]] = {}
        self._silent = threading.Event()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # An empty datagram ends it: closing a socket wakes nobody who reads from it.
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def add(self, name: str, kind: str, data: str) -> None:
        """One more record, as in a zone file: ``add("a.example.org.", "A", "127.0.0.1")``."""
        self._records.setdefault((name, kind), []).append(data)

    def fall_silent(self) -> None:
        """Answer nothing from now on."""
        self._silent.set()

    def resolver(self) -> dns.resolver.Resolver:
        """One that asks this server alone."""
        resolver = dns.resolver.Resolver(configure=False)
        host, resolver.port = self._socket.getsockname()
        resolver.nameservers = [host]
        return resolver

    def _serve(self) -> None:
        while True:
            asked, asker = self._socket.recvfrom(MOST_BYTES)
            if not asked:
                return
            if not self._silent.is_set():
                self._socket.sendto(self._answer(dns.message.from_wire(asked)).to_wire(), asker)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA | dns.flags.RA
        question = query.question[0]
        name, kind = question.name.to_text().lower(), dns.rdatatype.to_text(question.rdtype)
        found = self._records.get((name, kind))
        if found:
            response.answer.append(dns.rrset.from_text(question.name, TTL, "IN", kind, *found))
        elif not any(known == name for known, _ in self._records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response
