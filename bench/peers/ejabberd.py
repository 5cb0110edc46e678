"""ejabberd, with the modules that Debian turns on, and with all that is not routing turned off.

Neither stores a message for somebody who is there, hears that it has arrived, or limits anybody.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.load import Unmeasurable
from bench.peers.xmpp import HOST, ROOMS, XmppServer, started
from tests.mongod import free_port

NAME: Final = "ejabberd"

# Anybody is somebody by any password. A room would tell 500 members of each other.
_CONFIG: Final = """
loglevel: info
hosts: [{host}]
listen:
  - port: {port}
    ip: "127.0.0.1"
    module: ejabberd_c2s
    backlog: 512
    access: all
    shaper: none
    max_stanza_size: infinity
auth_method: [anonymous]
anonymous_protocol: login_anon
allow_multiple_connections: true
acme: {{auto: false}}
modules:
{modules}
  mod_muc:
    host: {rooms}
    history_size: 0
    max_users: 10000
    default_room_options: {{max_users: 10000, moderated: false, presence_broadcast: []}}
"""
# As in Debian's /etc/ejabberd/ejabberd.yml, but for those that need a port of their own or TLS.
_USUAL: Final = """
  mod_adhoc: {}
  mod_announce: {}
  mod_avatar: {}
  mod_blocking: {}
  mod_caps: {}
  mod_carboncopy: {}
  mod_client_state: {}
  mod_configure: {}
  mod_disco: {}
  mod_last: {}
  mod_muc_admin: {}
  mod_offline: {}
  mod_ping: {}
  mod_privacy: {}
  mod_private: {}
  mod_pubsub: {plugins: [flat, pep]}
  mod_push: {}
  mod_push_keepalive: {}
  mod_roster: {versioning: true}
  mod_shared_roster: {}
  mod_sic: {}
  mod_stream_mgmt: {resend_on_timeout: if_offline}
  mod_vcard: {search: false}
  mod_vcard_xupdate: {}
  mod_version: {}
"""
# One scheduler for one core; none spins while it waits, which would count as work.
_ONE_CORE: Final = ("+S", "1:1", "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none")


def program() -> str | None:
    """Its launcher ``ejabberdctl``, which may be where only root's PATH leads."""
    return shutil.which("ejabberdctl") or shutil.which("ejabberdctl", path="/usr/sbin:/sbin")


@contextmanager
def serving(launcher: str, folder: Path) -> Iterator[XmppServer]:
    """One of its own, in a new folder, until the context ends, as Debian's users have it."""
    with _serving(launcher, folder, NAME, _USUAL) as server:
        yield server


@contextmanager
def serving_bare(launcher: str, folder: Path) -> Iterator[XmppServer]:
    """The same, of which nothing is left that is not needed to route."""
    with _serving(launcher, folder, f"{NAME}, routing alone,", "") as server:
        yield server


@contextmanager
def _serving(launcher: str, folder: Path, name: str, modules: str) -> Iterator[XmppServer]:
    folder.mkdir(parents=True)
    port, config, log = free_port(), folder / "ejabberd.yml", folder / "ejabberd.log"
    text = _CONFIG.format(host=HOST, rooms=ROOMS, port=port, modules=modules)
    config.write_text(text, encoding="utf-8")
    environment = [
        f"ERL_LIBS={_said(launcher, 'ERL_LIBS')}",
        f"ERL_CRASH_DUMP={folder / 'crash.dump'}",
        f"EJABBERD_CONFIG_PATH={config}",
        f"EJABBERD_LOG_PATH={log}",
    ]
    # The launcher insists on being root or a user of its own, and changes to the latter. Without
    # a name this is no Erlang node that others could reach, so that no epmd is left behind.
    command = ["/usr/bin/env", *environment, _said(launcher, "ERL")]
    command += ["-noinput", "+Bi", "+K", "true", *_ONE_CORE]
    command += ["-mnesia", "dir", f'"{folder / "db"}"']
    command += ["-ejabberd", "quiet", "true", "-s", "ejabberd"]
    hello = re.compile(r"ejabberd (\S+) is started")
    with started(name, command, port, log, hello) as server:
        yield server


def _said(launcher: str, name: str) -> str:
    """What the launcher, a shell script, sets that variable to."""
    script = Path(launcher).read_text(encoding="utf-8")
    found = re.search(rf"""^{name}=(["']?)(?P<value>[^"'\s]+)\1$""", script, re.MULTILINE)
    if found is None:
        raise Unmeasurable(f"{launcher} does not say what {name} is, so {NAME} can't be started")
    return found["value"]
