"""prosody, with all that is not routing turned off: it stores nothing and limits nobody."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.peers.xmpp import HOST, ROOMS, XmppServer, started
from tests.mongod import free_port

NAME: Final = "prosody"

# Anybody is somebody by any password. A room would tell 500 members of each other. Where this is
# root, as in a container, prosody needs to be told that it may be, too.
_CONFIG: Final = """
run_as_root = true
data_path = "{folder}"
certificates = "{folder}"
log = {{ info = "{log}" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
c2s_direct_tls_ports = {{}}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "insecure"
insecure_open_authentication = "Yes please, I know what I'm doing!"
storage = "memory"
modules_enabled = {{ "saslauth" }}
modules_disabled = {{ "offline", "s2s", "s2s_auth_certs", "tls" }}

VirtualHost "{host}"

Component "{rooms}" "muc"
    muc_room_locking = false
    muc_occupant_id = false
    max_history_messages = 0
    muc_room_default_presence_broadcast = {{
        visitor = false, participant = false, moderator = false
    }}
"""


def program() -> str | None:
    """Where it is."""
    return shutil.which("prosody")


@contextmanager
def serving(launcher: str, folder: Path) -> Iterator[XmppServer]:
    """One of its own, in a new folder, until the context ends."""
    folder.mkdir(parents=True)
    port, config, log = free_port(), folder / "prosody.cfg.lua", folder / "prosody.log"
    told = _CONFIG.format(host=HOST, rooms=ROOMS, port=port, folder=folder, log=log)
    config.write_text(told, encoding="utf-8")
    hello = re.compile(r"Prosody version (\S+)")
    with started(NAME, [launcher, "--config", str(config)], port, log, hello) as server:
        yield server
