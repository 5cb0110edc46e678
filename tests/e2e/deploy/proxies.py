"""The reverse proxies of conf/, as processes in front of one chatd or several: the examples as they
stand, with no more than addresses, ports and files changed."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import urlsplit

from tornado.httpclient import AsyncHTTPClient

from tests.certificates import Authority
from tests.chat import Chat, Socket, User
from tests.mongod import free_port

CONF: Final = Path(__file__).parents[3] / "conf"
NGINX: Final = CONF / "nginx" / "chatd.conf"
NGINX_CLUSTER: Final = CONF / "nginx" / "chatd-cluster.conf"
CADDY: Final = CONF / "caddy" / "Caddyfile"
CADDY_CLUSTER: Final = CONF / "caddy" / "Caddyfile.cluster"
NAME: Final = "localhost"
START_SECONDS: Final = 20

NGINX_PATIENCE: Final = "75s"
"""What conf/nginx/chatd.conf waits on a silent connection for."""


class Proxy(ABC):
    """A proxy that speaks TLS for the servers at these URLs, from this machine to this machine."""

    config: ClassVar[Path]
    """The example."""

    def __init__(self, folder: Path, servers: Sequence[str], authority: Authority) -> None:
        folder.mkdir()
        self.folder = folder
        self.servers = [urlsplit(server).netloc for server in servers]
        self.authority = authority.certificate
        self.certificate = authority.issue(NAME)
        self.http, self.https = free_port(), free_port()
        self.url = f"https://{NAME}:{self.https}"
        self.plain_url = f"http://{NAME}:{self.http}"
        self.output = folder / "output.txt"
        self._process: subprocess.Popen[bytes]

    def start(self) -> None:
        """Return once it takes connections."""
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                self.command(),
                env={**os.environ, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._listens():
            running = self._process.poll() is None and time.monotonic() < deadline
            assert running, self.output.read_text()
            time.sleep(0.02)

    def _listens(self) -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self.https)) == 0

    def close(self) -> None:
        if hasattr(self, "_process"):
            self._process.terminate()
            self._process.wait(START_SECONDS)

    @abstractmethod
    def command(self) -> list[str]:
        """What starts it, in the foreground."""

    def environment(self) -> Mapping[str, str]:
        """The variables it is given."""
        return {}

    @abstractmethod
    def logged(self) -> str:
        """All that it has written down so far, of requests and of errors."""

    def tls(self) -> ssl.SSLContext:
        """What a client that trusts the authority connects with."""
        return ssl.create_default_context(cafile=str(self.authority))


class Nginx(Proxy):
    """conf/nginx/chatd.conf within an nginx.conf as distributions have it."""

    config = NGINX

    def command(self) -> list[str]:
        (self.folder / "chatd.conf").write_text(self._site())
        user = "user root;" if os.geteuid() == 0 else ""
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "\n".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in kinds)
        main = self.folder / "nginx.conf"
        main.write_text(
            f"{user} worker_processes 1; daemon off; pid {self.folder}/pid;\n"
            "error_log stderr crit;\n"
            "events { worker_connections 1024; }\n"
            f"http {{\n{temporary}\ninclude {self.folder}/chatd.conf;\n}}\n"
        )
        return [str(shutil.which("nginx")), "-c", str(main), "-p", str(self.folder)]

    def _site(self) -> str:
        text = self.config.read_text()
        examples = re.findall(r"^ *server (\S+:\d+)", text, re.MULTILINE)
        for old, new in {
            **dict(zip(examples, self.servers, strict=True)),
            "listen 80;": f"listen 127.0.0.1:{self.http};",
            "listen [::]:80;": "",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{self.https} ssl http2;",
            "listen [::]:443 ssl http2;": "",
            "server_name chat.example.org;": f"server_name {NAME};",
            "/etc/ssl/chatd/fullchain.pem": str(self.certificate),
            "/etc/ssl/chatd/privkey.pem": str(self.certificate),
            "/var/log/nginx/": f"{self.folder}/",
        }.items():
            changed = [line for line in text.splitlines() if old in line]
            assert changed, f"{self.config.name} has no {old}"
            assert all(line.endswith("# CHANGE") for line in changed), changed
            text = text.replace(old, new)
        # The one change that is not for a user to make: less patience, to be waited out.
        assert text.count(f" {NGINX_PATIENCE};") == 2
        return text.replace(f" {NGINX_PATIENCE};", f" {SHORT_PATIENCE}s;")

    def logged(self) -> str:
        logs = ("chatd.log", "chatd.error.log")
        return "".join((self.folder / log).read_text() for log in logs) + self.output.read_text()


class Caddy(Proxy):
    """conf/caddy/Caddyfile with its variables set."""

    config = CADDY

    def command(self) -> list[str]:
        caddy = str(shutil.which("caddy"))
        return [caddy, "run", "--config", str(self.config), "--adapter", "caddyfile"]

    def environment(self) -> Mapping[str, str]:
        return {
            "CHATD_HOST": NAME,
            "CHATD_UPSTREAM": " ".join(self.servers),
            "CHATD_TLS": f"tls {self.certificate} {self.certificate}",
            "CHATD_HTTP_PORT": str(self.http),
            "CHATD_HTTPS_PORT": str(self.https),
            "CHATD_CADDY_ADMIN": "off",
            "HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder),
            "XDG_DATA_HOME": str(self.folder),
        }

    def logged(self) -> str:
        return self.output.read_text()


class NginxCluster(Nginx):
    """conf/nginx/chatd-cluster.conf in its place."""

    config = NGINX_CLUSTER


class CaddyCluster(Caddy):
    """conf/caddy/Caddyfile.cluster in its place."""

    config = CADDY_CLUSTER


SHORT_PATIENCE: Final = 6
"""Seconds that stand for ``NGINX_PATIENCE`` in tests."""


class Visitor(Chat):
    """Somebody on the other side of a proxy, who trusts its certificate."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__(proxy.url)
        self._http.close()
        self._http = AsyncHTTPClient(
            force_instance=True, defaults={"ca_certs": str(proxy.authority)}
        )
        self.proxy = proxy

    def socket(self, user: User, path: str = "/v1/ws", **query: str) -> Socket:
        """A user's WebSocket as a browser opens it, from a page of the same origin."""
        return self.bare_socket(
            self.socket_url(path, **query), {"Authorization": f"Bearer {user.token}"}
        )

    def bare_socket(
        self, url: str, headers: Mapping[str, str], source: str = "127.0.0.1"
    ) -> Socket:
        """The same from an address of this machine, with no more headers than these."""
        return Socket(
            url,
            {"Origin": self.url, **headers},
            ssl=self.proxy.tls(),
            local_addr=(source, 0),
        )

    async def raw(self, request: str, body: bytes = b"", source: str = "127.0.0.1") -> bytes:
        """What a request's head, from such an address, and its body are answered, byte for byte.

        ``request`` is the request line and, a line each, the headers but Host.
        """
        line, *headers = request.splitlines()
        lines = [line, f"Host: {NAME}:{self.proxy.https}", *headers, "Connection: close", "", ""]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            self.proxy.https,
            ssl=self.proxy.tls(),
            server_hostname=NAME,
            local_addr=(source, 0),
        )
        writer.write("\r\n".join(lines).encode() + body)
        answer = await reader.read()
        writer.close()
        return answer
