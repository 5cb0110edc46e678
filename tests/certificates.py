"""Certificates of the tests' own, as files."""

from __future__ import annotations

from pathlib import Path

import trustme


class Authority:
    """A certificate authority that nobody trusts yet; ``certificate`` is its own, as PEM."""

    def __init__(self, folder: Path) -> None:
        """``folder``: a new one, for everything that it makes."""
        folder.mkdir()
        self._folder = folder
        self._authority = trustme.CA()
        self.certificate = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(str(self.certificate))

    def issue(self, name: str) -> Path:
        """One PEM file with a key and a certificate for a host name or an address."""
        made = self._folder / f"{name}.pem"
        issued = self._authority.issue_cert(name)
        issued.private_key_and_cert_chain_pem.write_to_path(str(made))
        return made
